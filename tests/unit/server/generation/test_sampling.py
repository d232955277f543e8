"""Draws follow the distribution that transformers' own warpers make, and depend on nothing but their request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from modelyard_server.generation.request import Sampling
from modelyard_server.generation.sampling import draw
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, 0.25, 0.75, 1.25])
DRAWS = 20_000


def expect(temperature: float, top_p: float) -> Any:
    scores = TemperatureLogitsWarper(temperature)(None, LOGITS[None].clone())
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    return scores.double().softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.8), (0.7, 0.5)]
)
@pytest.mark.parametrize("along", ["places", "seeds"])
def test_draws_have_the_wanted_distribution(temperature: float, top_p: float, along: str) -> None:
    expected = expect(temperature, top_p)
    made = [
        draw(LOGITS, Sampling(temperature, top_p, seed), place)
        for seed, place in ((7, i) if along == "places" else (i, 0) for i in range(DRAWS))
    ]
    counts = np.bincount(made, minlength=len(expected))
    assert not counts[expected == 0].any()
    kept = expected > 0
    # A fixed seed: the figure is always the same. Another distribution gives less than 1e-9.
    assert chisquare(counts[kept], expected[kept] * DRAWS).pvalue > 0.01


def test_a_vocabulary_that_is_wider_than_the_nucleus_is_searched_whole() -> None:
    flat = torch.zeros(5000)
    made = {draw(flat, Sampling(1.0, 0.9, 3), place) for place in range(3000)}
    assert len(made) > 1500  # of 4500 that are equally likely: 1024 were not enough


@pytest.mark.parametrize("top_p", [1e-9, 0.1])
def test_the_likeliest_is_always_kept(top_p: float) -> None:
    assert {draw(LOGITS, Sampling(1.0, top_p, 5), place) for place in range(200)} == {0}


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-6])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    assert {draw(LOGITS, Sampling(temperature, 0.9, 5), place) for place in range(20)} == {0}


def test_the_same_seed_and_place_give_the_same_token_and_others_another() -> None:
    wide = torch.zeros(1000)
    row = [draw(wide, Sampling(1.0, 1.0, -5), place) for place in range(20)]
    assert row == [draw(wide, Sampling(1.0, 1.0, -5), place) for place in range(20)]
    assert row != [draw(wide, Sampling(1.0, 1.0, 5), place) for place in range(20)]
    assert len(set(row)) > 10
