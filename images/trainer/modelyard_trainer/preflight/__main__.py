"""`python -m modelyard_trainer.preflight RUN_CONFIG MODEL_FOLDER ANSWER_FILE`."""

import sys

from modelyard_trainer.preflight.main import main

sys.exit(main())
