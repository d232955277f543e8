"""Loads the demo's model in plain transformers, in a pod beside it, and classifies what the reader types."""

from __future__ import annotations

import json
from collections.abc import Sequence

from examples.demo.shell import DemoError, Kubectl

POD = "predict"
# Nothing of Modelyard's is imported: the folder is a Hugging Face one.
SCRIPT = """
import json, sys
from transformers import pipeline
classify = pipeline("text-classification", model=sys.argv[1])
texts = json.loads(sys.argv[2])
for text, found in zip(texts, classify(texts)):
    print(f"{found['label']:10} {found['score']:.2f}  {text}")
"""


def _pod(image: str, claim: str, folder: str, texts: Sequence[str]) -> dict[str, object]:
    container = {
        "name": "predict", "image": image, "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SCRIPT, f"/storage/{folder}", json.dumps(list(texts))],
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "HOME", "value": "/tmp"},  # noqa: S108
                {"name": "OMP_NUM_THREADS", "value": "1"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                            "readOnlyRootFilesystem": True},
        "resources": {"limits": {"cpu": "1", "memory": "2Gi"},
                      "requests": {"cpu": "100m", "memory": "512Mi"}},
        "volumeMounts": [{"name": "storage", "mountPath": "/storage", "readOnly": True},
                         {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "activeDeadlineSeconds": 300,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": claim}},
                    {"name": "tmp", "emptyDir": {}}],
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec}


def predict(kube: Kubectl, job: str, image: str, texts: Sequence[str]) -> str:
    """One line per text: label, score, text. Raises DemoError where the job has no model yet."""
    found = kube.get("trainingjob", job)
    uri = str(((found or {}).get("status") or {}).get("model", {}).get("uri", ""))
    if not uri:
        raise DemoError(f"the TrainingJob {job} has no model yet; run `make demo` first")
    claim, _, folder = uri.removeprefix("pvc://").partition("/")
    kube("delete", "pod", POD, "--ignore-not-found", "--grace-period=0", "--force")
    kube.apply(_pod(image, claim, folder, texts))
    try:
        kube("wait", f"pod/{POD}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
        return kube("logs", POD)
    except DemoError as error:
        raise DemoError(f"{error}\n{kube('logs', POD, '--tail=20')}") from error
    finally:
        kube("delete", "pod", POD, "--ignore-not-found", "--grace-period=0", "--force")
