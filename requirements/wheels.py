"""The wheel cache: every file that a lock names, downloaded once, for the environment and the image builds.

`python3 requirements/wheels.py build.txt operator.txt` makes sure of the files and prints the folder.
Standard library only. A file enters the cache by rename, after pip has checked its hash against the lock; pip
checks it again at each installation, because installations run with --require-hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


def cache_root() -> Path:
    """Return the folder of everything that Modelyard keeps on a machine (MODELYARD_CACHE)."""
    return Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard")


@dataclass(frozen=True)
class Pin:
    """One locked requirement: normalised name, version, and the sha256 digests that its files may have."""

    name: str
    version: str
    digests: frozenset[str]


def normalise(name: str) -> str:
    """Return a distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(lock: Path) -> list[Pin]:
    """Return the pins of a lock file; ValueError names a requirement without hashes."""
    pins = []
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        words = entry.split("#", 1)[0].split()
        if not words:
            continue
        name, _, version = words[0].partition("==")
        digests = frozenset(word.removeprefix("--hash=sha256:") for word in words[1:] if "sha256:" in word)
        if not version or not digests:
            raise ValueError(f"{lock}: {words[0]} is not pinned with a hash: run `make lock`")
        pins.append(Pin(normalise(name), version, digests))
    return pins


def identify(file: str) -> tuple[str, str]:
    """Return the normalised name and the version that a wheel's or a source archive's file name states."""
    stem = file.removesuffix(".tar.gz").removesuffix(".zip")
    name, version = (
        file.split("-")[:2] if file.endswith(".whl") else (stem.rpartition("-")[0], stem.rpartition("-")[2])
    )
    return normalise(name), version


def find_missing(pins: Iterable[Pin], folder: Path) -> list[Pin]:
    """Return the pins that no file of the folder answers, by file name."""
    present = {identify(entry.name) for entry in folder.iterdir() if "-" in entry.name}
    return [pin for pin in pins if (pin.name, pin.version) not in present]


def remove_damaged(pins: Iterable[Pin], folder: Path) -> list[str]:
    """Delete files whose content is none that the pins allow; return their names."""
    allowed = {(pin.name, pin.version): pin.digests for pin in pins}
    damaged = []
    for entry in sorted(folder.iterdir()):
        digests = allowed.get(identify(entry.name)) if "-" in entry.name else None
        if digests is not None and hash_file(entry) not in digests:
            entry.unlink()
            damaged.append(entry.name)
    return damaged


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(pins: Sequence[Pin], folder: Path, pip: Sequence[str]) -> None:
    """Fetch the pins' files into the folder with the command `pip`; no partial file is ever seen there."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as scratch:
        wanted = Path(scratch) / "wanted.in"
        wanted.write_text("".join(format_pin(pin) for pin in pins))
        files = Path(scratch) / "files"
        # Source archives are built for their metadata; without isolation nothing unpinned comes in.
        command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]
        command += [
            "--require-hashes",
            "--no-build-isolation",
            "--dest",
            str(files),
            "--requirement",
            str(wanted),
        ]
        subprocess.run(command, check=True)
        for file in files.iterdir():
            file.replace(folder / file.name)


def format_pin(pin: Pin) -> str:
    """Return the pin as a line of a lock file."""
    return (
        " ".join(
            [f"{pin.name}=={pin.version}", *(f"--hash=sha256:{digest}" for digest in sorted(pin.digests))]
        )
        + "\n"
    )


def own_pip() -> list[str]:
    """Return a command for some pip of this machine, or exit with what to install."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    spec = importlib.util.find_spec("ensurepip._bundled") or importlib.util.find_spec("ensurepip")
    bundled = sorted(Path(spec.origin).parent.rglob("pip-*.whl")) if spec is not None and spec.origin else []
    if bundled:
        return [sys.executable, str(bundled[-1] / "pip")]
    sys.exit(
        f"{sys.executable} has neither pip nor ensurepip: install python3-pip (Debian) or another Python 3.11"
    )


def ensure_wheels(locks: Sequence[Path], pip: Sequence[str] | None = None) -> Path:
    """Make sure that the cache has every file of the locks; return its folder."""
    folder = cache_root() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    for lock in locks:
        missing = find_missing(read_lock(lock), folder)
        if missing:
            print(f"downloading {len(missing)} packages of {lock.name}", file=sys.stderr, flush=True)
            download(missing, folder, pip or own_pip())
    return folder


def main() -> None:
    """Make sure of the locks named on the command line, print the cache's folder."""
    parser = argparse.ArgumentParser(description="Download what lock files name, once; print the folder.")
    parser.add_argument("locks", nargs="+", help="lock files, by name (operator.txt) or path")
    arguments = parser.parse_args()
    print(ensure_wheels([HERE / lock for lock in arguments.locks]))


if __name__ == "__main__":
    main()
