"""The three stages: prepare, train, collect. Each returns the pod's exit code."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from modelyard.contract import codes, layout

from modelyard_agent import checkpoints, kubeflow, launch, program, results
from modelyard_agent.files import explain, read_object, say
from modelyard_agent.logs import StoredLog
from modelyard_agent.meeting import MeetingError, wait_for_master
from modelyard_agent.progress import Progress
from modelyard_agent.redaction import make_redactor
from modelyard_agent.server import Server
from modelyard_agent.settings import Settings
from modelyard_agent.signals import StopSignal
from modelyard_agent.succession import Succession
from modelyard_agent.supervisor import Ending, Supervisor
from modelyard_agent.verifier import Verifier

VERIFY_SECONDS = 600.0
_UNTOLD = (
    "the pod was not told what to do: its annotation {} is empty, gone or cut. Have whatever changes pods here (a"
    " mutating webhook or policy, a controller) leave it as it is, then create the job anew"
).format(codes.RUN_CONFIG_ANNOTATION)

MakeTrainCommand = Callable[[Settings, Sequence[str]], List[str]]
MakePrepareCommand = Callable[[], List[str]]


@dataclass(frozen=True)
class Pod:
    """What a stage works with. The commands are parameters, so that tests can start something smaller."""

    settings: Settings
    stop: StopSignal
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    make_train_command: MakeTrainCommand = launch.make_train_command
    make_prepare_command: MakePrepareCommand = launch.make_prepare_command


def prepare(pod: Pod) -> int:
    """Run the prepare stage as a plain child."""
    settings = pod.settings
    _clear_runtime(settings)
    if not settings.run_config:
        return _refuse(settings, "RunConfigMissing", _UNTOLD)
    redact = make_redactor(pod.environment)
    progress = Progress(settings.attempt)
    try:
        server = Server(settings.port, progress, None, kubeflow.make_token(settings.runtime))
    except OSError as error:
        return _cannot_start(settings, "the agent could not start: {}".format(error))
    server.start()
    ending = _supervise(
        pod, progress, False, pod.make_prepare_command(), server.port, False, _stored_log(settings)
    )
    if isinstance(ending, str):
        return _refuse(settings, "CommandNotFound", ending)
    return _publish(settings, *results.decide_prepare(settings, ending, redact))


def train(pod: Pod, user_command: Sequence[str]) -> int:
    """Run torchrun on this node, with the built-in trainer or the user's command."""
    settings = pod.settings
    _clear_runtime(settings)
    if not settings.run_config:
        return _refuse(settings, "RunConfigMissing", _UNTOLD)
    redact = make_redactor(pod.environment)
    policy = checkpoints.read_policy(settings.run_config)
    progress = Progress(settings.attempt, reached=settings.reached_step, gate_metric=policy.metric)
    verifier = None
    if settings.run_dir:
        verifier = Verifier(settings.storage, settings.run_dir, settings.attempt, policy, progress)
    try:
        server = Server(settings.port, progress, verifier, kubeflow.make_token(settings.runtime))
    except OSError as error:
        return _cannot_start(settings, "the agent could not start: {}".format(error))
    server.start()
    if verifier is not None:
        verifier.start()
    _check_storage(settings)
    fault = program.find_fault(user_command, pod.environment) if user_command else None
    if fault is not None:
        return _refuse(settings, "CommandNotFound", fault)
    own = bool(user_command)
    try:
        # The built-in trainer's launcher waits for the port itself, after what it has to import meanwhile.
        met = wait_for_master(settings, pod.stop, listening=own)
    except MeetingError as error:
        return _publish(
            settings, *results.fail_early(settings, "RendezvousFailed", str(error), codes.EXIT_TEMPORARY)
        )
    ending: Union[Ending, str] = Ending(code=None, stopped=True)
    if met:
        command = pod.make_train_command(settings, user_command)
        ending = _supervise(pod, progress, not own, command, server.port, own, _stored_log(settings))
    if isinstance(ending, str):
        return _refuse(settings, "CommandNotFound", ending)
    if verifier is not None and not verifier.finish(
        settings.margin_seconds if ending.stopped else VERIFY_SECONDS
    ):
        say("a checkpoint could not be verified in time: it does not count")
    progress.finish(well=ending.code == 0 and not ending.stopped)
    return _publish(settings, *results.decide_train(settings, ending, own, progress.snapshot(), redact))


def collect(settings: Settings) -> int:
    """Bring the result of a finished attempt back from storage."""
    path = (settings.run_path or settings.storage) / layout.RESULT
    result = read_object(path)
    message = ""
    if result is None:
        message = "{} is absent or unreadable: the attempt left no result".format(path)
    elif _lacks_model(settings, result):
        message = (
            "the attempt's result is there, but its model is gone from the storage; it is exported again"
        )
    if result is None or message:
        decision = results.fail_early(settings, "NoResult", message, codes.EXIT_TEMPORARY)
        results.write_termination_message(settings.termination_path, decision[0])
        say(message)
        return decision[1]
    results.write_termination_message(settings.termination_path, result)
    return codes.EXIT_OK


def _lacks_model(settings: Settings, result: Dict[str, Any]) -> bool:
    model = result.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    return isinstance(path, str) and not (settings.storage / path).is_dir()


def _supervise(
    pod: Pod,
    progress: Progress,
    agrees: bool,
    command: Sequence[str],
    port: int,
    own_command: bool,
    stored: Optional[StoredLog],
) -> Union[Ending, str]:
    """How the child ended, or why it could not be started."""
    settings = pod.settings
    environment: Dict[str, str] = launch.make_environment(settings, port, pod.environment, own_command)
    succession = None
    if settings.stage == "train" and settings.run_path is not None:
        succession = Succession(settings.run_path, settings.attempt)
        succession.start()
    supervisor = Supervisor(settings.runtime, pod.stop, progress, agrees, settings.stop_seconds, succession)
    try:
        return supervisor.run(command, environment, stored)
    except OSError as error:
        return "{} could not be started: {}".format(command[0], error.strerror or error)


def _publish(settings: Settings, result: Dict[str, Any], exit_code: int) -> int:
    results.publish(settings, result, settings.margin_seconds / 2)
    report = result.get("failure") or {}
    detail = " ({}: {})".format(report.get("reason"), report.get("message")) if report else ""
    say("{} {}{}; exit code {}".format(settings.stage, result["outcome"], detail, exit_code))
    return exit_code


def _refuse(settings: Settings, reason: str, message: str) -> int:
    """What no repetition cures."""
    return _publish(settings, *results.fail_early(settings, reason, message, codes.EXIT_USER_ERROR))


def _cannot_start(settings: Settings, message: str) -> int:
    return _publish(settings, *results.fail_early(settings, "AgentFailed", message, codes.EXIT_TEMPORARY))


def _clear_runtime(settings: Settings) -> None:
    """A container that is started again finds what its predecessor left."""
    with contextlib.suppress(OSError):
        settings.runtime.mkdir(parents=True, exist_ok=True)
    for name in (codes.STOP_FILE, codes.RESULT_FILE, codes.FATAL_FILE):
        with contextlib.suppress(OSError):
            (settings.runtime / name).unlink()
    shutil.rmtree(str(settings.runtime / codes.RANKS_FOLDER), ignore_errors=True)


def _check_storage(settings: Settings) -> None:
    if settings.run_path is None:
        return
    try:
        (settings.storage / layout.attempt_dir(settings.run_dir, settings.attempt)).mkdir(
            parents=True, exist_ok=True
        )
    except OSError as error:
        say(explain(error, "nothing can be written below {}".format(settings.run_path)))


def _stored_log(settings: Settings) -> Optional[StoredLog]:
    if settings.run_path is None:
        return None
    name = (
        "a{}-node{}.log".format(settings.attempt, settings.node)
        if settings.stage == "train"
        else "prepare.log"
    )
    return StoredLog(settings.storage / layout.log_dir(settings.run_dir) / name)
