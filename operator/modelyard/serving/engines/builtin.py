"""Our own server (images/server)."""

from __future__ import annotations

from modelyard.api.profile import Profile
from modelyard.contract import codes
from modelyard.serving.children.site import CONFIG_FILE, CONFIG_FOLDER
from modelyard.serving.engines.engine import Container


def build(profile: Profile) -> Container:
    """All that it needs to know is in its config."""
    return Container(
        image=profile.server_image,
        port=codes.SERVER_PORT,
        ready="/v2/health/ready",
        speaks="builtin",
        # Only a process that answers nothing at all is restarted: a busy one is not ill.
        alive="/v2/health/live",
        drains=True,
        command=("python3", "-m", "modelyard_server"),
        env={
            codes.ENV_SERVER_CONFIG: f"{CONFIG_FOLDER}/{CONFIG_FILE}",
            codes.ENV_SERVER_PORT: codes.SERVER_PORT,
            codes.ENV_STORAGE: codes.STORAGE_PATH,
            codes.ENV_RUNTIME_DIR: codes.RUNTIME_PATH,
        },
    )
