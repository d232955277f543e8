"""The revisions: the one that the spec asks for is made beside the one that serves, and takes its place once ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelyard.api.conditions import Condition, ConditionType
from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus, VariantStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.profile import Profile
from modelyard.contract.server import ServerConfig
from modelyard.engine.managed import find_scale_writers
from modelyard.engine.plan import Child
from modelyard.serving import names
from modelyard.serving.children import servers
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.engines import builtin, custom, engine, vllm
from modelyard.serving.engines.engine import Container
from modelyard.serving.gateways import reports
from modelyard.serving.revisions import handover, health, history, identity, observed, others, rollout, scale
from modelyard.serving.revisions.observed import Observed
from modelyard.serving.revisions.rollout import FULL, Revision, Target
from modelyard.workloads.pods import podstate
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import seconds_since

_READY = ConditionType.SERVERS_READY
_UP_TO_DATE = ConditionType.UP_TO_DATE
# Of the requests at the knee: so many more may be at a server that its next batch is there when one is done.
_AHEAD = 2.0
# Seconds for which a revision that lost its requests waits for gateways that don't tell what they follow.
_PATIENCE = 60.0
# Bytes of a request that every server takes; what callers may send is the gateways' to say.
_LEAST_BODY = 16 << 20


def advance(draft: Draft, site: Site, *, built: bool) -> None:
    """Plans all revisions. Where nothing is `built` for this spec, what serves stays as it is."""
    view = draft.view
    found = observed.find(view.seen, view.status.revisions)
    revisions = [each.revision for each in found.values()]
    serving = rollout.find_serving(revisions)
    told = reports.read(view.seen)
    wanted = _choose_wanted(draft, serving.id if serving else None, built=built)
    wish = _choose_size(draft, found, told, scale.find_figures(draft, site.profile))
    if view.spec.suspend:
        targets = [Target(r.id, 0, r.weight) for r in revisions]
    elif wanted is None:
        targets = []
    else:
        followed = (*told.followed.values(), *_suspect(draft, told, found))
        delegated = view.spec.scaling.scaler in scale.SCALERS
        targets = rollout.plan(wanted, wish.replicas, revisions, followed, delegated=delegated)
    # What is there comes first: whatever the server refuses of a new one, the size of what serves follows the load.
    planned = [(target.id in found, _build(draft, site, found.get(target.id), target)) for target in targets]
    draft.children[:0] = [child for known, children in planned if known for child in children]
    draft.children += [child for known, children in planned if not known for child in children]
    asked = next((t.id for t in targets if t.weight > 0), None)
    ready = asked in found and found[asked].revision.ready > 0
    proven = ready or (asked is not None and scale.has_served(view, asked))
    handover.advance(draft, site, asked, proven=proven)
    _judge(draft, found, targets, wanted, told, built=built)
    draft.update(
        replicas=serving.replicas if serving else 0,
        ready_replicas=serving.ready if serving else 0,
        selector=_write_selector(view.name, serving.id) if serving else None,
        revisions=history.build(draft, found, targets, wanted),
    )
    _ask(draft, told, wish, changing=len(targets) > 1)


def go_on(draft: Draft, why: Problem, *, readable: bool) -> None:
    """Where the spec can't be carried out, what serves still follows the load; all else stays as it is.

    Of a spec that isn't `readable` nobody knows how it should follow.
    """
    found = observed.find(draft.view.seen, draft.view.status.revisions)
    serving = rollout.find_serving([each.revision for each in found.values()])
    draft.update(
        replicas=serving.replicas if serving else 0,
        ready_replicas=serving.ready if serving else 0,
        revisions=history.refresh(draft, found),
    )
    if serving is None:
        return
    draft.hold(_UP_TO_DATE, "False", why.reason, f"What was there before serves: {why.message}")
    if readable:
        told = reports.read(draft.view.seen)
        wish = _choose_size(draft, found, told, scale.find_figures(draft, None))
        draft.children.append(servers.resize(found[serving.id].deployment, wish.replicas))
        _ask(draft, told, wish, changing=False)
        handover.judge(draft)
    if readable or serving.replicas > 0:
        _judge_servers(draft, serving, health.find_problem(draft, found[serving.id]))


def _choose_size(
    draft: Draft, found: Mapping[str, Observed], told: reports.Reports, figures: VariantStatus | None
) -> scale.Wish:
    serving = rollout.find_serving([each.revision for each in found.values()])
    known = found[serving.id] if serving else None
    foreign = known is not None and bool(find_scale_writers(known.deployment))
    wish = scale.choose(draft, serving, told, figures, foreign=foreign)
    return others.heed(draft, known, wish)


def _suspect(draft: Draft, told: reports.Reports, found: dict[str, Observed]) -> list[dict[str, int]]:
    """What gateways that have told nothing may follow: all revisions but those that lost their requests long ago."""
    if len(told.followed) == len(told.pods):
        return []
    drained = {r.name: r.drain_time for r in draft.view.status.revisions}
    times = {id: drained.get(names.revision(draft.view.name, id)) for id in found}
    recent = [id for id, at in times.items() if at is None or seconds_since(at, draft.view.now) < _PATIENCE]
    if any(times[id] for id in recent):
        draft.wake_in(_PATIENCE)
    return [dict.fromkeys(recent, FULL)]


def _choose_wanted(draft: Draft, serving: str | None, *, built: bool) -> str | None:
    """The revision that shall serve; what serves by now while no other can be made."""
    model, compression = draft.status.model, draft.status.compression
    if model is None or compression is None:
        return serving
    if built or serving is None:
        return identity.find_id(draft.view.spec, model, compression)
    return serving


def _build(draft: Draft, site: Site, known: Observed | None, target: Target) -> list[Child]:
    if known is not None:
        return [
            servers.build_service(
                site, target.id, target.weight, known.concurrency, known.task, known.speaks
            ),
            servers.resize(known.deployment, target.replicas),
            servers.build_budget(site, target.id),
        ]
    model, compression = draft.status.model, draft.status.compression
    assert model is not None and compression is not None  # noqa: S101 - it is named after them
    figures = scale.find_figures(draft, site.profile)
    knee = figures.concurrency if figures else None
    concurrency = max(1, round(knee * _AHEAD)) if knee else None
    config = _configure(draft, site, model, compression, target.id)
    spec = draft.view.spec
    running = _choose_engine(spec, site.profile, config)
    return [
        servers.build_service(site, target.id, target.weight, concurrency, config.task, running.speaks),
        servers.build_deployment(
            site, spec.server, target.id, running, config, model.digest or "", concurrency, target.replicas
        ),
        servers.build_budget(site, target.id),
    ]


def _choose_engine(spec: ModelDeploymentSpec, profile: Profile, config: ServerConfig) -> Container:
    match engine.choose(spec, profile, config.task):
        case "vllm":
            resources = spec.server.resources or profile.server_resources
            return vllm.build(profile, spec.engine, spec.server, resources, config)
        case "custom":
            assert spec.engine.custom is not None  # noqa: S101 - a rule of the schema's
            return custom.build(spec.engine.custom, config)
        case _:
            return builtin.build(profile)


def _configure(
    draft: Draft, site: Site, model: ServedModelStatus, compression: CompressionStatus, revision: str
) -> ServerConfig:
    server = draft.view.spec.server
    tokens = server.max_batch_tokens
    return ServerConfig(
        name=draft.view.name,
        revision=revision,
        task=model.task or "",
        folder=compression.folder,
        reference=compression.reference,
        variant=compression.chosen,
        runtime=compression.runtime,
        max_length=server.max_length,
        max_batch_tokens=tokens if isinstance(tokens, int) else None,
        max_batch_delay_milliseconds=server.max_batch_delay_milliseconds,
        # A limit that is raised later holds at the gateways, and here with the next revision.
        max_request_bytes=max(_LEAST_BODY, draft.view.spec.traffic.max_request_bytes),
        drain_seconds=servers.find_drain(server, site.profile),
    )


def _judge(
    draft: Draft,
    found: dict[str, Observed],
    targets: Sequence[Target],
    wanted: str | None,
    told: reports.Reports,
    *,
    built: bool,
) -> None:
    """Says whether requests are answered, and whether by what the spec asks for and nothing else."""
    serving = rollout.find_serving([each.revision for each in found.values()])
    problem = health.find_problem(draft, found[serving.id]) if serving else None
    _judge_servers(draft, serving, problem)
    if serving is not None and (why := _find_newer(draft, built=built)) is not None:
        draft.hold(_UP_TO_DATE, "False", why.reason, f"An earlier revision serves: {why.message}")
        return
    if wanted is None or serving is None:
        return
    new = found.get(wanted)
    late = _find_late(told, found)
    passing = Problem("Progressing", f"Requests are passing from the earlier revision to the new one{late}.")
    if serving.id == wanted:
        if any(target.id != wanted for target in targets):
            draft.miss(_UP_TO_DATE, passing)
        elif serving.ready > 0 or scale.has_served(draft.view, wanted):
            draft.hold(_UP_TO_DATE, "True", "Serving", "What the spec asks for serves.")
        else:
            draft.miss(_UP_TO_DATE, problem or Problem("Progressing", "The first servers are starting."))
        if serving.ready == 0 and serving.replicas > 0 and new is not None:
            _watch_deadline(draft, new, problem)
        return
    starting = Problem("Progressing", "A new revision is starting; the earlier one serves.")
    draft.miss(_UP_TO_DATE, passing if new is not None and new.revision.weight > 0 else starting)
    if new is not None:
        why_new = health.find_problem(draft, new)
        if why_new is not None:
            draft.miss(
                _UP_TO_DATE,
                Problem(why_new.reason, f"The earlier revision serves. Of the new one: {why_new.message}"),
            )
        _watch_deadline(draft, new, why_new)


def _find_late(told: reports.Reports, found: Mapping[str, Observed]) -> str:
    """Of the gateways that answer the first that sends requests by other weights than there are, and why."""
    for pod, weights in sorted(told.followed.items()):
        if any(weights.values()) and any(
            weights.get(id, 0) != each.revision.weight for id, each in found.items()
        ):
            return f"; gateway {pod} doesn't follow yet: {told.troubles.get(pod, f'kubectl logs {pod}').rstrip('.')}"
    return ""


def _judge_servers(draft: Draft, serving: Revision | None, problem: Problem | None) -> None:
    """Says whether requests are answered. `problem` keeps servers from being ready."""
    view = draft.view
    if view.spec.suspend:
        suspended = Problem("Suspended", "spec.suspend is true; set it to false to go on.")
        draft.miss(_READY, suspended)
    elif serving is None:
        draft.miss(_READY, Problem("NoServers", "There are no servers before the model is built."))
    elif serving.replicas == 0 and view.spec.scaling.scaler == "none":
        draft.miss(_READY, Problem("NoReplicas", "spec.replicas is 0."))
    elif serving.replicas == 0 and (pause := scale.find_pause(view)) is not None:
        draft.miss(_READY, pause)
    elif serving.replicas == 0:
        draft.hold(
            _READY,
            "True",
            "ScaledToZero",
            "There are no servers while nobody asks; the next request starts one.",
        )
    elif serving.ready > 0:
        draft.hold(_READY, "True", "Ready", "Servers answer with the model's own answers.")
    else:
        draft.miss(_READY, problem or Problem("Starting", "The servers are starting."))


def _find_newer(draft: Draft, *, built: bool) -> Condition | None:
    """What keeps the newest model from being served."""
    model, package = draft.held.get(ConditionType.MODEL_READY), draft.held.get(ConditionType.BUILT)
    refused = draft.stalled is not None and model is not None and model.reason == draft.stalled.reason
    if refused or (package is None and not built):
        return model
    return package if not built else None


def _watch_deadline(draft: Draft, new: Observed, problem: Problem | None) -> None:
    """A revision that has never served has a deadline."""
    if scale.has_served(draft.view, new.revision.id) or draft.view.spec.suspend:
        return
    limit = draft.view.spec.progress_deadline_seconds
    left = limit - seconds_since(new.waits_since, draft.view.now)
    if left > 0:
        draft.wake_in(left)
        return
    why = problem or Problem(
        "ProgressDeadlineExceeded", f"Its servers are not ready after {limit} s: kubectl get pods."
    )
    draft.stalled = Problem(
        why.reason, f"Revision {new.revision.id} is not ready after {limit} s. {why.message}"
    )
    draft.miss(_UP_TO_DATE, draft.stalled)


def _ask(draft: Draft, told: reports.Reports, wish: scale.Wish, *, changing: bool) -> None:
    """Gateways are asked while a change is under way or the load may ask for another number of servers; those that run
    and aren't ready, why.
    """
    scaling = draft.view.spec.scaling
    follows = scaling.scaler == "builtin" and scaling.min_replicas != scaling.max_replicas
    if draft.view.spec.suspend:
        return
    pods = told.pods if follows or changing else tuple(filter(podstate.is_awaited, told.pods))
    soon = wish.look_in is not None and wish.look_in <= reports.BUSY_SECONDS
    if follows and wish.look_in is not None and not soon:
        draft.wake_in(wish.look_in)
    draft.probes += reports.build_probes(pods, at_rest=not (changing or soon))


def _write_selector(deployment: str, revision: str) -> str:
    return ",".join(f"{key}={value}" for key, value in servers.select(deployment, revision).items())
