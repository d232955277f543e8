"""What a build is told; its digest names the build and its package."""

from __future__ import annotations

from typing import Any

from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.serving import Compression, CompressionGate, Server
from modelyard.contract import layout
from modelyard.contract.build import BuildConfig, BuildGate, Method
from modelyard.contract.server import Batching
from modelyard.engine.compare import digest
from modelyard.serving.revisions.identity import say
from modelyard.serving.source import Source
from modelyard.workloads.storage import Place

_METHODS: dict[str, list[Method]] = {
    "none": ["none"],
    "bf16": ["none", "bf16"],
    "int8": ["none", "int8"],
    "auto": ["none", "bf16", "int8"],
}


# What ids have for a gate where nobody has named one. It stays, whatever the default is by now, so that a release that
# changes it builds nothing anew.
_NO_WORD = BuildGate(min_agreement=0.98)


def build_config(spec: ModelDeploymentSpec, source: Source, place: Place) -> tuple[str, BuildConfig]:
    """The build's id and its config.

    What is measured holds for pods of one size, so the size that the user asks for is part of the id. A profile's
    isn't: an edited profile makes no new revision.
    """
    compression, server = spec.compression, spec.server
    measured = spec.engine.type in ("auto", "builtin")
    tokens = server.max_batch_tokens
    config = BuildConfig(
        package="",
        storage=place.uri,
        uri=source.uri,
        revision=source.revision,
        digest=source.digest,
        task=spec.task or source.task,
        dataset=None if compression.texts else source.dataset,
        texts=compression.texts,
        methods=_METHODS[compression.method],
        choose=compression.method,
        gate=_read_gate(compression.gate),
        max_length=server.max_length,
        max_batch_tokens=tokens if measured and isinstance(tokens, int) else None,
        max_batch_delay_milliseconds=server.max_batch_delay_milliseconds,
        measure=measured,
    )
    size = server.resources.dump() if server.resources else None
    build_id = digest([say(config.model_copy(update=_find_unsaid(spec))), size])[:16]
    return build_id, config.model_copy(update={"package": layout.package_dir(build_id)})


def _read_gate(gate: CompressionGate) -> BuildGate:
    return BuildGate(metric=gate.metric, max_drop=gate.max_drop, min_agreement=gate.min_agreement)


def _find_unsaid(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """What ids have in place of our own defaults, and of words that have no effect."""
    compression, server, unsaid = spec.compression, spec.server, dict[str, Any]()
    if compression.method == "none" or compression.gate == Compression().gate:
        unsaid["gate"] = _NO_WORD
    if server.max_batch_delay_milliseconds == Server().max_batch_delay_milliseconds:
        unsaid["max_batch_delay_milliseconds"] = Batching().max_batch_delay_milliseconds
    return unsaid
