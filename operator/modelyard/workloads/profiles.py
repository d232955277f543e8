"""The profiles that platform teams give."""

from __future__ import annotations

from modelyard.api.profile import Profile, Settings
from modelyard.workloads.problem import Refused


def find(name: str, settings: Settings) -> Profile:
    """The profile of that name. Raises Refused."""
    profile = settings.profiles.get(name)
    if profile is None:
        known = ", ".join(sorted(settings.profiles)) or "none"
        raise Refused(
            "ProfileNotFound",
            f"spec.profile {name!r} does not exist; known profiles: {known}. Profiles are values of the chart.",
        )
    return profile
