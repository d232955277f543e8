"""Regenerate the lock files: `python requirements/lock.py [--upgrade]`.

All sets are resolved together first, so that a package that several of them hold has one version everywhere.
Every requirement is pinned with the hashes of its files; no file names an index or a path of the machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETS = ("build", "operator", "dev", "trainer", "server", "gateway")

# `import torch` opens libraries of thirteen nvidia packages on a CPU too; these it does not open (0.9 GB).
# trainer-cpu.txt and server-cpu.txt are therefore no closed sets and are installed with --no-deps.
NOT_OPENED_ON_CPU = (
    "cuda-bindings",
    "cuda-pathfinder",
    "cuda-toolkit",
    "nvidia-cusolver",
    "nvidia-nvtx",
    "triton",
)


def find_uv() -> str:
    """Return the path of uv, or exit with what to do about its absence."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("uv is missing: run `make venv` and call this with that environment's python")
    return found


def compile_set(uv: str, sources: list[Path], output: Path, *options: str) -> None:
    """Resolve `sources` for Python 3.11 on Linux x86-64 into `output`, kept to its pins unless upgraded."""
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--no-header"]
    # uv's own header and annotations would hold the paths of this machine.
    command += ["--no-annotate", *options, "--output-file", str(output), *map(str, sources)]
    subprocess.run(command, check=True, cwd=HERE)


def read_pins() -> set[str]:
    """Return every `name==version` that the present lock files hold."""
    lines = (line for lock in HERE.glob("*.txt") for line in lock.read_text().splitlines())
    return {line.split()[0] for line in lines if line[:1].isalnum()}


def write_locks(upgrade: bool) -> None:
    """Write every `<set>.txt` beside its `<set>.in`, and those for machines without a GPU."""
    uv = find_uv()
    with tempfile.TemporaryDirectory() as scratch:
        together = Path(scratch) / "all.txt"
        if not upgrade:
            # uv prefers the versions that its output file holds already.
            together.write_text("\n".join(sorted(read_pins())))
        compile_set(uv, [HERE / f"{name}.in" for name in SETS], together)
        for name in SETS:
            lock_one(uv, name, name, together)
        for name in ("trainer", "server"):
            lock_one(uv, name, f"{name}-cpu", together, *NOT_OPENED_ON_CPU)


def lock_one(uv: str, source: str, name: str, together: Path, *left_out: str) -> None:
    """Write `<name>.txt` from `<source>.in` at the versions of `together`, without the packages left out."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "lock.txt"
        dropped = [f"--no-emit-package={package}" for package in left_out]
        compile_set(
            uv, [HERE / f"{source}.in"], output, "--generate-hashes", f"--constraint={together}", *dropped
        )
        note = f"# Written by requirements/lock.py from {source}.in; do not edit.\n"
        if left_out:
            note += "# Not a closed set (see lock.py): install it with --no-deps.\n"
        (HERE / f"{name}.txt").write_text(note + output.read_text())


def main() -> None:
    """Parse the arguments and write the locks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions that the .in files allow"
    )
    write_locks(parser.parse_args().upgrade)


if __name__ == "__main__":
    main()
