"""Make the development environment: `python3 requirements/install.py [FOLDER]` (default: venv in the cache).

FOLDER becomes a link to an environment that is named after its lock files, built aside and linked when it is
complete and verified: an interrupted or failed run leaves the environment that was there, and programs that
run from an older environment keep it until the next but one. Called again, it checks and does nothing.
Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from requirements.wheels import Pin, cache_root, ensure_wheels, normalise, read_lock, remove_damaged  # noqa: E402

LOCKS = tuple(HERE / name for name in ("build.txt", "dev.txt", "trainer-cpu.txt", "server-cpu.txt"))
STAMP = "modelyard-complete.json"

# Run by the environment's own interpreter: what it has installed, and whether native libraries load.
LIST_INSTALLED = (
    "import importlib.metadata as m, json;print(json.dumps({d.name: d.version for d in m.distributions()}))"
)
LOAD = (
    "import deepspeed, kopf, kubernetes, onnxruntime, pyarrow, pydantic, pytest, sklearn, starlette, torch,"
    " transformers, uvicorn"
)


def hash_environment() -> str:
    """Return a name for the environment: what is installed, by which interpreter."""
    digest = hashlib.sha256(f"{sys.version} {os.path.realpath(sys.executable)}".encode())
    for lock in LOCKS:
        digest.update(lock.read_bytes())
    return digest.hexdigest()[:12]


def hash_checkout() -> str:
    """Return a digest of what an editable installation of this checkout depends on."""
    digest = hashlib.sha256(str(ROOT).encode())
    for file in (ROOT / "pyproject.toml", ROOT / "operator" / "modelyard" / "__init__.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def find_faults(folder: Path) -> list[str]:
    """Return what makes the environment differ from the lock files, as sentences; none: it may be used."""
    python = folder / "bin" / "python"
    answer = subprocess.run([python, "-c", LIST_INSTALLED], capture_output=True, text=True, check=False)
    if answer.returncode:
        return [f"{python} does not run: {answer.stderr.strip()[-200:]}"]
    # grafana-foundation-sdk writes its version with a v before it, which PEP 440 allows.
    installed = {
        normalise(name): version.removeprefix("v") for name, version in json.loads(answer.stdout).items()
    }
    pins = {pin.name: pin.version for lock in LOCKS for pin in read_lock(lock)}
    return [
        f"{name} is {installed.get(name, 'missing')}, the lock says {version}"
        for name, version in sorted(pins.items())
        if installed.get(name) != version
    ]


def build(folder: Path) -> None:
    """Create the environment in an empty folder from the lock files."""
    venv.EnvBuilder(symlinks=True).create(folder)
    ensure_wheels(LOCKS[:1])
    install_lock(folder, LOCKS[0])
    for lock in LOCKS[1:]:
        ensure_wheels([lock], pip_of(folder))
        install_lock(folder, lock)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # Compiled here by all cores; pip takes one. Some packages ship files for other Pythons, which fail.
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-qq", "-j", "0", packages], check=False)


def pip_of(folder: Path) -> list[str]:
    """Return the command of the locked pip: straight from its wheel, so that the environment needs none."""
    [version] = [pin.version for pin in read_lock(LOCKS[0]) if pin.name == "pip"]
    return [
        str(folder / "bin" / "python"),
        str(cache_root() / "wheels" / f"pip-{version}-py3-none-any.whl" / "pip"),
    ]


def install_lock(folder: Path, lock: Path) -> None:
    """Install a lock's files from the cache; a file damaged on disk is fetched once more."""
    wheels = cache_root() / "wheels"
    command = [
        *pip_of(folder),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--find-links",
    ]
    command += [
        str(wheels),
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
        "--require-hashes",
        "-r",
        str(lock),
    ]
    if subprocess.run(command, check=False).returncode:
        pins: list[Pin] = read_lock(lock)
        damaged = remove_damaged(pins, wheels)
        if not damaged:
            sys.exit(f"installing {lock.name} failed: see pip's message above")
        print(f"damaged, fetched again: {', '.join(damaged)}", file=sys.stderr)
        ensure_wheels([lock], pip_of(folder))
        subprocess.run(command, check=True)


def install_checkout(folder: Path) -> None:
    """Install this checkout in editable mode, unless that was done from the same pyproject.toml."""
    stamp = folder / "modelyard-checkout"
    if stamp.exists() and stamp.read_text() == hash_checkout():
        return
    stamp.unlink(missing_ok=True)
    command = [
        *pip_of(folder),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*command, "--no-build-isolation", "--editable", str(ROOT)], check=True)
    stamp.write_text(hash_checkout())


@contextmanager
def hold_lock() -> Iterator[None]:
    """Keep other runs of this tool waiting; the kernel frees the lock when this process ends in any way."""
    with (cache_root() / "venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run is making the environment: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def provide(link: Path) -> None:
    """Make `link` point to a complete environment of the present lock files."""
    store = cache_root() / "venvs"
    store.mkdir(parents=True, exist_ok=True)
    folder = store / hash_environment()
    with hold_lock():
        if not (folder / STAMP).exists() or find_faults(folder):
            started = time.monotonic()
            shutil.rmtree(folder, ignore_errors=True)
            build(folder)
            if faults := find_faults(folder):
                sys.exit("the new environment is not what the lock files say:\n  " + "\n  ".join(faults))
            subprocess.run(
                [folder / "bin" / "python", "-W", "ignore", "-c", LOAD], check=True, stdout=subprocess.DEVNULL
            )
            took = round(time.monotonic() - started)
            (folder / STAMP).write_text(json.dumps({"seconds": took}) + "\n")
            print(f"environment made in {took} s: {link}", file=sys.stderr)
        point(link, folder)
        install_checkout(folder)
        discard_old(store, keep=folder)


def point(link: Path, folder: Path) -> None:
    """Let `link` be a symbolic link to `folder`, without a moment in which it is missing."""
    if link.is_symlink() and link.resolve() == folder.resolve():
        return
    if link.is_dir() and not link.is_symlink():
        sys.exit(f"{link} is a folder that this tool did not make: remove it, or name another place")
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(folder)
    fresh.replace(link)


def discard_old(store: Path, keep: Path) -> None:
    """Remove environments of older lock files, all but the one before (programs may still run from it)."""
    others = sorted(
        (entry for entry in store.iterdir() if entry != keep), key=lambda entry: entry.stat().st_mtime
    )
    for entry in others[:-1]:
        shutil.rmtree(entry, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments and provide the environment."""
    parser = argparse.ArgumentParser(description="Make the development environment from the lock files.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=cache_root() / "venv", help="the link to make"
    )
    link: Path = parser.parse_args(arguments).folder
    if sys.version_info[:2] != (3, 11):
        sys.exit(
            f"the lock files are for Python 3.11, this is {sys.version.split()[0]}: call me with python3.11"
        )
    try:
        provide(link.absolute())
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed ({error.returncode}), its reason stands above: {' '.join(map(str, error.cmd))}")


if __name__ == "__main__":
    main()
