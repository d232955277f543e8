"""int8: an ONNX graph whose matrices are 8 bits wide, with activations quantised as they come."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

from modelyard_models.failure import boundary
from modelyard_server.package.folder import ONNX_FILE

from modelyard_build.tasks import TASKS
from modelyard_build.tasks.predictive import PredictiveTask
from modelyard_build.variants.variant import Plan, Variant, copy_rest, load

log = logging.getLogger("modelyard.build")

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_WHOLE = "whole.onnx"  # before it is quantised


class Int8(Variant):
    """Exported by torch, quantised by ONNX Runtime."""

    runtime = "onnx"

    def refuse(self, task: str) -> str | None:
        """Graphs are made of models that answer a text with one vector."""
        return (
            None
            if isinstance(TASKS[task], PredictiveTask)
            else f"there is no int8 for {task}: bf16 is served at half the size"
        )

    def make(self, plan: Plan) -> None:
        """The graph, and beside it all that isn't weights."""
        whole = plan.target / _WHOLE
        with boundary("CompressionFailed", "torch can't export the model to ONNX", "use bf16 or none"):
            export(load(plan, "fp32"), TASKS[plan.task].output.field, whole)
        with boundary("CompressionFailed", "ONNX Runtime can't quantise the graph", "use bf16 or none"):
            quantise(whole, plan.target / ONNX_FILE)
        for path in plan.target.glob(f"{_WHOLE}*"):
            path.unlink()
        copy_rest(plan.folder, plan.target)


def export(model: Any, output: str, path: Path) -> None:
    """Writes a model's graph for any number of rows and tokens."""
    import torch

    inputs = [name for name in _INPUTS if name in inspect.signature(model.forward).parameters]
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return getattr(self.model(**dict(zip(inputs, given, strict=True))), output)

    # Neither one row nor one length: an exporter takes such sizes for constants.
    example = tuple(torch.ones(2, 7, dtype=torch.long) for _ in inputs)
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        Graph(), example, str(path), input_names=inputs, output_names=[output],
        dynamic_shapes=(tuple(shape for _ in inputs),), dynamo=True, external_data=True, verbose=False,
    )  # fmt: skip


def quantise(whole: Path, path: Path) -> None:
    """Writes a graph with its matrices in 8 bits, each of their channels with a scale of its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # 7 of the 8 bits: products of 8 overflow on processors without VNNI, and a package is served on any.
    quantize_dynamic(whole, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
