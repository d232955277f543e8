"""What an API server can answer, as far as it changes what the engine does next."""

# ruff: noqa: N818 - they are named as the API server names its answers

from __future__ import annotations


class ClusterError(Exception):
    """A call did not do what it was for. Retried with backoff unless a subclass says otherwise."""


class Conflict(ClusterError):
    """Another manager owns a field, or a precondition (uid, resourceVersion) does not hold (409)."""


class AlreadyExists(Conflict):
    """The object to create is there already (409 with its own reason)."""


class NotFound(ClusterError):
    """The object, or the namespace it should go to, is not there (404)."""


class Ending(ClusterError):
    """The namespace is being deleted and takes nothing new."""


class Refused(ClusterError):
    """The server understood and said no (400, 403, 405, 413, 422), or a webhook of somebody else's that it must
    ask does not answer: repeating at once does not help.

    `reason` is PascalCase, fit for a condition; the message is the server's sentence.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Throttled(ClusterError):
    """The server asks to slow down (429). `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ClusterError):
    """No answer, or an error inside the server (5xx). The call may or may not have taken effect."""


class Expired(Unavailable):
    """A version or a continue token is too old (410): list anew."""


class NotLeader(ClusterError):
    """The Lease is not (any more) held, so nothing may be written."""
