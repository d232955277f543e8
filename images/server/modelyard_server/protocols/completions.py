"""OpenAI's completions, of conversations and of texts, whole or as a stream of events."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from modelyard_server.generation.request import Sampling
from modelyard_server.package.tokens import Row
from modelyard_server.protocols import openai
from modelyard_server.protocols.body import Several, Strict
from modelyard_server.protocols.endpoint import EventStream, answer, explain, read_body, unless_gone
from modelyard_server.protocols.problem import Problem, bad_request, unsupported
from modelyard_server.serving.generator import Answer, Generator, Wish
from modelyard_server.serving.service import Service

_STOPS = 4  # as OpenAI has it
_STOP_CHARACTERS = 256
_DEFAULT_MOST = 16  # tokens of a text's completion, as OpenAI has it
# What may be said where it is what is done anyway; any other value is refused by the field's name.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "logprobs": (False,),
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "tools": ([],), "functions": ([],),
    "tool_choice": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "store": (False,), "service_tier": ("auto", "default"), "top_logprobs": (0,),
}  # fmt: skip
_NEUTRAL_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "tool_calls": ([],),
    "annotations": ([],),
}  # as answers have them
_NEUTRAL_IN_STREAM_OPTIONS: dict[str, tuple[Any, ...]] = {"include_obfuscation": (False,)}


class StreamOptions(Strict):
    """`include_usage`: a last event says how many tokens there were."""

    neutral = _NEUTRAL_IN_STREAM_OPTIONS

    include_usage: bool = False


class CompletionRequest(openai.OpenAIRequest):
    """What both kinds say. OpenAI's defaults; what is not here is refused by its name."""

    neutral = _NEUTRAL

    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Any = ()
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    max_tokens: int | None = Field(None, ge=1)


class Message(Strict):
    """One turn of a conversation. `developer` is OpenAI's newer word for system; `name` is for chat templates."""

    neutral = _NEUTRAL_IN_MESSAGE

    role: Literal["system", "developer", "user", "assistant"]
    name: str | None = None
    content: str | Several[dict[str, Any]]


class ChatRequest(CompletionRequest):
    """The body of POST /v1/chat/completions."""

    messages: Several[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class TextRequest(CompletionRequest):
    """The body of POST /v1/completions."""

    prompt: Any


class _Endpoint(ABC):
    """What both kinds do alike."""

    body: ClassVar[type[CompletionRequest]]
    prefix: ClassVar[str]
    kind: ClassVar[str]
    chunk: ClassVar[str]
    continues: ClassVar[bool]

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        """Raises Problem and what the generator raises."""
        body = await read_body(self._service, request, self.body)
        openai.check_model(self._service, body.model)
        model = self._service.model_for_request()
        if not isinstance(model, Generator):
            raise Problem(503, self._service.why_unready() or "the model can't answer")
        if body.stream_options is not None and not body.stream:
            raise bad_request("stream_options can be given only with stream", "stream_options")
        stops, most = read_stops(body.stop), self.read_most(body)
        row = await self.read_prompt(body, model)
        if not len(row):
            raise bad_request("the prompt has no tokens", "prompt")
        told = Answer(prompt=len(row))
        pieces = model.generate(row, Wish(most, read_sampling(body), stops, self.continues), told)
        about = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "object": self.chunk if body.stream else self.kind,
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": self._service.config.revision,
        }
        if not body.stream:
            text = "".join(await unless_gone(request, _collect(pieces)))
            choice = {"index": 0, **self.say(text), "logprobs": None, "finish_reason": told.reason}
            return answer(about | {"choices": [choice], "usage": describe_usage(told)})
        # What goes wrong before the first piece has a status of its own; it also can be asked of another server.
        first = await unless_gone(request, _begin(pieces))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(request, self._stream(about, first, pieces, told, usage))

    async def _stream(
        self,
        about: dict[str, Any],
        first: str | None,
        pieces: AsyncGenerator[str, None],
        told: Answer,
        usage: bool,
    ) -> AsyncGenerator[bytes, None]:
        """The events. A failure is one too: the status was sent before."""
        more: dict[str, Any] = {"usage": None} if usage else {}

        def event(said: dict[str, Any], reason: str | None = None) -> bytes:
            choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason}
            return make_event(about | {"choices": [choice]} | more)

        async with aclosing(pieces):
            opening = self.open()
            if opening is not None:
                yield event(opening)
            if first is not None:
                yield event(self.add(first))
            try:
                async for piece in pieces:
                    yield event(self.add(piece))
            except Exception as error:
                problem = explain(error)
                yield make_event(openai.render(problem))
                raise problem from error
            yield event(self.close(), told.reason)
            if usage:
                yield make_event(about | {"choices": [], "usage": describe_usage(told)})
            yield b"data: [DONE]\n\n"

    @abstractmethod
    def read_most(self, body: Any) -> int | None:
        """Tokens of the answer, at most; None: as many as there is room for."""

    @abstractmethod
    async def read_prompt(self, body: Any, model: Generator) -> Row:
        """The prompt's tokens. Raises Problem."""

    @abstractmethod
    def say(self, text: str) -> dict[str, Any]:
        """A whole answer, in a choice."""

    @abstractmethod
    def open(self) -> dict[str, Any] | None:
        """What a stream begins with."""

    @abstractmethod
    def add(self, piece: str) -> dict[str, Any]:
        """A piece of an answer, in a choice of a stream."""

    @abstractmethod
    def close(self) -> dict[str, Any]:
        """No more of an answer, in a choice of a stream."""


class Chat(_Endpoint):
    """POST /v1/chat/completions."""

    body = ChatRequest
    prefix, kind, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"
    continues = False

    def read_most(self, body: ChatRequest) -> int | None:
        if body.max_completion_tokens is None:
            return body.max_tokens
        if body.max_tokens not in (None, body.max_completion_tokens):
            raise bad_request(
                "max_tokens is the old name of max_completion_tokens: give one of them", "max_tokens"
            )
        return body.max_completion_tokens

    async def read_prompt(self, body: ChatRequest, model: Generator) -> Row:
        return await model.encode_chat([read_message(message, i) for i, message in enumerate(body.messages)])

    def say(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def open(self) -> dict[str, Any]:
        return {"delta": {"role": "assistant", "content": "", "refusal": None}}

    def add(self, piece: str) -> dict[str, Any]:
        return {"delta": {"content": piece}}

    def close(self) -> dict[str, Any]:
        return {"delta": {}}


class Completions(_Endpoint):
    """POST /v1/completions."""

    body = TextRequest
    prefix, kind, chunk = "cmpl", "text_completion", "text_completion"
    continues = True

    def read_most(self, body: TextRequest) -> int:
        return body.max_tokens or _DEFAULT_MOST

    async def read_prompt(self, body: TextRequest, model: Generator) -> Row:
        given = body.prompt
        if isinstance(given, list) and given and isinstance(given[0], str | list):
            if len(given) > 1:
                raise unsupported("prompt with several texts", "ask for each by itself")
            given = given[0]
        if isinstance(given, str):
            return await model.encode(given)
        tokens = model.package.tokens
        return tokens.take(openai.check_ids(given, tokens.vocabulary, "prompt"))

    def say(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def open(self) -> None:
        return None

    def add(self, piece: str) -> dict[str, Any]:
        return self.say(piece)

    def close(self) -> dict[str, Any]:
        return self.say("")


def read_message(message: Message, index: int) -> dict[str, str]:
    """A turn as chat templates have it. Raises Problem for what is no text."""
    turn: dict[str, str] = {"role": "system" if message.role == "developer" else message.role}
    if message.name is not None:
        turn["name"] = message.name
    if isinstance(message.content, str):
        return turn | {"content": message.content}
    texts = []
    for part in message.content:
        if part.get("type") != "text":
            raise unsupported(
                f"messages.{index}.content of type {part.get('type')!r}", "this model reads text"
            )
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise bad_request(f"messages.{index}.content: a text part has type and text", "messages")
        texts.append(part["text"])
    return turn | {"content": "".join(texts)}


def read_stops(said: Any) -> list[str]:
    """Strings that end an answer. Raises Problem."""
    stops = list(said) if isinstance(said, list | tuple) else [said]
    if len(stops) > _STOPS or not all(isinstance(s, str) and 0 < len(s) <= _STOP_CHARACTERS for s in stops):
        raise bad_request(
            f"stop is a string of 1 to {_STOP_CHARACTERS} characters, or at most {_STOPS} of them", "stop"
        )
    return stops


def read_sampling(body: CompletionRequest) -> Sampling:
    """As said; without a seed another one each time."""
    seed = secrets.randbits(63) if body.seed is None else body.seed
    return Sampling(body.temperature, body.top_p, seed)


def describe_usage(told: Answer) -> dict[str, int]:
    """Tokens."""
    return {
        "prompt_tokens": told.prompt, "completion_tokens": told.made, "total_tokens": told.prompt + told.made
    }  # fmt: skip


def make_event(content: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def _collect(pieces: AsyncGenerator[str, None]) -> list[str]:
    async with aclosing(pieces):
        return [piece async for piece in pieces]


async def _begin(pieces: AsyncGenerator[str, None]) -> str | None:
    """The first piece; None if there is none. Ends the generator where it doesn't come to that."""
    try:
        return await anext(pieces, None)
    except BaseException:
        await pieces.aclose()
        raise
