"""A user's own image and script: progress without a line of our code in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.harness import Kube, TrainingJob, condition
from tests.e2e.jobs import SMALL_POD

SCRIPT = Path(__file__).parent / "fixtures" / "plain_trainer.py"


def own_code(image: str, command: list[str], **env: str) -> dict[str, Any]:
    """A job that runs the user's command with a script from a ConfigMap."""
    return {
        "trainer": {
            "image": image, "command": command, "numNodes": 1, "numProcPerNode": 1, "resourcesPerNode": SMALL_POD,
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "podTemplate": {
                "spec": {
                    "volumes": [{"name": "script", "configMap": {"name": "plain-trainer"}}],
                    "containers": [{"name": "trainer", "volumeMounts": [{"name": "script", "mountPath": "/scripts"}]}],
                }
            },
        },
        "failurePolicy": {"maxRestarts": 0},
    }  # fmt: skip


def provide_script(kube: Kube) -> None:
    """Puts the script into the namespace."""
    data = {"train.py": SCRIPT.read_text()}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain-trainer"}, "data": data})


def test_a_plain_hugging_face_script_reports_steps_and_loss(kube: Kube, trainer_image: str) -> None:
    provide_script(kube)
    job = TrainingJob(
        kube, "own-image", own_code(trainer_image, ["python3", "/scripts/train.py"], STEPS="120")
    ).create()
    report = job.wait_step(10)
    assert report["maxSteps"] == 120
    assert report["metrics"]["loss"] > 0
    status = job.wait_succeeded(240)
    assert status["progress"]["maxSteps"] == 120
    assert status["progress"]["metrics"]["loss"] > 0
    job.delete()


def test_a_failing_script_ends_with_its_own_words(kube: Kube, trainer_image: str) -> None:
    provide_script(kube)
    code = "import os; raise ValueError('no such optimizer: ' + os.environ['API_TOKEN'])"
    job = TrainingJob(
        kube, "own-failure", own_code(trainer_image, ["python3", "-c", code], API_TOKEN="hunter2-secret")
    ).create()
    status = job.wait_stalled("UserCodeError", 120)
    failure = status["attempts"][-1]["failure"]
    assert "no such optimizer" in condition(status, "Stalled")["message"] + failure.get("excerpt", "")
    assert "hunter2-secret" not in str(status)
    job.delete()
