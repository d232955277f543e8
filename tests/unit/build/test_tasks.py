"""How two variants' answers compare, against references made another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard_build.measuring.scoring import compare_tokens
from modelyard_build.rows import Rows
from modelyard_build.tasks import TASKS
from modelyard_build.tasks.classification import measure
from modelyard_build.tasks.embeddings import AS_NEAR
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

CLASSIFY, EMBED, GENERATE = (TASKS[name] for name in ("text-classification", "embeddings", "text-generation"))
NO_ROWS = Rows("texts", texts=["a"])


def logits(rows: list[list[float]], kind: str = "", classes: str = "abc") -> dict[str, Any]:
    return {"logits": np.array(rows, np.float32), "classes": np.array(list(classes)), "kind": np.array(kind)}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), classes=st.integers(2, 5))
def test_a_classifiers_metrics_are_those_of_scikit_learn(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, classes)).astype(np.float32) * 3
    wanted = rng.integers(0, classes, rows)
    scores = torch.tensor(found, dtype=torch.float64).softmax(-1).numpy()
    best, options = found.argmax(-1), {"average": "macro", "zero_division": 0.0}
    expected = {
        "loss": log_loss(wanted, scores, labels=list(range(classes))),
        "accuracy": accuracy_score(wanted, best),
        "f1": f1_score(wanted, best, **options),
        "precision": precision_score(wanted, best, **options),
        "recall": recall_score(wanted, best, **options),
    }
    assert measure(found, wanted) == pytest.approx(expected, rel=1e-6)


def test_labels_are_placed_by_their_names_in_the_head() -> None:
    # The data counts its classes in another order than the head does.
    rows = Rows("validation", ids=[[1], [2]], labels=[0, 1], names=["c", "a"])
    answers = logits([[0.0, 0.0, 5.0], [5.0, 0.0, 0.0]])
    metrics, agreement = CLASSIFY.compare(answers, answers, rows)
    assert (metrics["accuracy"], agreement) == (1.0, 1.0)


def test_only_rows_that_were_answered_count() -> None:
    rows = Rows("validation", ids=[[1], [2], [3]], labels=[0, 0, 1], names=["a", "b", "c"])
    answers = logits([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    assert CLASSIFY.compare(answers, answers, rows)[0]["accuracy"] == 0.5


@pytest.mark.parametrize("names", [["a", "x"], None])
def test_a_head_without_the_datas_classes_has_no_metrics(names: list[str] | None) -> None:
    rows = Rows("validation", ids=[[1]], labels=[0] if names else None, names=names)
    answers = logits([[1.0, 0.0, 0.0]])
    assert CLASSIFY.compare(answers, answers, rows) == ({}, 1.0)


@pytest.mark.parametrize(
    ("kind", "found", "base", "agreement"),
    [
        ("", [[1, 2, 0], [1, 2, 0]], [[0, 9, 0], [9, 2, 0]], 0.5),
        ("single_label_classification", [[1, 2, 0]], [[3, 2, 0]], 0.0),
        # Each class by itself: the same ones must be above 0.
        ("multi_label_classification", [[1, 2, -1], [1, 2, -1]], [[3, 1, -9], [3, 1, 0.1]], 0.5),
        # Values: within a twentieth of how much they differ among themselves.
        ("regression", [[0.0], [10.04]], [[0.1], [10.0]], 1.0),
        ("regression", [[0.0], [10.4]], [[0.1], [10.0]], 0.5),
        # One logit is a yes or a no.
        ("", [[0.2], [-0.3]], [[4.0], [0.1]], 0.5),
    ],
)
def test_classifiers_agree_where_they_say_the_same(
    kind: str, found: list[list[float]], base: list[list[float]], agreement: float
) -> None:
    assert CLASSIFY.compare(logits(found, kind), logits(base, kind), NO_ROWS) == ({}, agreement)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 12), noise=st.sampled_from([0.0, 0.05, 0.5]))
def test_embeddings_agree_where_they_find_neighbours_as_near(seed: int, rows: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(rows, 6)).astype(np.float32)
    found = (base + noise * rng.normal(size=base.shape)).astype(np.float32)
    metrics, agreement = EMBED.compare({"vectors": found}, {"vectors": base}, NO_ROWS)

    def cosine(a: Any, b: Any) -> float:
        return float(
            torch.nn.functional.cosine_similarity(torch.tensor(a).double(), torch.tensor(b).double(), dim=0)
        )

    assert metrics == {
        "cosine": pytest.approx(np.mean([cosine(found[i], base[i]) for i in range(rows)]), abs=1e-9)
    }
    agreeing = 0
    for i in range(rows):
        others = [j for j in range(rows) if j != i]
        chosen = max(others, key=lambda j: cosine(found[i], found[j]))
        agreeing += cosine(base[i], base[chosen]) >= max(cosine(base[i], base[j]) for j in others) - AS_NEAR
    assert agreement == pytest.approx(agreeing / rows)


def test_a_vector_alone_agrees_if_it_is_near() -> None:
    assert (
        EMBED.compare({"vectors": np.array([[1.0, 0.1]])}, {"vectors": np.array([[1.0, 0.0]])}, NO_ROWS)[1]
        == 1.0
    )
    assert (
        EMBED.compare({"vectors": np.array([[0.0, 1.0]])}, {"vectors": np.array([[1.0, 0.0]])}, NO_ROWS)[1]
        == 0.0
    )


def test_perplexity_is_the_exponential_of_the_loss_of_all_tokens() -> None:
    answers = {"next": np.array([1, 2, 3, 4]), "losses": np.array([3.0, 1.0])}
    base = {"next": np.array([1, 2, 9, 4]), "losses": np.array([3.0, 1.0])}
    metrics, agreement = GENERATE.compare(answers, base, NO_ROWS)
    assert metrics == {"loss": 1.0, "perplexity": pytest.approx(math.e)}
    assert agreement == 0.75


def test_tokens_are_scored_as_transformers_counts_its_loss() -> None:
    torch.manual_seed(1)
    found, ids = torch.randn(6, 11), [3, 1, 4, 1, 5, 9]
    likeliest, loss = compare_tokens(found, ids)
    expected = [-float(found[i].double().log_softmax(-1)[ids[i + 1]]) for i in range(5)]
    assert loss == pytest.approx(sum(expected), rel=1e-6)
    assert likeliest.tolist() == [int(found[i].argmax()) for i in range(5)]
