"""What the operator told this pod through its environment."""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from modelyard.contract import codes

from modelyard_agent.files import read_object

DEFAULT_GRACE_SECONDS = 30.0


class SettingsError(Exception):
    """The environment of the pod is not one the operator makes."""


@dataclass(frozen=True)
class Settings:
    """The pod's place in its run. Paths are absolute; times are seconds."""

    stage: str
    storage: Path = Path(codes.STORAGE_PATH)
    run_dir: str = ""
    runtime: Path = Path(codes.RUNTIME_PATH)
    termination_path: Path = Path(codes.TERMINATION_PATH)
    run_config: Dict[str, Any] = field(default_factory=dict)
    port: int = codes.AGENT_PORT
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    attempt: int = 0
    reached_step: int = 0
    node: int = 0
    num_nodes: int = 1
    num_proc: str = "auto"
    master_addr: str = "localhost"
    local_addr: str = "localhost"
    rdzv_port: int = codes.RDZV_PORT
    max_process_restarts: int = 0
    join_seconds: float = 900.0

    @property
    def run_path(self) -> Optional[Path]:
        """The run's folder, where the pod has one."""
        return self.storage / self.run_dir if self.run_dir else None

    @property
    def margin_seconds(self) -> float:
        """What is kept of the grace period for ending processes and writing the result."""
        return max(2.0, min(10.0, self.grace_seconds * 0.2))

    @property
    def stop_seconds(self) -> float:
        """How long the training processes may take to save and leave."""
        return max(1.0, self.grace_seconds - self.margin_seconds)


def read_settings(stage: str, environment: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises SettingsError naming the variable that is wrong."""
    node = _integer(environment, "JOB_COMPLETION_INDEX", 0)
    num_nodes = _integer(environment, codes.ENV_NUM_NODES, 1, least=1)
    master_addr = environment.get(codes.ENV_MASTER_ADDR) or "localhost"
    num_proc = environment.get(codes.ENV_NUM_PROC) or "auto"
    if num_proc not in ("auto", "gpu", "cpu") and not re.fullmatch(r"[1-9][0-9]*", num_proc):
        raise SettingsError(
            "{} must be a positive number or auto, not {!r}".format(codes.ENV_NUM_PROC, num_proc)
        )
    return Settings(
        stage=stage,
        storage=Path(environment.get(codes.ENV_STORAGE) or codes.STORAGE_PATH),
        run_dir=_run_dir(environment.get(codes.ENV_RUN_DIR) or ""),
        runtime=Path(environment.get(codes.ENV_RUNTIME_DIR) or codes.RUNTIME_PATH),
        run_config=read_object(Path(environment.get(codes.ENV_RUN_CONFIG) or codes.RUN_CONFIG_PATH)) or {},
        port=_integer(environment, codes.ENV_AGENT_PORT, codes.AGENT_PORT),
        grace_seconds=_seconds(environment, codes.ENV_GRACE_SECONDS, DEFAULT_GRACE_SECONDS),
        attempt=_integer(environment, codes.ENV_ATTEMPT, 0),
        reached_step=_integer(environment, codes.ENV_REACHED_STEP, 0),
        node=node,
        num_nodes=num_nodes,
        num_proc=num_proc,
        master_addr=master_addr,
        local_addr=node_address(master_addr, node, num_nodes),
        rdzv_port=_integer(environment, codes.ENV_RDZV_PORT, codes.RDZV_PORT),
        max_process_restarts=_integer(environment, codes.ENV_MAX_PROCESS_RESTARTS, 0),
    )


def node_address(master_addr: str, node: int, num_nodes: int) -> str:
    """The name under which the other pods know this one.

    torchrun's c10d rendezvous ignores --node-rank: it ranks nodes by sorting their addresses as text. Global
    rank 0 has to run in pod 0, so every pod gives its DNS name: <job>-0.<service> sorts before any other
    <job>-<n>.<service>, as no other number starts with the digit 0.
    """
    if node == 0 or num_nodes == 1:
        return master_addr
    head, dot, domain = master_addr.partition(".")
    if head.endswith("-0"):
        return "{}{}{}{}".format(head[:-1], node, dot, domain)
    return socket.gethostname()


def _integer(environment: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
        raise SettingsError("{} must be a number of at least {}, not {!r}".format(name, least, text))
    return int(text)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError("{} must be a number of seconds, not {!r}".format(name, text))
    return seconds


def _run_dir(text: str) -> str:
    if text and (text.startswith("/") or ".." in text.split("/")):
        raise SettingsError("{} must lie below the storage root, not {!r}".format(codes.ENV_RUN_DIR, text))
    return text.strip("/")
