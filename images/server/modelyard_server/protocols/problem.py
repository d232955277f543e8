"""A request that is refused, in a protocol's own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_KEY = 80  # characters of a key that are repeated
RETRY_SECONDS = 1  # by then the gateway has chosen another, or a batch is done


class Problem(Exception):  # noqa: N818 - the domain's word
    """An answer other than 200: its status, and one sentence that says what to change.

    `param` is the field that is meant, `code` a word for programs (OpenAI's errors have both). `lasts`: the same
    request would fail again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        lasts: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.lasts = lasts

    @property
    def headers(self) -> dict[str, str]:
        """Those of its answer: when to come again, where that can help, or what would be taken."""
        if self.lasts:
            return {"x-should-retry": "false"}  # else OpenAI's clients repeat every 5xx
        if self.status == 415:
            return {"accept-encoding": "identity"}
        return {"retry-after": str(RETRY_SECONDS)} if self.status == 503 else {}


def bad_request(message: str, param: str | None = None) -> Problem:
    """The caller's mistake."""
    return Problem(400, message, param=param)


def unsupported(name: str, hint: str = "") -> Problem:
    """Something that the protocol knows, and this server does not do."""
    return bad_request(f"{name} isn't supported{f': {hint}' if hint else ''}", name.partition(" ")[0])


def describe_invalid(errors: Sequence[Any]) -> Problem:
    """One of pydantic's errors as a problem: the first, or what isn't known, for which the rest may be as it is."""
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    place = ".".join(str(part)[:_KEY] for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return unsupported(place)
    return bad_request(f"{place or 'the body'}: {error['msg']}", place or None)
