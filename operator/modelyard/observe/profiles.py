"""The profiles file: read at the start, and again when its content changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import ValidationError

from modelyard.api.profile import Settings

log = logging.getLogger(__name__)

# A mounted ConfigMap changes by a swapped link, at the kubelet's pace; content is compared, as times say
# nothing then.
LOOK_EVERY = 5.0


class ProfilesError(Exception):
    """The profiles file can't be used; the message says why and what to change."""


def parse_profiles(text: str, source: str) -> Settings:
    """Reads `{profiles: {default: {...}}}` from YAML. Raises ProfilesError."""
    try:
        return Settings.model_validate(yaml.load(text, Loader=_loader()))  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ProfilesError(f"{source} is not YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ProfilesError(f"{source}: {problems}") from error


class ProfilesFile:
    """The settings as the file has them now. A file that became unusable leaves those before in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = _read(path)
        self._complaint = ""
        self.settings = parse_profiles(self._text, str(path))

    def reload(self) -> bool:
        """Reads the file again. Returns whether the settings changed."""
        try:
            text = _read(self._path)
            settings = parse_profiles(text, str(self._path)) if text != self._text else self.settings
        except ProfilesError as error:
            if str(error) != self._complaint:  # it is looked at every few seconds
                self._complaint = str(error)
                log.error(
                    "profiles not reloaded, the former ones stay in force", extra={"detail": str(error)}
                )
            return False
        self._text, self._complaint = text, ""
        changed = settings != self.settings
        self.settings = settings
        return changed

    async def follow(self, changed: Callable[[], object], every: float = LOOK_EVERY) -> None:
        """Calls back after each change, until cancelled."""
        while True:
            await asyncio.sleep(every)
            if self.reload():
                log.info("profiles reloaded", extra={"profiles": ", ".join(sorted(self.settings.profiles))})
                changed()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfilesError(
            f"can't read the profiles file {path}: {error.strerror}. Pass --profiles FILE."
        ) from error


def _loader() -> type[yaml.SafeLoader]:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
