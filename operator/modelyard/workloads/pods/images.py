"""Why an image can't be pulled, in the runtime's own words, and what to change."""

from __future__ import annotations

import re

from modelyard.workloads.pods import podstate
from modelyard.workloads.problem import Problem

REASONS = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed",
})  # fmt: skip
# The first that matches says what it is. Names and passwords are what it is mostly, and what all else is taken for.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"no match for platform",
        "it is not made for the processor architecture of the pod's node. Build it for that one, or choose other"
        " nodes by nodeSelector.",
    ),
    (
        r"pull policy of Never",
        "imagePullPolicy is Never, and the image is not on the node. Load it there, or change the policy in the"
        " profile.",
    ),
    (
        r"no space left on device",
        "the disk of the pod's node is full. Have the node's images pruned or its disk enlarged.",
    ),
    (
        r"toomanyrequests|429 Too Many",
        "its registry takes no more requests from this cluster for now; it is tried again by itself. With"
        " imagePullSecrets of an account the limit is higher.",
    ),
    (r"x509: |failed to verify certificate", "the pod's node doesn't trust its registry's certificate."),
    (
        r"no such host|i/o timeout|connection refused|no route to host|TLS handshake timeout|server misbehaving",
        "the pod's node can't reach its registry. Check the host in the image's name, and the node's network and"
        " proxy.",
    ),
)
_ADVICE = "check its name, and imagePullSecrets if its registry asks for a password."


def explain(pod: str, image: str, message: str) -> Problem:
    """Of a container that waits for one of REASONS."""
    what = next((what for pattern, what in _CAUSES if re.search(pattern, message)), _ADVICE)
    return Problem(
        "ImagePullFailed",
        f"Pod {pod} can't pull image {image}: {what} {podstate.first_line(message)}".strip(),
        pod,
    )
