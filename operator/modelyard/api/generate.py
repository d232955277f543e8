"""Writes what is generated from the API models: crds/, the chart's copy of them, docs/reference/.

`python -m modelyard.api.generate` from the root of the checkout; `--check` writes nothing and fails on a
difference.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from modelyard.api.reference import reference
from modelyard.api.resources import RESOURCES
from modelyard.api.yaml import dump

HEADER = "generated from operator/modelyard/api by `make generate`; do not edit"
CRDS = Path("crds")
CHART = Path("charts/modelyard/templates/crds")
REFERENCE = Path("docs/reference")

_KEEP = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def generated() -> dict[Path, str]:
    """Every generated file, relative to the root of the checkout."""
    files = {}
    for crd in (resource.definition() for resource in RESOURCES):
        text = dump(crd)
        name = f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml"
        files[CRDS / name] = f"# {HEADER}\n{text}"
        files[CHART / name] = chart_copy(text)
        files[REFERENCE / f"{crd['spec']['names']['singular']}.md"] = f"<!-- {HEADER} -->\n\n{reference(crd)}"
    return files


def chart_copy(crd: str) -> str:
    """`crd` (YAML) as a Helm template: installed, and kept when the chart goes, as the values say."""
    escaped = re.sub(r"\{\{|\}\}", lambda braces: f'{{{{ "{braces[0]}" }}}}', crd)
    head, found, rest = escaped.partition("\nmetadata:\n")
    if not found:
        raise ValueError("the CRD has no metadata block")
    body = f"{head}{found}{_KEEP}{rest}"
    return f"{{{{- /* {HEADER} */ -}}}}\n{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"


def differences(root: Path, files: dict[Path, str]) -> list[str]:
    """What is missing, changed or left over below `root`, one line each."""
    found = []
    for path, text in sorted(files.items()):
        target = root / path
        if not target.is_file():
            found.append(f"{path} is missing")
        elif target.read_text(encoding="utf-8") != text:
            found.append(f"{path} differs from the models")
    return found + [f"{path} is not generated any more" for path in _leftovers(root, files)]


def write(root: Path, files: dict[Path, str]) -> None:
    """Writes the files below `root` and removes those that an earlier run wrote and this one does not."""
    for path in _leftovers(root, files):
        (root / path).unlink()
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _leftovers(root: Path, files: dict[Path, str]) -> list[Path]:
    present = (
        p.relative_to(root)
        for d in (CRDS, CHART, REFERENCE)
        for p in sorted((root / d).glob("*"))
        if p.is_file()
    )
    return [
        path for path in present if path not in files and HEADER in (root / path).read_text(encoding="utf-8")
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.api.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is not up to date"
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the checkout (default: here)")
    options: Any = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(
            f"{options.root} is not the root of the checkout: run this there, or name it with --root"
        )
    files = generated()
    if not options.check:
        write(options.root, files)
        return 0
    found = differences(options.root, files)
    for line in found:
        sys.stderr.write(f"{line}: run `make generate` and commit the result\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
