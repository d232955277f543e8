"""Classification and embeddings: Modelyard's server beside those of others and beside the model without a server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.sections import Row, Rows
from tests.bench.serving import inprocess, models, modelyard
from tests.bench.serving.comparison import Contender, Limit, Setting, clients, compare
from tests.bench.serving.peers import servers
from tests.bench.serving.processors import CALLERS, SERVER, on
from tests.bench.serving.protocols import Case, OpenAIEmbeddings, OpenInference, Plain
from tests.bench.serving.workload import read_texts

CLASSIFICATION = "Classification of tweets (MiniLM, 22 M parameters), one processor for the server"
EMBEDDINGS = "Embeddings of tweets (MiniLM), one processor for the server"
TEXTS = 256
SECONDS = 8.0
ROUNDS = 3
# How far scores may be from those of texts alone, by the format: sums of bfloat16 hang on the batch's shape, and int8
# quantises by the largest activation of the batch (docs/design/2026-11-30-build.md), which moved scores by up to 0.17.
_COARSE = {"bf16": 0.03, "int8": 0.25}


def measure_classification(rows: Rows) -> None:
    """Closed loops of 1, 8 and 64 clients, all with the texts whose labels no number format changes."""
    task, folder = "text-classification", models.prepare_classifier()
    variants = {
        "": (folder, "torch", "float32"),
        "bf16": (folder, "torch", "bfloat16"),
        "int8": (models.prepare_int8(folder), "onnx", "float32"),
    }
    texts = read_texts(models.tweets(), TEXTS)
    told = {
        variant: _answer(task, where, texts, runtime=runtime, dtype=dtype)
        for variant, (where, runtime, dtype) in variants.items()
    }
    sure = [place for place in range(len(texts)) if all(_is_sure(found[place]) for found in told.values())]
    texts = [texts[place] for place in sure]
    found = [told[""][place] for place in sure]
    plain = [Case(text, answer) for text, answer in zip(texts, found, strict=True)]
    lists = [Case([text], [answer]) for text, answer in zip(texts, found, strict=True)]
    protocol = OpenInference(modelyard.NAME)
    contenders: list[Contender | Limit] = [
        Contender("Modelyard", partial(modelyard.direct, folder, task), protocol, _name(texts, found)),
        Contender(
            "Modelyard, gateway",
            partial(modelyard.through_gateway, folder, task),
            protocol,
            _name(texts, found),
        ),
        _limit("in-process", task, folder, texts),
        Contender("FastAPI + pipeline", partial(servers.naive, folder), Plain("/classify", "text"), plain),
        Contender("LitServe", partial(servers.litserve, folder), Plain("/classify", "text"), plain),
        Contender("BentoML", partial(servers.bentoml, folder), Plain("/classify", "texts"), lists),
    ]
    for variant, (where, runtime, dtype) in variants.items():
        if variant:
            made = partial(modelyard.direct, where, task, variant=variant, runtime=runtime)
            coarse = OpenInference(modelyard.NAME, tolerance=_COARSE[variant])
            asked = _name(texts, [told[variant][place] for place in sure])
            contenders += [
                Contender(f"Modelyard, {variant}", made, coarse, asked),
                _limit(f"in-process, {variant}", task, where, texts, runtime=runtime, dtype=dtype),
            ]
    with on(CALLERS):
        compare(rows, contenders, clients(1, 8, 64, seconds=SECONDS), ROUNDS)


def measure_embeddings(rows: Rows) -> None:
    """Closed loops of 1, 8 and 64 clients; vectors as JSON numbers."""
    folder = models.prepare_embedder()
    texts = read_texts(models.tweets(), TEXTS)
    cases = [
        Case(*pair) for pair in zip(texts, ([v] for v in _answer("embeddings", folder, texts)), strict=True)
    ]
    protocol = OpenAIEmbeddings(modelyard.NAME)
    contenders: list[Contender | Limit] = [
        Contender("Modelyard", partial(modelyard.direct, folder, "embeddings"), protocol, cases),
        Contender(
            "Modelyard, gateway", partial(modelyard.through_gateway, folder, "embeddings"), protocol, cases
        ),
        _limit("in-process", "embeddings", folder, texts),
        Contender(
            "infinity", partial(servers.infinity, folder), OpenAIEmbeddings("m", path="/embeddings"), cases
        ),
    ]
    with on(CALLERS):
        compare(rows, contenders, clients(1, 8, 64, seconds=SECONDS), ROUNDS)


def _answer(task: str, folder: Path, texts: Sequence[str], **options: Any) -> list[Any]:
    with on(SERVER):
        answers: list[Any] = inprocess.ask(task, folder, texts, **options)["answers"]
    return answers


def _is_sure(answer: Row) -> bool:
    """Whether no rounding changes its label."""
    return bool(answer["score"] > 0.5 + max(_COARSE.values()))


def _name(texts: Sequence[str], answers: Sequence[Row]) -> list[Case]:
    """As the protocol has outputs."""
    return [
        Case(text, {"label": [answer["label"]], "score": [answer["score"]]})
        for text, answer in zip(texts, answers, strict=True)
    ]


def _limit(name: str, task: str, folder: Path, texts: Sequence[str], **options: Any) -> Limit:
    """One by one stands beside a single client, batches beside the largest number of them."""

    def measure(setting: Setting) -> Row:
        number = setting.label["clients"]
        if number not in (1, 64):
            return {}
        with on(SERVER):
            told = inprocess.ask(task, folder, texts, seconds=SECONDS, **options)
        row: Row = told["alone" if number == 1 else "batches"]
        return row

    return Limit(name, measure)
