"""One request to an application, without a network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message

_OK = 200


class Refused(Exception):  # noqa: N818 - the answer's word
    """The application gave another answer than 200. The message is what it said."""


async def post(app: ASGIApp, path: str, body: dict[str, Any]) -> Any:
    """The JSON that an application answers. Raises Refused."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "client": None, "server": None,
    }  # fmt: skip
    sent, status = bytearray(), 0
    parts: list[Message] = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()  # the caller stays
        return parts.pop()

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        sent.extend(message.get("body", b""))

    await app(scope, receive, send)
    if status != _OK:
        raise Refused(f"{path} answered {status}: {sent.decode(errors='replace')[:500]}")
    return json.loads(sent)
