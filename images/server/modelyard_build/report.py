"""The result as the kubelet keeps it."""

from __future__ import annotations

from modelyard.contract.build import BuildResult

_CUTS = (1000, 300, 100, 30)  # characters of each sentence


def fit(result: BuildResult, limit: int) -> bytes:
    """The result as JSON of at most `limit` bytes: sentences are cut where it would be longer."""
    text = b""
    for cut in _CUTS:
        text = dump(_cut(result, cut))
        if len(text) <= limit:
            break
    return text


def dump(result: BuildResult) -> bytes:
    """As JSON."""
    return result.model_dump_json(by_alias=True, exclude_none=True).encode()


def _cut(result: BuildResult, limit: int) -> BuildResult:
    variants = [
        variant.model_copy(update={"reason": variant.reason and _shorten(variant.reason, limit)})
        for variant in result.variants
    ]
    failure = result.failure and result.failure.model_copy(
        update={"message": _shorten(result.failure.message, limit)}
    )
    return result.model_copy(update={"variants": variants, "failure": failure})


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
