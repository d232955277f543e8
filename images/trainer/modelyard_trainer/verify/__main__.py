"""`python -m modelyard_trainer.verify FOLDER` prints one line of JSON: what `verify.verdict` says of the folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from modelyard_trainer.verify.verdict import judge


def main() -> int:
    """Exit code 0 where the folder is the trained model, 1 where it isn't."""
    parser = argparse.ArgumentParser(prog="modelyard_trainer.verify", description=__doc__)
    parser.add_argument("folder", type=Path)
    verdict = judge(parser.parse_args().folder)
    print(json.dumps(verdict))
    return 0 if "maxDifference" in verdict else 1


if __name__ == "__main__":
    sys.exit(main())
