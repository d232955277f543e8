"""A server of the user's own."""

from __future__ import annotations

from modelyard.api.serving import CustomEngine
from modelyard.contract.server import ServerConfig
from modelyard.serving.engines.engine import Container, describe_model


def build(custom: CustomEngine, config: ServerConfig) -> Container:
    """As the user says; it is ready when its own path says so."""
    return Container(
        image=custom.image,
        port=custom.port,
        ready=custom.readiness_path,
        speaks=custom.protocol,
        command=custom.command,
        args=custom.args,
        env=describe_model(config.folder, config.name),
        users_env=custom.env,
    )
