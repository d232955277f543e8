"""vLLM's OpenAI server, as its own image starts it."""

from __future__ import annotations

from modelyard.api.profile import Profile
from modelyard.api.serving import Engine, Server
from modelyard.api.trainer import Resources
from modelyard.contract import codes
from modelyard.contract.server import ServerConfig
from modelyard.serving.engines.engine import Container, describe_model
from modelyard.workloads.accelerators import count_accelerators

# Of a device's memory; what is beside vLLM in its pod is nothing that needs any.
_MEMORY_SHARE = "0.92"


def build(
    profile: Profile, engine: Engine, server: Server, resources: Resources, config: ServerConfig
) -> Container:
    """The user's arguments come last: of an option that is given twice vLLM takes the last."""
    known = describe_model(config.folder, config.name)
    devices = count_accelerators(resources)
    args = [
        "--model", known[codes.ENV_MODEL_PATH], "--served-model-name", config.name,
        "--port", str(codes.SERVER_PORT),
        # Defaults of sampling are those of OpenAI's API, as the built-in server has them, not the model folder's.
        "--generation-config", "vllm",
        # By default it breaks off what runs as soon as it is told to end.
        "--shutdown-timeout", str(int(config.drain_seconds)),
    ]  # fmt: skip
    if devices:
        args += ["--tensor-parallel-size", str(devices), "--gpu-memory-utilization", _MEMORY_SHARE]
    if server.max_length is not None:
        args += ["--max-model-len", str(server.max_length)]
    if isinstance(server.max_batch_tokens, int):
        args += ["--max-num-batched-tokens", str(server.max_batch_tokens)]
    return Container(
        image=profile.vllm_image,
        port=codes.SERVER_PORT,
        ready="/health",
        speaks="vllm",
        command=("python3", "-m", "vllm.entrypoints.openai.api_server"),
        args=(*args, *engine.args),
        env=known | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )
