"""What is started, with which environment."""

import socket
import sys
from typing import Dict, List, Mapping, Sequence

from modelyard.contract import codes

from modelyard_agent import kubeflow, resources
from modelyard_agent.settings import Settings

PYTHON = sys.executable or "python3"
READ_TIMEOUT_SECONDS = 120


def make_prepare_command() -> List[str]:
    """The prepare stage."""
    return [PYTHON, "-m", "modelyard_trainer.prepare"]


def make_train_command(settings: Settings, user_command: Sequence[str]) -> List[str]:
    """torchrun for this node; c10d rendezvous, hosted by node 0 whatever its addresses look like.

    The built-in trainer has a torchrun of its own, which forks its ranks.
    """
    arguments = {
        "nnodes": settings.num_nodes,
        "nproc-per-node": _processes(settings),
        "max-restarts": settings.max_process_restarts,
        "rdzv-backend": "c10d",
        "rdzv-endpoint": "{}:{}".format(_bracket(settings.master_addr), settings.rdzv_port),
        "rdzv-id": "{}-a{}".format(settings.run_dir.replace("/", "-") or "run", settings.attempt),
        "rdzv-conf": "is_host={},join_timeout={},read_timeout={}".format(
            int(settings.node == 0), int(settings.join_seconds), READ_TIMEOUT_SECONDS
        ),
        "local-addr": settings.local_addr,
        "log-dir": settings.runtime / "torchrun",
    }
    options = ["--{}={}".format(name, value) for name, value in arguments.items()]
    if user_command:
        return [PYTHON, "-m", "torch.distributed.run", *options, "--no-python", *user_command]
    return [PYTHON, "-m", "modelyard_trainer.launch", *options]


def make_environment(
    settings: Settings, port: int, inherited: Mapping[str, str], own_command: bool
) -> Dict[str, str]:
    """The environment of the child. What the user set stays, but for what makes the agent reachable."""
    environment = dict(inherited)
    # The port that was really bound, for the training process's reports.
    environment.update({codes.ENV_AGENT_PORT: str(port), codes.ENV_RUNTIME_DIR: str(settings.runtime)})
    for name in ("no_proxy", "NO_PROXY"):
        environment[name] = ",".join(filter(None, [environment.get(name, ""), "127.0.0.1,localhost"]))
    environment.setdefault("PYTHONUNBUFFERED", "1")
    environment.setdefault("OMP_NUM_THREADS", str(resources.count_threads(count_processes(settings))))
    for name in (kubeflow.ENV_URL, kubeflow.ENV_CA, kubeflow.ENV_TOKEN):
        environment.pop(name, None)
    if settings.stage != "train":
        return environment
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(int(settings.stop_seconds))
    # By default torchrun's own store also serves the workers, and those that start again in place read what
    # the dead ones left in it (gloo: "Connection refused"). A store for each start has nothing stale.
    environment.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    if own_command:
        environment.update(kubeflow.make_environment(settings.runtime, port))
    else:
        environment["HF_HUB_OFFLINE"] = "1"  # everything was fetched by the prepare stage
    interface = _gloo_interface(settings)
    if interface:
        environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    return environment


def count_processes(settings: Settings) -> int:
    """Training processes on this node."""
    if settings.stage != "train":
        return 1
    return int(settings.num_proc) if settings.num_proc.isdigit() else max(1, resources.count_gpus())


def _processes(settings: Settings) -> str:
    # Without an accelerator torchrun's auto is one process for each core of the machine.
    return "1" if settings.num_proc == "auto" and not resources.has_accelerator() else settings.num_proc


def _gloo_interface(settings: Settings) -> str:
    """gloo binds what the host's name resolves to; if that is loopback, other pods can't reach it."""
    if settings.num_nodes == 1:
        return ""
    try:
        own = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
        master = {str(info[4][0]) for info in socket.getaddrinfo(settings.master_addr, None)}
    except OSError:
        own, master = set(), set()
    if all(_is_loopback(address) for address in own) and not (master and all(map(_is_loopback, master))):
        return resources.default_interface() or ""
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _bracket(host: str) -> str:
    return "[{}]".format(host) if ":" in host else host
