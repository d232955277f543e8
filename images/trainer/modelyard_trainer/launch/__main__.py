"""`python -m modelyard_trainer.launch` with torchrun's options."""

import sys

from modelyard_trainer.launch.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
