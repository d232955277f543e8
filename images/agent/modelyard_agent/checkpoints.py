"""Verified checkpoints: the manifest written last, the list of those that exist, and what may be deleted.

A checkpoint without a valid manifest does not exist. Order is (attempt, step): an attempt begins where the
newest verified checkpoint of the earlier ones was, so what a later attempt wrote is newer whatever its step.
Used by the agent and, for resuming, by the trainer.
"""

import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from modelyard.contract import codes, layout

from modelyard_agent.files import encode, explain, read_object, say, sync_folder, write_atomically

_ATTEMPT = re.compile(r"a([0-9]+)")
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_CHUNK = 1 << 20


class CheckpointError(Exception):
    """A checkpoint is torn or can't be verified; the message says which file and why."""


@dataclass(frozen=True)
class Verified:
    """A checkpoint whose manifest is valid."""

    folder: Path
    attempt: int
    step: int
    manifest: Dict[str, Any]

    @property
    def order(self) -> Tuple[int, int]:
        """Newer checkpoints compare greater."""
        return (self.attempt, self.step)

    def describe(self, storage: Path) -> Dict[str, Any]:
        """As contract.report.Checkpoint; the path is below the storage root."""
        keys = ("worldSize", "saveSeconds", "metric", "value")
        known = {key: self.manifest[key] for key in keys if self.manifest.get(key) is not None}
        path = self.folder.relative_to(storage).as_posix()
        return dict(known, step=self.step, path=path, time=float(self.manifest.get("time") or 0.0))


@dataclass(frozen=True)
class Policy:
    """What to keep: the newest, and the best by a metric."""

    keep_last: int = 1
    keep_best: int = 0
    metric: Optional[str] = None
    lower_is_better: bool = True


def read_policy(run_config: Dict[str, Any]) -> Policy:
    """The policy of a run config; without a gate the best is the one of the lowest value."""
    checkpoint = run_config.get("checkpoint") or {}
    gate = run_config.get("gate") or {}
    return Policy(
        keep_last=max(1, int(checkpoint.get("keepLast") or 1)),
        keep_best=max(0, int(checkpoint.get("keepBest") or 0)),
        metric=gate.get("metric"),
        lower_is_better=gate.get("min") is None,
    )


def write_manifest(folder: Path, info: Dict[str, Any]) -> Dict[str, Any]:
    """Hash and sync every file of a checkpoint, then write its manifest. Returns the manifest.

    Raises CheckpointError if there is nothing to verify or a file changes or vanishes meanwhile, and OSError.
    """
    names = _file_names(folder)
    if not names:
        raise CheckpointError("{} holds no files".format(folder))
    files = [_describe_file(folder, name) for name in names]
    if _file_names(folder) != names:
        raise CheckpointError("files of {} came or went while it was being verified".format(folder))
    manifest = dict(info, contractVersion=codes.CONTRACT_VERSION, time=time.time(), files=files)
    for inner in {folder} | {(folder / name).parent for name in names}:
        sync_folder(inner)
    write_atomically(folder / layout.CHECKPOINT_MANIFEST, encode(manifest))
    return manifest


def amend_manifest(folder: Path, info: Dict[str, Any]) -> Dict[str, Any]:
    """Add to the manifest of a checkpoint what became known after it was written. Returns the manifest.

    Raises CheckpointError if the checkpoint isn't verified, and OSError.
    """
    manifest = dict(verify(folder), **info)
    write_atomically(folder / layout.CHECKPOINT_MANIFEST, encode(manifest))
    return manifest


def verify(folder: Path, hashes: bool = False) -> Dict[str, Any]:
    """The manifest of a checkpoint whose files are all there in full; with `hashes`, every byte is compared.

    Raises CheckpointError.
    """
    manifest = read_object(folder / layout.CHECKPOINT_MANIFEST)
    files = (manifest or {}).get("files")
    if (
        manifest is None
        or not isinstance(files, list)
        or not files
        or not isinstance(manifest.get("step"), int)
    ):
        raise CheckpointError("{} has no valid manifest".format(folder))
    for entry in files:
        try:
            path = folder / entry["path"]
            size = path.stat().st_size
            if size != entry["size"]:
                raise CheckpointError("{} has {} bytes instead of {}".format(path, size, entry["size"]))
            if hashes and _hash(path) != entry["sha256"]:
                raise CheckpointError("{} does not hash to what was written".format(path))
        except OSError as error:
            raise CheckpointError("{} of {}: {}".format(entry["path"], folder, error.strerror)) from error
        except (KeyError, TypeError) as error:
            raise CheckpointError("{} has no valid manifest".format(folder)) from error
    return manifest


def list_attempts(run_path: Path) -> List[int]:
    """The indices of a run's attempts that have begun, in no order."""
    names = (_ATTEMPT.fullmatch(name) for name, _ in _subfolders(run_path))
    return [int(name.group(1)) for name in names if name]


def list_verified(run_path: Path, hashes: bool = False) -> List[Verified]:
    """All verified checkpoints of a run over its attempts, newest first. Torn ones are left out."""
    found = []
    for attempt, step, folder in _folders(run_path):
        try:
            found.append(Verified(folder, attempt, step, verify(folder, hashes)))
        except CheckpointError:
            continue
    return sorted(found, key=lambda checkpoint: checkpoint.order, reverse=True)


def newest_verified(run_path: Path, hashes: bool = True) -> Optional[Verified]:
    """The checkpoint to go on from: the newest whose every byte is as written. Torn ones are passed."""
    for attempt, step, folder in sorted(_folders(run_path), reverse=True):
        try:
            return Verified(folder, attempt, step, verify(folder, hashes))
        except CheckpointError as error:
            say("passing over a torn checkpoint: {}".format(error))
    return None


def rank_best(checkpoints: Iterable[Verified], policy: Policy) -> List[Verified]:
    """Checkpoints with a finite value of the policy's metric, best first; of equals the newer first."""

    def usable(checkpoint: Verified) -> bool:
        named = policy.metric is None or checkpoint.manifest.get("metric") == policy.metric
        return named and is_finite_number(checkpoint.manifest.get("value"))

    sign = 1.0 if policy.lower_is_better else -1.0
    newest_first = sorted(checkpoints, key=lambda checkpoint: checkpoint.order, reverse=True)
    return sorted(
        filter(usable, newest_first), key=lambda checkpoint: sign * float(checkpoint.manifest["value"])
    )


def rotate(run_path: Path, policy: Policy, busy: Iterable[Path] = ()) -> List[Path]:
    """Delete what the policy doesn't keep. Returns what was deleted.

    Torn folders go once a newer verified one exists; `busy` ones (being verified) stay. So does, whatever the
    policy, the last verified one.
    """
    verified = list_verified(run_path)
    if not verified:
        return []
    kept = verified[: policy.keep_last] + rank_best(verified, policy)[: policy.keep_best]
    spared = {checkpoint.folder for checkpoint in kept} | set(busy)
    deleted = []
    for attempt, step, folder in _folders(run_path):
        if folder in spared or (attempt, step) >= verified[0].order:
            continue
        try:
            remove(folder)
            deleted.append(folder)
        except OSError as error:
            say(explain(error, "could not delete the old checkpoint {}".format(folder)))
    return deleted


def remove(folder: Path) -> None:
    """Delete a checkpoint, manifest first: an interrupted deletion leaves a torn one, never a false one.

    Also to be called before a step is saved again in a folder that exists. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        (folder / layout.CHECKPOINT_MANIFEST).unlink()
    if folder.exists():
        shutil.rmtree(str(folder))


def is_finite_number(value: object) -> bool:
    """True of what can be ranked and written as JSON."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _folders(run_path: Path) -> List[Tuple[int, int, Path]]:
    found = []
    for attempt_name, attempt_path in _subfolders(run_path):
        attempt = _ATTEMPT.fullmatch(attempt_name)
        for name, folder in _subfolders(attempt_path) if attempt else ():
            step = _CHECKPOINT.fullmatch(name)
            if attempt and step:
                found.append((int(attempt.group(1)), int(step.group(1)), folder))
    return found


def _subfolders(path: Path) -> List[Tuple[str, Path]]:
    try:
        with os.scandir(str(path)) as entries:
            # A link could lead out of this run's folder; nothing of ours makes one.
            return [
                (entry.name, path / entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _file_names(folder: Path) -> List[str]:
    def failed(error: OSError) -> None:
        raise error

    names = []
    for parent, _, files in os.walk(str(folder), onerror=failed):
        relative = Path(parent).relative_to(folder)
        names += [(relative / name).as_posix() for name in files if not name.startswith(".manifest.json.")]
    return sorted(name for name in names if name != layout.CHECKPOINT_MANIFEST)


def _describe_file(folder: Path, name: str) -> Dict[str, Any]:
    path = folder / name
    try:
        before = path.stat()
        digest = _hash(path, sync=True)
        after = path.stat()
    except FileNotFoundError as error:
        raise CheckpointError("{} vanished while it was being verified".format(path)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CheckpointError("{} changed while it was being verified".format(path))
    return {"path": name, "size": after.st_size, "sha256": digest}


def _hash(path: Path, sync: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
        if sync:  # a manifest promises that the files survive the node
            os.fsync(stream.fileno())
    return digest.hexdigest()
