"""`python -m modelyard_build.variants PLAN DONE` makes a variant."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from modelyard_agent.resources import count_threads
from modelyard_models.failure import Failure, lacks_memory, storage_failure
from modelyard_models.files import write_atomic
from modelyard_server.settings import set_environment

from modelyard_build.child import end, leave_failure
from modelyard_build.variants import VARIANTS
from modelyard_build.variants.variant import Plan


def main() -> int:
    """Writes the variant, and DONE at the end, or a failure in its place."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    done = Path(sys.argv[2])
    try:
        plan = Plan.model_validate_json(Path(sys.argv[1]).read_bytes())
        set_environment(count_threads(1))
        VARIANTS[plan.method].make(plan)
    except Failure as failure:
        return leave_failure(failure, done)
    except Exception as error:
        if lacks_memory(error):
            return leave_failure(
                Failure("CompressionFailed", "the memory is too small; raise server.resources.limits.memory"),
                done,
            )
        if isinstance(error, OSError) and error.errno is not None:
            return leave_failure(storage_failure(error, "a variant was made"), done)
        raise
    write_atomic(done, "")
    return 0


if __name__ == "__main__":
    end(main)
