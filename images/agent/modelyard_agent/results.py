"""The result of a pod: decided from what the processes left, and written where it will be found."""

import math
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from modelyard.contract import codes, layout

from modelyard_agent import failure
from modelyard_agent.files import encode, explain, read_object, say, write_atomically
from modelyard_agent.settings import Settings
from modelyard_agent.supervisor import Ending

Redactor = Callable[[str], str]
Decision = Tuple[Dict[str, Any], int]

_NUMBERS_BY_NAME = ("metrics", "testMetrics", "baseline", "baselineTest")
_EXPENDABLE = (
    "removed",
    "baselineTest",
    "baseline",
    "testMetrics",
    "metrics",
    "splits",
    "bestCheckpoint",
    "seconds",
    "gate",
    "warnings",
)
# Characters that each warning's sentence is cut to, step by step: its reason and count say the most.
_WARNING_LENGTHS = (320, 160, 80, 0)


def decide_train(
    settings: Settings, ending: Ending, own_command: bool, progress: Dict[str, Any], redact: Redactor
) -> Decision:
    """(TrainResult as JSON, exit code). torchrun exits 1 whenever signalled: its code decides last."""
    result = _describe_run(settings, progress)
    given = read_object(settings.runtime / codes.RESULT_FILE)
    if ending.successor is not None:
        text = "attempt {} had begun meanwhile: this one was ended".format(ending.successor)
        return _fail(
            result, failure.Diagnosis({"reason": "Superseded", "message": text}, codes.EXIT_TEMPORARY)
        )
    if ending.fatal is not None:
        return _fail(result, failure.report_fatal(ending.fatal, redact))
    if given is not None and given.get("outcome") in codes.OUTCOMES:
        return _accept(result, given, redact)
    if ending.stopped:
        result["outcome"] = codes.PREEMPTED
        if ending.timed_out:
            result["failure"] = {"reason": "StopTimedOut", "message": _late(settings)}
        return result, codes.EXIT_STOPPED
    if ending.code == 0 and (own_command or settings.node > 0):
        result.update(outcome=codes.SUCCEEDED, lostSteps=0)
        return result, codes.EXIT_OK
    if ending.code == 0:
        missing = {"reason": "NoResult", "message": "the trainer ended without leaving a result"}
        return _fail(result, failure.Diagnosis(missing, failure.EXIT_CRASHED))
    return _fail(result, failure.diagnose(ending, settings.runtime / "torchrun", redact))


def decide_prepare(settings: Settings, ending: Ending, redact: Redactor) -> Decision:
    """(PrepareResult as JSON, exit code)."""
    result: Dict[str, Any] = {"contractVersion": codes.CONTRACT_VERSION, "stage": "prepare"}
    given = read_object(settings.runtime / codes.RESULT_FILE)
    if ending.fatal is not None:
        return _fail(result, failure.report_fatal(ending.fatal, redact))
    if given is not None and given.get("outcome") in (codes.SUCCEEDED, codes.FAILED):
        return _accept(result, given, redact)
    if ending.stopped:
        stopped = {"reason": "Stopped", "message": "the pod was asked to stop; what was fetched is kept"}
        return _fail(result, failure.Diagnosis(stopped, codes.EXIT_STOPPED))
    if ending.code == 0:
        missing = {"reason": "NoResult", "message": "the prepare stage ended without leaving a result"}
        return _fail(result, failure.Diagnosis(missing, failure.EXIT_CRASHED))
    return _fail(result, failure.diagnose(ending, settings.runtime / "torchrun", redact))


def fail_early(settings: Settings, reason: str, message: str, exit_code: int) -> Decision:
    """The result of a pod whose processes were never started."""
    result = {"contractVersion": codes.CONTRACT_VERSION, "stage": settings.stage}
    if settings.stage != "prepare":
        result = _describe_run(settings, {})
    return _fail(result, failure.Diagnosis({"reason": reason, "message": message}, exit_code))


def publish(settings: Settings, result: Dict[str, Any], store_seconds: float) -> None:
    """Write the termination message, then the copies in storage, for so long at most."""
    write_termination_message(settings.termination_path, result)
    if settings.stage != "train" or settings.run_path is None:
        return
    writer = threading.Thread(target=_store, args=(settings, settings.run_path, result), daemon=True)
    writer.start()
    writer.join(store_seconds)
    if writer.is_alive():
        say("the storage does not answer: the result is in the termination message only")


def write_termination_message(path: Path, result: Dict[str, Any]) -> None:
    """What the kubelet keeps: a file that exists already and may not be replaced."""
    try:
        with path.open("wb") as stream:
            stream.write(shrink(result, codes.TERMINATION_LIMIT))
    except OSError as error:
        say("the termination message can't be written to {}: {}".format(path, error.strerror))


def shrink(result: Dict[str, Any], limit: int) -> bytes:
    """JSON of at most `limit` bytes: the excerpt is cut first, then the message, the warnings, details.

    Of metrics the first are kept, as many as fit: a gate may be judged by one.
    """
    result = clean_numbers(result)
    for cut in (_cut_excerpt, _cut_message):
        data = encode(result)
        if len(data) <= limit:
            return data
        result = cut(result, len(data) - limit)
    for length in _WARNING_LENGTHS:
        if len(encode(result)) <= limit:
            break
        result = _cut_warnings(result, length)
    for key in _EXPENDABLE:
        if len(encode(result)) <= limit:
            break
        result = _cut_entries(result, key, limit) if key in _NUMBERS_BY_NAME else _without(result, key)
    return encode(result)


def clean_numbers(value: Dict[str, Any]) -> Dict[str, Any]:
    """A copy without NaN and infinities, which JSON doesn't have: left out of metrics, null elsewhere."""

    def clean(item: Any, drop: bool) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            cleaned = {key: clean(inner, key in _NUMBERS_BY_NAME) for key, inner in item.items()}
            return {key: inner for key, inner in cleaned.items() if inner is not None or not drop}
        return [clean(inner, drop) for inner in item] if isinstance(item, list) else item

    cleaned = clean(value, False)
    assert isinstance(cleaned, dict)  # noqa: S101 - a dict was given
    return cleaned


def _describe_run(settings: Settings, progress: Dict[str, Any]) -> Dict[str, Any]:
    result: Dict[str, Any] = {
        "contractVersion": codes.CONTRACT_VERSION,
        "stage": "train",
        "attempt": settings.attempt,
        "node": settings.node,
        "step": progress.get("step", 0),
        "processRestarts": progress.get("processRestarts", 0),
    }
    for key in ("maxSteps", "resumedFrom", "lastCheckpoint", "bestCheckpoint", "seconds"):
        if key in progress:
            result[key] = progress[key]
    result["metrics"] = dict(progress.get("metrics", {}))
    if settings.node == 0:  # the others don't know of the checkpoints
        saved = max(progress.get("resumedFrom") or 0, _own_checkpoint_step(settings, progress))
        result["lostSteps"] = max(0, result["step"] - saved)
    return result


def _own_checkpoint_step(settings: Settings, progress: Dict[str, Any]) -> int:
    """Only what this attempt saved counts: earlier steps are in resumedFrom, if it went on from them."""
    last = progress.get("lastCheckpoint") or {}
    own = str(last.get("path", "")).startswith(layout.attempt_dir(settings.run_dir, settings.attempt) + "/")
    return int(last["step"]) if own else 0


def _accept(result: Dict[str, Any], given: Dict[str, Any], redact: Redactor) -> Decision:
    fixed = ("contractVersion", "stage", "attempt", "node", "processRestarts", "seconds")
    known = {key: value for key, value in given.items() if value is not None and key not in fixed}
    if "lostSteps" not in known and "lostSteps" in result:
        known["lostSteps"] = result["lostSteps"] if known["outcome"] == codes.FAILED else 0
    result = dict(result, **known)
    if result["outcome"] == codes.PREEMPTED:
        return result, codes.EXIT_STOPPED
    if result["outcome"] != codes.FAILED:
        return result, codes.EXIT_OK
    given_failure = given.get("failure")
    result["failure"] = failure.clean_failure(
        given_failure if isinstance(given_failure, dict) else {}, redact
    )
    code = result["failure"].get("exitCode")
    kept = code in (codes.EXIT_USER_ERROR, codes.EXIT_TEMPORARY)
    return result, code if kept else failure.EXIT_CRASHED


def _fail(result: Dict[str, Any], diagnosis: failure.Diagnosis) -> Decision:
    return dict(result, outcome=codes.FAILED, failure=diagnosis.failure), diagnosis.exit_code


def _late(settings: Settings) -> str:
    return (
        "the processes did not save within {:.0f} s of the request to stop: a longer termination grace period"
        " or more frequent checkpoints lose less".format(settings.stop_seconds)
    )


def _store(settings: Settings, run_path: Path, result: Dict[str, Any]) -> None:
    data = encode(clean_numbers(result))
    node_file = settings.storage / layout.attempt_dir(settings.run_dir, settings.attempt)
    targets: List[Path] = [node_file / "node-{}.json".format(settings.node)]
    if settings.node == 0 and not _is_superseded(run_path / layout.RESULT, settings.attempt):
        targets.append(run_path / layout.RESULT)
    for target in targets:
        try:
            write_atomically(target, data)
        except OSError as error:
            say(explain(error, "the result is not kept at {}".format(target)))


def _is_superseded(path: Path, attempt: int) -> bool:
    """A zombie of an earlier attempt must not overwrite its successor's result."""
    existing: Optional[Dict[str, Any]] = read_object(path)
    return existing is not None and isinstance(existing.get("attempt"), int) and existing["attempt"] > attempt


def _cut_excerpt(result: Dict[str, Any], excess: int) -> Dict[str, Any]:
    return _cut(result, "excerpt", excess, keep_end=True)


def _cut_message(result: Dict[str, Any], excess: int) -> Dict[str, Any]:
    return _cut(result, "message", excess, keep_end=False)


def _cut_warnings(result: Dict[str, Any], length: int) -> Dict[str, Any]:
    warnings = result.get("warnings")
    if not isinstance(warnings, list):
        return result
    return dict(result, warnings=[_cut_warning(w, length) for w in warnings if isinstance(w, dict)])


def _without(result: Dict[str, Any], key: str) -> Dict[str, Any]:
    return {name: value for name, value in result.items() if name != key}


def _cut_entries(result: Dict[str, Any], key: str, limit: int) -> Dict[str, Any]:
    """The first entries of an object, as many as fit; without the object where none does."""
    entries, shorter = result.get(key), _without(result, key)
    room = limit - len(encode(dict(shorter, **{key: {}})))
    kept: Dict[str, Any] = {}
    for name, value in entries.items() if isinstance(entries, dict) else ():
        room -= len(encode({name: value})) - 1  # without its brackets, with a comma
        if room < 0:
            break
        kept[name] = value
    return dict(shorter, **{key: kept}) if kept else shorter


def _cut_warning(warning: Dict[str, Any], length: int) -> Dict[str, Any]:
    text = str(warning.get("message") or "")
    if len(text) <= length:
        return warning
    return dict(warning, message=text[: length - 1] + "…" if length else "")


def _cut(result: Dict[str, Any], key: str, excess: int, keep_end: bool) -> Dict[str, Any]:
    report = result.get("failure")
    text = report.get(key) if isinstance(report, dict) else None
    if not text:
        return result
    allowed = len(encode({"": text})) - excess - 8  # in bytes as JSON has them, escapes included
    while text and len(encode({"": text})) > allowed:
        text = text[1 + len(text) // 16 :] if keep_end else text[: -1 - len(text) // 16]
    shorter = "" if not text else ("…" + text if keep_end else text + "…")
    return dict(result, failure=dict(result["failure"], **{key: shorter}))
