"""What holds for all tests: in CI, hypothesis repeats the same examples; elsewhere it looks for new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
