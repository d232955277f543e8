"""What a classifier says of a text is the same alone and beside a longer one: tried on every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from modelyard_models.padding import pads_left, sees_padding
from modelyard_trainer.train.dataset import Collator
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from tests.unit.trainer.test_causality import LARGEST, make

# Families that people bring: each must be among those tried.
EXPECTED = {
    "albert", "bart", "bert", "bloom", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "falcon", "gemma",
    "gpt2", "gpt_neox", "llama", "longformer", "mistral", "modernbert", "mpnet", "opt", "phi3", "qwen2", "qwen3",
    "roberta", "t5", "xlm-roberta", "xlnet",
}  # fmt: skip
# What a family needs beside the causal families' sizes.
_MORE: dict[str, dict[str, Any]] = {
    "mt5": {"decoder_start_token_id": 0},
    "t5": {"decoder_start_token_id": 0},
    "umt5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}
SHORT = [1, 5, 9, 11, 13, 7, 2]
LONG = [1, *range(6, 29), 2]


def difference(family: str, left: bool) -> float | str:
    """How far the short row's logits are from its own alone, as a share of the largest; or why it isn't known."""
    try:
        config = make(family, **_MORE.get(family, {}))
        config.use_cache = False
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForSequenceClassification.from_config(config).parameters())
        if size > LARGEST:
            return "large"
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).float().eval()
        collator = Collator(config.pad_token_id or 0, labelled=True, left=left)
        with torch.no_grad():
            padded, alone = (answer(model, collator, rows) for rows in ([SHORT, LONG], [SHORT]))
    except Exception as error:  # sizes that don't go together in this family
        return type(error).__name__
    return float((padded[0] - alone[0]).abs().max() / alone.abs().max().clamp(min=1e-6))


def answer(model: Any, collator: Collator, rows: list[list[int]]) -> Any:
    batch = collator([{"input_ids": np.array(ids), "labels": 0} for ids in rows])
    del batch["labels"]
    return model(**batch).logits


def test_padding_changes_nothing_but_in_the_families_that_see_it() -> None:
    found = {
        family: difference(family, pads_left(family))
        for family in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    }
    measured = {family: share for family, share in found.items() if isinstance(share, float)}
    assert measured.keys() >= EXPECTED and len(measured) > 80
    assert {f for f, share in measured.items() if not share <= 1e-3 and not sees_padding(f)} == set()


@pytest.mark.parametrize("family", ["xlnet", "fnet", "funnel", "canine"])
def test_a_family_is_listed_for_what_it_does_when_padded_at_the_right(family: str) -> None:
    share = difference(family, left=False)
    assert isinstance(share, float) and share > 1e-2
