"""What a build is told; its digest names the build and its package."""

from __future__ import annotations

from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.contract import layout
from modelyard.contract.build import BuildConfig, BuildGate, Method
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


def build_config(spec: ModelDeploymentSpec, source: Source, place: Place) -> tuple[str, BuildConfig]:
    """The build's id and its config.

    What is measured holds for pods of one size, so the size that the user asks for is part of the id. A profile's
    isn't: an edited profile makes no new revision.
    """
    gate = spec.compression.gate
    config = BuildConfig(
        package="",
        storage=place.uri,
        uri=source.uri,
        revision=source.revision,
        digest=source.digest,
        task=spec.task or source.task,
        dataset=source.dataset,
        methods=_METHODS[spec.compression.method],
        choose=spec.compression.method,
        gate=BuildGate(metric=gate.metric, max_drop=gate.max_drop, min_agreement=gate.min_agreement),
        max_length=spec.server.max_length,
        measure=spec.engine.type in ("auto", "builtin"),
    )
    size = spec.server.resources.dump() if spec.server.resources else None
    build_id = digest([say(config), size])[:16]
    return build_id, config.model_copy(update={"package": layout.package_dir(build_id)})
