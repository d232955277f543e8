"""kubectl as the API server's tests call it: an overloaded server is asked again, everything else at once an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apiserver.conftest import run_kubectl

BUSY = "Error from server (Timeout): Timeout: request did not complete within the allotted timeout"


def make_kubectl(folder: Path, complaint: str, failures: int) -> str:
    """A program that complains so often and then prints its arguments; it counts its calls in `calls`."""
    program = folder / "kubectl"
    program.write_text(
        f'#!/bin/sh\necho x >> {folder}/calls\nif [ "$(wc -l < {folder}/calls)" -le {failures} ]; then\n'
        f'  echo "{complaint}" >&2; exit 1\nfi\necho "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


@pytest.mark.parametrize("verb", ["get", "apply", "wait"])
def test_an_overloaded_server_is_asked_again(tmp_path: Path, verb: str) -> None:
    done = run_kubectl([make_kubectl(tmp_path, BUSY, 2), verb, "jobs"], pause=0)
    assert done.stdout.split() == [verb, "jobs"]
    assert calls(tmp_path) == 3


def test_a_server_that_stays_overloaded_is_given_up_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"kubectl get jobs: .*did not complete"):
        run_kubectl([make_kubectl(tmp_path, BUSY, 9), "get", "jobs"], pause=0)
    assert calls(tmp_path) == 3


@pytest.mark.parametrize(
    ("verb", "complaint"), [("create", BUSY), ("get", "Error from server (Forbidden): no")]
)
def test_what_may_have_been_done_or_was_refused_is_not_repeated(
    tmp_path: Path, verb: str, complaint: str
) -> None:
    with pytest.raises(AssertionError):
        run_kubectl([make_kubectl(tmp_path, complaint, 1), verb, "job"], pause=0)
    assert calls(tmp_path) == 1


def test_a_failure_that_is_expected_is_returned(tmp_path: Path) -> None:
    assert (
        run_kubectl([make_kubectl(tmp_path, "NotFound", 1), "get", "x"], check=False, pause=0).returncode == 1
    )
