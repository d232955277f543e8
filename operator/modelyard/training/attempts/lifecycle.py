"""One attempt, from its Job's creation to its recorded end."""

from __future__ import annotations

from modelyard.api.conditions import format_time
from modelyard.api.profile import Settings
from modelyard.api.status import Attempt, Counters, Failure, Nodes
from modelyard.contract import codes
from modelyard.contract.report import TrainResult
from modelyard.engine.plan import Manifest
from modelyard.training.attempts import collection, deadline, departure, reports, restarts, silence
from modelyard.training.attempts.ending import Ending, classify, has_broken, read_results
from modelyard.training.children import claims, holders, jobs
from modelyard.training.draft import Draft, Stage
from modelyard.training.preparation.prepare import CACHE_LAG
from modelyard.training.status import costs, goodput, progress
from modelyard.workloads import jobstate, refusal
from modelyard.workloads.pods import delays, podstate, sidecars, startup
from modelyard.workloads.pods.ending import has_failed
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import seconds_since

_FINISHED = (codes.SUCCEEDED, codes.GATE_FAILED)


def advance(draft: Draft, settings: Settings, job: Manifest) -> None:
    """Watches the attempt; stops it when asked to; records its end."""
    view = draft.view
    pods = podstate.of_job(view.seen, job)
    results = read_results(pods)
    draft.keep_object(job)
    claims.warn(draft, progress.place_of(job).claim)
    reports.fold(draft, job, results)
    attempt = draft.status.attempts[-1]
    lost = [pod for pod in pods if podstate.is_lost(pod, view.now)]
    leaving = departure.is_under_way(view, job, pods)
    ended = jobstate.is_complete(job) or jobstate.is_failed(job)
    if ended or (lost and not leaving) or sidecars.have_ended(draft, job, pods):
        _end(draft, settings, job, pods, results)
        return
    start, end = deadline.active_span(job, pods, view.now)
    costs.note(
        draft, job, max(attempt.active_seconds or 0, int((end - start).total_seconds()) if start else 0)
    )
    goodput.note(draft, pods)
    overdue = deadline.check(draft, job, pods)
    held = jobstate.is_suspended(job)
    stops = view.spec.suspend or overdue
    if held and not stops:
        has_run = bool(pods) or bool(jobstate.count_active(job)) or attempt.active_seconds is not None
        if (held_by := holders.find_holder(view, job, has_run)) is not None:
            draft.stand("Queued" if held_by.reason == "Queued" else "Starting", held_by.message, held_by)
            return
    broken = sidecars.holds_failure(draft, pods)
    if stops or held or broken or leaving:
        if held and not jobstate.count_active(job) and all(podstate.is_over(pod) for pod in pods):
            record(draft, attempt, _explain_stop(draft, job, pods), job, pods)
            return
        draft.children.append(jobs.stop_job(job))
        deadline.note(draft, job, pods)
        departure.plan_looks(draft, pods)
        if broken and not stops:
            draft.stand("Recovering", "A training pod has failed; the others are being stopped.")
        elif leaving and not stops:
            text = "The node of a training pod is going or gone; the others are being stopped."
            draft.stand("Recovering", text, delays.find_problem(pods, view.now))
        else:
            _stop(draft, pods, overdue)
        return
    _watch(draft, job, pods)


def record(
    draft: Draft,
    attempt: Attempt,
    ending: Ending,
    job: Manifest | None = None,
    pods: list[Manifest] | None = None,
) -> None:
    """Writes down why the attempt ended, and decides whether another one follows."""
    view = draft.view
    start, end = deadline.active_span(job, pods or [], view.now)
    active = max(attempt.active_seconds or 0, int((end - start).total_seconds()) if start else 0)
    results = read_results(pods or [])
    ended = attempt.changed(
        cause=ending.cause,
        end_time=format_time(end),
        active_seconds=active,
        failure=ending.failure,
        **reports.estimate_steps(draft, attempt),
    )
    attempts = [*draft.status.attempts[:-1], ended]
    costs.settle(draft, job, active)
    goodput.settle(draft, ended, end, pods or [], results.get(0))
    counters = restarts.count(draft.status.counters or Counters(), ending.cause)
    in_place = sum(result.process_restarts for result in results.values())
    counters = counters.changed(process_restarts=counters.process_restarts + in_place)
    draft.update(
        attempts=attempts,
        counters=counters,
        active_seconds=draft.status.active_seconds + active,
        nodes=None,
        retry_time=None,
        progress=progress.stand_still(draft.status.progress),
    )
    if ending.cause == "Finished":
        return
    text = ending.failure.message if ending.failure else ""
    draft.emit(
        "Normal" if ending.cause == "Suspended" else "Warning",
        "AttemptEnded", f"Attempt {attempt.index} ended ({ending.cause}). {text}".strip(),
    )  # fmt: skip
    limit = view.spec.active_deadline_seconds
    if ending.cause == "DeadlineExceeded" or (limit is not None and draft.status.active_seconds > limit):
        draft.fail(
            Problem(
                "DeadlineExceeded",
                "The pods were active for longer than spec.activeDeadlineSeconds. The newest checkpoint is"
                " kept in storage; create the job anew with a later deadline.",
            )
        )
    elif (problem := restarts.find_end(ending, attempts, counters, view.spec.failure_policy)) is not None:
        draft.fail(problem)
    elif ending.cause != "Suspended":
        draft.retry_in(restarts.choose_wait(attempts, view.spec.failure_policy.backoff))


def finish(draft: Draft, result: TrainResult, job: Manifest, pods: list[Manifest]) -> None:
    """Ends the job with the result of its last attempt."""
    place = progress.place_of(job)
    loss = claims.find_loss(draft.view, place.claim)
    last = result.last_checkpoint
    draft.update(
        progress=progress.finish_progress(draft.status.progress, result, draft.view.spec.gate),
        checkpoints=progress.build_checkpoints(place, last, result.best_checkpoint, draft.status.checkpoints),
        model=progress.build_model(place, result) if loss is None else None,
        gate=progress.build_gate(result, draft.view.spec.gate),
    )
    ended = draft.status.attempts[-1].changed(to_step=result.step, lost_steps=0)
    record(draft, ended, Ending("Finished"), job, pods)
    if loss is not None:
        draft.fail(loss)
        return
    gate = draft.status.gate
    if result.outcome == codes.SUCCEEDED and (gate is None or gate.passed):
        passed = " and passed its gate" if gate else ""
        draft.succeed(f"The model is trained{passed}.")
        return
    draft.fail(_explain_gate(draft))


def _explain_gate(draft: Draft) -> Problem:
    gate = draft.status.gate
    seen, bound = "the metric", ""
    if gate is not None:
        seen = f"{gate.metric} of {'no number' if gate.value is None else f'{gate.value:.6g}'}"
        bound = "" if gate.threshold is None else f" (bound {gate.threshold:.6g})"
    return Problem(
        "GateFailed",
        f"The trained model misses its gate: {seen}{bound}. The model is kept and marked as failed; train"
        " longer, change the data or the bound, and create the job anew.",
    )


def _end(
    draft: Draft, settings: Settings, job: Manifest, pods: list[Manifest], results: dict[int, TrainResult]
) -> None:
    view = draft.view
    attempt = draft.status.attempts[-1]
    result = results.get(0)
    if result is not None and result.outcome in _FINISHED:
        _succeed(draft, result, job, pods)
        return
    ended = jobstate.condition_time(job, *jobstate.END_CONDITIONS)
    unfinished = [pod for pod in pods if not podstate.is_over(pod) and not podstate.is_lost(pod, view.now)]
    if unfinished and ended and seconds_since(ended, view.now) <= CACHE_LAG:
        # The pods' last words are on their way.
        draft.stand(
            "Evaluating" if jobstate.is_complete(job) else "Recovering", "The training pods are stopping."
        )
        draft.wake_in(1.0)
        return
    if jobstate.is_complete(job) or (not jobstate.is_failed(job) and _all_ended_well(draft, pods)):
        if (loss := claims.find_loss(view, progress.place_of(job).claim)) is not None:
            draft.fail(loss)
            return
        collected = collection.advance(draft, settings, attempt.index)
        if collected is not None:
            _succeed(draft, collected, job, pods)
        elif collection.has_failed(draft, attempt.index):
            why = f" {draft.problem.message}" if draft.problem else ""
            failure = Failure(
                reason="ResultLost",
                message=f"The attempt's result was lost with its pods and storage.{why}"[:1024],
            )
            record(draft, attempt, Ending("Infrastructure", failure), job, pods)
        return
    if not jobstate.is_failed(job) and (departed := departure.find_loss(pods, view.now)) is not None:
        record(draft, attempt, departed, job, pods)
        return
    sidecars.warn(draft, pods)
    if jobstate.is_suspended(job):
        record(draft, attempt, _explain_stop(draft, job, pods), job, pods)
    else:
        record(draft, attempt, classify(pods, view.spec.trainer.num_nodes), job, pods)


def _succeed(draft: Draft, result: TrainResult, job: Manifest, pods: list[Manifest]) -> None:
    """Ends the job once it is known whether its model will stay."""
    if claims.is_known(draft, progress.place_of(job).claim):
        sidecars.warn(draft, pods)
        finish(draft, result, job, pods)
    else:
        draft.stand("Evaluating", "The training has ended; whether its storage stays is being looked at.")


def _all_ended_well(draft: Draft, pods: list[Manifest]) -> bool:
    codes_seen = [podstate.terminated(pod).get("exitCode") for pod in pods]
    return len(pods) >= draft.view.spec.trainer.num_nodes and all(code == 0 for code in codes_seen)


def _explain_stop(draft: Draft, job: Manifest, pods: list[Manifest]) -> Ending:
    """Of an attempt whose Job is suspended. A failure that had come before is what counts."""
    ending = classify(pods, draft.view.spec.trainer.num_nodes)
    if ending.fatal or ending.cause == "UserError":
        return ending
    if deadline.is_overdue(draft, job, pods):
        return Ending("DeadlineExceeded")
    if draft.view.spec.suspend:
        return Ending("Suspended")
    if any(has_broken(pod) or podstate.is_driven_off(pod) for pod in pods):
        return ending
    message = f"Job {job['metadata']['name']} was suspended while it ran."
    return Ending("Preempted", Failure(reason="JobSuspended", message=message))


def _stop(draft: Draft, pods: list[Manifest], overdue: bool) -> None:
    """Says why the pods are being stopped."""
    running = sum(podstate.is_running(pod) for pod in pods)
    if draft.status.nodes is not None:
        draft.update(nodes=draft.status.nodes.model_copy(update={"ready": running}))
    text = "The training pods save a checkpoint and stop."
    if draft.view.spec.suspend:
        draft.stand("Suspending", text)
    elif overdue:
        draft.stand("Stopping", f"spec.activeDeadlineSeconds has passed. {text}")
    else:
        draft.stand(
            "Stopping", f"Someone else has suspended the Job of this attempt. {text} Another follows."
        )


def _watch(draft: Draft, job: Manifest, pods: list[Manifest]) -> None:
    view = draft.view
    attempt = draft.status.attempts[-1]
    desired = int((job.get("spec") or {}).get("completions") or 1)
    running = [pod for pod in pods if podstate.is_running(pod)]
    # The other nodes are done before rank 0 has exported the model.
    done = [pod for pod in pods if podstate.is_over(pod) and not has_failed(pod)]
    missing = desired - len({podstate.index_of(pod) for pod in (*running, *done)})
    draft.update(nodes=Nodes(desired=desired, ready=len(running)))
    draft.pods_ready = missing == 0 and bool(running)
    leader = next((pod for pod in running if podstate.index_of(pod) == 0), None)
    if leader is not None and (probe := progress.build_probe(attempt.index, leader)) is not None:
        draft.probes.append(probe)
    problem = startup.find_problem(draft, pods)
    if problem is not None and problem.fatal:
        failure = Failure(reason=problem.reason, message=problem.message, pod=problem.pod)
        record(draft, attempt, Ending("UserError", failure, fatal=True), job, pods)
        return
    problem = claims.explain_delay(draft, progress.place_of(job).claim, pods, problem)
    departure.plan_looks(draft, pods)
    age = seconds_since(job["metadata"].get("creationTimestamp"), view.now)
    if problem is None and missing:
        if age <= delays.STUCK_AFTER:
            draft.wake_in(delays.STUCK_AFTER + 1 - age)
        problem = refusal.find(draft, job, pods) or _explain_gap(job, running, age)
    if problem is None and len(done) == desired:
        draft.stand("Evaluating", "The training pods have ended; their results are being read.")
    else:
        _say_stage(draft, attempt, pods, problem)


def _say_stage(draft: Draft, attempt: Attempt, pods: list[Manifest], problem: Problem | None) -> None:
    """How far rank 0 is, by its own word."""
    report = progress.read_report(draft.view.seen, attempt.index)
    if report is not None and report.state != "starting":
        if report.state == "training" or problem is not None or not draft.pods_ready:
            draft.stand("Training", "The model is being trained.", problem)
        else:
            draft.stand("Evaluating", "The model is being evaluated and exported.")
    elif report is None and (known := silence.recall(draft.view)) is not None:
        draft.stand(*known, problem)
    elif problem is None and draft.pods_ready:
        silence.explain(draft, attempt, pods, answered=report is not None)
    else:
        stage: Stage = "Recovering" if attempt.index > 1 else "Starting"
        draft.stand(stage, "The training pods are starting.", problem)


def _explain_gap(job: Manifest, running: list[Manifest], age: float) -> Problem | None:
    name = job["metadata"]["name"]
    if running and age > delays.STUCK_AFTER:
        return Problem(
            "PartialGang",
            f"Some pods of job {name} don't run, so the others wait: kubectl get pods -l job-name={name}.",
        )
    return None
