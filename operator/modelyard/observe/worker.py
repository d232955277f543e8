"""The process in which questions are computed: `python -m modelyard.observe.worker`.

A line of JSON in (`{"function": "package.module:name", "payload": ...}`), a line of JSON out (`{"answer": ...}` or
`{"error": "..."}`), until its input ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

ERROR_LIMIT = 1000
# Beside the operator's own work, not before it.
NICENESS = 10


def compute(question: dict[str, Any]) -> dict[str, Any]:
    """Calls the function. Whatever it raises is an answer, too."""
    try:
        module, _, name = question["function"].partition(":")
        answer = getattr(importlib.import_module(module), name)(question["payload"])
        return {"answer": json.loads(json.dumps(answer, allow_nan=False))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:ERROR_LIMIT]}


def main() -> None:
    """Answers until the input ends."""
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what functions print is no answer
    for line in sys.stdin:
        print(json.dumps(compute(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
