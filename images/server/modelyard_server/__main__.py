"""`python -m modelyard_server [--port PORT]` serves the model that the config in MODELYARD_SERVER_CONFIG names."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from modelyard.contract import codes

from modelyard_server.failure import Failure, leave_reason
from modelyard_server.settings import Settings, read_settings, set_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code of the contract."""
    parser = argparse.ArgumentParser(prog="modelyard_server", description=__doc__)
    parser.add_argument(
        "--port", type=int, help=f"default: {codes.ENV_SERVER_PORT}, else {codes.SERVER_PORT}"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # The first process of a container is not ended by default. While it serves, this is the server's to handle.
    signal.signal(signal.SIGTERM, _stop)
    try:
        settings = read_settings()
        if options.port is not None:
            settings = dataclasses.replace(settings, port=options.port)
        return serve(settings)
    except Failure as failure:
        logging.getLogger(__package__).error("%s", failure)
        runtime = Path(os.environ.get(codes.ENV_RUNTIME_DIR, codes.RUNTIME_PATH))
        leave_reason(failure, Path(codes.TERMINATION_PATH), runtime / codes.RESULT_FILE)
        return failure.exit_code


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(codes.EXIT_OK)


def serve(settings: Settings) -> int:
    """Runs the server to its end."""
    set_environment(settings.threads)
    import uvloop

    from modelyard_server.process import Process

    code: int = uvloop.run(Process(settings).run())
    return code


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # A model that is still being loaded would be waited for; what counts is written by now.
    os._exit(code)
