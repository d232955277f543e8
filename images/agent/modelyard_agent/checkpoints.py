"""Verified checkpoints: the manifest written last, the list of those that exist, and what may be deleted.

A checkpoint without a valid manifest does not exist. Order is (attempt, step): an attempt begins where the
newest verified checkpoint of the earlier ones was, so what a later attempt wrote is newer whatever its step.
Used by the agent and, for resuming, by the trainer. Manifests guard against corruption, not against attackers
(see hashing).
"""

import contextlib
import errno
import math
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from modelyard.contract import codes, layout

from modelyard_agent import hashing, parts
from modelyard_agent.files import encode_exactly, explain, read_object, say, write_atomically
from modelyard_agent.hashing import CheckpointError

_ATTEMPT = re.compile(r"a([0-9]+)")
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
# What NFS and FUSE make of a deleted file that somebody still has open: it goes with the last who has.
_DELETED = re.compile(r"\.(nfs|fuse_hidden)[0-9a-fA-F]{8,}")


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


def write_manifest(folder: Path, info: Dict[str, Any], share: Optional[parts.Share] = None) -> Dict[str, Any]:
    """Hash and sync every file of a checkpoint, then write its manifest. Returns the manifest.

    With a share of several nodes this is node 0, which takes in what the others hash. Raises CheckpointError if
    there is nothing to verify or something that can't be, a file changes, comes or goes meanwhile, or a node's part is
    missing; and OSError.
    """
    names = _file_names(folder)
    if not names:
        raise CheckpointError("{} holds no files".format(folder))
    threads = hashing.count_threads()
    own = parts.choose_own(names, share)
    before = hashing.sign(folder, own)
    files = hashing.describe_files(folder, own, threads)
    if share is not None:
        files += parts.collect(folder, share)
        described = {entry["path"] for entry in files}
        # What looks like another rank's file but is none that a node knows.
        files += hashing.describe_files(folder, [n for n in names if n not in described], threads)
    files.sort(key=lambda entry: str(entry["path"]))
    # Once more, now that others may have been waited for: the step may be being saved again meanwhile.
    if hashing.sign(folder, own) != before or _file_names(folder) != names:
        raise CheckpointError("files of {} changed while it was being verified".format(folder))
    if [entry["path"] for entry in files] != names:
        raise CheckpointError("the nodes don't see the same files in {}".format(folder))
    _check_sizes(folder, files)
    manifest = dict(info, contractVersion=codes.CONTRACT_VERSION, time=time.time(), files=files)
    write_atomically(folder / layout.CHECKPOINT_MANIFEST, encode_exactly(manifest))
    if share is not None:
        parts.discard(folder, share)
    return manifest


def write_part(folder: Path, share: parts.Share) -> None:
    """Hash and sync what the ranks of this node, which isn't node 0, wrote of a checkpoint, and tell node 0.

    Raises CheckpointError, OSError.
    """
    parts.write_part(folder, _file_names(folder), share, hashing.count_threads())


def amend_manifest(folder: Path, info: Dict[str, Any]) -> Dict[str, Any]:
    """Add to the manifest of a checkpoint what became known after it was written. Returns the manifest.

    Raises CheckpointError if the checkpoint isn't verified, and OSError.
    """
    manifest = dict(verify(folder), **info)
    write_atomically(folder / layout.CHECKPOINT_MANIFEST, encode_exactly(manifest))
    return manifest


def verify(folder: Path) -> Dict[str, Any]:
    """The manifest of a checkpoint whose files are all there in full. Raises CheckpointError."""
    manifest = read_object(folder / layout.CHECKPOINT_MANIFEST) or {}
    if not manifest.get("files") or not isinstance(manifest.get("step"), int):
        raise CheckpointError("{} has no valid manifest".format(folder))
    try:
        hashing.list_pieces(manifest)
    except CheckpointError as error:
        raise CheckpointError("{} has no valid manifest: {}".format(folder, error)) from error
    _check_sizes(folder, manifest["files"])
    return manifest


def verify_bytes(checkpoint: Verified, threads: int, share: int = 0, shares: int = 1) -> None:
    """Compare every byte of a checkpoint, or of one of several even shares, with what its manifest says.

    Raises CheckpointError, and hashing.UnknownHashError.
    """
    pieces = parts.divide(hashing.list_pieces(checkpoint.manifest), share, shares)
    hashing.check_pieces(checkpoint.folder, pieces, threads)


def list_attempts(run_path: Path) -> List[int]:
    """The indices of a run's attempts that have begun, in no order."""
    names = (_ATTEMPT.fullmatch(name) for name, _ in _subfolders(run_path))
    return [int(name.group(1)) for name in names if name]


def list_verified(run_path: Path) -> List[Verified]:
    """All verified checkpoints of a run over its attempts, newest first. Torn ones are left out."""
    found = []
    for attempt, step, folder in sorted(_folders(run_path), reverse=True):
        with contextlib.suppress(CheckpointError):
            found.append(Verified(folder, attempt, step, verify(folder)))
    return found


def walk_back(run_path: Path) -> Iterator[Verified]:
    """The checkpoints to go on from, newest first, their bytes still to be compared. Torn ones are passed."""
    for attempt, step, folder in sorted(_folders(run_path), reverse=True):
        try:
            yield Verified(folder, attempt, step, verify(folder))
        except CheckpointError as error:
            say("passing over a torn checkpoint: {}".format(error))


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
    for tries_left in (3, 2, 1, 0):
        errors = _clear(folder)
        if not folder.exists():
            return
        # A node that still hashes it may leave its part meanwhile.
        if tries_left and (not errors or errors[0].errno in (errno.ENOENT, errno.ENOTEMPTY)):
            continue
        # Files that somebody still has open, as who hashes them has, NFS only renames: they go by themselves.
        if errors and _file_names(folder):
            raise errors[0]
        return


def _clear(folder: Path) -> List[OSError]:
    """Delete all of a folder that can be deleted. Returns what stood against the rest."""
    errors: List[BaseException] = []
    shutil.rmtree(str(folder), onerror=lambda _function, _path, info: errors.append(info[1]))
    return [error for error in errors if isinstance(error, OSError)]


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
    for parent, folders, files in os.walk(str(folder), onerror=failed):
        relative = Path(parent).relative_to(folder)
        for link in (Path(parent) / name for name in folders):
            if link.is_symlink():  # what lies behind would not be verified
                raise CheckpointError(
                    "{} is a link to a folder: a checkpoint needs the folder itself".format(link)
                )
        names += [(relative / name).as_posix() for name in files if not _is_passing(name)]
    return sorted(name for name in names if name != layout.CHECKPOINT_MANIFEST)


def _is_passing(name: str) -> bool:
    """True of a file that is none of the checkpoint's: ours, or deleted."""
    ours = name.startswith(".{}.".format(layout.CHECKPOINT_MANIFEST)) or parts.is_part(name)
    return ours or bool(_DELETED.fullmatch(name))


def _check_sizes(folder: Path, files: List[Dict[str, Any]]) -> None:
    for entry in files:
        try:
            size = (folder / entry["path"]).stat().st_size
        except OSError as error:
            raise CheckpointError("{} of {}: {}".format(entry["path"], folder, error.strerror)) from error
        if size != entry["size"]:
            text = "{} has {} bytes instead of {}"
            raise CheckpointError(text.format(folder / entry["path"], size, entry["size"]))
