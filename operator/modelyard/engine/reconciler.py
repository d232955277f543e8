"""One pass over one custom resource: from the cache through its plan to the API server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelyard.engine.apply import Applier, Decision
from modelyard.engine.cache import Cache
from modelyard.engine.errors import Conflict, NotFound, Refused
from modelyard.engine.guard import Guard
from modelyard.engine.kinds import Kinds, is_managed
from modelyard.engine.plan import Child, Key, Manifest, Plan, Planner, Rejection, Seen
from modelyard.engine.ports import CHILD_MANAGER, MUTABLE_MANAGER, Clock, Cluster, Facts, Observer
from modelyard.engine.reporter import Reporter

log = logging.getLogger(__name__)

# A plan that wants more after it has seen its children goes on at once, but not for ever: what it still wants
# then is done in later passes, between which others get their turn.
ROUNDS = 4
# References that hang on references; a plan that names new ones again and again is wrong.
LONGEST_CHAIN = 10

Outcome = Literal["gone", "settled", "waiting", "refused"]


@dataclass(frozen=True, slots=True)
class Result:
    """How a pass ended.

    `again` asks for another at once, `deferred` for one after those of other resources, `requeue_after` for one
    in so many seconds.
    """

    outcome: Outcome
    again: bool = False
    deferred: bool = False
    requeue_after: float | None = None


class Reconciler:
    """Brings one resource at a time to what its plan says. Keeps nothing that can't be found out again."""

    def __init__(
        self,
        *,
        kinds: Kinds,
        planners: Mapping[str, Planner],
        cache: Cache,
        guard: Guard,
        cluster: Cluster,
        facts: Facts,
        clock: Clock,
        observer: Observer,
        wake: Callable[[Key], object],
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """`wake` has another resource looked at; `crowded` says whether others wait for their pass."""
        self._kinds = kinds
        self._wake = wake
        self._crowded = crowded
        self._planners = planners
        self._cache = cache
        self._guard = guard
        self._cluster = cluster
        self._facts = facts
        self._clock = clock
        self._observer = observer
        self._applier = Applier()
        self._reporter = Reporter(
            kinds=kinds, cache=cache, cluster=cluster, clock=clock, observer=observer, wrote=self._wrote
        )
        self._rejections: dict[Key, dict[str, Rejection]] = {}

    async def reconcile(self, key: Key) -> Result:
        """One pass. Raises ClusterError when a call failed in a way that calls for a repetition."""
        resource = self._cache.get(key)
        if resource is None:
            self._forget(key)
            return Result("gone")
        if "deletionTimestamp" in resource["metadata"]:
            self._facts.watch(key, ())
            self._cache.references.forget(key)
            return Result("settled")  # what it owns goes with it
        plan = self._plan(key, resource)
        changed = waits = False
        refused: set[str] = set()
        for _ in range(ROUNDS):
            if plan.delete:
                await self._delete(key, key, str(resource["metadata"]["uid"]))
                return Result("settled")
            changed, waits = await self._converge(key, resource, plan, refused)
            if not changed:
                break
            if self._crowded() and not refused:
                # In a burst all get their children first; what to say of them is said a little later.
                return Result("waiting" if waits else "settled", deferred=True)
            plan = self._plan(key, resource)
        else:
            waits = True
        wrote, wait = await self._reporter.report(key, resource, plan)
        self._facts.watch(key, plan.probes)
        self._observer.holds(key, self._cache.get(key))
        delays = [d for d in (plan.requeue_after, wait) if d is not None]
        return Result(
            outcome="refused" if self._rejections.get(key) else "waiting" if waits else "settled",
            again=wrote or (waits and changed),
            requeue_after=min(delays) if delays else None,
        )

    def _plan(self, key: Key, resource: Manifest) -> Plan:
        for _ in range(LONGEST_CHAIN):
            plan = self._planners[key.kind](resource, self._see(key, resource), self._clock.now())
            if not self._cache.references.name(key, plan.references):
                break
        else:
            raise RuntimeError(f"the plan names new references again and again: {sorted(plan.references)}")
        named = {child.id for child in plan.children}
        rejections = self._rejections.get(key, {})
        for child_id in [c for c in rejections if c not in named]:
            del rejections[child_id]
        return plan

    def _see(self, key: Key, resource: Manifest) -> Seen:
        uid = str(resource["metadata"]["uid"])
        children, digests = self._cache.children(key, uid)
        return Seen(
            children=children,
            digests=digests,
            references={named: self._cache.get(named) for named in self._cache.references.named_by(key)},
            departed=self._cache.departed(key, uid),
            facts=self._facts.of(key),
            ages=self._facts.ages(key),
            rejections=dict(self._rejections.get(key, {})),
            served=self._cache.served,
        )

    def _wrote(self, key: Key, answer: Manifest) -> None:
        """Takes in the answer of a write for `key`, and has the others looked at that it concerns."""
        for other in self._guard.wrote(answer):
            if other != key:
                self._wake(other)

    async def _converge(
        self, key: Key, resource: Manifest, plan: Plan, refused: set[str]
    ) -> tuple[bool, bool]:
        """Applies and prunes. Returns whether anything changed, and whether something has to be waited for.

        `refused` are the children that the server has said no to in this pass; they are not sent again.
        """
        changed = waits = False
        for stage in _stages(plan):
            if any(child.id in refused for child in stage):
                waits = True
                break
            outcomes = await self._settle_all(key, resource, stage)
            changed |= any(o in ("changed", "refused") for o in outcomes)
            refused |= {
                c.id for c, o in zip(stage, outcomes, strict=True) if o in ("refused", "still refused")
            }
            if any(o in ("refused", "still refused") for o in outcomes):
                waits = True
                break
        changed |= await self._prune(key, resource, plan)
        return changed, waits

    async def _settle_all(self, key: Key, resource: Manifest, stage: list[Child]) -> list[str]:
        """Settles the children of one stage at once. What went wrong with one is raised when all are done."""
        decisions = [self._decide(key, resource, child) for child in stage]
        pairs = list(zip(stage, decisions, strict=True))
        if sum(d.verdict != "equal" for d in decisions) <= 1:
            return [await self._settle(key, child, decision) for child, decision in pairs]
        outcomes = await asyncio.gather(
            *(self._settle(key, child, decision) for child, decision in pairs), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [str(outcome) for outcome in outcomes]

    async def _settle(self, key: Key, child: Child, decision: Decision) -> str:
        if decision.verdict == "equal":
            self._accept(key, child)
            return "equal"
        if decision.verdict == "ending":
            return self._reject(key, child, Rejection("Terminating", f"{child.id} is still being deleted."))
        if decision.verdict == "taken":
            message = f"{child.id} exists and belongs to something else."
            return self._reject(key, child, Rejection("NameTaken", message))
        kind = self._kinds[decision.key.kind]
        if kind.optional and kind.name not in self._cache.served:
            return self._reject(
                key, child, Rejection("NotServed", f"The cluster has no {kind.plural}.{kind.group}.")
            )
        try:
            await self._write(key, decision)
        except Refused as error:
            return self._reject(key, child, Rejection(error.reason, str(error)))
        except NotFound as error:
            # Of something that it names, as the role of a binding. Where it is the namespace, the status fails with it.
            return self._reject(key, child, Rejection("NotFound", str(error)))
        except Conflict:
            if decision.verdict != "create":
                raise
            found = await self._cluster.find(decision.key)
            if found is None:
                raise  # the server was in trouble with something else
            if not is_managed(found):
                message = f"{child.id} exists and was not made by Modelyard."
                return self._reject(key, child, Rejection("NameTaken", message))
            # Most likely made by this very call, whose first answer was lost, and no watch has told of it yet. Whose it
            # is the next round decides.
            self._wrote(key, found)
            return "changed"
        self._accept(key, child)
        return "changed"

    def _decide(self, key: Key, resource: Manifest, child: Child) -> Decision:
        target = Key(child.manifest["kind"], key.namespace, child.manifest["metadata"]["name"])
        return self._applier.decide(child, self._cache.entry(target), resource, self._kinds[key.kind])

    async def _write(self, key: Key, decision: Decision) -> None:
        if decision.verdict == "mutate":
            answer = await self._cluster.apply(decision.manifest, manager=MUTABLE_MANAGER)
            self._observer.wrote(decision.key.kind, "mutate")
        else:
            # One that isn't there is made, never taken over: what is somebody else's would go with ours.
            new = decision.verdict == "create"
            answer = await self._cluster.apply(decision.manifest, manager=CHILD_MANAGER, new=new)
            self._observer.wrote(decision.key.kind, "apply")
            self._applier.applied(answer, decision.manifest)
        self._wrote(key, answer)

    def _reject(self, key: Key, child: Child, rejection: Rejection) -> str:
        known = self._rejections.setdefault(key, {})
        if known.get(child.id) == rejection:
            return "still refused"
        known[child.id] = rejection
        level = logging.INFO if rejection.reason == "Terminating" else logging.WARNING
        log.log(level, "child refused", extra={"key": str(key), "child": child.id, "reason": rejection.reason,
                                               "detail": str(rejection.message)})  # fmt: skip
        return "refused"

    def _accept(self, key: Key, child: Child) -> None:
        rejections = self._rejections.get(key)
        if rejections:
            rejections.pop(child.id, None)

    async def _prune(self, key: Key, resource: Manifest, plan: Plan) -> bool:
        wanted = {child.id for child in plan.children} | plan.keep
        uid = resource["metadata"]["uid"]
        changed = False
        for child_key, entry in self._cache.below(key, uid):
            if f"{child_key.kind}/{child_key.name}" in wanted or entry.controller != uid or entry.ending:
                continue
            if not is_managed(entry.body):
                continue
            await self._delete(key, child_key, entry.uid)
            self._applier.forget(entry.uid)
            changed = True
        return changed

    async def _delete(self, key: Key, doomed: Key, uid: str) -> None:
        """Deletes `doomed` for `key`. The watch tells the others of the end."""
        remains = await self._cluster.delete(doomed, uid)
        self._observer.wrote(doomed.kind, "delete")
        if remains is None:
            self._guard.deleted(doomed, uid)
        else:
            self._wrote(key, remains)

    def _forget(self, key: Key) -> None:
        self._facts.watch(key, ())
        self._reporter.forget(key)
        self._rejections.pop(key, None)
        self._cache.references.forget(key)
        self._observer.holds(key, None)


def _stages(plan: Plan) -> list[list[Child]]:
    """The children in the order of the plan, those that can be written at once together.

    What carries a pod template waits for all before it: its pods need them.
    """
    stages: list[list[Child]] = []
    runs_pods: bool | None = None
    for child in plan.children:
        if child.id in plan.keep:
            continue
        with_pods = "template" in (child.manifest.get("spec") or {})
        if with_pods != runs_pods:
            stages.append([])
            runs_pods = with_pods
        stages[-1].append(child)
    return stages
