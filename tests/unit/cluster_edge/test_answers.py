"""What the API server's error answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from modelyard.cluster.answers import error_of
from modelyard.engine import errors

QUOTA = 'persistentvolumeclaims "s" is forbidden: exceeded quota: team, requested: 1, used: 5, limited: 5'
ENDING = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace ns is being terminated"}]}
CASES: list[tuple[int, dict[str, Any], type[errors.ClusterError]]] = [
    (400, {"reason": "BadRequest"}, errors.Refused),
    (401, {"reason": "Unauthorized"}, errors.Unavailable),
    (403, {"reason": "Forbidden", "message": "no"}, errors.Refused),
    (403, {"reason": "Forbidden", "details": ENDING}, errors.Ending),
    (404, {"reason": "NotFound"}, errors.NotFound),
    (409, {"reason": "Conflict"}, errors.Conflict),
    (409, {"reason": "AlreadyExists"}, errors.AlreadyExists),
    (410, {"reason": "Expired"}, errors.Expired),
    (422, {"reason": "Invalid", "message": "spec.x: Required value"}, errors.Refused),
    (429, {"reason": "TooManyRequests"}, errors.Throttled),
    (500, {"reason": "InternalError"}, errors.Unavailable),
    (503, {}, errors.Unavailable),
]


@pytest.mark.parametrize(("code", "status", "kind"), CASES, ids=[f"{c[0]}-{c[2].__name__}" for c in CASES])
def test_each_answer_becomes_its_error(code: int, status: dict[str, Any], kind: type[Exception]) -> None:
    assert type(error_of(code, json.dumps(status).encode(), "GET /x")) is kind


def test_an_exceeded_quota_has_a_reason_of_its_own_and_the_servers_sentence() -> None:
    error = error_of(403, json.dumps({"reason": "Forbidden", "message": QUOTA}).encode(), "PATCH /x")
    assert isinstance(error, errors.Refused)
    assert (error.reason, str(error)) == ("QuotaExceeded", QUOTA)


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (422, "Refused")])
def test_a_webhooks_sentence_is_no_reason(code: int, reason: str) -> None:
    status = {"reason": "images must come from our registry: no", "message": "denied"}
    error = error_of(code, json.dumps(status).encode(), "PATCH /x")
    assert isinstance(error, errors.Refused)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), (None, 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("-3", 0.0)],
)
def test_retry_after_is_read_in_any_form(header: str | None, seconds: float) -> None:
    error = error_of(429, b"{}", "GET /x", header)
    assert isinstance(error, errors.Throttled)
    assert error.retry_after == seconds


@pytest.mark.parametrize("content", [b"", b"<html>bad gateway</html>", b"[1]", b"\xff\xfe"])
def test_answers_of_servers_in_between_are_no_trouble(content: bytes) -> None:
    assert isinstance(error_of(502, content, "GET /x"), errors.Unavailable)


def test_messages_are_bounded() -> None:
    assert len(str(error_of(422, b"x" * 100_000, "PATCH /x"))) <= 1024


def test_a_webhook_that_is_down_is_no_trouble_of_the_servers() -> None:
    message = 'Internal error occurred: failed calling webhook "mjob.kb.io": connection refused'
    error = error_of(500, json.dumps({"reason": "InternalError", "message": message}).encode(), "PATCH /x")
    assert isinstance(error, errors.Refused)
    assert (error.reason, str(error)) == ("WebhookUnavailable", message)
