"""What a gateway is told: its config, and where it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.contract import codes
from modelyard.contract.configfile import ConfigError, read_config
from modelyard.contract.gateway import GatewayConfig

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SCRATCH = Path("/tmp")  # noqa: S108 - the one place that the pod makes writable for it alone


class InvalidConfig(Exception):  # noqa: N818 - what the user reads
    """The gateway can't begin; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The config, and where things are. `api`: URL of the API server.

    account: folder of the service account's token and of the API server's CA; scratch: for what was seen last.
    """

    config: GatewayConfig
    api: str
    account: Path = ACCOUNT
    keys: Path = Path(codes.KEYS_PATH)
    scratch: Path = SCRATCH
    port: int = codes.GATEWAY_PORT
    admin_port: int = codes.GATEWAY_ADMIN_PORT


def read_settings(environment: Mapping[str, str] = os.environ, api: str | None = None) -> Settings:
    """Reads config and environment; `api`: the API server's URL where it isn't the pod's. Raises InvalidConfig."""
    try:
        config = read_config(GatewayConfig, environment, codes.ENV_GATEWAY_CONFIG, "gateway")
    except ConfigError as error:
        raise InvalidConfig(str(error)) from error
    return Settings(config=config, api=api or _find_api(environment))


def _find_api(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InvalidConfig(
            "KUBERNETES_SERVICE_HOST is not set: the gateway follows servers through the API server"
        )
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"
