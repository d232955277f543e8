"""A language model is trained on the tokens that follow: the loss of every family that can be tried."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from modelyard_trainer.preflight.causality import make_causal
from modelyard_trainer.train.losses import TrainingLoss, has_exact_loss
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.unit.trainer.test_causality import EXPECTED, LARGEST, make

ITEMS = 44  # of the whole batch, of which a micro-batch has fewer
IDS = torch.arange(22).reshape(2, 11) + 3


def find_difference(family: str) -> float | str:
    """How far the loss is from the sum over the tokens that follow, divided by ITEMS; or why it isn't known."""
    try:
        config = make(family)
        make_causal(config)
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if size > LARGEST:
            return "large"
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            logits = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    except Exception as error:  # sizes that don't go together in this family
        return type(error).__name__
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="sum") / ITEMS
    return float((find_loss(model) - expected).abs())


def find_loss(model: Any) -> Any:
    """The loss of one micro-batch, as the trainer takes it."""
    items = torch.tensor(ITEMS)
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    with torch.no_grad():
        if has_exact_loss(model):
            return model(**inputs, labels=IDS, num_items_in_batch=items).loss
        return TrainingLoss(shifts=True)(model(**inputs), IDS.clone(), items)


def test_every_family_is_trained_on_the_tokens_that_follow() -> None:
    found = {family: find_difference(family) for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    measured = {family: off for family, off in found.items() if isinstance(off, float)}
    assert measured.keys() >= {*EXPECTED, "bart", "marian", "mbart", "pegasus", "whisper"}
    assert {family: off for family, off in measured.items() if not off <= 1e-4} == {}
    assert len(measured) > 110


@pytest.mark.parametrize("family", ["bart", "mbart", "pegasus"])
def test_a_decoder_that_would_learn_to_copy_is_given_another_loss(family: str) -> None:
    model = AutoModelForCausalLM.from_config(make(family)).float().eval()
    assert not has_exact_loss(model)
    with torch.no_grad():
        own = model(input_ids=IDS, labels=IDS).loss
        copied = cross_entropy(model(input_ids=IDS).logits.flatten(0, 1), IDS.flatten())
    torch.testing.assert_close(own, copied)


def test_a_models_own_loss_is_kept_where_it_is_exact() -> None:
    for family in ("llama", "gpt2", "mixtral"):
        assert has_exact_loss(AutoModelForCausalLM.from_config(make(family)))
