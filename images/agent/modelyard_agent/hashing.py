"""Hashes of a checkpoint's files, in pieces: threads, and at a resume the nodes, share the work of a large file.

They are against corruption, not against attackers: who can write to the storage can write a manifest, too. So
they need not be cryptographic, and cost little more than reading the bytes: XXH3 of 128 bits, where the image has
the package xxhash, else SHA-256 of the standard library.
"""

import contextlib
import hashlib
import os
import stat
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from modelyard_agent import resources
from modelyard_agent.files import sync_folder

PIECE_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20  # stays in a core's own cache between reading and hashing
_MOST_THREADS = 4

ALGORITHMS: Dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256}
with contextlib.suppress(ImportError):
    from xxhash import xxh3_128

    ALGORITHMS["xxh3_128"] = xxh3_128
FASTEST = list(ALGORITHMS)[-1]


class CheckpointError(Exception):
    """A checkpoint is torn or can't be verified; the message says which file and why."""


class UnknownHashError(Exception):
    """A checkpoint may be whole, but this image lacks what its files were hashed with."""


@dataclass(frozen=True)
class Piece:
    """A range of a file, `path` below the checkpoint's folder, and what its bytes hash to (hex)."""

    path: str
    offset: int
    length: int
    algorithm: str
    digest: str


def count_threads(processes: int = 4) -> int:
    """Threads to hash with: a processor's share of so many processes. By default training keeps three of four."""
    return min(_MOST_THREADS, resources.count_threads(processes))


def sign(folder: Path, names: Sequence[str]) -> Dict[str, Tuple[int, int]]:
    """Size and time of change of files, to see whether they changed. Raises CheckpointError, OSError."""
    found = {}
    for name in names:
        path = folder / name
        try:
            status = path.stat()
        except FileNotFoundError as error:
            text = (
                "{} is a link to nothing" if path.is_symlink() else "{} vanished while it was being verified"
            )
            raise CheckpointError(text.format(path)) from error
        if not stat.S_ISREG(status.st_mode):  # reading a named pipe would never end
            raise CheckpointError("{} is no regular file, and can't be verified".format(path))
        found[name] = (status.st_size, status.st_mtime_ns)
    return found


def describe_files(folder: Path, names: Sequence[str], threads: int) -> List[Dict[str, Any]]:
    """Hash and sync files; their entries in a manifest: {"path", "size", "hash", "pieceBytes", "pieces"}.

    Raises CheckpointError if one changes or vanishes meanwhile, and OSError.
    """
    before = sign(folder, names)
    pieces = {name: [""] * len(range(0, size, PIECE_BYTES)) for name, (size, _) in before.items()}

    def sync() -> None:
        for name in names:
            with (folder / name).open("rb") as stream:  # a manifest promises that files survive the node
                os.fsync(stream.fileno())

    def hash_piece(name: str, index: int) -> None:
        pieces[name][index] = _hash(folder / name, index * PIECE_BYTES, PIECE_BYTES, FASTEST)

    tasks = [partial(hash_piece, name, index) for name in names for index in range(len(pieces[name]))]
    try:
        _run([sync, *tasks], threads + 1)  # one more: syncing waits for the disk, hashing for the processor
    except FileNotFoundError as error:
        raise CheckpointError("{} vanished while it was being verified".format(error.filename)) from error
    for inner in {folder} | {(folder / name).parent for name in names}:
        sync_folder(inner)
    for name, signature in sign(folder, names).items():
        if signature != before[name]:
            raise CheckpointError("{} changed while it was being verified".format(folder / name))
    return [
        {"path": name, "size": size, "hash": FASTEST, "pieceBytes": PIECE_BYTES, "pieces": pieces[name]}
        for name, (size, _) in before.items()
    ]


def list_pieces(described: Dict[str, Any]) -> List[Piece]:
    """All pieces of {"files": entries}: a manifest, or a node's part of one. Raises CheckpointError."""
    try:
        return [piece for entry in described["files"] for piece in _cut(entry)]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("no list of files and hashes") from error


def check_pieces(folder: Path, pieces: Sequence[Piece], threads: int) -> None:
    """Compare every byte of the pieces. Raises CheckpointError, UnknownHashError."""
    for piece in pieces:
        if piece.algorithm not in ALGORITHMS:
            raise UnknownHashError(
                "{} was hashed with {}, which this image can't compute (it has {})".format(
                    folder / piece.path, piece.algorithm, ", ".join(ALGORITHMS)
                )
            )

    def check(piece: Piece) -> None:
        try:
            digest = _hash(folder / piece.path, piece.offset, piece.length, piece.algorithm)
        except OSError as error:
            raise CheckpointError("{} of {}: {}".format(piece.path, folder, error.strerror)) from error
        if digest != piece.digest:
            raise CheckpointError("{} does not hash to what was written".format(folder / piece.path))

    _run([partial(check, piece) for piece in pieces], threads)


def _cut(entry: Dict[str, Any]) -> List[Piece]:
    path, size = entry["path"], entry["size"]
    if "sha256" in entry:  # earlier releases hashed files as a whole
        return [Piece(path, 0, size, "sha256", entry["sha256"])]
    step, digests = entry["pieceBytes"], entry["pieces"]
    if len(digests) != len(range(0, size, step)):
        raise ValueError("{} has {} hashes for {} bytes".format(path, len(digests), size))
    return [
        Piece(path, index * step, min(step, size - index * step), entry["hash"], digest)
        for index, digest in enumerate(digests)
    ]


def _hash(path: Path, offset: int, length: int, algorithm: str) -> str:
    digest = ALGORITHMS[algorithm]()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while length > 0:
            count = stream.readinto(buffer[: min(length, _BUFFER_BYTES)])
            if not count:  # the file has become shorter: no hash of what was there
                break
            digest.update(buffer[:count])
            length -= count
    return str(digest.hexdigest())


def _run(tasks: Sequence[Callable[[], None]], threads: int) -> None:
    """Run tasks in threads, begun in their order. The first error ends it, and is raised.

    Daemons: an executor's threads would hold the process up at its end until all is hashed, past a grace period.
    """
    left = iter(tasks)
    lock = threading.Lock()
    errors: List[BaseException] = []

    def work() -> None:
        while not errors:
            with lock:
                task = next(left, None)
            if task is None:
                return
            try:
                task()
            except BaseException as error:
                errors.append(error)

    workers = [
        threading.Thread(target=work, name="hashing", daemon=True) for _ in range(min(threads, len(tasks)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
