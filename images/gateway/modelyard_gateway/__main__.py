"""`python -m modelyard_gateway` serves one ModelDeployment; the config in MODELYARD_GATEWAY_CONFIG says which."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from modelyard.contract import codes

from modelyard_gateway.process import Process
from modelyard_gateway.settings import InvalidConfig, Settings, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code of the contract."""
    parser = argparse.ArgumentParser(prog="modelyard_gateway", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=codes.GATEWAY_PORT, help="for callers (default: %(default)s)"
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        default=codes.GATEWAY_ADMIN_PORT,
        help="health, metrics, load (default: %(default)s)",
    )
    parser.add_argument("--api", help="URL of the API server (default: as the pod is told)")
    parser.add_argument("--account", type=Path, help="folder of the service account's token and ca.crt")
    parser.add_argument("--keys", type=Path, help=f"folder of the API keys (default: {codes.KEYS_PATH})")
    parser.add_argument("--scratch", type=Path, help="folder for what was seen last (default: /tmp)")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    given = {name: value for name, value in vars(options).items() if value is not None}
    try:
        settings = dataclasses.replace(read_settings(api=options.api), **given)
    except InvalidConfig as error:
        logging.getLogger(__package__).error("%s", error)
        return codes.EXIT_USER_ERROR
    uvloop.run(serve(settings))
    return codes.EXIT_OK


async def serve(settings: Settings) -> None:
    """Runs the gateway to its end."""
    await Process(settings).run()


if __name__ == "__main__":
    sys.exit(main())
