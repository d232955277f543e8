"""A fast wrong server fails: labels, scores, vectors, texts and the ends of streams are all compared."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.bench.serving.protocols import (
    OpenAIEmbeddings,
    OpenAIGeneration,
    OpenInference,
    Plain,
    Speaks,
    Tokens,
    describe,
    restore,
)
from tests.bench.serving.wire import Answer, Failure


def answer(*pieces: tuple[float, bytes]) -> Answer:
    made = Answer()
    made.pieces = list(pieces)
    return made


def judge(protocol: Speaks, expected: Any, content: Any) -> str | None:
    """What is wrong with this JSON."""
    try:
        protocol.judge(expected, answer((0.0, json.dumps(content).encode())))
    except Failure as failure:
        assert failure.kind == "wrong"
        return failure.words
    return None


def outputs(label: str, scores: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {
        "model_name": "m",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": [label]},
            {"name": "scores", "datatype": "FP32", "shape": shape or [1, 2], "data": scores},
        ],
    }


def test_inference_asks_with_bytes_and_compares_each_output() -> None:
    protocol = OpenInference("m", tolerance=0.01)
    assert protocol.path == "/v2/models/m/infer"
    assert protocol.ask(["a", "b"]) == {
        "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}]
    }
    expected = {"label": ["good"], "scores": [0.9, 0.1]}
    assert judge(protocol, expected, outputs("good", [0.905, 0.095])) is None
    assert judge(protocol, expected, outputs("good", [[0.905, 0.095]])) is None  # nested, as V2 allows
    assert "'bad', expected 'good'" in str(judge(protocol, expected, outputs("bad", [0.9, 0.1])))
    assert "0.8, expected 0.9 within 0.01" in str(judge(protocol, expected, outputs("good", [0.8, 0.1])))
    assert "a shape of 3" in str(judge(protocol, expected, outputs("good", [0.9, 0.1], [1, 3])))
    assert "no outputs" in str(judge(protocol, expected, {"outputs": []}))
    assert "no outputs" in str(judge(protocol, expected, {"error": "overloaded"}))
    assert "no outputs" in str(judge(protocol, expected, {"outputs": [{"name": "label"}]}))


def test_embeddings_compare_every_vector() -> None:
    protocol = OpenAIEmbeddings("m", tolerance=0.01)

    def vectors(*them: list[float]) -> Any:
        return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(them)]}

    expected = [[0.6, 0.8], [1.0, 0.0]]
    assert judge(protocol, expected, vectors([0.6, 0.8], [1.0, 0.001])) is None
    assert "[1].embedding[1]" in str(judge(protocol, expected, vectors([0.6, 0.8], [1.0, 0.1])))
    assert "has 1 elements, expected 2" in str(judge(protocol, expected, vectors([0.6, 0.8])))
    assert "no data" in str(judge(protocol, expected, {"embeddings": []}))


def test_plain_json() -> None:
    protocol = Plain("/predict", member="text")
    assert protocol.ask("a") == {"text": "a"}
    assert Plain("/predict").ask({"inputs": "a"}) == {"inputs": "a"}
    assert judge(protocol, {"label": "x", "score": 0.5}, {"label": "x", "score": 0.5004}) is None
    assert "score" in str(judge(protocol, {"label": "x", "score": 0.5}, {"label": "x", "score": 0.6}))
    with pytest.raises(Failure, match="no JSON"):
        protocol.judge({}, answer((0.0, b"<html>")))


def event(**members: Any) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


def delta(content: str | None, reason: str | None = None) -> bytes:
    piece = {} if content is None else {"content": content}
    return event(choices=[{"index": 0, "delta": piece, "finish_reason": reason}])


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 7})
DONE = b"data: [DONE]\n\n"
CHAT = OpenAIGeneration("m")


def test_a_stream_gives_the_times_of_its_first_and_last_text_and_the_servers_count() -> None:
    pieces = [ROLE, delta("Hel"), delta("lo"), delta(None, "length"), USAGE, DONE]
    streamed = answer(*((float(index), piece) for index, piece in enumerate(pieces)))
    assert CHAT.judge({"text": "Hello", "finish_reason": "length", "tokens": 7}, streamed) == Tokens(
        1.0, 2.0, 7
    )


def test_without_usage_pieces_with_text_are_counted_and_that_is_said() -> None:
    streamed = answer((1.0, ROLE), (2.0, delta("a") + delta("b")), (4.0, delta("", "stop") + DONE))
    assert CHAT.judge({"text": "ab"}, streamed) == Tokens(2.0, 2.0, 2, counted=True)


def test_events_may_be_cut_anywhere() -> None:
    whole = b": ping\r\n\r\n" + b"".join([ROLE, delta("é€"), delta(None, "stop"), DONE]).replace(
        b"\n", b"\r\n"
    )
    for size in (1, 2, 3, 7):
        cut = [(float(at), whole[at : at + size]) for at in range(0, len(whole), size)]
        tokens = CHAT.judge({"text": "é€"}, answer(*cut))
        assert (tokens.number, tokens.first) == (1, tokens.last)


def test_a_stream_without_done_is_whole_only_where_that_is_said() -> None:
    protocol = OpenAIGeneration("m", done=False)
    assert protocol.judge({"text": "a"}, answer((1.0, delta("a")), (2.0, delta(None, "stop")))).number == 1
    with pytest.raises(Failure, match="no finish_reason"):
        protocol.judge({"text": "a"}, answer((1.0, delta("a"))))


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([delta("a"), delta(None, "stop")], "ended without [DONE] after 1 pieces"),
        ([delta("a"), DONE], "no finish_reason; the text ends 'a'"),
        ([delta("b"), delta(None, "stop"), DONE], "answer.text is 'b', expected 'a'"),
        ([delta("a"), event(error={"message": "out of memory"})], "an error within the stream"),
        ([delta("a"), delta(None, "stop"), DONE, delta("a")], "there is more after [DONE]"),
        ([b"data: {'a'}\n\n"], "no event of a completion"),
        ([event(choices=[{"text": "a"}])], "no event of a completion"),
        ([delta("a"), delta(None, "stop"), DONE[:-2]], "ended without [DONE]"),
    ],
)
def test_an_incomplete_or_different_stream_is_wrong(pieces: list[bytes], words: str) -> None:
    with pytest.raises(Failure) as told:
        CHAT.judge({"text": "a"}, answer((0.0, b"".join(pieces))))
    assert told.value.kind == "wrong" and words in told.value.words


def test_a_stream_asks_for_usage_and_for_what_the_case_has_of_its_own() -> None:
    asked = CHAT.ask({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
    assert asked == {
        "model": "m", "stream": True, "temperature": 0, "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4,
    }  # fmt: skip


def test_answers_in_one_piece() -> None:
    chat, plain = OpenAIGeneration("m", stream=False), OpenAIGeneration("m", stream=False, chat=False)
    assert (chat.path, plain.path) == ("/v1/chat/completions", "/v1/completions")
    usage = {"completion_tokens": 3}
    whole = {"choices": [{"message": {"content": "abc"}, "finish_reason": "stop"}], "usage": usage}
    assert judge(chat, {"text": "abc", "tokens": 3}, whole) is None
    assert "tokens is 3, expected 4" in str(judge(chat, {"tokens": 4}, whole))
    assert (
        judge(plain, {"text": "a"}, {"choices": [{"text": "a", "finish_reason": "length"}], "usage": usage})
        is None
    )
    assert "no completion" in str(judge(chat, None, {"choices": []}))
    unfinished = {"choices": [{"text": "a", "finish_reason": None}], "usage": usage}
    assert "no finish_reason" in str(judge(plain, None, unfinished))
    tokens = chat.judge(None, answer((0.0, json.dumps(whole).encode())))
    assert math.isnan(tokens.first) and tokens.number == 3


@pytest.mark.parametrize("protocol", [Plain("/p"), OpenInference("m"), OpenAIEmbeddings("m"), CHAT])
def test_another_process_is_told_of_a_protocol_in_json(protocol: Speaks) -> None:
    assert restore(json.loads(json.dumps(describe(protocol)))) == protocol
