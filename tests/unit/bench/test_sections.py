"""A section that fails says so, keeps what it measured, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as program
from tests.bench.sections import (
    LONGEST_ERROR,
    OverTimeError,
    Rows,
    Section,
    describe,
    print_table,
    run_section,
)


def good(rows: Rows) -> None:
    rows.append({"jobs": 1, "p50_ms": 2.5})


def half(rows: Rows) -> None:
    good(rows)
    raise RuntimeError("DELETE /jobs: 504 Timeout: request did\nnot complete")


def leave(rows: Rows) -> None:
    sys.exit("the images were not built")


def hang(rows: Rows) -> None:
    with rows.measure(jobs=2):
        time.sleep(60)


def hang_in_spite(rows: Rows) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(60)
    time.sleep(60)


def hang_in_a_task(rows: Rows) -> None:
    async def spin() -> None:
        for _ in itertools.repeat(None):
            await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(spin())

    asyncio.run(main())


def run_all(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *measures: Callable[[Rows], None]
) -> tuple[int, dict[str, Any]]:
    """The program's exit status and its JSON, with sections named a, b, c."""
    sections = [Section("abc"[i], f"Table {i}", 1, m) for i, m in enumerate(measures)]
    monkeypatch.setattr(program, "build_sections", lambda chosen, logs: sections)
    status = program.main(["--out", str(folder / "out.json")])
    return status, json.loads((folder / "out.json").read_text())


def test_a_healthy_run_has_no_word_of_errors_and_ends_with_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, results = run_all(monkeypatch, tmp_path, good)
    assert (status, results["a"], results["failed"]) == (0, [{"jobs": 1, "p50_ms": 2.5}], {})
    assert "Table 0\n| jobs | p50_ms |\n|---|---|\n| 1 | 2.5 |\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measure", "error"),
    [
        (half, "RuntimeError: DELETE /jobs: 504 Timeout: request did not complete"),
        (leave, "SystemExit: the images were not built"),
        (hang, "OverTimeError: not done after 1 s"),
        (hang_in_spite, "OverTimeError: not done after 1 s"),
        (hang_in_a_task, "OverTimeError: not done after 1 s"),
        (lambda rows: None, "RuntimeError: nothing was measured"),
    ],
)
def test_a_failing_section_is_named_in_table_json_and_status_and_the_next_one_is_measured(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    measure: Callable[[Rows], None],
    error: str,
) -> None:
    began = time.monotonic()
    status, results = run_all(monkeypatch, tmp_path, measure, good)
    assert time.monotonic() - began < 15
    assert status == 1
    assert results["failed"] == {"a": [error]}
    assert results["a"][-1] == {"error": error}
    assert results["b"] == [{"jobs": 1, "p50_ms": 2.5}]
    printed = capsys.readouterr().out
    assert f"| {error} |" in printed
    assert f"FAILED a: {error}" in printed


# On a busy machine the time is up while the loop is still being made or already being closed, and what is left then
# complains when it goes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_busy_event_loop_ends_wherever_its_time_is_up() -> None:
    # Long beside the moments for which a busy machine stops a process: the next interruption comes as long after.
    for i in range(60):
        rows = run_section(Section("busy", "Busy", 0.05 + i * 1e-5, hang_in_a_task))
        assert [row["error"].split(":")[0] for row in rows] == ["OverTimeError"]
    gc.collect()  # so that the complaints are this test's


@pytest.mark.parametrize("measure", [hang, hang_in_a_task])
def test_a_process_that_ignores_interruptions_as_in_the_background_has_time_limits_too(
    measure: Callable[[Rows], None],
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        rows = run_section(Section("busy", "Busy", 0.2, measure))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert [row["error"].split(":")[0] for row in rows] == ["OverTimeError"]


def test_the_time_limit_of_what_measures_is_running_again_afterwards() -> None:
    signal.setitimer(signal.ITIMER_REAL, 500)
    run_section(Section("a", "Table", 60, good))
    assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500


def test_what_a_failing_section_had_measured_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, results = run_all(monkeypatch, tmp_path, half)
    assert results["a"][0] == {"jobs": 1, "p50_ms": 2.5}


def test_what_was_measured_is_stored_before_the_next_section_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def look(rows: Rows) -> None:
        stored = json.loads((tmp_path / "out.json").read_text())
        rows.append({"stored": sorted(set(stored) & set("abc"))})

    assert run_all(monkeypatch, tmp_path, good, look)[1]["b"] == [{"stored": ["a"]}]


def test_an_interruption_ends_the_program_and_loses_nothing_that_was_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(rows: Rows) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(monkeypatch, tmp_path, good, interrupt)
    assert json.loads((tmp_path / "out.json").read_text())["a"] == [{"jobs": 1, "p50_ms": 2.5}]


def test_a_failing_row_says_so_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(rows: Rows) -> None:
        for count in (20, 100, 1000):
            with rows.measure(mode="burst", jobs=count) as row:
                if count == 100:
                    raise TimeoutError("3 of 100 jobs have no child")
                row["p50_ms"] = count / 10
            with rows.measure(mode="removal", jobs=count):
                pass

    rows = run_section(Section("burst", "Bursts", 5, measure))
    assert rows.failures() == ["burst, 100: TimeoutError: 3 of 100 jobs have no child"]
    assert "| mode | jobs | p50_ms | error |" in capsys.readouterr().out
    assert [row["jobs"] for row in rows] == [20, 100, 1000]


def test_no_row_takes_the_sections_end_for_a_failure_of_its_own() -> None:
    rows = Rows()
    with pytest.raises(OverTimeError), rows.measure(jobs=1):
        raise OverTimeError
    assert rows == []


def test_an_error_is_one_line_that_fits_a_table() -> None:
    text = describe(RuntimeError("a | b\n" + "x" * 2 * LONGEST_ERROR))
    assert text.startswith("RuntimeError: a / b xx")
    assert len(text) == LONGEST_ERROR
    assert describe(KeyError()) == "KeyError"


def test_of_a_group_of_errors_the_first_is_told_and_of_two_in_a_row_both() -> None:
    assert describe(ExceptionGroup("unhandled", [ValueError("one"), ValueError("two")])) == "ValueError: one"
    try:
        try:
            raise ValueError("measured")
        finally:
            raise OSError("cleaned")
    except OSError as error:
        assert describe(error) == "ValueError: measured; then OSError: cleaned"


def test_what_belongs_below_a_table_is_printed_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("T", [{"mode": "burst", "jobs": 2, "by_verb": {"APPLY jobs": 1.0}}])
    out = capsys.readouterr().out
    assert (
        out
        == "\nT\n| mode | jobs |\n|---|---|\n| burst | 2 |\n  requests per job (burst, 2): {'APPLY jobs': 1.0}\n"
    )


def test_a_section_that_does_not_exist_is_refused_with_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        program.main(["apis"])
    assert (
        "there is no section apis; there are api, idle, deployments, trainer, verification, recovery"
        in capsys.readouterr().err
    )


def test_all_groups_have_sections_of_different_names(tmp_path: Path) -> None:
    names = [section.name for section in program.build_sections(set(program.GROUPS), tmp_path)]
    assert names == [
        "burst",
        "restart",
        "idle",
        "deployments",
        "trainer",
        "verification",
        "recovery",
        "scaling",
        "gateway",
        "load",
        "classification",
        "embeddings",
        "generation",
    ]
    assert [s.name for s in program.build_sections({"idle"}, tmp_path)] == ["idle"]
