"""`python -m modelyard_trainer.prepare`."""

import sys

from modelyard_trainer.prepare.main import main

sys.exit(main())
