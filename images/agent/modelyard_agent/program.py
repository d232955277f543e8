"""Whether the user's program can be run at all: asked before torchrun is started, which would only say that it
can't after every restart.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Mapping, Optional, Sequence

_ELF = b"\x7fELF"
_OWN = Path("/proc/self/exe")


def find_fault(command: Sequence[str], environment: Mapping[str, str]) -> Optional[str]:
    """Why the command can't be run, in one sentence; None where it can, as far as its file tells."""
    name = command[0]
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    if found is None:
        path = Path(name)
        if "/" not in name:
            return "trainer.command: there is no program {!r} in the image's PATH".format(name)
        if path.is_dir():
            return "trainer.command: {} is a folder, not a program".format(name)
        if path.exists():
            return (
                "trainer.command: {} may not be executed; name its interpreter first, or chmod +x it".format(
                    name
                )
            )
        return "trainer.command: {} does not exist in the image or in a volume of the podTemplate".format(
            name
        )
    try:
        with Path(found).open("rb") as stream:
            head = stream.read(256)
    except OSError:
        return None  # executable, but not readable: that is allowed
    return _check_head(found, head)


def _check_head(path: str, head: bytes) -> Optional[str]:
    if head.startswith(b"#!"):
        # Only blanks separate: a carriage return is taken for a part of the name.
        line = head[2:].split(b"\n", 1)[0].strip(b" \t")
        interpreter = os.fsdecode(re.split(rb"[ \t]", line)[0])
        if not interpreter or not Path(interpreter).exists():
            end = " (its lines end as on Windows)" if line.endswith(b"\r") else ""
            return "trainer.command: the interpreter {!r} of {} does not exist in the image{}".format(
                interpreter, path, end
            )
        return None
    if head.startswith(_ELF):
        if _machine(head) != _own_machine():
            return "trainer.command: {} is made for another processor architecture than the node's".format(
                path
            )
        return None
    return "trainer.command: {} is neither a program nor a script that begins with #!; name its interpreter".format(
        path
    )


def _own_machine() -> bytes:
    with _OWN.open("rb") as stream:
        return _machine(stream.read(20))


def _machine(head: bytes) -> bytes:
    # e_machine, at the same place in files of 32 and 64 bits.
    return head[18:20]
