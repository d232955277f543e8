"""Specs that the end-to-end tests train: small enough for two cores, real in every other respect."""

from __future__ import annotations

import random
from typing import Any

SMALL_POD = {"limits": {"cpu": "1", "memory": "3Gi"}, "requests": {"cpu": "200m", "memory": "500Mi"}}
TINY_BERT = {
    "model_type": "bert", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
TINY_LLAMA = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
}  # fmt: skip

GOOD = ("lovely", "excellent", "wonderful", "brilliant", "pleasant", "superb")
BAD = ("awful", "terrible", "dreadful", "horrid", "unpleasant", "dismal")
NOUNS = ("film", "meal", "journey", "phone", "book", "concert", "garden", "service")


def reviews(rows: int = 400, seed: int = 3) -> str:
    """A CSV of two classes that a tiny model can learn."""
    rng = random.Random(seed)  # noqa: S311
    lines = ["body,intent"]
    for index in range(rows):
        label, words = rng.choice((("good", GOOD), ("bad", BAD)))
        text = f"the {rng.choice(NOUNS)} number {index} was {rng.choice(words)} and {rng.choice(words)}"
        lines.append(f"{text},{label}")
    return "\n".join(lines) + "\n"


def contradiction() -> str:
    """The first of those reviews once more, under the other label."""
    header, first = reviews().splitlines()[:2]
    text, label = first.split(",")
    return f"{header}\n{text},{'bad' if label == 'good' else 'good'}\n"


def inputs() -> dict[str, Any]:
    """ConfigMap `reviews`, from which the specs below train: the reviews, and one that contradicts them."""
    data = {"reviews.csv": reviews(), "contradiction.csv": contradiction()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "reviews"}, "data": data}


def stories(lines: int = 1500, seed: int = 5) -> str:
    """Plain text with enough structure for a causal model's loss to fall."""
    rng = random.Random(seed)  # noqa: S311
    return "".join(
        f"The {rng.choice(NOUNS)} was {rng.choice(GOOD + BAD)}, said the {rng.choice(('old', 'young'))} traveller.\n"
        for _ in range(lines)
    )


def classification(steps: int = 40, nodes: int = 1, **changes: Any) -> dict[str, Any]:
    """A tiny classifier from scratch on ConfigMap data; `changes` replace top-level fields of the spec."""
    spec: dict[str, Any] = {
        "task": "text-classification",
        "model": {"config": TINY_BERT},
        "data": {
            "sources": [
                {
                    "name": "reviews", "uri": "configmap://reviews/reviews.csv",
                    "columns": {"text": "body", "label": "intent"},
                }
            ],
            "prepare": [{"deduplicate": {"method": "exact"}}],
            "split": {"validation": 0.2, "seed": 7},
        },
        "training": {
            "maxSteps": steps, "globalBatchSize": 16, "maxLength": 32, "learningRate": 5e-3,
            "args": {"logging_steps": 1},
        },
        "deepspeed": {"zeroStage": 1},
        "trainer": {"numNodes": nodes, "resourcesPerNode": SMALL_POD},
    }  # fmt: skip
    return {**spec, **changes}
