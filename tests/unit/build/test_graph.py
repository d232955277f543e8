"""A graph is compared with the model that it was made of."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest
import torch
import transformers
from modelyard_build.variants.int8 import check, export
from modelyard_models.failure import Failure

from tests.unit.server.models import write_encoder

FIELD = "last_hidden_state"


def test_a_graph_that_answers_otherwise_or_takes_one_size_only_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path / "model")
    model = transformers.AutoModel.from_pretrained(tmp_path / "model", add_pooling_layer=False).eval()
    path = tmp_path / "whole.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(model, FIELD, path)
    for longest in (64, 5):
        check(model, FIELD, path, longest)

    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(1.1)
    with pytest.raises(Failure) as caught:
        check(model, FIELD, path, 64)
    assert caught.value.reason == "CompressionFailed" and "1 texts of 3 tokens" in caught.value.message

    graph = onnx.load(path)
    for given in graph.graph.input:
        given.type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(graph, path)
    with pytest.raises(Exception, match="invalid dimensions"):
        check(model, FIELD, path, 64)
