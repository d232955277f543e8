"""Embeddings against transformers by hand, and what a folder for sentence-transformers says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Habits, read_habits
from modelyard_server.serving.predictor import Predictor
from modelyard_server.tasks.pooling import Pooling, read_pooling

from tests.unit.server.models import TEXTS, answer, with_model, write_encoder, write_json

TASK = "embeddings"
LLAMA: dict[str, Any] = {
    "model_type": "llama", "max_position_embeddings": 64, "vocab_size": 320, "num_key_value_heads": 2,
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


def embed_by_hand(folder: Path, mode: str, *, normalised: bool) -> Any:
    """One text at a time, without padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    made = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vector = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[mode]
        made.append(torch.nn.functional.normalize(vector, dim=0) if normalised else vector)
    return torch.stack(made).numpy()


def describe(folder: Path, mode: dict[str, Any], *kinds: str) -> None:
    """Files as sentence-transformers writes them."""
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    write_json(
        folder / "modules.json",
        [
            {
                "idx": i,
                "name": str(i),
                "path": paths.get(kind, kind),
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(kinds)
        ],
    )
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **mode})


def check_vectors(folder: Path, mode: str, *, normalised: bool, **config: Any) -> None:
    expected = embed_by_hand(folder, mode, normalised=normalised)

    async def test(model: Predictor) -> None:
        np.testing.assert_allclose(await answer(model, *TEXTS), expected, atol=1e-4, rtol=0)

    with_model(folder, TASK, test, **config)


def test_without_a_word_the_mean_is_taken_and_normalised(encoder: Path) -> None:
    check_vectors(encoder, "mean", normalised=True)


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
    ],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_pooling_is_as_the_folder_says(
    tmp_path: Path, said: dict[str, Any], mode: str, normalised: bool
) -> None:
    folder = tmp_path / "model"
    write_encoder(folder)
    describe(folder, said, "Transformer", "Pooling", *(["Normalize"] if normalised else []))
    check_vectors(folder, mode, normalised=normalised)


def test_a_causal_model_embeds_by_its_last_token(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder, **LLAMA)
    describe(folder, {"pooling_mode_lasttoken": True}, "Transformer", "Pooling", "Normalize")
    check_vectors(folder, "lasttoken", normalised=True)


def test_an_encoder_that_lies_in_a_classifiers_folder_is_served_too(classifier: Path) -> None:
    check_vectors(classifier, "mean", normalised=True)


def test_padding_leaks_into_no_vector(encoder: Path) -> None:
    async def test(model: Predictor) -> None:
        alone = [(await answer(model, text))[0] for text in TEXTS]
        np.testing.assert_allclose(await answer(model, *TEXTS), alone, atol=1e-5, rtol=0)
        np.testing.assert_allclose((await answer(model, *TEXTS[::-1]))[::-1], alone, atol=1e-5, rtol=0)
        rows = await model.encode(TEXTS, truncate=False)
        padded = model._compute(rows)  # all in one batch, whatever padding that takes
        np.testing.assert_allclose(padded, alone, atol=1e-5, rtol=0)

    with_model(encoder, TASK, test)


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("left", [True, False])
def test_what_stands_in_padding_counts_for_nothing(mode: str, left: bool) -> None:
    random = np.random.default_rng(0)
    hidden = random.normal(size=(2, 5, 3)).astype(np.float32)
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]] if left else [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooling = Pooling(mode, normalised=False)
    before = pooling.pool(hidden, mask)
    hidden[mask == 0] = 1e6
    np.testing.assert_array_equal(pooling.pool(hidden, mask), before)
    own = hidden[0][mask[0] == 1]
    expected = {"mean": own.mean(0), "cls": own[0], "lasttoken": own[-1]}[mode]
    np.testing.assert_allclose(before[0], expected, rtol=1e-6)


def test_prompt_case_and_bound_are_as_sentence_transformers_has_them(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder)

    def encode(text: str) -> Any:
        found: list[Any] = []

        async def test(model: Predictor) -> None:
            found.append((model.limit, (await answer(model, text))[0]))

        with_model(folder, TASK, test)
        return found[0]

    _, expected = encode("say: the quick dog")
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "say: ", "document": ""}, "default_prompt_name": "query"},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 17, "do_lower_case": True})
    limit, found = encode("the QUICK dog")
    np.testing.assert_array_equal(found, expected)
    assert limit == 17


def test_the_bound_is_also_read_under_the_names_of_older_folders_the_first_that_is_there(
    tmp_path: Path,
) -> None:
    kinds = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"]
    for size, kind in reversed(list(enumerate(kinds, 1))):
        write_json(tmp_path / f"sentence_{kind}_config.json", {"max_seq_length": size, "do_lower_case": True})
        assert read_habits(tmp_path) == Habits(lower=True, longest=size)


@pytest.mark.parametrize(
    ("mode", "kinds", "said"),
    [
        (
            {"pooling_mode_mean_tokens": True},
            ["Transformer", "Pooling", "Dense"],
            "chains Transformer, Pooling, Dense",
        ),
        ({"pooling_mode_max_tokens": True}, ["Transformer", "Pooling"], "pools by max"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            ["Transformer", "Pooling"],
            "mean, cls",
        ),
        ({}, ["Transformer", "Pooling"], "pools by nothing"),
        (
            {"pooling_mode_cls_token": True, "include_prompt": False},
            ["Transformer", "Pooling"],
            "include_prompt",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    tmp_path: Path, mode: dict[str, Any], kinds: list[str], said: str
) -> None:
    describe(tmp_path, mode, *kinds)
    with pytest.raises(Failure, match=said) as caught:
        read_pooling(tmp_path)
    assert caught.value.reason == "ModelInvalid"


@pytest.mark.parametrize("content", ["[]", "{}", "[1]", '[{"type": 3}]', "nothing"])
def test_a_broken_list_of_modules_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(Failure, match=r"modules\.json"):
        read_pooling(tmp_path)
