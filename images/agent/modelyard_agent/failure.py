"""Why the processes failed, in one report: reason, rank, exit code, exception, last output."""

import re
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from modelyard.contract import codes

from modelyard_agent.files import read_object
from modelyard_agent.supervisor import Ending

EXIT_CRASHED = 1  # user code failed; may be tried again, within the job's maxRestarts
EXCERPT_LINES = 30

_GPU_MEMORY = re.compile(
    r"(CUDA|HIP|XPU|NPU|HPU) out of memory|OutOfMemoryError: (CUDA|HIP|XPU)|_STATUS_ALLOC_FAILED"
)
_HOST_MEMORY = re.compile(r"MemoryError|DefaultCPUAllocator: (can't|not enough)|Cannot allocate memory")
_PEER = re.compile(
    r"RendezvousClosedError|Connection closed by peer|Connection reset by peer|Broken pipe.*gloo|"
    r"remote process exited|DistBackendError: NCCL error|Socket (closed|Timeout)"
)
_RENDEZVOUS = re.compile(
    r"Rendezvous(Connection|Timeout|State|GracefulExit)?Error|DistNetworkError|DistStoreError|TCPStore"
)
_NO_TORCH = re.compile(r"No module named '?torch\b")
_NEVER_RAN = (126, 127)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|Failure)(?::.*)?$"
)
_WORKER_FAILED = re.compile(r"\] failed \(exitcode: (-?\d+)\) local_rank: (\d+) \(pid: (\d+)\)")
_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank +: (?P<rank>\d+) .*?exitcode +: (?P<code>-?\d+)",
    re.DOTALL,
)
_LAUNCHER_LINE = re.compile(r"^[IWEF]\d{4} \S+ +\d+ +\S*torch/(distributed|multiprocessing)/")
_RANK_PREFIX = re.compile(r"^\[rank(\d+)\]:\s?")


class Diagnosis(NamedTuple):
    """A FailureReport as JSON, and the pod's exit code."""

    failure: Dict[str, Any]
    exit_code: int


class _Crash(NamedTuple):
    rank: Optional[int]
    code: int
    exception: Optional[str]
    lines: List[str]


def diagnose(ending: Ending, log_folder: Path, redact: Callable[[str], str]) -> Diagnosis:
    """Of a child that ended without a result. `log_folder` is torchrun's, with the error files of @record."""
    crash = _find_crash(ending, log_folder)
    reason, message, exit_code = _classify(crash, ending)
    failure: Dict[str, Any] = {"reason": reason, "message": redact(message), "exitCode": crash.code}
    if crash.rank is not None:
        failure["rank"] = crash.rank
    if crash.lines:
        failure["excerpt"] = redact("\n".join(crash.lines))
    return Diagnosis(failure, exit_code)


def report_fatal(fatal: Dict[str, Any], redact: Callable[[str], str]) -> Diagnosis:
    """Of an error that the process itself calls fatal, a FailureReport; exitCode 75 asks for a retry."""
    failure = clean_failure(fatal, redact)
    temporary = fatal.get("exitCode") == codes.EXIT_TEMPORARY
    return Diagnosis(failure, codes.EXIT_TEMPORARY if temporary else codes.EXIT_USER_ERROR)


def clean_failure(given: Dict[str, Any], redact: Callable[[str], str]) -> Dict[str, Any]:
    """A FailureReport of another process, with fields of the right types only and no secrets."""
    failure: Dict[str, Any] = {"reason": "UserCodeError", "message": ""}
    for key, kind in (("reason", str), ("message", str), ("excerpt", str), ("rank", int), ("exitCode", int)):
        if isinstance(given.get(key), kind):
            failure[key] = redact(given[key]) if kind is str else int(given[key])
    return failure


def _classify(crash: _Crash, ending: Ending) -> Tuple[str, str, int]:
    text = "\n".join(crash.lines)
    subject = "the process" if crash.rank is None else "rank {}".format(crash.rank)
    said = crash.exception or (crash.lines[-1] if crash.lines else "it printed nothing")
    if _GPU_MEMORY.search(text):
        advice = "lower perDeviceTrainBatchSize or maxLength, or raise deepspeed.zeroStage"
        return (
            "CUDAOutOfMemory",
            "{} ran out of GPU memory: {}. {}".format(subject, said, advice),
            codes.EXIT_USER_ERROR,
        )
    if (crash.code == -signal.SIGKILL and ending.oom_kills > 0) or _HOST_MEMORY.search(said):
        advice = "raise resourcesPerNode.limits.memory, or lower the batch size"
        return "HostOutOfMemory", "{} ran out of memory. {}".format(subject, advice), codes.EXIT_USER_ERROR
    if not ending.began and _RENDEZVOUS.search("\n".join([*crash.lines, *ending.tail[-EXCERPT_LINES:]])):
        return "RendezvousFailed", "the nodes did not find each other: {}".format(said), codes.EXIT_TEMPORARY
    if _PEER.search(said) or (crash.rank is None and _PEER.search(text)):
        message = "{} lost its connection to another pod's process, which failed first: {}".format(
            subject, said
        )
        return "PeerFailed", message, codes.EXIT_TEMPORARY
    if crash.code < 0:
        name = _signal_name(-crash.code)
        outside = -crash.code in (signal.SIGKILL, signal.SIGTERM)
        message = "{} was killed by {}".format(subject, name)
        return "ProcessKilled", message, codes.EXIT_TEMPORARY if outside else EXIT_CRASHED
    message = "{} ended with exit code {}: {}".format(subject, crash.code, said)
    if not ending.began and crash.rank is None and _NO_TORCH.search(text):
        advice = "torchrun starts the processes: install PyTorch in the image of spec.trainer.image"
        return "TorchNotFound", "{} has no PyTorch: {}".format("the image", advice), codes.EXIT_USER_ERROR
    if crash.code in _NEVER_RAN:
        # A shell's words for a program that it can't find or may not run.
        return "CommandNotFound", message, codes.EXIT_USER_ERROR
    kept = crash.code in (codes.EXIT_USER_ERROR, codes.EXIT_TEMPORARY)
    return "UserCodeError", message, crash.code if kept else EXIT_CRASHED


def _find_crash(ending: Ending, log_folder: Path) -> _Crash:
    lines = list(ending.tail)
    causes = list(_ROOT_CAUSE.finditer("\n".join(lines)))
    root = causes[-1] if causes else None
    rank = int(root.group("rank")) if root else None
    code = int(root.group("code")) if root else int(ending.code or 0)
    recorded = _read_error_file(log_folder)
    if recorded is not None:
        return _Crash(rank, code, recorded[0], recorded[1][-EXCERPT_LINES:])
    own = _worker_lines(lines, rank)
    exception = next((line for line in reversed(own) if _EXCEPTION.match(line)), None)
    return _Crash(rank, code, exception, own[-EXCERPT_LINES:])


def _worker_lines(lines: List[str], rank: Optional[int]) -> List[str]:
    """What the failing rank printed last; torch marks only tracebacks with [rank<n>]."""
    ends = [index for index, line in enumerate(lines) if _WORKER_FAILED.search(line)]
    before = lines[: ends[-1]] if ends else lines
    if len(ends) > 1:
        before = before[ends[-2] + 1 :] or before  # what an earlier start printed is another failure's
    before = [line for line in before if not _LAUNCHER_LINE.match(line)]
    marked = [line for line in before if rank is not None and line.startswith("[rank{}]:".format(rank))]
    return [_RANK_PREFIX.sub("", line) for line in (marked or before)]


def _read_error_file(log_folder: Path) -> Optional[Tuple[str, List[str]]]:
    """The first failure that torch's @record wrote down in the last start: (exception, its call stack)."""
    found = []
    for path in log_folder.glob("*/attempt_*/*/error.json"):
        content = (read_object(path) or {}).get("message")
        if not isinstance(content, dict):
            continue
        extra = content.get("extraInfo") or {}
        start = int(path.parent.parent.name.partition("_")[2] or 0)
        found.append((-start, str(extra.get("timestamp", "")), content, extra))
    if not found:
        return None
    _, _, content, extra = min(found, key=lambda item: item[:2])
    return str(content.get("message", "")), str(extra.get("py_callstack", "")).rstrip().splitlines()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal {}".format(number)
