"""What holds for all tests: one thread for each process that computes, since several run at once; in CI, hypothesis
repeats the same examples, elsewhere it looks for new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
