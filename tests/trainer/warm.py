"""Training processes forked from one that has imported torch, transformers and DeepSpeed already.

What torchrun does for them, without the seconds that it and each of them take to import that. Real torchruns are
in tests/trainer's attempts and in tests/e2e. `python -m tests.trainer.warm` takes launches as lines of JSON and
answers each with its exit code: 0, or 1 where a process failed, for which the others are ended.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = os.pathsep.join(
    str(ROOT / p) for p in ("operator", "images/models", "images/trainer", "images/agent", ".")
)
FIXED = {"PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
_PORTS = iter(range(15_000, 32_000))
_CLAIMS: list[socket.socket] = []  # one for each port that this process has taken
_GRACE = 5.0  # seconds for processes whose peer has failed


class Launcher:
    """The client's side: one server for all launches of this process, started with the first."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self,
        module: str,
        processes: int,
        env: dict[str, str],
        output: Path,
        limit: float,
        proves: bool,
        nodes: list[dict[str, str]],
    ) -> int:
        """Runs a module's `__main__` on so many ranks; their words go to `output`. Raises TimeoutError.

        `nodes` has what differs in their environments on each node; there are as many ranks on one as on another.
        """
        server = self._server or self._start()
        assert server.stdin is not None and server.stdout is not None
        order = {
            "module": module,
            "processes": processes,
            "env": env,
            "output": str(output),
            "proves": proves,
            "nodes": nodes,
        }
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(server.stdout, selectors.EVENT_READ)
            if not ready.select(limit):
                self.stop()
                raise TimeoutError(f"{module} was not done after {limit} s: {output.read_text()[-4000:]}")
        answer = server.stdout.readline()
        if not answer:
            self.stop()
            raise RuntimeError(f"the server of launches has died: {output.read_text()[-4000:]}")
        return int(answer)

    def stop(self) -> None:
        """Ends the server with all that it has forked."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def _start(self) -> subprocess.Popen[str]:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.warm"],
            env=os.environ | FIXED, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
        atexit.register(self.stop)
        return self._server


def main() -> int:
    """Serves launches until its input ends."""
    _import_all()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    for line in sys.stdin:
        answers.write(f"{_launch(json.loads(line))}\n")
        answers.flush()
    return 0


def _import_all() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from modelyard_trainer.train.devices import skip_shared_memory_op

    skip_shared_memory_op()
    import sklearn.metrics  # noqa: F401
    from modelyard_trainer.train import main, session  # noqa: F401


def _launch(order: dict[str, Any]) -> int:
    port = free_port()
    world, nodes = order["processes"], order["nodes"]
    local_world = world // len(nodes)
    running = {}
    for rank in range(world):
        node, local_rank = divmod(rank, local_world)
        env = order["env"] | nodes[node] | {
            "RANK": str(rank), "LOCAL_RANK": str(local_rank), "GROUP_RANK": str(node),
            "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local_world), "GROUP_WORLD_SIZE": str(len(nodes)),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False",
        }  # fmt: skip
        child = os.fork()
        if child == 0:
            _become(order["module"], env, order["output"], order["proves"])
        running[child] = rank
    failed, deadline = False, None
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            if deadline is not None and time.monotonic() > deadline:
                _signal(running, signal.SIGKILL)
            time.sleep(0.02)
            continue
        running.pop(child, None)
        if os.waitstatus_to_exitcode(status) != 0 and not failed:
            failed, deadline = True, time.monotonic() + _GRACE
            _signal(running, signal.SIGTERM)
    return int(failed)


def free_port() -> int:
    """A port that nobody listens on, and that no other process gets from here as long as this one lives."""
    # Below the range of which the system gives ports to whoever connects meanwhile. Many are taken long before
    # somebody listens, so each is claimed by a name that the kernel gives once and takes back with the process.
    for port in _PORTS:
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as free, contextlib.suppress(OSError):
            claim.bind(f"\0modelyard-tests-port-{port}")
            free.bind(("127.0.0.1", port))
            _CLAIMS.append(claim)
            return port
        claim.close()
    raise AssertionError("there is no free port")


def skip_proof() -> None:
    """Has this process publish models unproved."""
    from modelyard.contract.model import Proof
    from modelyard_trainer.train import export

    vars(export)["prove"] = lambda *_: Proof(method="sampled", tensors=0)


def _signal(running: dict[int, int], number: signal.Signals) -> None:
    for child in running:
        os.kill(child, number)


def _become(module: str, env: dict[str, str], output: str, proves: bool) -> None:
    """Goes on as one rank, in a forked process. Never returns."""
    code: Any = 1
    try:
        words = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.environ.clear()
        os.environ.update(env)
        if not proves:
            skip_proof()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    sys.exit(main())
