"""ONNX Runtime: the same answers as torch's, from a graph of the same model, whole and quantised."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Batch
from modelyard_server.serving.predictor import Predictor
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.unit.server.models import TEXTS, answer, with_model

CLASSIFY, EMBED = "text-classification", "embeddings"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(folder: Path, kind: str, output: str, *, inputs: tuple[str, ...] = INPUTS) -> None:
    """Puts model.onnx in the place of the weights."""
    import transformers

    model = getattr(transformers, kind).from_pretrained(folder).eval()

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return getattr(self.model(**dict(zip(inputs, given, strict=True))), output)

    example = tuple(torch.ones(2, 7, dtype=torch.long) for _ in inputs)
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph(), example, str(folder / "model.onnx"), input_names=list(inputs), output_names=[output],
            dynamic_shapes=(tuple(shape for _ in inputs),), dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    (folder / "model.safetensors").unlink()


def vectors(folder: Path, task: str, **config: Any) -> Any:
    found: list[Any] = []

    async def test(model: Predictor) -> None:
        found.extend(await answer(model, *TEXTS))

    with_model(folder, task, test, **config)
    return np.stack(found)


@pytest.fixture(scope="module")
def classes(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier as a graph."""
    folder = shutil.copytree(classifier, tmp_path_factory.mktemp("onnx") / "model")
    export(folder, "AutoModelForSequenceClassification", "logits")
    return folder


def test_a_graph_gives_the_models_logits(classifier: Path, classes: Path) -> None:
    found = vectors(classes, CLASSIFY, runtime="onnx")
    np.testing.assert_allclose(found, vectors(classifier, CLASSIFY), atol=1e-4)


def test_a_quantised_graph_is_near(classifier: Path, classes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classes, tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(classes / "model.onnx", folder / "model.onnx", weight_type=QuantType.QInt8)
    expected, found = vectors(classifier, CLASSIFY), vectors(folder, CLASSIFY, runtime="onnx", variant="int8")
    difference = np.abs(found - expected).max()
    assert 1e-4 < difference < 0.3 * np.abs(expected).max()


def test_a_quantised_graph_is_proved_row_by_row(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(classes, tmp_path / "model")
    sizes: list[int] = []

    async def test(model: Predictor) -> None:
        run = model._runtime.run

        def see(batch: Batch) -> Any:
            sizes.append(len(batch.ids))
            return run(batch)

        monkeypatch.setattr(model._runtime, "run", see)
        rows = await model.encode(TEXTS, truncate=True)
        alone = await model.answer_proof(rows)
        assert sizes == [1] * len(TEXTS) and len(alone) == len(TEXTS)
        sizes.clear()
        await model.answer(rows)
        assert max(sizes) > 1

    with_model(folder, CLASSIFY, test, runtime="onnx", variant="int8")


def test_a_graph_without_token_types_gives_the_models_vectors(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "model")
    export(folder, "AutoModel", "last_hidden_state", inputs=INPUTS[:2])
    np.testing.assert_allclose(vectors(folder, EMBED, runtime="onnx"), vectors(encoder, EMBED), atol=1e-4)


def refusal(folder: Path, task: str, **config: Any) -> str:
    with pytest.raises(Failure) as caught:
        vectors(folder, task, runtime="onnx", **config)
    assert caught.value.reason == "ModelInvalid"
    return caught.value.message


def test_graphs_that_can_not_be_served_are_refused(classes: Path, tmp_path: Path) -> None:
    assert "gives logits with 2 dimensions; this task needs last_hidden_state with 3" in refusal(
        classes, EMBED
    )
    assert "runtime onnx has no variant bf16" in refusal(classes, CLASSIFY, variant="bf16")
    torn = shutil.copytree(classes, tmp_path / "torn")
    (torn / "model.onnx").write_bytes((classes / "model.onnx").read_bytes()[:5000])
    assert "model.onnx can't be loaded" in refusal(torn, CLASSIFY)
    graph = onnx.load(classes / "model.onnx")
    for node in graph.graph.node:
        node.input[:] = ["position_ids" if name == "token_type_ids" else name for name in node.input]
    graph.graph.input[2].name = "position_ids"
    onnx.save(graph, torn / "model.onnx")
    assert "model.onnx wants position_ids" in refusal(torn, CLASSIFY)
