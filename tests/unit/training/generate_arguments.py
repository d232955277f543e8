"""Writes operator/modelyard/training/spec/arguments.json from a transformers wheel.

    pip download --no-deps transformers==5.23.0
    python tests/unit/training/generate_arguments.py transformers-5.23.0-py3-none-any.whl

Reads the source and imports nothing, so that no torch is needed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[3] / "operator/modelyard/training/spec/arguments.json"
ENUMS = {"OptimizerNames", "IntervalStrategy", "SaveStrategy", "HubStrategy", "SchedulerType"}
PLAIN = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "list": "list",
    "dict": "dict",
    "False": "bool",
}


def read_class(source: str, name: str) -> ast.ClassDef | None:
    """The class of this name, if the source has it."""
    return next((n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name), None)


def read_choices(sources: list[str], enum: str) -> list[str]:
    """Values of a string enum."""
    found = next(c for c in (read_class(s, enum) for s in sources) if c is not None)
    values = [
        s.value.value for s in found.body if isinstance(s, ast.Assign) and isinstance(s.value, ast.Constant)
    ]
    return [str(value) for value in values]


def read_kinds(annotation: str) -> list[str]:
    """`str | list[str] | None` -> ["list", "str"]."""
    outer = re.sub(r"\[[^\]]*\]", lambda m: "[False]" if m[0] == "[False]" else "", annotation)
    words = set(re.findall(r"\w+", outer))
    kinds = {PLAIN[word] for word in words if word in PLAIN}
    if words & ENUMS:
        kinds.add("str")
    return sorted(kinds)


def main(wheel: str) -> None:
    """Writes the file."""
    with zipfile.ZipFile(wheel) as archive:
        sources = [archive.read(f"transformers/{n}.py").decode() for n in ("training_args", "trainer_utils")]
    arguments: dict[str, dict[str, Any]] = {}
    body = read_class(sources[0], "TrainingArguments")
    for statement in body.body if body else []:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        annotation = ast.unparse(statement.annotation)
        entry: dict[str, Any] = {"kinds": read_kinds(annotation)}
        enum = ENUMS & set(re.findall(r"\w+", annotation))
        if enum:
            entry["choices"] = read_choices(sources, enum.pop())
        arguments[statement.target.id] = entry
    version = Path(wheel).name.split("-")[1]
    text = json.dumps({"transformers": version, "arguments": arguments}, indent=1, sort_keys=True)
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
