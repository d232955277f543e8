"""The progress protocol that unmodified Hugging Face images speak: transformers' KubeflowCallback.

It reads three environment variables and POSTs {"trainerStatus": {"progressPercentage", "lastUpdatedTime",
"estimatedRemainingSeconds", "metrics": [{"name", "value"}]}} with a bearer token, at most every 5 s, numbers
as text (transformers/integrations/integration_utils.py). Its estimate is wrong after a resume; ours is used.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Any, Dict

from modelyard_agent.files import write_atomically

ENV_URL = "KUBEFLOW_TRAINER_SERVER_URL"
ENV_CA = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
ENV_TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 - a name
PATH = "/kubeflow/status"
TOKEN_FILE = "kubeflow-token"  # noqa: S105 - a name


def make_token(runtime: Path) -> str:
    """A token for this pod's life, in the file that the callback reads. Raises OSError."""
    token = secrets.token_urlsafe(24)
    write_atomically(runtime / TOKEN_FILE, token.encode("ascii"))
    return token


def make_environment(runtime: Path, port: int) -> Dict[str, str]:
    """The three variables. The CA's is empty, which the callback takes for none: loopback needs no TLS."""
    return {
        ENV_URL: "http://127.0.0.1:{}{}".format(port, PATH),
        ENV_CA: "",
        ENV_TOKEN: str(runtime / TOKEN_FILE),
    }


def translate(body: Dict[str, Any]) -> Dict[str, Any]:
    """A report in our form."""
    status = body.get("trainerStatus")
    if not isinstance(status, dict):
        return {}
    values: Dict[str, float] = {}
    for metric in status.get("metrics") or ():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            values[str(metric["name"])] = float(metric["value"])
    report: Dict[str, Any] = {"state": "training"}
    for name, key in (("current_step", "step"), ("total_steps", "maxSteps")):
        if name in values:
            report[key] = values.pop(name)
    epochs = [values.pop(name) for name in ("epoch", "current_epoch") if name in values]
    if epochs:
        report["epoch"] = epochs[0]
    if "train_samples_per_second" in values:
        report["samplesPerSecond"] = values["train_samples_per_second"]
    if status.get("progressPercentage") == 100:  # sent once, at the end, without the step
        report["complete"] = True
    report["metrics"] = values
    return report
