"""What is refused before anything exists: the reason, and the words that tell the user what to do."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.training.spec import arguments

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation


def job() -> TrainingJobBuilder:
    return TrainingJobBuilder()


def overlay(template: dict[str, Any]) -> TrainingJobBuilder:
    return job().spec("trainer.podTemplate", template)


def deepspeed(**config: Any) -> TrainingJobBuilder:
    return job().spec("deepspeed", {"config": config})


CASES: dict[str, tuple[TrainingJobBuilder, str, str]] = {
    "a field of the wrong type is named": (
        job().spec("training.maxSteps", "many"),
        "InvalidSpec",
        "spec.training.maxSteps",
    ),
    "an unknown field is named": (job().spec("trainer.numNode", 2), "InvalidSpec", "spec.trainer.numNode"),
    "a URI of the wrong scheme": (job().spec("model.uri", "pvc://UPPER/x"), "InvalidSpec", "lower case"),
    "a name too long for host names": (TrainingJobBuilder("a" * 41), "InvalidSpec", "40 characters"),
    "a name that no Service can have": (TrainingJobBuilder("1st"), "InvalidSpec", "begin with a letter"),
    "an unknown profile": (job().spec("profile", "gpu"), "ProfileNotFound", "known profiles: default"),
    "no data for the built-in trainer": (job().spec("data", None), "InvalidSpec", "spec.data must be set"),
    "a model without data for the user's command": (
        job().command("python").spec("model", {"uri": "pvc://a/b"}),
        "InvalidSpec",
        "all three left out",
    ),
    "a model with uri and config": (
        job().spec("model.config", {"model_type": "bert"}),
        "InvalidSpec",
        "exactly one of uri and config",
    ),
    "epochs and steps": (
        job().spec("training", {"maxSteps": 5, "numTrainEpochs": 1}),
        "InvalidSpec",
        "numTrainEpochs or maxSteps",
    ),
    "a gate with two bounds": (
        job().spec("gate", {"min": 1, "max": 2}),
        "InvalidSpec",
        "exactly one of max and min",
    ),
    "a gate without validation data": (
        job().gate(1).spec("data.split", {"validation": 0}),
        "InvalidSpec",
        "spec.data.split.validation",
    ),
    "no rows left to train on": (
        job().spec("data.split", {"validation": 0.5, "test": 0.5}),
        "InvalidSpec",
        "less than 1",
    ),
    "a variable of the contract's": (
        job().spec("trainer.env", [{"name": "MODELYARD_STAGE", "value": "x"}]),
        "InvalidSpec",
        "reserved",
    ),
    "a variable without a value": (
        job().spec("trainer.env", [{"name": "A"}]),
        "InvalidSpec",
        "exactly one of value",
    ),
    "an unknown optimizer": (
        job().spec("training.optim", "adamw_troch"),
        "InvalidSpec",
        "did you mean adamw_torch",
    ),
    "an unknown scheduler": (job().spec("training.lrSchedulerType", "cosin"), "InvalidSpec", "'cosine'"),
    "a misspelt argument": (
        job().argument("label_smoothing", 0.1),
        "UnknownArgument",
        "label_smoothing_factor",
    ),
    "a misspelt argument in camelCase": (
        job().argument("gradientCheckpoint", True),
        "UnknownArgument",
        "gradient_checkpointing",
    ),
    "a removed argument": (
        job().argument("evaluation_strategy", "steps"),
        "UnknownArgument",
        "spec.training.evalSteps",
    ),
    "a removed ratio": (job().argument("warmupRatio", 0.1), "UnknownArgument", "spec.training.warmupSteps"),
    "an argument that is a field": (
        job().argument("learning_rate", 1),
        "ReservedArgument",
        "spec.training.learningRate",
    ),
    "the operator's folder": (
        job().argument("output_dir", "/x"),
        "ReservedArgument",
        "where the operator looks",
    ),
    "the operator's DeepSpeed": (job().argument("deepspeed", {}), "ReservedArgument", "spec.deepspeed"),
    "fp16 on a CPU": (job().argument("fp16", True), "ReservedArgument", "bf16"),
    "a type of its own for evaluation": (
        job().argument("bf16_full_eval", True),
        "ReservedArgument",
        "spec.model.dtype",
    ),
    "an argument that evaluation ignores": (
        job().argument("eval_accumulation_steps", 4),
        "ReservedArgument",
        "keeps sums",
    ),
    "a loss that is a mean of the ranks' means": (
        job().argument("average_tokens_across_devices", False),
        "ReservedArgument",
        "whole batch",
    ),
    "an argument of the wrong type": (
        job().argument("max_grad_norm", "big"),
        "InvalidArgument",
        "must be float",
    ),
    "a boolean where a number belongs": (
        job().argument("max_grad_norm", True),
        "InvalidArgument",
        "must be float",
    ),
    "a value that is no choice": (
        job().argument("logging_strategy", "often"),
        "InvalidArgument",
        "no, steps, epoch",
    ),
    "an argument given twice": (
        job().argument("max_grad_norm", 1).argument("maxGradNorm", 1),
        "InvalidArgument",
        "twice",
    ),
    "a removed DeepSpeed block": (deepspeed(elasticity={}), "RemovedDeepSpeedBlock", "elasticity"),
    "compression": (
        deepspeed(compression_training={}),
        "RemovedDeepSpeedBlock",
        "compress the trained model",
    ),
    "Nebula": (deepspeed(nebula={}), "RemovedDeepSpeedBlock", "spec.checkpoint"),
    "sparse attention": (deepspeed(sparse_attention={}), "RemovedDeepSpeedBlock", "sparse_attention"),
    "mixture of quantisation": (
        deepspeed(quantize_training={}),
        "RemovedDeepSpeedBlock",
        "quantize_training",
    ),
    "MiCS": (
        deepspeed(zero_optimization={"mics_shard_size": 4}),
        "RemovedDeepSpeedBlock",
        "zero_hpz_partition_size",
    ),
    "a 1-bit optimizer": (deepspeed(optimizer={"type": "OneBitAdam"}), "RemovedDeepSpeedBlock", "AdamW"),
    "a batch size that contradicts": (
        deepspeed(train_batch_size=7).spec("training.globalBatchSize", 32),
        "InvalidSpec",
        "spec.training.globalBatchSize 32",
    ),
    "a stage and a configuration": (
        job().spec("deepspeed", {"zeroStage": 1, "config": {}}),
        "InvalidSpec",
        "zeroStage or config",
    ),
    "a batch that processes can't share": (
        job().nodes(3).spec("training.globalBatchSize", 32),
        "BatchSizeNotDivisible",
        "use 30 or 33",
    ),
    "a batch smaller than the processes": (
        job().nodes(3).spec("training.globalBatchSize", 2),
        "BatchSizeNotDivisible",
        "use 3.",
    ),
    "a pass that does not divide the share": (
        job().nodes(2).spec("training", {"globalBatchSize": 32, "perDeviceTrainBatchSize": 5}),
        "BatchSizeNotDivisible",
        "use 4 for perDeviceTrainBatchSize",
    ),
    "a host path": (
        overlay({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}),
        "UnsafePodTemplate",
        "hostPath",
    ),
    "a security context": (
        overlay({"spec": {"securityContext": {}}}),
        "UnsafePodTemplate",
        "securityContext",
    ),
    "the host's network": (
        overlay({"spec": {"hostNetwork": True}}),
        "UnsafePodTemplate",
        "hostNetwork can't be set",
    ),
    "a service account": (
        overlay({"spec": {"serviceAccountName": "x"}}),
        "UnsafePodTemplate",
        "serviceAccountName",
    ),
    "another container": (
        overlay({"spec": {"containers": [{"name": "trainer"}, {"name": "x"}]}}),
        "UnsafePodTemplate",
        "only container trainer",
    ),
    "a container's command": (
        overlay({"spec": {"containers": [{"name": "trainer", "command": ["sh"]}]}}),
        "UnsafePodTemplate",
        "command",
    ),
    "a mount over the agent": (
        overlay(
            {
                "spec": {
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/opt/modelyard"}]}],
                }
            }
        ),
        "UnsafePodTemplate",
        "reserved",
    ),
    "a label of ours": (
        overlay({"metadata": {"labels": {"modelyard.dev/trainingjob": "x"}}}),
        "UnsafePodTemplate",
        "reserved",
    ),
    "the storage mounted a second time": (
        overlay(
            {
                "spec": {
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "sentiment-storage"}}]
                }
            }
        ),
        "InvalidSpec",
        "a second time",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_is_refused_with_the_fix(name: str) -> None:
    builder, reason, words = CASES[name]
    simulation = Simulation(builder)
    simulation.settle()
    assert simulation.condition("Stalled") == ("True", reason), simulation.message()
    assert words in simulation.message()
    assert simulation.objects == {}
    assert simulation.events == [reason], "one event, not one a pass"


ACCEPTED: dict[str, TrainingJobBuilder] = {
    "arguments in snake_case and camelCase": (
        job().argument("label_smoothing_factor", 0.1).argument("evalOnStart", True)
    ),
    "a whole number where a float belongs": job().argument("max_grad_norm", 1),
    "a float that is whole where an integer belongs": job().argument("per_device_eval_batch_size", 8.0),
    "fp16 with a GPU": job().argument("fp16", True).limits(**{"nvidia.com/gpu": "1"}),
    "the schedulers that transformers lacks": job().spec("training.lrSchedulerType", "one_cycle"),
    "a DeepSpeed configuration of one's own": deepspeed(
        zero_optimization={"stage": 2}, train_batch_size="auto"
    ),
    "one's own program without data": job().command("python", "train.py"),
    "a Secret as a volume": overlay(
        {
            "spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
                "containers": [
                    {
                        "name": "trainer",
                        "volumeMounts": [{"name": "v", "mountPath": "/data/v", "readOnly": True}],
                    }
                ],
            }
        }
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_accepted(name: str) -> None:
    simulation = Simulation(ACCEPTED[name])
    simulation.settle()
    assert simulation.condition("Stalled")[0] == "absent", simulation.message()
    assert len(simulation.jobs()) == 1


def test_every_owned_or_removed_argument_is_spelt_as_transformers_does() -> None:
    assert set(arguments.OWNED) <= set(arguments.known_arguments())
    assert not set(arguments.REMOVED) & set(arguments.known_arguments())


def test_camel_case_leads_back_to_every_argument() -> None:
    from pydantic.alias_generators import to_camel

    for name in arguments.known_arguments():
        assert arguments.to_snake(to_camel(name)) == name
        assert arguments.to_snake(name) == name
