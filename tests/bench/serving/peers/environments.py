"""Environments of peers: made on demand, named after what is in them.

Each sees the development environment behind its own packages: torch and transformers are the same for all that can have
them, and are there once.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from examples.demo.shell import CACHE

REQUIREMENTS = Path(__file__).with_name("requirements")
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")


def make(name: str) -> Path:
    """The folder of programs of an environment with requirements/NAME.txt, all of it pinned.

    Raises subprocess.CalledProcessError when that can't be installed.
    """
    pins = REQUIREMENTS / f"{name}.txt"
    base = sysconfig.get_path("purelib")
    recipe = hashlib.sha256(f"{sys.version} {base}".encode() + pins.read_bytes()).hexdigest()[:12]
    target = CACHE / "peers" / f"{name}-{recipe}"
    done = target / "complete"
    if not done.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        # In its place from the begin, as programs of an environment have its path in them.
        venv.EnvBuilder(symlinks=True, clear=True, with_pip=True).create(target)
        python = target / "bin" / "python"
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([python, *_PIP, "-r", pins], check=True, cwd=scratch)
        packages = (
            target / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        )
        (packages / "base.pth").write_text(base + "\n")
        done.touch()
    return target / "bin"
