"""A manifest becomes a model."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from modelyard.api import yaml

from tests.e2e.harness import Kube, ModelDeployment, TrainingJob, condition, is_true
from tests.e2e.jobs import SMALL_POD, TINY_LLAMA, stories
from tests.e2e.serving import expose
from tests.e2e.setup import ROOT
from tests.e2e.storage import Reader

PREDICT = """
import sys
sys.path = [p for p in sys.path if "modelyard" not in p]
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForSequenceClassification.from_pretrained("model")
classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
import json
texts = ["I love this, what a wonderful day, thank you!", "This is horrible, I hate it, worst service ever."]
print(json.dumps([r["label"] for r in classify(texts)]))
"""


def test_sentiment_reaches_a_useful_f1_and_its_model_loads_in_plain_transformers(
    kube: Kube, inputs: None, read_run: Callable[[TrainingJob], Reader]
) -> None:
    manifest = yaml.load((ROOT / "examples/sentiment/trainingjob.yaml").read_text())
    job = TrainingJob(kube, "sentiment", manifest["spec"]).create()
    job.wait("training", lambda s: s.get("phase") == "Training" or is_true(s, "Stalled"), 180)
    status = job.wait_succeeded(600)
    trained, baseline = status["model"]["evaluation"], status["model"]["baseline"]
    assert trained["validation"]["eval_f1"] > baseline["validation"]["eval_f1"] + 0.15
    assert trained["test"]["eval_f1"] > 0.5
    assert condition(status, "GatePassed")["status"] == "True"
    assert status["progress"]["percent"] == 100
    assert status["data"]["rowsOut"] == sum(status["data"]["splits"].values())
    labels = json.loads(read_run(job).execute(PREDICT).strip().splitlines()[-1])
    assert labels == ["positive", "negative"]
    printed = kube.run("get", "tj", job.name)
    assert "Succeeded" in printed
    check_compression(kube, trained["validation"]["eval_accuracy"])
    job.delete()


def check_compression(kube: Kube, accuracy: float) -> None:
    """In 8 bits the trained model passes a gate that allows a little; one that allows nothing leaves that serving."""
    manifest = yaml.load((ROOT / "examples/sentiment/modeldeployment.yaml").read_text())
    allowed = 0.02
    changes = {
        "compression": {"method": "int8", "gate": {"metric": "accuracy", "maxDrop": allowed}},
        "scaling": {"scaler": "none"},
    }
    deployment = ModelDeployment(kube, "sentiment", {**manifest["spec"], **changes}).create()
    status = deployment.wait_ready(300)
    variants = {variant["name"]: variant for variant in status["compression"]["variants"]}
    assert variants["none"]["metrics"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert variants["int8"]["metrics"]["accuracy"] >= accuracy - allowed
    assert variants["int8"]["bytes"] < variants["none"]["bytes"] / 2
    assert status["compression"]["chosen"] == "int8"
    assert variants["int8"]["agreement"] < 1
    deployment.patch({"compression": {"gate": {"metric": None, "maxDrop": None, "minAgreement": 1.0}}})
    found = deployment.wait_reason("UpToDate", "CompressionGateFailed", 240)
    assert "agreement" in found["message"]
    status = deployment.status()
    assert is_true(status, "Ready")
    assert [revision["variant"] for revision in status["revisions"] if revision["state"] == "Serving"] == [
        "int8"
    ]
    assert expose(kube, deployment).classify("I love this, what a wonderful day, thank you!") == ["positive"]
    deployment.delete()


def test_a_causal_model_from_its_configuration_learns_with_zero_2(kube: Kube) -> None:
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "stories"},
            "data": {"stories.txt": stories()},
        }
    )
    spec = {
        "task": "text-generation",
        "model": {"config": TINY_LLAMA},
        "data": {"sources": [{"name": "stories", "uri": "configmap://stories/stories.txt"}]},
        "training": {
            "maxSteps": 60, "globalBatchSize": 16, "maxLength": 64, "learningRate": 3e-3,
            "lrSchedulerType": "cosine", "warmupSteps": 0.1, "evalSteps": 30, "args": {"eval_on_start": True},
        },
        "deepspeed": {"zeroStage": 2},
        "trainer": {"numNodes": 2, "resourcesPerNode": SMALL_POD},
        "gate": {"metric": "eval_loss", "max": 4.0},
    }  # fmt: skip
    job = TrainingJob(kube, "stories", spec).create()
    status = job.wait_succeeded(300)
    before, after = status["model"]["baseline"]["validation"], status["model"]["evaluation"]["validation"]
    assert after["eval_loss"] < before["eval_loss"] - 1.5
    assert after["eval_perplexity"] == pytest.approx(2.718281828 ** after["eval_loss"], rel=1e-3)
    job.delete()
