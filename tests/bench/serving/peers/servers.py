"""Peers as servers: each is started, waited for until it answers, and ended with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.bench.serving.comparison import Serving
from tests.bench.serving.load import Target
from tests.bench.serving.peers import environments
from tests.bench.serving.processors import SERVER, on
from tests.server.running import free_port

PROGRAMS = Path(__file__).with_name("programs")
_TRANSFORMERS = "from transformers.cli.transformers import main; main()"
_PATIENCE = 300.0  # seconds until a server answers


def naive(folder: Path) -> AbstractContextManager[Serving]:
    """FastAPI around a pipeline."""
    port = free_port()
    program = [environments.make("fastapi") / "python", PROGRAMS / "naive.py", folder, port]
    return _run(program, port, "/ready")


def litserve(folder: Path) -> AbstractContextManager[Serving]:
    """LitServe with batching."""
    port = free_port()
    program = [environments.make("fastapi") / "python", PROGRAMS / "batching.py", folder, port]
    return _run(program, port, "/health")


def bentoml(folder: Path) -> AbstractContextManager[Serving]:
    """BentoML with adaptive batching."""
    port = free_port()
    tools = environments.make("bentoml")
    program = [tools / "python", "-m", "bentoml", "serve", "adaptive:Classifier", "--working-dir", PROGRAMS,
               "--host", "127.0.0.1", "--port", port]  # fmt: skip
    own = {"MODEL_FOLDER": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return _run(program, port, "/readyz", **own)


def infinity(folder: Path) -> AbstractContextManager[Serving]:
    """infinity in float32, as it comes but for what it would compile, and with batches of its own default."""
    port = free_port()
    program = [environments.make("infinity") / "infinity_emb", "v2", "--model-id", folder,
               "--served-model-name", "m", "--engine", "torch", "--device", "cpu", "--dtype", "float32",
               "--no-compile", "--no-bettertransformer", "--host", "127.0.0.1", "--port", port]  # fmt: skip
    return _run(program, port, "/health", DO_NOT_TRACK="1")


def transformers_serve(folder: Path) -> AbstractContextManager[Serving]:
    """transformers' own server, with continuous batching and room for 64 requests."""
    port = free_port()
    program = [environments.make("fastapi") / "python", "-c", _TRANSFORMERS, "serve", folder,
               "--device", "cpu", "--dtype", "float32", "--continuous-batching", "--attn-implementation", "sdpa",
               "--cb-block-size", "256", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512",
               "--host", "127.0.0.1", "--port", port]  # fmt: skip
    return _run(program, port, "/health")


def vllm(folder: Path) -> AbstractContextManager[Serving]:
    """vLLM's build for processors, in float32."""
    port = free_port()
    program = [environments.make("vllm") / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", folder,
               "--served-model-name", "m", "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "64",
               "--generation-config", "vllm", "--host", "127.0.0.1", "--port", port]  # fmt: skip
    own = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": str(SERVER),
        "VLLM_NO_USAGE_STATS": "1",
    }
    return _run(program, port, "/health", **own)


@contextmanager
def _run(command: Sequence[object], port: int, ready: str, **environment: str) -> Iterator[Serving]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"} | environment
    words = [str(part) for part in command]
    with tempfile.TemporaryFile() as log:
        with on(SERVER):
            process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            _await(process, f"http://127.0.0.1:{port}{ready}")
            yield Serving(Target("127.0.0.1", port), process.pid)
        except BaseException as error:
            log.seek(0)
            error.add_note(log.read()[-2000:].decode(errors="replace"))
            raise
        finally:
            # Some start workers in sessions of their own, which only they know to end.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str) -> None:
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before it answered")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer in {_PATIENCE:.0f} s")
