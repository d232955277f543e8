"""A process of a build that never ends is ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from modelyard_build import child
from modelyard_models.failure import Failure


def test_one_that_hangs_is_ended_and_that_is_no_fault_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_LONGEST", 0.5)
    begun = time.monotonic()
    (tmp_path / "hanging.py").write_text("import time; time.sleep(20)")
    with pytest.raises(Failure) as caught:
        child.run_child("hanging", tmp_path / "plan", tmp_path / "target", {"PYTHONPATH": str(tmp_path)})
    assert time.monotonic() - begun < 10
    assert (caught.value.reason, caught.value.temporary) == ("ModelHung", False)
