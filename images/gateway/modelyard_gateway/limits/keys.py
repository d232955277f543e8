"""API keys: files of a mounted Secret. A file's name is the caller's, its content the key."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class Keys:
    """The keys that are valid. Nothing is let in while they can't be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: object = None
        self._digests: list[tuple[str, bytes]] = []
        self._trouble = ""  # that was told

    def refresh(self) -> None:
        """Reads the keys again if the Secret has changed. To be called every second or so."""
        try:
            now = self._look()
            self._trouble = ""
            if now == self._seen:
                return
            self._digests = self._read()
            self._seen = now
            log.info("%d API keys", len(self._digests))
        except OSError as error:
            # Those known stay valid: a Secret is replaced in one step, so that this is the disk's trouble.
            if self._trouble != str(error):
                self._trouble = str(error)
                log.warning("the API keys can't be read from %s: %s", self._folder, error.strerror)

    def find(self, secret: bytes | None) -> str | None:
        """The name of the caller who has this key. It takes as long for a wrong one, whichever it resembles."""
        digest = hashlib.sha256(secret or b"").digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found if secret else None

    def _look(self) -> object:
        """What changes with the files: Kubernetes turns a link to another folder."""
        link = self._folder / "..data"
        if link.is_symlink():
            return os.readlink(link)  # noqa: PTH115 - its text is what changes
        return sorted((file.name, file.stat().st_mtime_ns) for file in self._list())

    def _list(self) -> list[Path]:
        return sorted(
            file for file in self._folder.iterdir() if not file.name.startswith(".") and file.is_file()
        )

    def _read(self) -> list[tuple[str, bytes]]:
        keys = [(file.name, file.read_bytes().strip()) for file in self._list()]
        return [(name, hashlib.sha256(key).digest()) for name, key in keys if key]
