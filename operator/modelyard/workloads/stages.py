"""The stages that pods are made for: the container that does the work, and where users change the pods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """`container` is the name of the one that does the work; others may stand beside it, in any order.

    `resources` and `pods` are the fields, in words, that say what the pods ask for, and all else of them.
    """

    container: str
    resources: str
    pods: str


STAGES = {
    "prepare": Stage("prepare", "spec.data.resources", "the profile"),
    "train": Stage(
        "trainer", "spec.trainer.resourcesPerNode", "spec.trainer.podTemplate.spec or the profile"
    ),
    "collect": Stage("collect", "spec.data.resources", "the profile"),
    "build": Stage("build", "spec.server.resources", "spec.server.podTemplate.spec or the profile"),
    "server": Stage("server", "spec.server.resources", "spec.server.podTemplate.spec or the profile"),
    "gateway": Stage("gateway", "spec.gateway.resources", "the profile"),
}
# The init container that carries the agent into users' own images.
AGENT_CONTAINER = "agent"
_OTHER = Stage("", "the profile", "the profile")


def find(name: str) -> Stage:
    """The stage of that name, as the label of pods and Jobs says it."""
    return STAGES.get(name, _OTHER)
