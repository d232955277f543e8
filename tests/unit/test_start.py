"""What the operator's process is like once it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import gc, sys
from modelyard.__main__ import main
print(main(["run", "--profiles", sys.argv[1]]), gc.isenabled())
"""


def test_garbage_is_collected_again_after_the_imports(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["1", "True"], done.stderr
