"""`python -m modelyard_trainer.verify FOLDER` prints one line of JSON.

It has `maxDifference` where the folder is the trained model; else `problem` (it is not), `storage` (it can't be
read just now) or `unable` (this pod can't tell).
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from pathlib import Path

from modelyard_trainer.verify.check import Unproven, check_folder

# What a storage that is out of reach says; anything else is the folder's fault.
_STORAGE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN)


def main() -> int:
    """Exit code 0 where the folder is the trained model, 1 where it isn't."""
    parser = argparse.ArgumentParser(prog="modelyard_trainer.verify", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        verdict: dict[str, object] = {"maxDifference": check_folder(folder)}
    except Unproven as problem:
        verdict = {"problem": str(problem)}
    except MemoryError:
        verdict = {"unable": "there was too little memory to load it again"}
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        verdict = {"storage": f"{error.strerror}: {error.filename}"}
    print(json.dumps(verdict))
    return 0 if "maxDifference" in verdict else 1


if __name__ == "__main__":
    sys.exit(main())
