"""What a build leaves when something ends it that nobody has foreseen."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from modelyard.contract import codes
from modelyard.contract.build import BuildResult
from modelyard.contract.reading import read
from modelyard_build import __main__ as entry


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [(MemoryError(), "HostOutOfMemory", 2), (ValueError("the library broke"), "BuildError", 1)],
)
def test_an_error_is_told_by_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, code: int
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setenv(codes.ENV_RUNTIME_DIR, str(tmp_path))
    monkeypatch.setattr(entry, "read_settings", fail)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert entry.main() == code
    finally:
        signal.signal(signal.SIGTERM, before)
    told = read(BuildResult, (tmp_path / codes.RESULT_FILE).read_text())
    assert told is not None and told.failure is not None
    assert (told.failure.reason, told.failure.exit_code) == (reason, code)
