"""HTTP downloads that go on where they were interrupted and say clearly why they can't."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from modelyard_models.failure import Failure, storage_failure
from modelyard_models.files import hash_file, read_json, write_json

_TRIES = 5
_TIMEOUT = 30.0  # seconds; per connection and read, not per file
_CHUNK = 1 << 20  # bytes
_GONE = (404, 410)
_FORBIDDEN = (401, 403)
_TEMPORARY = (408, 425, 429)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

T = TypeVar("T")
Subject = Literal["Source", "Model"]  # the first word of the failure's reason


@dataclass(frozen=True, slots=True)
class Remote:
    """What is known of a file on a server. `validator` is its strong ETag or its date, or ""."""

    url: str
    validator: str
    sha256: str
    bytes: int

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {"url": self.url, "validator": self.validator, "sha256": self.sha256, "bytes": self.bytes}


class _InterruptedError(Exception):
    """A try failed in a way that another one may cure."""


def download(
    url: str, target: Path, subject: Subject, name: str, *, sleep: Callable[[float], None] = time.sleep
) -> Remote:
    """Downloads `url` to `target`, resuming `target` + ".part" of an earlier try or of a killed process.

    Raises Failure: <subject>NotFound (404, 410), <subject>Forbidden (401, 403), <subject>Unreachable
    (temporary for the network, 408, 425, 429 and 5xx; not for other refusals).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            sleep(min(2.0**attempt, 20.0))
        try:
            return _fetch(url, target, subject, name)
        except _InterruptedError as error:
            reason = str(error)
    raise Failure(
        f"{subject}Unreachable",
        f"{name}: {url} could not be downloaded in {_TRIES} tries: {reason}; check the server, the pod's "
        "network "
        "policy and HTTPS_PROXY",
        temporary=True,
    )


def unchanged(known: Remote, *, timeout: float = 10.0) -> bool:
    """Whether the server says that the file is still the known one. False whenever that isn't certain."""
    if not known.validator:
        return False
    header = "If-None-Match" if known.validator.startswith('"') else "If-Modified-Since"
    headers = {header: known.validator}
    request = urllib.request.Request(known.url, headers=headers, method="HEAD")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return _validator(answer.headers) == known.validator
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 304
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _fetch(url: str, target: Path, subject: Subject, name: str) -> Remote:
    part, state = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    known = read_json(state) or {}
    validator = str(known.get("validator", ""))
    start = part.stat().st_size if part.exists() and validator else 0
    # No compressed transfer: a byte range must count the file's own bytes.
    headers = {"Accept-Encoding": "identity", "User-Agent": "modelyard"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
    except ValueError as error:
        raise Failure(f"{subject}NotFound", f"{name}: {url} is no valid address: {error}") from error
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            resumed = answer.status == 206
            whole = _whole_size(answer.headers, start, known) if resumed else _read_length(answer.headers)
            if resumed and whole is None:
                part.unlink(missing_ok=True)
                raise _InterruptedError("the server did not go on with the file that was begun")
            validator = _validator(answer.headers)
            described = {"url": url, "validator": validator, "bytes": whole}
            with _write(lambda: part.open("ab" if resumed else "wb"), url) as file:
                # Only now: what is told of a file must never stand beside bytes of another.
                _write(lambda: write_json(state, described), url)
                while chunk := answer.read(_CHUNK):
                    _write(partial(file.write, chunk), url)
                _write(file.flush, url)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # the part is longer than the file is now
                part.unlink(missing_ok=True)
                raise _InterruptedError("the server's file has changed meanwhile") from error
            raise _refusal(error.code, error.reason, url, subject, name) from error
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(str(getattr(error, "reason", "") or error) or type(error).__name__) from error
    size = part.stat().st_size
    if whole is not None and size != whole:
        raise _InterruptedError(f"the connection ended after {size} of {whole} bytes")
    part.replace(target)
    state.unlink(missing_ok=True)
    return Remote(url, validator, hash_file(target), size)


def _whole_size(headers: Mapping[str, str], start: int, known: Mapping[str, Any]) -> int | None:
    """The size of the file that a 206 goes on with; None where it isn't the rest of what we have.

    Caches and object stores in front of a server may ignore If-Range, or answer another range than was asked for.
    """
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None or _validator(headers) != known.get("validator") or int(found[1]) != start:
        return None
    size = int(found[2])
    return size if known.get("bytes") in (None, size) else None


def _read_length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length")
    return int(length) if length else None


def _write(write: Callable[[], T], url: str) -> T:
    # The disk's errors are OSErrors as the network's are; only the network's are worth another try.
    try:
        return write()
    except OSError as error:
        raise storage_failure(error, f"downloading {url}") from error


def _refusal(code: int, phrase: str, url: str, subject: Subject, name: str) -> Exception:
    said = f"{name}: {url} answered {code} {phrase}".rstrip()
    if code in _GONE:
        return Failure(f"{subject}NotFound", f"{said}; correct the address")
    if code in _FORBIDDEN:
        return Failure(
            f"{subject}Forbidden", f"{said}; the file must be readable without a login, or lie on a claim"
        )
    if code >= 500 or code in _TEMPORARY:
        return _InterruptedError(f"the server answered {code} {phrase}".rstrip())
    return Failure(f"{subject}Unreachable", f"{said}; correct the address")


def _validator(headers: Mapping[str, str]) -> str:
    etag = headers.get("ETag", "")
    if etag.startswith('"'):  # a weak one (W/"…") promises no equal bytes
        return etag
    return headers.get("Last-Modified", "")


def text_key(text: str) -> str:
    """A file name for any text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
