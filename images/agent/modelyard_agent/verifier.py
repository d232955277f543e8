"""Verifies checkpoints, or this node's parts of them, one after the other in a thread of its own; and rotates."""

import contextlib
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from modelyard.contract import layout

from modelyard_agent import checkpoints, parts
from modelyard_agent.files import explain, say
from modelyard_agent.hashing import CheckpointError
from modelyard_agent.progress import Progress
from modelyard_agent.succession import find_successor

PENDING = "pending"
VERIFIED = "verified"
FAILED = "failed"
HASHED = "hashed"  # this node's part is done; node 0 knows the checkpoint's state


class BadRequestError(Exception):
    """The training process asked for something that can't be done; the message says what to change."""


class Verifier:
    """The queue of checkpoints to verify, for one attempt of one run."""

    def __init__(
        self, storage: Path, run_dir: str, attempt: int, policy: checkpoints.Policy, progress: Progress
    ):
        self._storage = storage
        self._run_path = storage / run_dir
        self._own = Path(layout.attempt_dir(run_dir, attempt))
        self._attempt = attempt
        self._policy = policy
        self._progress = progress
        self._queue: "queue.Queue[Optional[Dict[str, Any]]]" = queue.Queue()
        self._changed = threading.Condition()
        self._answers: Dict[int, Dict[str, Any]] = {}
        self._open: Dict[int, int] = {}  # requests of a step that are still in the queue
        self._busy: Set[Path] = set()
        self._thread = threading.Thread(target=self._work, name="verifier", daemon=True)

    def start(self) -> None:
        """Look at what earlier attempts left, then serve requests."""
        self._thread.start()

    def request(self, body: Dict[str, Any]) -> None:
        """Queue a checkpoint: {"step", "path", "worldSize"?, "saveSeconds"?, "metric"?, "value"?, "share"?}.

        With a share (parts.Share) each node is asked for its part; without one this node verifies all of it.
        Raises BadRequestError.
        """
        step, path = body.get("step"), body.get("path")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise BadRequestError("step must be a number of at least 0")
        expected = self._own / "checkpoint-{}".format(step)
        if not isinstance(path, str) or Path(path) != expected:
            raise BadRequestError("path must be {}, below the storage root".format(expected.as_posix()))
        if body.get("attempt", self._attempt) != self._attempt:
            raise BadRequestError("this pod is of attempt {}".format(self._attempt))
        try:
            share = None if body.get("share") is None else parts.read_share(body["share"])
        except ValueError as error:
            raise BadRequestError(str(error)) from error
        with self._changed:
            self._open[step] = self._open.get(step, 0) + 1
            self._busy.add(self._storage / path)
        self._queue.put(dict(body, attempt=self._attempt, share=share))

    def amend(self, step: int, body: Dict[str, Any]) -> None:
        """Queue a value that became known after the checkpoint was asked for: {"metric", "value"}.

        Raises BadRequestError.
        """
        metric, value = body.get("metric"), body.get("value")
        if not isinstance(metric, str) or not checkpoints.is_finite_number(value):
            raise BadRequestError("metric must be a name, and value a finite number")
        path = self._own / "checkpoint-{}".format(step)
        with self._changed:
            if step not in self._open:
                raise BadRequestError("nobody asked to verify the checkpoint of step {}".format(step))
            self._open[step] += 1
        self._queue.put({"step": step, "path": path, "amends": {"metric": metric, "value": value}})

    def answer(self, step: int, wait_seconds: float) -> Optional[Dict[str, Any]]:
        """{"state": pending | verified | hashed | failed, "checkpoint"?, "message"?}, or None for an unknown step."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            while True:
                answer = {"state": PENDING} if self._open.get(step) else self._answers.get(step)
                left = deadline - time.monotonic()
                if answer is None or answer["state"] != PENDING or left <= 0:
                    return answer
                self._changed.wait(left)

    def finish(self, timeout_seconds: float) -> bool:
        """Let what is queued end. True if all has."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)  # hashing yields to training
        self._publish(checkpoints.list_verified(self._run_path))
        while True:
            body = self._queue.get()
            if body is None:
                return
            answer = self._amend(body) if "amends" in body else self._verify(body)
            self._settle(body["step"], self._storage / body["path"], answer)

    def _verify(self, body: Dict[str, Any]) -> Dict[str, Any]:
        folder, share = self._storage / body["path"], body["share"]
        keys = ("step", "attempt", "worldSize", "saveSeconds", "metric", "value")
        info = {key: body[key] for key in keys if body.get(key) is not None}
        if not checkpoints.is_finite_number(info.get("value", 0.0)):
            del info["value"]
        try:
            if share is not None and share.node > 0:
                checkpoints.write_part(folder, share)
                return {"state": HASHED}
            manifest = checkpoints.write_manifest(folder, info, share)
        except CheckpointError as error:
            return {"state": FAILED, "message": str(error)}
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # the last: no thread can be started
            text = explain(error, "verifying " + body["path"]) if isinstance(error, OSError) else str(error)
            return {"state": FAILED, "message": text}
        return self._describe(folder, body["step"], manifest)

    def _amend(self, body: Dict[str, Any]) -> Dict[str, Any]:
        folder = self._storage / body["path"]
        try:
            manifest = checkpoints.amend_manifest(folder, body["amends"])
        except (OSError, CheckpointError) as error:
            say("{} gets no value: {}".format(folder, error))
            return self._answers[body["step"]]  # what its verification said
        return self._describe(folder, body["step"], manifest)

    def _describe(self, folder: Path, step: int, manifest: Dict[str, Any]) -> Dict[str, Any]:
        checkpoint = checkpoints.Verified(folder, self._attempt, step, manifest)
        return {"state": VERIFIED, "checkpoint": checkpoint.describe(self._storage)}

    def _settle(self, step: int, folder: Path, answer: Dict[str, Any]) -> None:
        if answer["state"] == FAILED:
            say("checkpoint {} could not be verified: {}".format(step, answer["message"]))
        elif answer["state"] == VERIFIED:
            self._publish(checkpoints.list_verified(self._run_path))
        with self._changed:
            self._answers[step] = answer
            self._open[step] -= 1
            self._busy.discard(folder)
            busy = set(self._busy)
            self._changed.notify_all()
        # What this attempt would delete, the one that has followed it may be reading.
        if answer["state"] == VERIFIED and find_successor(self._run_path, self._attempt) is None:
            checkpoints.rotate(self._run_path, self._policy, busy)

    def _publish(self, verified: List[checkpoints.Verified]) -> None:
        best = checkpoints.rank_best(verified, self._policy)
        self._progress.set_checkpoints(
            verified[0].describe(self._storage) if verified else None,
            best[0].describe(self._storage) if best else None,
        )
