"""What ends a command before it has done its work."""

from __future__ import annotations


class CommandError(Exception):
    """The message is for the user: what is wrong and what to do."""


class NotFoundError(CommandError):
    """There is no object of that kind and name."""
