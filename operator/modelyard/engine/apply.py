"""What to do about one child: nothing, apply it, change it in place, or wait for an earlier one to go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from modelyard.engine.cache import Entry
from modelyard.engine.compare import differs, digest, project
from modelyard.engine.kinds import MANAGED_BY, MANAGED_BY_LABEL, Kind
from modelyard.engine.plan import Child, Key, Manifest

HASH_ANNOTATION = "modelyard.dev/spec-hash"

Verdict = Literal["equal", "create", "apply", "mutate", "ending", "taken"]


@dataclass(frozen=True, slots=True)
class Decision:
    """`manifest` is what to send, if anything. `hash` is that of the child as planned."""

    verdict: Verdict
    key: Key
    manifest: Manifest
    hash: str = ""


class Applier:
    """Decides on children.

    It remembers which objects the server keeps otherwise than asked (a mutating webhook, a normalised value),
    so that they are not applied for ever.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, tuple[str, str]] = {}

    def decide(self, child: Child, live: Entry | None, owner: Manifest, kind: Kind) -> Decision:
        """Compares a planned child with the object of that name, if there is one."""
        wanted = dress(child, owner, kind)
        key = Key(wanted["kind"], wanted["metadata"]["namespace"], wanted["metadata"]["name"])
        if live is None:
            return Decision("create", key, sign(wanted))
        if not _is_ours(live, child, owner):
            # An earlier owner's object goes by itself (garbage collection); anybody else's stays.
            goes = live.ending or _is_of_an_earlier(live, owner, kind)
            return Decision("ending" if goes else "taken", key, wanted)
        if live.ending:
            return Decision("ending", key, wanted)
        body = live.body
        if child.immutable:
            changes = _changes(child, body)
            if not changes:
                return Decision("equal", key, wanted)
            return Decision("mutate", key, _partial(wanted, body, changes))
        signed = sign(wanted)
        if _hash_of(body) == _hash_of(signed) and not self._drifted(live.uid, body, signed):
            return Decision("equal", key, signed)
        return Decision("apply", key, signed)

    def applied(self, answer: Manifest, asked: Manifest) -> None:
        """Remembers where the server's answer is not what was asked for."""
        uid = answer["metadata"].get("uid", "")
        kept = project(answer, asked)
        if kept != asked:
            self._accepted[uid] = (_hash_of(asked) or "", digest(kept))
        else:
            self._accepted.pop(uid, None)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._accepted.pop(uid, None)

    def _drifted(self, uid: str, body: Manifest, wanted: Manifest) -> bool:
        if not differs(body, wanted):
            return False
        return self._accepted.get(uid) != (_hash_of(wanted), digest(project(body, wanted)))


def dress(child: Child, owner: Manifest, kind: Kind) -> Manifest:
    """The manifest with what the engine adds.

    Namespace, labels (also of a pod template), the owner reference.
    """
    metadata = owner["metadata"]
    assert kind.owner_label is not None  # noqa: S101 - only kinds that are reconciled have children
    labels = {MANAGED_BY_LABEL: MANAGED_BY, kind.owner_label: metadata["name"]}
    wanted = dict(child.manifest)
    wanted["metadata"] = _labelled(wanted["metadata"], labels) | {"namespace": metadata["namespace"]}
    if not child.detached:
        wanted["metadata"]["ownerReferences"] = [
            {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    template = (wanted.get("spec") or {}).get("template")
    if template is not None:
        template = template | {"metadata": _labelled(template.get("metadata") or {}, labels)}
        wanted["spec"] = wanted["spec"] | {"template": template}
    return wanted


def sign(manifest: Manifest) -> Manifest:
    """The manifest with its own hash in an annotation."""
    metadata = manifest["metadata"]
    annotations = (metadata.get("annotations") or {}) | {HASH_ANNOTATION: digest(manifest)}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def _labelled(metadata: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return metadata | {"labels": (metadata.get("labels") or {}) | labels}


def _hash_of(manifest: Manifest) -> str | None:
    value = (manifest["metadata"].get("annotations") or {}).get(HASH_ANNOTATION)
    return str(value) if value is not None else None


def _is_ours(live: Entry, child: Child, owner: Manifest) -> bool:
    if child.detached:
        return live.controller is None
    return live.controller == str(owner["metadata"]["uid"])


def _is_of_an_earlier(live: Entry, owner: Manifest, kind: Kind) -> bool:
    """Whether its controller was of the owner's kind and name, and is gone."""
    if live.controller is None:
        return False
    return any(
        reference.get("controller")
        and (reference.get("kind"), reference.get("name")) == (kind.name, owner["metadata"]["name"])
        for reference in live.body["metadata"].get("ownerReferences") or ()
    )


def _changes(child: Child, body: Manifest) -> dict[str, Any]:
    return {path: value for path, value in child.mutable.items() if differs(_at(body, path), value)}


def _partial(wanted: Manifest, body: Manifest, changes: dict[str, Any]) -> Manifest:
    """The least manifest that sets the changed paths.

    The uid keeps it from creating an object that has just gone.
    """
    metadata = {"name": wanted["metadata"]["name"], "namespace": wanted["metadata"]["namespace"]}
    metadata["uid"] = body["metadata"]["uid"]
    partial: Manifest = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": metadata}
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = partial
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return partial


def _at(body: Any, path: str) -> Any:
    for name in _names(path):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _names(path: str) -> Iterator[str]:
    yield from path.split(".")
