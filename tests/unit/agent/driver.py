"""Runs the agent as a process of its own, as in a pod, but with a small script where torchrun would be."""

import json
import sys
from pathlib import Path
from typing import Any

from modelyard_agent import supervisor
from modelyard_agent.processes import become_reaper
from modelyard_agent.settings import Settings
from modelyard_agent.signals import StopSignal
from modelyard_agent.stages import Pod, collect, prepare, train


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings: dict[str, Any] = {
        key: Path(value) if key in PATHS else value for key, value in given["settings"].items()
    }
    supervisor.LEAVE_SECONDS = 4.0  # what is waited for comes at once here, or never
    stop = StopSignal()
    become_reaper()
    pod = Pod(
        Settings(**settings),
        stop,
        make_train_command=lambda _settings, _command: given["command"],
        make_prepare_command=lambda: given["command"],
    )
    if pod.settings.stage == "collect":
        return collect(pod.settings)
    return prepare(pod) if pod.settings.stage == "prepare" else train(pod, given["user_command"])


PATHS = ("storage", "runtime", "termination_path")

if __name__ == "__main__":
    sys.exit(main())
