"""Reading what a pod is told: a config as one JSON file, which a variable of its environment names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from modelyard.contract.base import Versioned
from modelyard.contract.codes import CONTRACT_VERSION

V = TypeVar("V", bound=Versioned)


class ConfigError(ValueError):
    """The config can't be used; the message says what to change."""


def read_config(
    model: type[V], environment: Mapping[str, str], variable: str, process: str, image: str | None = None
) -> V:
    """The config of a process (server, gateway …), in the image of that name unless told. Raises ConfigError."""
    what, path = f"{process} config", environment.get(variable)
    if not path:
        raise ConfigError(f"{variable} is not set; it names the {what}, a JSON file")
    try:
        config = model.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"the {what} {path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise ConfigError(f"the {what} {path} isn't valid: {told}") from error
    if config.contract_version > CONTRACT_VERSION:
        raise ConfigError(
            f"the operator speaks contract {config.contract_version}, this image {CONTRACT_VERSION}; use the"
            f" {image or process} image of the operator's release"
        )
    return config
