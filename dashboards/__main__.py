"""Writes charts/modelyard/dashboards: `python -m dashboards` from the root of the checkout.

`--check` writes nothing and fails on a difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import deployments, fleet, job, operator
from dashboards.board import finish

FOLDER = Path(__file__).resolve().parents[1] / "charts" / "modelyard" / "dashboards"
BOARDS = {
    "operator": operator.build,
    "fleet": fleet.build,
    "job": job.build,
    "deployments": deployments.build,
}


def generate() -> dict[str, str]:
    """The dashboards' files by name; the same text every time."""
    return {f"{name}.json": _encode(finish(build())) for name, build in BOARDS.items()}


def _encode(board: object) -> str:
    return json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def find_differences(folder: Path, files: dict[str, str]) -> list[str]:
    """What is missing, changed or left over in the folder, one line each."""
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")}
    return [
        f"{name} {'is not generated any more' if name not in files else 'is not what dashboards/ makes'}"
        for name in sorted(present.keys() | files.keys())
        if present.get(name) != files.get(name)
    ]


def write(folder: Path, files: dict[str, str]) -> None:
    """Makes the folder hold these files and nothing else."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is not up to date"
    )
    files = generate()
    if not parser.parse_args(arguments).check:
        write(FOLDER, files)
        return 0
    found = find_differences(FOLDER, files)
    for line in found:
        sys.stderr.write(f"charts/modelyard/dashboards/{line}: run `make generate` and commit the result\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
