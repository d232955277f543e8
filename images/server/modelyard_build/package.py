"""The package's folder: who may write to it, what it holds, and whether it is whole.

    package.json                the BuildResult, written last: without it there is no package
    <method>-<digest>/          a variant that is not the model itself, with the sizes and hashes of its files
    <method>-<digest>.json      its answers, by which a server knows it again
    model-<digest>.json         the sizes of the model's own files, where it lies in our storage

Names have the beginning of the model's digest: a model that changed under its address leaves what was made of the old
one to those who still serve it.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard.contract.build import BuildResult
from modelyard.contract.layout import MODEL_REFERENCE, PACKAGE
from modelyard.contract.reading import read
from modelyard_models.failure import Failure
from modelyard_models.fetch import FILES, describe_files, verified
from modelyard_models.files import DIGEST_PREFIX, new_folder, read_json, walk_files, write_atomic, write_json

from modelyard_build.report import dump
from modelyard_build.settings import Settings

log = logging.getLogger("modelyard.build")
_DIGITS = 12
_DEATHS = 2  # of one, something else may have been the cause


class Package:
    """The package of a model with this digest."""

    def __init__(self, settings: Settings, digest: str) -> None:
        self.storage, self._folder, self._owner, self._digest = (
            settings.storage, settings.package, settings.owner, digest,
        )  # fmt: skip

    def _locate(self, method: str) -> Path:
        """Where a variant is, or will be."""
        return self._folder / f"{method}-{self._digest.removeprefix(DIGEST_PREFIX)[:_DIGITS]}"

    def _locate_list(self, name: str) -> Path:
        return self._locate(name).with_suffix(".json")

    def name(self, path: Path) -> str:
        """A path as the contract has it: below the storage root."""
        return path.relative_to(self.storage).as_posix()

    def make(self, method: str, fill: Callable[[Path], None]) -> Path:
        """A variant's folder: found whole, or made by `fill`, which is given an empty one. Raises what it raises."""
        target = self._locate(method)
        if verified(target):
            log.info("%s: found", target.name)
            return target
        with new_folder(target, self._owner) as temp:
            fill(temp)
            write_json(temp / FILES, {"files": describe_files(walk_files(temp), temp)})
        return target

    @contextmanager
    def counting_deaths(self, method: str) -> Iterator[None]:
        """Remembers that a variant is worked on. Raises Failure (HostOutOfMemory) where that has killed builds.

        Where the memory is too small, the kernel kills the whole container, and the next one would die of the same.
        """
        path = self._folder / f".{self._locate(method).name}.deaths"
        deaths = int(read_json(path) or 0)
        if deaths >= _DEATHS:
            raise Failure(
                "HostOutOfMemory",
                f"{deaths} builds were killed while it was made or measured, as happens where the memory is too small;"
                " raise server.resources.limits.memory",
            )
        write_json(path, deaths + 1)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def find_reference(self, method: str, folder: Path) -> Path:
        """Where a variant's answers are: those of a trained model are its own."""
        own = folder / MODEL_REFERENCE
        return own if method == "none" and own.is_file() else self._locate_list(method)

    def measure_bytes(self, folder: Path) -> int:
        """Size of what a server loads."""
        telling = (FILES, MODEL_REFERENCE)
        return sum(p.stat().st_size for p in walk_files(folder) if p.name not in telling)

    def publish(self, result: BuildResult, model: Path) -> None:
        """Makes it a package. Variants without a folder in it are deleted, but for one that may be served yet."""
        before = read(BuildResult, read_json(self._folder / PACKAGE))
        served = before.chosen if before is not None and before.digest == self._digest else None
        listed = [
            {"path": p.relative_to(model).as_posix(), "bytes": p.stat().st_size}
            for p in walk_files(model)
            if p.name != FILES
        ]
        write_json(self._locate_list("model"), {"files": listed})
        write_atomic(self._folder / PACKAGE, dump(result))
        for variant in result.variants:
            if variant.folder is None and variant.name != served:
                shutil.rmtree(self._locate(variant.name), ignore_errors=True)
                self._locate_list(variant.name).unlink(missing_ok=True)

    def read(self, model: Path) -> BuildResult | None:
        """The result of an earlier build of the same model, if all that it tells of is there, by its size."""
        result = read(BuildResult, read_json(self._folder / PACKAGE))
        if result is None or result.digest != self._digest:
            return None
        if result.reference is not None and not (self.storage / result.reference).is_file():
            return None
        if not verified(model, self._locate_list("model")):
            return None
        made = [v for v in result.variants if v.folder and self.storage / v.folder != model]
        return result if all(verified(self.storage / str(v.folder)) for v in made) else None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes the folder ours for the time of the block: another build of the same package waits for its end.

    A killed process holds nothing. On storage without locks nobody waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another build of this package runs: waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("the storage has no locks (%s)", error.strerror)
        yield
