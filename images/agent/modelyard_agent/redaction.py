"""Keeps secrets out of what leaves the pod."""

import re
from typing import Callable, List, Mapping

_SECRET = re.compile(r"(?:TOKEN|SECRET|PASSWORD|KEY)$", re.IGNORECASE)
MASK = "[redacted]"
LEAST_LENGTH = 4  # shorter values would blank out innocent text


def make_redactor(environment: Mapping[str, str]) -> Callable[[str], str]:
    """A function that masks the values of variables named *TOKEN, *SECRET, *PASSWORD and *KEY."""
    values: List[str] = []
    for name, value in environment.items():
        if _SECRET.search(name):
            values += [part for part in [value, *value.split("\n")] if len(part.strip()) >= LEAST_LENGTH]
    ordered = sorted(set(values), key=len, reverse=True)  # a secret may hold another one

    def redact(text: str) -> str:
        for value in ordered:
            text = text.replace(value, MASK)
        return text

    return redact
