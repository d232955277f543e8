"""Reading through kubectl: its login, its contexts, its plugins; no client of our own."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from modelyard.cli.errors import CommandError, NotFoundError

TIMEOUT = 30


class Kubectl:
    """kubectl for one namespace. The program is $KUBECTL, else kubectl from the PATH."""

    def __init__(
        self, namespace: str | None = None, context: str | None = None, kubeconfig: str | None = None
    ) -> None:
        self._command = [os.environ.get("KUBECTL") or "kubectl"]
        for option, value in (
            ("--namespace", namespace),
            ("--context", context),
            ("--kubeconfig", kubeconfig),
        ):
            if value:
                self._command += [option, value]

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object. Raises NotFoundError, or CommandError with kubectl's own words."""
        command = [*self._command, "get", kind, name, "-o", "json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except FileNotFoundError:
            raise CommandError(
                f"{self._command[0]} is not installed; put it on the PATH or name it in $KUBECTL"
            ) from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"the cluster does not answer within {TIMEOUT} s") from None
        if done.returncode:
            message = done.stderr.strip() or f"kubectl ended with exit code {done.returncode}"
            raise (NotFoundError if "NotFound" in message else CommandError)(message)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise CommandError(f"kubectl printed no JSON: {done.stdout[:200]!r}") from None
        return found
