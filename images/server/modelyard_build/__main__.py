"""`python -m modelyard_build` builds the package that the config in MODELYARD_BUILD_CONFIG names."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from modelyard.contract import codes
from modelyard.contract.build import BuildResult
from modelyard.contract.report import FailureReport
from modelyard_models.failure import Failure, describe, lacks_memory

from modelyard_build.build import build
from modelyard_build.child import EXIT_BUG, need_memory
from modelyard_build.report import fit
from modelyard_build.settings import read_settings

log = logging.getLogger("modelyard.build")


def main() -> int:
    """Builds; leaves the result for the operator; returns the exit code of the contract."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container is not ended by default
    try:
        result = build(read_settings())
        code = result.failure.exit_code if result.failure else codes.EXIT_OK
    except Failure as failure:
        log.error("%s", failure)
        result, code = BuildResult(outcome="failed", failure=failure.report()), failure.exit_code
    except Exception as error:
        log.exception("the build failed")
        report = FailureReport(reason="BuildError", message=describe(error)[:1000], exit_code=EXIT_BUG)
        if lacks_memory(error):
            report = need_memory("found no memory").report()
        result, code = BuildResult(outcome="failed", failure=report), report.exit_code
    _leave(fit(result, codes.TERMINATION_LIMIT))
    return EXIT_BUG if code is None else code


def _leave(text: bytes) -> None:
    termination = Path(codes.TERMINATION_PATH)
    result = Path(os.environ.get(codes.ENV_RUNTIME_DIR, codes.RUNTIME_PATH)) / codes.RESULT_FILE
    # In place: a termination log is a mount of its own, that takes no rename. Outside of a pod there is none.
    for place in (termination, result) if termination.exists() else (result,):
        with contextlib.suppress(OSError):
            place.write_bytes(text)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(codes.EXIT_STOPPED)


if __name__ == "__main__":
    sys.exit(main())
