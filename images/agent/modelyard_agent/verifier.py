"""Verifies checkpoints one after the other in a thread of its own, and rotates afterwards."""

import contextlib
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from modelyard.contract import layout

from modelyard_agent import checkpoints
from modelyard_agent.files import explain, say
from modelyard_agent.progress import Progress

PENDING = "pending"
VERIFIED = "verified"
FAILED = "failed"


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
        self._busy: Set[Path] = set()
        self._thread = threading.Thread(target=self._work, name="verifier", daemon=True)

    def start(self) -> None:
        """Look at what earlier attempts left, then serve requests."""
        self._thread.start()

    def request(self, body: Dict[str, Any]) -> None:
        """Queue a checkpoint: {"step", "path", "worldSize"?, "saveSeconds"?, "metric"?, "value"?}.

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
        with self._changed:
            self._answers[step] = {"state": PENDING}
            self._busy.add(self._storage / path)
        self._queue.put(dict(body, attempt=self._attempt))

    def answer(self, step: int, wait_seconds: float) -> Optional[Dict[str, Any]]:
        """{"state": pending | verified | failed, "checkpoint"?, "message"?}, or None for an unknown step."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            while True:
                answer = self._answers.get(step)
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
            self._settle(body["step"], self._storage / body["path"], self._verify(body))

    def _verify(self, body: Dict[str, Any]) -> Dict[str, Any]:
        folder = self._storage / body["path"]
        keys = ("step", "attempt", "worldSize", "saveSeconds", "metric", "value")
        info = {key: body[key] for key in keys if body.get(key) is not None}
        if not checkpoints.is_finite_number(info.get("value", 0.0)):
            del info["value"]
        try:
            manifest = checkpoints.write_manifest(folder, info)
        except checkpoints.CheckpointError as error:
            return {"state": FAILED, "message": str(error)}
        except (OSError, ValueError, TypeError) as error:
            text = explain(error, "verifying " + body["path"]) if isinstance(error, OSError) else str(error)
            return {"state": FAILED, "message": text}
        checkpoint = checkpoints.Verified(folder, body["attempt"], body["step"], manifest)
        return {"state": VERIFIED, "checkpoint": checkpoint.describe(self._storage)}

    def _settle(self, step: int, folder: Path, answer: Dict[str, Any]) -> None:
        if answer["state"] == FAILED:
            say("checkpoint {} could not be verified: {}".format(step, answer["message"]))
        else:
            self._publish(checkpoints.list_verified(self._run_path))
        with self._changed:
            self._answers[step] = answer
            self._busy.discard(folder)
            busy = set(self._busy)
            self._changed.notify_all()
        if answer["state"] == VERIFIED:
            checkpoints.rotate(self._run_path, self._policy, busy)

    def _publish(self, verified: List[checkpoints.Verified]) -> None:
        best = checkpoints.rank_best(verified, self._policy)
        self._progress.set_checkpoints(
            verified[0].describe(self._storage) if verified else None,
            best[0].describe(self._storage) if best else None,
        )
