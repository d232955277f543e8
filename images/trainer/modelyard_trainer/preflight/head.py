"""Which head a classifier gets: the base model's own, if it tells the data's classes apart, or a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UNNAMED = re.compile(r"LABEL_(\d+)")  # what transformers calls the classes of a head without names


@dataclass(frozen=True, slots=True)
class Head:
    """The classes in the head's order. `kept`: the base model's weights go on being trained."""

    labels: tuple[str, ...]
    kept: bool

    def places(self, labels: Sequence[str]) -> list[int]:
        """Where in the head the data's classes are: place i belongs to `labels[i]`."""
        where = {label: place for place, label in enumerate(self.labels)}
        return [where[label] for label in labels]


def choose_head(base: Sequence[str] | None, labels: Sequence[str]) -> Head:
    """The base model's order of classes where they are the data's, else the data's own order and a new head.

    `base` are the names in the order of the base model's head; None where it has none. Names that differ by case
    only are the same as long as no two of one side do; LABEL_0, LABEL_1 … stand for the numbers. Equal numbers of
    classes alone mean nothing: positive and negative are not spam and ham.
    """
    new = Head(tuple(labels), kept=False)
    if base is None or len(base) != len(labels):
        return new
    for key in (str, _fold):
        known = {key(label): label for label in labels}
        named = [key(_number(name)) for name in base]
        if len(known) == len(labels) and len(set(named)) == len(named) and set(named) == set(known):
            return Head(tuple(known[name] for name in named), kept=True)
    return new


def read_labels(config: Any) -> tuple[str, ...]:
    """The class names of a configuration, in the order of its head; none where it doesn't name each place from 0 on."""
    given: Mapping[Any, Any] = getattr(config, "id2label", None) or {}
    named = {int(place): str(name) for place, name in given.items()}
    return (
        tuple(named[place] for place in range(len(named))) if sorted(named) == list(range(len(named))) else ()
    )


def reads_end(model: Any) -> bool:
    """Whether a classifier reads the place of the end token, as BART's and T5's do: they need as many in each row."""
    import inspect

    return "eos_mask" in inspect.getsource(type(model).forward)


def _fold(name: str) -> str:
    return name.strip().casefold()


def _number(name: str) -> str:
    found = _UNNAMED.fullmatch(name)
    return found[1] if found else name
