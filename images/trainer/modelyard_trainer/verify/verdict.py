"""What is said of a folder, whoever asks: a dictionary that becomes one line of JSON."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from modelyard_models.failure import describe, lacks_memory

from modelyard_trainer.verify.check import Unproven, check_folder

# What a storage that is out of reach says; anything else is the folder's fault.
_STORAGE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN)
_SAID = 400  # characters of an error


def judge(folder: Path) -> dict[str, object]:
    """`maxDifference` (nats) where the folder is the trained model.

    Else `problem` (it is not, with `trace` where it can't even be loaded), `storage` (it can't be read just now) or
    `unable` (this pod can't tell).
    """
    try:
        return {"maxDifference": check_folder(folder)}
    except Unproven as problem:
        return {"problem": str(problem)}
    except Exception as error:
        if lacks_memory(error):
            return {"unable": "there was too little memory to load it again"}
        if isinstance(error, OSError) and error.errno in _STORAGE:
            return {"storage": f"{error.strerror}: {error.filename}"}
        said = describe(error)[:_SAID]
        return {"problem": f"transformers can't load it: {said}", "trace": traceback.format_exc()}
