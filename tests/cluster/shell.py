"""Run commands, and fail with a sentence that says what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Union

Argument = Union[str, Path]  # noqa: UP007 (Python 3.9 evaluates this)

# Seconds for what asks or changes something on this machine, for what downloads or copies gigabytes, for builds.
QUICK, DOWNLOAD, BUILD = 300.0, 1800.0, 3600.0
# How apt, pip and Go say that a connection failed.
NETWORK = re.compile(
    "timed out|timeout|connection (reset|refused|closed|broken)|temporar(y|ily)|unexpected EOF|could not resolve"
    "|name resolution|no such host|failed to fetch|bad gateway|service unavailable",
    re.IGNORECASE,
)


class ClusterError(Exception):
    """Something the user has to know or change; its text is the whole message."""


def run(
    command: Sequence[Argument],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = QUICK,
) -> str:
    """Run `command` and return its standard output.

    Raises ClusterError with the command and the end of its error output when it fails or does not exist, and
    when it takes longer than `seconds`: then it is killed.
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
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]}: not found; install it or put it on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{' '.join(words)[:300]}` was not done after {seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no output")[-2000:]
        raise ClusterError(f"`{' '.join(words)[:300]}` failed with code {done.returncode}: {said}")
    return done.stdout


def run_online(
    command: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = DOWNLOAD,
    tries: int = 3,
    pause: float = 5.0,
) -> str:
    """Run a command that downloads; when its words are those of a network that failed, it is run again.

    Raises ClusterError as `run` does, at once for every other failure.
    """
    for left in reversed(range(tries)):
        try:
            return run(command, env=env, cwd=cwd, seconds=seconds)
        except ClusterError as error:
            if not left or not NETWORK.search(str(error)):
                raise
            say(f"the network failed, once more in {pause:.0f} s: {str(error)[-200:]}")
            time.sleep(pause)
    raise AssertionError("unreachable")


def attempt(
    command: Sequence[Argument], *, env: Mapping[str, str] | None = None, seconds: float = QUICK
) -> str | None:
    """Return the command's standard output, or None when it fails: for clean-up and for questions."""
    try:
        return run(command, env=env, seconds=seconds)
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
