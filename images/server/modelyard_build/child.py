"""Processes of a build: each makes or measures one thing, and may die of it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from modelyard.contract.report import FailureReport
from modelyard_models.failure import Failure, describe, lacks_device_memory, lacks_memory
from modelyard_models.files import read_json, write_atomic

log = logging.getLogger("modelyard.build")
EXIT_BUG = 1
_FAILURE = ".failure"  # after the name of the file that would have been written
# Seconds: of a process that hangs. Three of them fit into a pod's time (LONGEST of the operator's builds), so that a
# build ends by itself, without a variant that hangs. A model that takes so long to load is of little use to servers.
_LONGEST = 3600.0


def leave_failure(failure: Failure, target: Path) -> int:
    """In a child: leaves why `target` was not written, and returns the exit code."""
    write_atomic(_beside(target), failure.report().model_dump_json())
    return failure.exit_code


def need_memory(what: str) -> Failure:
    """Of a process that did so."""
    return Failure("HostOutOfMemory", f"its process {what}; raise server.resources.limits.memory")


def end(main: Callable[[], int]) -> NoReturn:
    """In a child: runs it, and ends the process, whatever threads of libraries go on.

    Memory that was not there is left as the failure: on a device it may be there later.
    """
    code = EXIT_BUG
    try:
        code = main()
    except Exception as error:
        log.exception("the process failed")
        target = Path(sys.argv[2])
        if lacks_memory(error):
            code = leave_failure(need_memory("found no memory"), target)
        elif lacks_device_memory(error):
            why = f"its process found no memory on the device: {describe(error)}"
            code = leave_failure(Failure("StartFailed", why, temporary=True), target)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_child(module: str, plan: Path, target: Path, environment: Mapping[str, str]) -> None:
    """Runs `python -m module plan target`, which writes `target`. Raises Failure, the child's own if it left one."""
    with subprocess.Popen(
        [sys.executable, "-m", module, str(plan), str(target)], env={**os.environ, **environment}
    ) as process:
        try:
            code = process.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            raise Failure(
                "ModelHung", "its process was not done after an hour; the build's log says what it was at"
            ) from None
        finally:
            process.kill()
    if code == 0 and target.exists():
        return
    left = read_json(_beside(target))
    if left is not None:
        report = FailureReport.model_validate(left)
        raise Failure(report.reason, report.message, temporary=code == os.EX_TEMPFAIL)
    if code == -signal.SIGKILL:
        raise need_memory("was killed, as happens where the memory is too small")
    raise Failure("BuildError", f"its process ended with {code}; the build's log says why")


def _beside(target: Path) -> Path:
    return target.with_name(target.name + _FAILURE)
