"""Where a process is: its run config, folders and place among the processes, all from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.contract import codes
from modelyard.contract.run import RunConfig
from modelyard_models.failure import Failure
from modelyard_models.fetch import ENV_SOURCES
from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of one process. Ranks are torchrun's; without torchrun the process is alone."""

    run: RunConfig
    storage: Path
    run_dir: Path
    run_path: str  # run_dir below the storage root
    runtime: Path
    sources: Path = Path(codes.SOURCES_PATH)
    attempt: int = 0
    dataset: str | None = None  # below the storage root
    model: str | None = None  # below the storage root
    agent_port: int = codes.AGENT_PORT
    grace_seconds: float = 30.0
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    node: int = 0
    nodes: int = 1

    @property
    def scratch(self) -> Path:
        """What is fetched, until it is in place: a killed pod's successor goes on with it."""
        return self.run_dir / "prepare"

    @property
    def owner(self) -> str:
        """Name of the job's temporary files: the first 8 digits of its uid."""
        return self.run.identity.uid.replace("-", "")[:8]


def read_runtime(env: Mapping[str, str] = os.environ) -> Path:
    """The folder that this pod's processes share."""
    return Path(env.get(codes.ENV_RUNTIME_DIR, codes.RUNTIME_PATH))


def read_context(env: Mapping[str, str] = os.environ) -> Context:
    """Reads the environment of the contract and torchrun's. Raises Failure (InvalidRunConfig)."""
    path = Path(env.get(codes.ENV_RUN_CONFIG, codes.RUN_CONFIG_PATH))
    try:
        run = RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Failure("InvalidRunConfig", f"the run config {path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise Failure("InvalidRunConfig", f"the run config {path} isn't valid: {error}") from error
    if run.contract_version > codes.CONTRACT_VERSION:
        raise Failure(
            "InvalidRunConfig",
            f"the operator speaks contract {run.contract_version}, this image {codes.CONTRACT_VERSION}; "
            "use the "
            "trainer image of the operator's release",
        )
    storage = Path(env.get(codes.ENV_STORAGE, codes.STORAGE_PATH))
    run_path = env.get(codes.ENV_RUN_DIR, "").strip("/")
    if not run_path:
        raise Failure(
            "InvalidRunConfig", f"{codes.ENV_RUN_DIR} is not set; start this program through the operator"
        )
    return Context(
        run=run,
        storage=storage,
        run_dir=storage / run_path,
        run_path=run_path,
        runtime=read_runtime(env),
        sources=Path(env.get(ENV_SOURCES, codes.SOURCES_PATH)),
        attempt=int(env.get(codes.ENV_ATTEMPT, "0")),
        dataset=env.get(codes.ENV_DATASET) or None,
        model=env.get(codes.ENV_MODEL) or None,
        agent_port=int(env.get(codes.ENV_AGENT_PORT, codes.AGENT_PORT)),
        grace_seconds=float(env.get(codes.ENV_GRACE_SECONDS, "30")),
        rank=int(env.get("RANK", "0")),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        world_size=int(env.get("WORLD_SIZE", "1")),
        local_world_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        node=int(env.get("GROUP_RANK", "0")),
        nodes=int(env.get("GROUP_WORLD_SIZE", "1")),
    )
