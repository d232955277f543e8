"""What was seen last, in a file: a container that starts anew goes on with it while the API server is away."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import orjson

from modelyard_gateway.balance.servers import Target

log = logging.getLogger(__name__)


class Memory:
    """The file. Nothing that is wrong with it keeps a gateway from serving."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> dict[str, Target] | None:
        """What was kept; None where there is nothing that can be used."""
        try:
            told = orjson.loads(self._file.read_bytes())
            return {
                name: Target(weight, concurrency, frozenset((host, port) for host, port in addresses), *words)
                for name, (weight, concurrency, addresses, *words) in told.items()
            }
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("what was seen last can't be used: %s", error)
            return None

    def store(self, targets: Mapping[str, Target]) -> None:
        """Replaces what is kept."""
        told = {
            name: (t.weight, t.concurrency, sorted(t.addresses), t.task, t.speaks)
            for name, t in targets.items()
        }
        new = self._file.with_name(self._file.name + ".new")
        try:
            new.write_bytes(orjson.dumps(told))
            new.replace(self._file)
        except OSError as error:
            log.warning("what is seen can't be kept: %s", error)
