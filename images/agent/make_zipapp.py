"""Builds the agent's zipapp: `python3 images/agent/make_zipapp.py OUTPUT`. Same sources, same bytes."""

import argparse
import sys
import zipfile
from pathlib import Path

AGENT = Path(__file__).resolve().parent
OPERATOR = AGENT.parent.parent / "operator"
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that zip knows
CONTRACT = ("__init__", "codes", "layout")


def list_members(agent: Path = AGENT, operator: Path = OPERATOR) -> "dict[str, Path]":
    """Names in the archive, and the files they come from."""
    package = agent / "modelyard_agent"
    members = {"modelyard_agent/{}".format(path.name): path for path in sorted(package.glob("*.py"))}
    members["__main__.py"] = package / "__main__.py"
    members["modelyard/__init__.py"] = operator / "modelyard" / "__init__.py"
    for name in CONTRACT:
        members["modelyard/contract/{}.py".format(name)] = (
            operator / "modelyard" / "contract" / "{}.py".format(name)
        )
    return members


def write_zipapp(output: Path, members: "dict[str, Path]") -> None:
    """Write the archive, executable, by temp + rename."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type = zipfile.ZIP_STORED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, members[name].read_bytes())
    temporary.chmod(0o755)
    temporary.replace(output)


def main() -> int:
    """Build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--agent", type=Path, default=AGENT, help="folder that holds modelyard_agent")
    parser.add_argument("--operator", type=Path, default=OPERATOR, help="folder that holds modelyard")
    arguments = parser.parse_args()
    write_zipapp(arguments.output, list_members(arguments.agent, arguments.operator))
    return 0


if __name__ == "__main__":
    sys.exit(main())
