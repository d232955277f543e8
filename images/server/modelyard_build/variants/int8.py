"""int8: an ONNX graph whose matrices are 8 bits wide, with activations quantised as they come."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
from modelyard_models.failure import Failure, boundary
from modelyard_server.package.folder import ONNX_FILE

from modelyard_build.tasks import TASKS
from modelyard_build.tasks.predictive import PredictiveTask
from modelyard_build.variants.variant import Plan, Variant, copy_rest, load

log = logging.getLogger("modelyard.build")

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_WHOLE = "whole.onnx"  # before it is quantised
_ADVICE = "choose bf16 or none"
# Rows and tokens on which the graph is compared: sizes of the example may have become constants of it.
_SHAPES = ((1, 3), (3, 19), (2, 60))
_NEAR = 1e-3  # of the largest number


class Int8(Variant):
    """Exported by torch, quantised by ONNX Runtime."""

    runtime = "onnx"

    def refuse(self, task: str) -> str | None:
        """Graphs are made of models that answer a text with one vector."""
        if isinstance(TASKS[task], PredictiveTask):
            return None
        return f"there is no int8 for {task}: bf16 is served at half the size"

    def make(self, plan: Plan) -> None:
        """The graph, and beside it all that isn't weights."""
        whole = plan.target / _WHOLE
        package, model = load(plan, "fp32")
        field = TASKS[plan.task].output.field
        with boundary("CompressionFailed", "torch can't export the model to ONNX", _ADVICE):
            export(model, field, whole)
        with boundary("CompressionFailed", "the exported graph can't be computed", _ADVICE):
            check(model, field, whole, package.limit)
        with boundary("CompressionFailed", "ONNX Runtime can't quantise the graph", _ADVICE):
            quantise(whole, plan.target / ONNX_FILE)
        for path in plan.target.glob(f"{_WHOLE}*"):
            path.unlink()
        copy_rest(plan.folder, plan.target)


def export(model: Any, field: str, path: Path) -> None:
    """Writes a model's graph for any number of rows and tokens."""
    import torch

    inputs = find_inputs(model)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return getattr(self.model(**dict(zip(inputs, given, strict=True))), field)

    # Neither one row nor one length: an exporter takes such sizes for constants.
    example = tuple(torch.ones(2, 7, dtype=torch.long) for _ in inputs)
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        torch.onnx.export(
            Graph().eval(), example, str(path), input_names=inputs, output_names=[field],
            dynamic_shapes=(tuple(shape for _ in inputs),), dynamo=True, external_data=True, verbose=False,
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        # Its own words are a page of advice to programmers.
        raise error.__cause__ or error from None


def find_inputs(model: Any) -> list[str]:
    """Those of the server that a model takes."""
    return [name for name in _INPUTS if name in inspect.signature(model.forward).parameters]


def check(model: Any, field: str, path: Path, longest: int) -> None:
    """Compares the graph with the model, which takes `longest` tokens.

    Raises Failure (CompressionFailed) where they differ.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    vocabulary = int(model.config.get_text_config().vocab_size)
    for rows, length in _SHAPES:
        tokens = min(length, longest)
        ids = np.random.default_rng(tokens).integers(0, vocabulary, (rows, tokens))
        mask = (np.arange(tokens) < tokens - np.arange(rows)[:, None]).astype(np.int64)
        given = dict(zip(_INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))
        given = {name: given[name] for name in find_inputs(model)}
        [found] = session.run([field], {i.name: given[i.name] for i in session.get_inputs()})
        with torch.inference_mode():
            wanted = getattr(model(**{n: torch.from_numpy(v) for n, v in given.items()}), field).numpy()
        # What stands at padding is nobody's.
        own = mask.astype(bool) if wanted.ndim == 3 else slice(None)
        if found.shape != wanted.shape or not _is_near(found[own], wanted[own]):
            raise Failure(
                "CompressionFailed",
                f"the exported graph answers {rows} texts of {tokens} tokens otherwise than the model; {_ADVICE}",
            )


def _is_near(found: Any, wanted: Any) -> bool:
    return bool(np.abs(found - wanted).max() <= _NEAR * max(1.0, float(np.abs(wanted).max())))


def quantise(whole: Path, path: Path) -> None:
    """Writes a graph with its matrices in 8 bits, each of their channels with a scale of its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # 7 of the 8 bits: products of 8 overflow on processors without VNNI, and a package is served on any.
    quantize_dynamic(whole, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
