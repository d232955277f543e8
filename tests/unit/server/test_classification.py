"""text-classification against transformers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard_server.serving.predictor import Predictor

from tests.unit.server.models import (
    LABELS,
    TEXTS,
    answer,
    with_model,
    write_classifier,
)

TASK = "text-classification"
ROBERTA = {
    "model_type": "roberta", "max_position_embeddings": 70, "vocab_size": 320, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 320}


def ask_pipeline(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    """Scores by label, of each text alone."""
    from transformers import pipeline

    pipe = pipeline(TASK, model=str(folder), device="cpu", top_k=None)
    return [{one["label"]: one["score"] for one in pipe([text])[0]} for text in texts]


def check_scores(folder: Path, **config: Any) -> None:
    expected = ask_pipeline(folder, TEXTS)

    async def test(model: Predictor) -> None:
        vectors = await answer(model, *TEXTS)
        labels, score, scores = model.head.make_outputs(["label", "score", "scores"], vectors)
        found: Any = np.reshape(scores, (len(TEXTS), -1))
        for index, text in enumerate(expected):
            named = dict(zip(model.head.labels, found[index], strict=True))  # type: ignore[attr-defined]
            assert named == pytest.approx(text, abs=1e-5)
            assert labels[index] == max(text, key=lambda name: text[name])
            assert score[index] == pytest.approx(max(text.values()), abs=1e-5)

    with_model(folder, TASK, test, **config)


@pytest.mark.parametrize("config", [{}, ROBERTA, GPT2], ids=["bert", "roberta", "gpt2"])
def test_scores_and_labels_are_those_of_transformers_pipeline(tmp_path: Path, config: dict[str, Any]) -> None:
    write_classifier(tmp_path / "model", **config)
    check_scores(tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "classes"), [("multi_label_classification", 3), ("regression", 1), (None, 1)]
)
def test_what_kind_of_scores_they_are_follows_the_model(
    tmp_path: Path, kind: str | None, classes: int
) -> None:
    write_classifier(tmp_path / "model", problem_type=kind, num_labels=classes)
    check_scores(tmp_path / "model")


@pytest.mark.parametrize("pad", [None, -1, 320])
def test_a_model_that_finds_no_end_of_a_row_takes_each_row_alone(tmp_path: Path, pad: int | None) -> None:
    """Older Llamas name -1 as their padding."""
    from transformers import AutoConfig

    write_classifier(tmp_path / "model", **GPT2)
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": pad}))
    assert AutoConfig.from_pretrained(tmp_path / "model").pad_token_id == pad
    check_scores(tmp_path / "model")

    async def test(predictor: Predictor) -> None:
        rows: list[int] = []
        run = predictor._runtime.run
        predictor._runtime.run = lambda batch: rows.append(len(batch.ids)) or run(batch)  # type: ignore[method-assign, func-returns-value]
        await answer(predictor, *TEXTS)
        assert rows == [1] * len(TEXTS)

    with_model(tmp_path / "model", TASK, test)


def test_a_text_gets_the_same_answer_alone_and_beside_any_other(classifier: Path) -> None:
    async def test(model: Predictor) -> None:
        alone = [(await answer(model, text))[0] for text in TEXTS]
        together = await answer(model, *TEXTS)
        reverse = (await answer(model, *TEXTS[::-1]))[::-1]
        for one, two, three in zip(alone, together, reverse, strict=True):
            np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)
            np.testing.assert_allclose(three, one, atol=1e-5, rtol=0)

    with_model(classifier, TASK, test, max_batch_tokens=1000)


def test_the_labels_are_the_models_own_in_its_order(classifier: Path) -> None:
    async def test(model: Predictor) -> None:
        assert model.head.labels == LABELS  # type: ignore[attr-defined]

    with_model(classifier, TASK, test)


def test_bfloat16_is_near_float32_and_not_the_same(classifier: Path) -> None:
    found = {}

    def keep(variant: str) -> None:
        async def test(model: Predictor) -> None:
            found[variant] = np.stack(await answer(model, *TEXTS))

        with_model(classifier, TASK, test, variant=variant)

    keep("fp32")
    keep("bf16")
    difference = np.abs(found["fp32"] - found["bf16"]).max()
    assert 0 < difference < 0.05 * np.abs(found["fp32"]).max()
