"""How the nodes of a run share the verification of one checkpoint.

Each node hashes what its own ranks wrote, while that is still in its memory, and leaves what it found as a small
hidden file in the checkpoint's folder; node 0 hashes the rest and takes the parts in. Parts carry the random name
of their save: those of an earlier try at the same step, of whatever process, are never taken for this one's.
"""

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from modelyard.contract import layout

from modelyard_agent import hashing
from modelyard_agent.files import encode_exactly, explain, read_object, say, write_atomically
from modelyard_agent.hashing import CheckpointError, Piece

SILENT_SECONDS = 60.0  # after which a node that still owes its part is given up
BEAT_SECONDS = 5.0
_LOOK_SECONDS = 0.1
# What DeepSpeed and the Trainer name after the rank that writes it.
_RANKED = re.compile(r"(?:^|/)(?:\w*zero_pp_rank|rng_state)_([0-9]+)(?=[_.][^/]*$)")
_SAVE = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True)
class Share:
    """A node's part in one save: its number among `nodes`, as torchrun counts, and its ranks."""

    save: str
    node: int
    nodes: int
    ranks: range

    def describe(self) -> Dict[str, Any]:
        """As read_share takes it."""
        return {
            "save": self.save,
            "node": self.node,
            "nodes": self.nodes,
            "firstRank": self.ranks.start,
            "ranks": len(self.ranks),
        }


def read_share(value: object) -> Share:
    """A share out of a request. Raises ValueError, saying what is wrong."""
    given = value if isinstance(value, dict) else {}
    save, numbers = given.get("save"), [given.get(k) for k in ("node", "nodes", "firstRank", "ranks")]
    if not isinstance(save, str) or not _SAVE.fullmatch(save):
        raise ValueError("share.save must be 16 to 64 hexadecimal digits")
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
        raise ValueError("share's node, nodes, firstRank and ranks must be numbers of at least 0")
    node, nodes, first, count = (int(number) for number in numbers if isinstance(number, int))
    if node >= nodes:
        raise ValueError("share.node must be below share.nodes")
    return Share(save, node, nodes, range(first, first + count))


def find_rank(name: str) -> Optional[int]:
    """The rank that wrote a file, where its name says so."""
    match = _RANKED.search(name)
    return int(match.group(1)) if match else None


def choose_own(names: Sequence[str], share: Optional[Share]) -> List[str]:
    """The files that this node hashes. Those of no rank are node 0's."""
    if share is None:
        return list(names)
    ranks = ((name, find_rank(name)) for name in names)
    return [name for name, rank in ranks if rank in share.ranks or (rank is None and share.node == 0)]


def divide(pieces: Sequence[Piece], share: int, shares: int) -> List[Piece]:
    """This share (from 0) of so many, even by bytes, of the pieces of a checkpoint.

    Where the world is as large as it was, each rank's share is about what it is going to load.
    """
    ranks = {piece.path: find_rank(piece.path) for piece in pieces}
    ranked = [(rank, piece) for piece in pieces for rank in [ranks[piece.path]] if rank is not None]
    others = [piece for piece in pieces if ranks[piece.path] is None]
    chosen = []
    for group in ([piece for _, piece in sorted(ranked, key=lambda pair: pair[0])], others):
        total = sum(piece.length for piece in group) or 1
        done = 0
        for piece in group:
            middle = 2 * done + piece.length
            if min(middle * shares // (2 * total), shares - 1) == share:
                chosen.append(piece)
            done += piece.length
    return chosen


def is_part(name: str) -> bool:
    """True of a part's file, also a half-written one: no file of the checkpoint."""
    return name.startswith((layout.CHECKPOINT_PART, "." + layout.CHECKPOINT_PART))


def write_part(folder: Path, names: Sequence[str], share: Share, threads: int) -> None:
    """Hash and sync this node's files, of those in the folder, and tell node 0; also that it failed.

    Raises CheckpointError, OSError.
    """
    with _beating(folder.parent, share.node):
        try:
            part = {"files": hashing.describe_files(folder, choose_own(names, share), threads)}
        except (CheckpointError, OSError) as error:
            text = explain(error, str(folder)) if isinstance(error, OSError) else str(error)
            with contextlib.suppress(OSError):
                _tell(folder, share, {"error": text})
            raise
        _tell(folder, share, part)


def collect(folder: Path, share: Share) -> List[Dict[str, Any]]:
    """The entries of all other nodes' files, once they are in. Raises CheckpointError, OSError.

    A node may take its time as long as it gives signs of life.
    """
    missing = set(range(1, share.nodes))
    heard = {node: (time.monotonic(), "") for node in missing}
    files: List[Dict[str, Any]] = []
    while True:
        # Listing opens the folder, for which NFS asks its server; that a name is absent it remembers for long.
        present = {path.name for path in folder.iterdir()}
        for node in sorted(missing):
            name = _name(share.save, node)
            part = read_object(folder / name) if name in present else None
            if part is not None:
                files += _read(part, node)
                missing.remove(node)
        if not missing:
            return files
        for node in missing:
            beat = _read_beat(folder.parent, node)
            if beat != heard[node][1]:
                heard[node] = (time.monotonic(), beat)
            elif time.monotonic() - heard[node][0] > SILENT_SECONDS:
                raise CheckpointError(
                    "node {} has not verified its part of {}, and gives no sign of life".format(node, folder)
                )
        time.sleep(_LOOK_SECONDS)


def discard(folder: Path, share: Share) -> None:
    """Remove the parts of a save that needs them no more."""
    for node in range(1, share.nodes):
        with contextlib.suppress(OSError):
            (folder / _name(share.save, node)).unlink()


def _name(save: str, node: int) -> str:
    return "{}{}-{}.json".format(layout.CHECKPOINT_PART, save, node)


def _tell(folder: Path, share: Share, part: Dict[str, Any]) -> None:
    if not folder.is_dir():  # or writing would make it anew
        raise CheckpointError("{} vanished while it was being verified".format(folder))
    write_atomically(folder / _name(share.save, share.node), encode_exactly(part))


def _read(part: Dict[str, Any], node: int) -> List[Dict[str, Any]]:
    if "error" in part:
        raise CheckpointError("node {} could not verify its part: {}".format(node, part["error"]))
    hashing.list_pieces(part)
    files: List[Dict[str, Any]] = part["files"]
    return files


@contextlib.contextmanager
def _beating(attempt: Path, node: int) -> Iterator[None]:
    """Gives signs of life while the block runs: hashing and syncing may take minutes without another."""
    path, ended = _beat_path(attempt, node), threading.Event()

    def beat() -> None:
        while True:
            try:
                path.write_text(str(time.time()))  # not synced: it has to be fresh, not durable
            except OSError as error:
                say(explain(error, "no sign of life can be left at {}".format(path)))
            if ended.wait(BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _read_beat(attempt: Path, node: int) -> str:
    try:
        return _beat_path(attempt, node).read_text()
    except (OSError, ValueError):
        return ""


def _beat_path(attempt: Path, node: int) -> Path:
    return attempt / ".node-{}".format(node)
