"""The child's output: passed on at once, its tail kept, a bounded copy in storage."""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Deque, List, Optional

from modelyard_agent.files import explain, say

TAIL_LINES = 600
LINE_LIMIT = 4000
RETRY_SECONDS = 60.0


class StoredLog:
    """A copy in storage, by a thread of its own: a slow, full or read-only store costs the training nothing.

    Bounded: at `limit` bytes the file becomes <name>.1, of which one is kept.
    """

    def __init__(self, path: Path, limit: int = 64 << 20):
        self._path = path
        self._limit = limit
        self._queue: "queue.Queue[Optional[bytes]]" = queue.Queue(maxsize=1024)
        self._dropped = 0
        self._retry_at = 0.0
        self._stream: Optional[IO[bytes]] = None
        self._thread = threading.Thread(target=self._work, name="stored-log", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped, and counted, while the store can't keep up."""
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            self._dropped += len(data)

    def close(self, timeout_seconds: float) -> None:
        """Write what is queued, for so long at most."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_seconds)
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while True:
            data = self._queue.get()
            if data is None:
                break
            self._append(data)
        self._close()

    def _append(self, data: bytes) -> None:
        if time.monotonic() < self._retry_at:
            self._dropped += len(data)
            return
        try:
            stream = self._open()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                stream.write("\n[{} bytes of log are missing here]\n".format(dropped).encode("ascii"))
            stream.write(data)
            stream.flush()
        except OSError as error:
            say(explain(error, "the log is not kept at {} for now; training goes on".format(self._path)))
            self._dropped += len(data)
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._close()

    def _open(self) -> IO[bytes]:
        if self._stream is not None and self._stream.tell() >= self._limit:
            self._close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        if self._stream is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("ab")
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


class Output:
    """Reads a pipe to its end: to our own standard output, to the tail, and to the stored log."""

    def __init__(self, pipe: IO[bytes], stored: Optional[StoredLog], echo_descriptor: int = 1):
        self._pipe = pipe
        self._stored = stored
        self._echo = echo_descriptor
        self._lock = threading.Lock()
        self._lines: Deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._thread = threading.Thread(target=self._work, name="output", daemon=True)
        self._thread.start()

    def tail(self) -> List[str]:
        """The last lines, the unfinished one included."""
        with self._lock:
            rest = self._rest.decode("utf-8", "replace")
            return list(self._lines) + ([rest] if rest else [])

    def close(self, timeout_seconds: float) -> None:
        """Read to the end, for so long at most: a process left behind may hold the pipe open."""
        self._thread.join(timeout_seconds)
        if self._stored is not None:
            self._stored.close(timeout_seconds)

    def _work(self) -> None:
        descriptor = self._pipe.fileno()
        while True:
            try:
                data = os.read(descriptor, 1 << 16)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(OSError):
                _write_all(self._echo, data)
            if self._stored is not None:
                self._stored.write(data)
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        with self._lock:
            parts = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
            self._rest = parts.pop()[-LINE_LIMIT:]
            for line in parts:
                if line.strip():
                    self._lines.append(line[:LINE_LIMIT].decode("utf-8", "replace"))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
