"""Failures that the user or the operator can act on."""

from __future__ import annotations

import difflib
import errno
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from modelyard.contract.codes import EXIT_TEMPORARY, EXIT_USER_ERROR
from modelyard.contract.report import FailureReport

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_MESSAGE_LIMIT = 1000  # characters: a condition's message holds 1,024


class Failure(Exception):  # noqa: N818 - the domain's word
    """Ends the process with a reason (PascalCase) and a message that says what to do.

    `temporary` failures may pass by themselves: the operator retries them.
    """

    def __init__(self, reason: str, message: str, *, temporary: bool = False) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
        self.temporary = temporary

    @property
    def exit_code(self) -> int:
        """Exit code of the contract: 75 for temporary failures, else 2."""
        return EXIT_TEMPORARY if self.temporary else EXIT_USER_ERROR

    def report(self, rank: int | None = None) -> FailureReport:
        """The failure as the contract has it."""
        return FailureReport(reason=self.reason, message=self.message, rank=rank, exit_code=self.exit_code)


def storage_failure(error: OSError, what: str) -> Failure:
    """The failure for an error of the file system while `what` (as "writing the dataset") was going on."""
    if error.errno in _NO_SPACE:
        return Failure(
            "StorageFull",
            f"no space left in the storage while {what}; enlarge the claim (spec.storage.claim.size) or delete what"
            " is no longer needed",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Failure(
            "StorageUnwritable",
            f"the storage refused access while {what} ({error.strerror}: {error.filename}); make the volume writable"
            " for the pod's user (fsGroup)",
        )
    return Failure(
        "StorageError", f"{error.strerror or error} ({error.filename}) while {what}", temporary=True
    )


def source_failure(error: OSError, where: str, subject: Literal["Source", "Model"] = "Source") -> Failure:
    """The failure for an error of the file system while bytes of a source, or a base model, were read.

    SourceForbidden, SourceNotFound, or SourceUnreachable (temporary); ModelForbidden and so on of a model. `where`
    names source and file.
    """
    why = error.strerror or str(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return Failure(
            f"{subject}Forbidden",
            f"{where}: can't be read by the pod's user ({why}); make it readable (chmod a+r, or fsGroup)",
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Failure(f"{subject}NotFound", f"{where}: is gone while it is read ({why}); put it back")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return Failure(f"{subject}NotFound", f"{where}: is no file's name there ({why}); correct the uri")
    return Failure(
        f"{subject}Unreachable",
        f"{where}: could not be read ({why}); check the volume that it lies on",
        temporary=True,
    )


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, or None if nothing is near."""
    by_lower = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def shorten(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: at most `limit` of them, quoted."""
    listed = [repr(n) for n in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more if listed else "nothing"


@contextmanager
def boundary(reason: str, what: str, advice: str) -> Iterator[None]:
    """Turns whatever a library raises while `what` is done into a Failure: "<what>: <its words>; <advice>".

    Failures pass, and so do errors of memory and of the file system, which have translations of their own.
    """
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        if lacks_memory(error) or lacks_device_memory(error):
            raise
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise Failure(reason, f"{what}: {describe(error)}; {advice}") from error


def lacks_memory(error: BaseException) -> bool:
    """Whether the process found no memory of the host. torch has no type of its own for that."""
    return isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def lacks_device_memory(error: BaseException) -> bool:
    """Whether torch found no memory on an accelerator, which others may have at the moment."""
    return type(error).__name__ == "OutOfMemoryError"  # torch is for those to import who compute


def describe(error: BaseException) -> str:
    """An exception in one line: its own first words, with its type where it would say too little alone."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    package = error.name.partition(".")[0] if isinstance(error, ImportError) and error.name else ""
    if package and importlib.util.find_spec(package) is None:
        return f"the image has no package {package} ({text})"
    return f"{name}: {text}" if text else name
