"""Run commands, and fail with a sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Mapping, Optional, Sequence, Union

Argument = Union[str, Path]


class ClusterError(Exception):
    """Something the user has to know or change; its text is the whole message."""


def run(
    command: Sequence[Argument],
    *,
    stdin: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
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


def attempt(command: Sequence[Argument], *, env: Optional[Mapping[str, str]] = None) -> Optional[str]:
    """Return the command's standard output, or None when it fails: for clean-up and for questions."""
    try:
        return run(command, env=env)
    except ClusterError:
        return None


def find(program: str) -> Optional[str]:
    """Return where `program` is, looking in the system's administration folders too."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def say(text: str) -> None:
    """Tell the user about progress; standard output stays free for what other programs read."""
    print(text, file=sys.stderr, flush=True)


def wait_until(what: str, ready: Callable[[], bool], *, seconds: float, hint: Callable[[], str]) -> None:
    """Poll `ready` until it is true; raise ClusterError naming `what`, and what `hint` says then, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"gave up after {seconds:.0f} s waiting for {what}; {hint()}")
        time.sleep(0.05)
