"""What servers are asked, and how their answers are judged: Open Inference Protocol V2, OpenAI, plain JSON.

A protocol is plain data (`describe`, `restore`), so that another process can be told of it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.bench.serving.agreement import find_difference
from tests.bench.serving.sse import parse_events
from tests.bench.serving.wire import Answer, Failure


@dataclass(frozen=True)
class Case:
    """One request and the answer that is right; what they are is the protocol's to say."""

    input: Any
    expected: Any


@dataclass(frozen=True)
class Tokens:
    """Generated tokens of one answer: times of the first and the last (monotonic seconds; NaN: not streamed), and how
    many there are by the server's usage or, without it (`counted`), by pieces that have text."""

    first: float
    last: float
    number: int
    counted: bool = False


class Speaks(Protocol):
    """One way to talk to a server."""

    @property
    def path(self) -> str:
        """Of the URL."""

    def ask(self, given: Any) -> Any:
        """The body of the request for a case's input."""

    def judge(self, expected: Any, answer: Answer) -> Tokens | None:
        """Raises Failure unless the answer, which has status 200, is the expected one."""


@dataclass(frozen=True)
class Plain:
    """A JSON body to a path. Input: the body, or what stands under `member` in it; expected: what the answer has to
    have, see agreement."""

    path: str
    member: str = ""
    tolerance: float = 1e-3

    def ask(self, given: Any) -> Any:
        """See Speaks."""
        return {self.member: given} if self.member else given

    def judge(self, expected: Any, answer: Answer) -> None:
        """See Speaks."""
        _agree(expected, _parse(answer), self.tolerance)


@dataclass(frozen=True)
class OpenInference:
    """Open Inference Protocol V2 over JSON, for classification as for embeddings. Input: a text, or a list of them;
    expected: the data of outputs by name, flat: `{"label": ["negative"], "score": [0.91]}`."""

    model: str
    tensor: str = "text"
    tolerance: float = 1e-3

    @property
    def path(self) -> str:
        """See Speaks."""
        return f"/v2/models/{self.model}/infer"

    def ask(self, given: str | list[str]) -> Any:
        """See Speaks."""
        texts = [given] if isinstance(given, str) else given
        return {"inputs": [{"name": self.tensor, "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}

    def judge(self, expected: Mapping[str, list[Any]], answer: Answer) -> None:
        """See Speaks."""
        body = _parse(answer)
        try:
            outputs = {tensor["name"]: tensor for tensor in body["outputs"]}
            found = {name: list(_flatten(outputs[name]["data"])) for name in expected}
            sizes = {name: math.prod(outputs[name]["shape"]) for name in expected}
        except (KeyError, TypeError) as error:
            raise Failure("wrong", f"no outputs {', '.join(expected)} ({error!r}) in {body!r}") from None
        for name, size in sizes.items():
            if size != len(found[name]):
                raise Failure("wrong", f"output {name} has {len(found[name])} elements and a shape of {size}")
        _agree(expected, found, self.tolerance)


@dataclass(frozen=True)
class OpenAIEmbeddings:
    """POST /v1/embeddings. Input: a text, or a list of them; expected: a vector for each."""

    model: str
    tolerance: float = 1e-3
    path: str = "/v1/embeddings"

    def ask(self, given: str | list[str]) -> Any:
        """See Speaks."""
        return {"model": self.model, "input": given, "encoding_format": "float"}

    def judge(self, expected: list[list[float]], answer: Answer) -> None:
        """See Speaks."""
        wanted = {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(expected)]}
        _agree(wanted, _parse(answer), self.tolerance)


@dataclass(frozen=True)
class OpenAIGeneration:
    """POST /v1/chat/completions, or /v1/completions for `chat=False`. Input: what a case's body has of its own
    (messages or prompt, max_tokens); `options`: what all have. Expected: text, finish_reason, tokens, each
    compared where it is given; in any case an answer without an end is wrong. done: a stream must end with [DONE], too,
    which transformers' own server leaves out.
    """

    model: str
    stream: bool = True
    chat: bool = True
    done: bool = True
    options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0})

    @property
    def path(self) -> str:
        """See Speaks."""
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def ask(self, given: Mapping[str, Any]) -> Any:
        """See Speaks."""
        body = {"model": self.model, "stream": self.stream, **self.options, **given}
        return body | {"stream_options": {"include_usage": True}} if self.stream else body

    def judge(self, expected: Mapping[str, Any] | None, answer: Answer) -> Tokens:
        """See Speaks."""
        found, tokens = self._read_stream(answer) if self.stream else self._read_whole(answer)
        if not found["finish_reason"]:
            raise Failure("wrong", f"no finish_reason; the text ends {found['text'][-60:]!r}")
        _agree(expected or {}, found, 0)
        return tokens

    def _read_whole(self, answer: Answer) -> tuple[dict[str, Any], Tokens]:
        body = _parse(answer)
        try:
            choice, number = body["choices"][0], body["usage"]["completion_tokens"]
            text = choice["message"]["content"] if self.chat else choice["text"]
            found = {"text": text, "finish_reason": choice["finish_reason"], "tokens": number}
            return found, Tokens(math.nan, math.nan, int(number))
        except (KeyError, IndexError, TypeError) as error:
            raise Failure("wrong", f"no completion ({error!r}): {body!r}") from None

    def _read_stream(self, answer: Answer) -> tuple[dict[str, Any], Tokens]:
        text, times, reason, usage, done = [], [], None, None, False
        try:
            for time, data in parse_events(answer.pieces):
                if done:
                    raise Failure("wrong", f"there is more after [DONE]: {data}")
                if data == "[DONE]":
                    done = True
                    continue
                event = json.loads(data)
                if "error" in event:
                    raise Failure("wrong", f"an error within the stream: {event['error']}")
                usage = (event.get("usage") or {}).get("completion_tokens", usage)
                for choice in event["choices"][:1]:
                    piece = choice["delta"].get("content") if self.chat else choice["text"]
                    reason = choice.get("finish_reason") or reason
                    if piece:
                        text.append(piece)
                        times.append(time)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure("wrong", f"no event of a completion ({error!r}): {data}") from None
        if self.done and not done:
            raise Failure("wrong", f"the stream ended without [DONE] after {len(times)} pieces of text")
        number = len(times) if usage is None else int(usage)
        first, last = (times[0], times[-1]) if times else (math.nan, math.nan)
        found = {"text": "".join(text), "finish_reason": reason, "tokens": number}
        return found, Tokens(first, last, number, counted=usage is None)


KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Plain, OpenInference, OpenAIEmbeddings, OpenAIGeneration)
}


def describe(protocol: Speaks) -> dict[str, Any]:
    """As JSON."""
    return {"kind": type(protocol).__name__, "fields": dataclasses.asdict(protocol)}  # type: ignore[call-overload]


def restore(described: Mapping[str, Any]) -> Speaks:
    """What `describe` gave."""
    made: Speaks = KINDS[described["kind"]](**described["fields"])
    return made


def _parse(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        raise Failure("wrong", f"no JSON: {answer.body[:200]!r}") from None


def _agree(expected: Any, actual: Any, tolerance: float) -> None:
    difference = find_difference(expected, actual, tolerance)
    if difference:
        raise Failure("wrong", difference)


def _flatten(data: Any) -> Iterable[Any]:
    for value in data:
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value
