"""`python -m modelyard_trainer.train`, under torchrun."""

import sys

from modelyard_trainer.train.main import main

sys.exit(main())
