"""What a server is told: its config, and where it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.contract import codes
from modelyard.contract.configfile import ConfigError, read_config
from modelyard.contract.server import ServerConfig
from modelyard_agent.resources import count_threads

from modelyard_server.failure import Failure


@dataclass(frozen=True, slots=True)
class Settings:
    """The config, with what the container decides. `folder` is absolute; `threads` are those that compute.

    `reference`: the answers that the config names; None: the folder's own, if it has any.
    """

    config: ServerConfig
    folder: Path
    port: int
    threads: int
    result: Path
    termination: Path = Path(codes.TERMINATION_PATH)
    reference: Path | None = None


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads config and environment. Raises Failure (InvalidServerConfig)."""
    try:
        config = read_config(ServerConfig, environment, codes.ENV_SERVER_CONFIG, "server")
    except ConfigError as error:
        raise _invalid(str(error)) from error
    storage = Path(environment.get(codes.ENV_STORAGE, codes.STORAGE_PATH))
    return Settings(
        config=config,
        folder=_find_below(storage, "folder", config.folder),
        port=_read_number(environment, codes.ENV_SERVER_PORT, codes.SERVER_PORT),
        threads=_read_number(environment, "OMP_NUM_THREADS", count_threads(1)),
        result=Path(environment.get(codes.ENV_RUNTIME_DIR, codes.RUNTIME_PATH)) / codes.RESULT_FILE,
        reference=_find_below(storage, "reference", config.reference) if config.reference else None,
    )


def set_environment(threads: int) -> None:
    """For libraries that read it when they are imported, so to be called before."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _find_below(storage: Path, field: str, path: str) -> Path:
    found = (storage / path).resolve()
    if not found.is_relative_to(storage.resolve()):
        raise _invalid(f"{field} {path!r} is not below the storage root {storage}")
    return found


def _read_number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit() or not int(text):
        raise _invalid(f"{name} is {text!r}, not a whole number above 0")
    return int(text)


def _invalid(message: str) -> Failure:
    return Failure("InvalidServerConfig", message)
