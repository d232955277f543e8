"""Entry point of the zipapp and of `python3 -m modelyard_agent`."""

import sys

from modelyard_agent.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
