"""What a container runtime says of a container that it can't start, and whether doing it again can help."""

from __future__ import annotations

import re
from typing import Any

# Reasons of ended containers that never ran: containerd's and CRI-O's, and Docker's.
START_REASONS = frozenset({"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"})
# Of the image or the command, not of the node or the moment.
_HOPELESS = re.compile(
    r"executable file\b.*\bnot found|exec format error|no command specified"
    r"|(exec|stat|fork/exec)\b.*: (no such file or directory|permission denied|not a directory|is a directory)"
)
_CORE = re.compile(r"(exec: .*|exec /.*|fork/exec .*|executable file .*|no command specified.*)")
SENTENCE_LIMIT = 300


def is_start_failure(ended: dict[str, Any]) -> bool:
    """Whether a `terminated` state is of a container that never ran."""
    return ended.get("reason") in START_REASONS


def is_hopeless(sentence: str) -> bool:
    """Whether the same image and command can't be started on any node."""
    return _HOPELESS.search(sentence) is not None


def shorten(sentence: str) -> str:
    """The part of a runtime's nested sentence that tells something."""
    line = sentence.strip().split("\n", 1)[0].removesuffix(": unknown")
    core = _CORE.search(line)
    return (core[1] if core else line)[:SENTENCE_LIMIT]


def explain(pod: str, container: str, image: str, sentence: str) -> str:
    """What happened and what to change, for a condition's message."""
    place = f"Container {container} of pod {pod} can't be started from image {image}: {shorten(sentence)}."
    if "exec format error" in sentence:
        return f"{place} The image is made for another processor architecture than the node's."
    if is_hopeless(sentence):
        return (
            f"{place} The image lacks this program (Modelyard's own programs need python3 3.8 or later in it), or its"
            " user may not run it."
        )
    return place
