"""Run commands, and fail with a sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Union

Argument = Union[str, Path]  # noqa: UP007 (Python 3.9 evaluates this)


class ClusterError(Exception):
    """Something the user has to know or change; its text is the whole message."""


def run(
    command: Sequence[Argument],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run `command` and return its standard output.

    Raises ClusterError with the command and the end of its error output when it fails or does not exist.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]}: not found; install it or put it on PATH") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no output")[-2000:]
        raise ClusterError(f"`{' '.join(words)[:300]}` failed with code {done.returncode}: {said}")
    return done.stdout


def attempt(command: Sequence[Argument], *, env: Mapping[str, str] | None = None) -> str | None:
    """Return the command's standard output, or None when it fails: for clean-up and for questions."""
    try:
        return run(command, env=env)
    except ClusterError:
        return None


def find(program: str) -> str | None:
    """Return where `program` is, looking in the system's administration folders too."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def say(text: str) -> None:
    """Tell the user about progress; standard output stays free for what other programs read."""
    print(text, file=sys.stderr, flush=True)


def wait_until(what: str, ready: Callable[[], bool], *, seconds: float, hint: Callable[[], str]) -> None:
    """Poll `ready` until it is true; after `seconds` raise ClusterError with `what` and the hint."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"gave up after {seconds:.0f} s waiting for {what}; {hint()}")
        time.sleep(0.05)
