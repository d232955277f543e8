"""What computes a model: a module each, and a line in the table."""

from __future__ import annotations

from modelyard_server.runtimes.onnx import OnnxRuntime
from modelyard_server.runtimes.pytorch import TorchRuntime
from modelyard_server.runtimes.runtime import Output, Runtime

__all__ = ["RUNTIMES", "Output", "Runtime"]

RUNTIMES: dict[str, type[Runtime]] = {"torch": TorchRuntime, "onnx": OnnxRuntime}
