"""What others delete: made again from the same content, or told before it does harm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from modelyard.engine.plan import Rejection
from modelyard.engine.probe import ObjectProbe

from tests.builders import TrainingJobBuilder, make_settings
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import checkpoint, report, success, train, train_result

CLAIM = "PersistentVolumeClaim/sentiment-storage"
SERVICE = "Service/sentiment-train"


def end_claim(simulation: Simulation) -> Simulation:
    """`kubectl delete pvc`: the claim stays for as long as its pods."""
    claim = simulation.objects[CLAIM]
    claim["metadata"]["deletionTimestamp"] = simulation.time
    claim["spec"]["volumeName"] = "pv-7"
    simulation.settle()
    return simulation


def test_a_deleted_service_of_a_running_attempt_is_made_again_as_it_was() -> None:
    simulation = train()
    before = copy.deepcopy(simulation.objects[SERVICE]["spec"])
    simulation.remove(SERVICE)
    simulation.settle()
    assert simulation.objects[SERVICE]["spec"] == before
    assert simulation.writes[-1] == f"create {SERVICE}"
    assert simulation.condition("PodsReady") == ("True", "Running")


def test_what_is_there_is_never_written_again() -> None:
    simulation = train()
    writes = len(simulation.writes)
    simulation.settings = make_settings(resources={"limits": {"nvidia.com/gpu": 4}})
    simulation.job["metadata"]["labels"]["modelyard.dev/team"] = "other"
    simulation.advance(60).settle()
    assert len(simulation.writes) == writes
    assert not [c for c in simulation.plan.children if c.manifest["kind"] == "Service"]


def test_nothing_is_made_again_once_the_attempt_or_the_job_has_ended() -> None:
    simulation = train()
    simulation.remove(SERVICE)
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    simulation.settle()
    assert SERVICE not in simulation.objects


def test_a_claim_that_is_deleted_under_a_running_job_is_told_at_once_and_how_to_keep_its_volume() -> None:
    simulation = train()
    simulation.facts["train-1"] = report(30, lastCheckpoint=checkpoint(20))
    simulation.settle()
    end_claim(simulation)
    assert simulation.condition("Ready") == ("False", "StorageTerminating")
    assert simulation.condition("CheckpointSafe") == ("False", "StorageTerminating")
    assert simulation.condition("Progressing") == ("True", "Training"), "it goes on, so that it can be saved"
    assert simulation.condition("PodsReady") == ("True", "Running")
    assert "kubectl patch pv pv-7" in simulation.message()
    assert simulation.status["phase"] == "Training"
    assert simulation.events.count("StorageTerminating") == 1


def test_no_success_for_a_model_that_will_not_stay() -> None:
    simulation = end_claim(train())
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    assert simulation.condition("Succeeded") == ("False", "StorageTerminating")
    assert simulation.condition("Stalled") == ("True", "StorageTerminating")
    assert "model" not in simulation.status
    assert simulation.status["attempts"][-1]["cause"] == "Finished"
    assert simulation.status["phase"] == "Failed"


def test_no_success_where_the_claim_has_gone_before_the_end_was_seen() -> None:
    simulation = train()
    simulation.remove(CLAIM)
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    assert simulation.condition("Stalled") == ("True", "StorageLost")


def test_a_lost_volume_is_no_place_for_a_model() -> None:
    simulation = train()
    simulation.objects[CLAIM]["status"] = {"phase": "Lost"}
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    assert simulation.condition("Stalled") == ("True", "StorageLost")


@pytest.mark.parametrize("how", ["ending", "gone"])
def test_no_attempt_follows_on_storage_that_goes(how: str) -> None:
    simulation = train()
    simulation.facts["train-1"] = report(30, lastCheckpoint=checkpoint(20))
    simulation.settle()
    if how == "ending":
        end_claim(simulation)
    simulation.finish_attempt("sentiment-train-1", 1, "Failed", [train_result("failed", 30)] * 2)
    if how == "gone":
        simulation.remove(CLAIM)
    simulation.advance(60).settle()
    reason = "StorageTerminating" if how == "ending" else "StorageLost"
    assert simulation.condition("Stalled") == ("True", reason)
    assert "sentiment-train-2" not in simulation.jobs()
    assert how == "ending" or CLAIM not in simulation.objects, "no empty claim takes its place"


def test_a_suspended_job_whose_storage_is_gone_does_not_wait_for_ever() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    simulation.job["spec"]["suspend"] = True
    simulation.settle()
    assert simulation.condition("Suspended")[0] == "True"
    simulation.remove(CLAIM)
    simulation.settle()
    assert simulation.condition("Stalled") == ("True", "StorageLost")


def on_users_claim() -> Simulation:
    simulation = Simulation(TrainingJobBuilder().spec("storage", {"uri": "pvc://mine/models"})).prepare()
    simulation.run("sentiment-train-1", 1).settle()
    assert CLAIM not in simulation.objects
    assert not [p for p in simulation.plan.probes if isinstance(p, ObjectProbe)], "not asked before the end"
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()])
    return simulation


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        ({"found": True, "ending": False}, ("True", "Succeeded")),
        ({"refused": True}, ("True", "Succeeded")),
        ({"found": True, "ending": True}, ("False", "StorageTerminating")),
        ({"found": False}, ("False", "StorageLost")),
    ],
)
def test_a_claim_of_the_users_is_read_once_before_the_job_succeeds(
    answer: dict[str, Any], ready: tuple[str, str]
) -> None:
    simulation = on_users_claim()
    assert simulation.status["phase"] == "Evaluating"
    (probe,) = simulation.plan.probes
    assert isinstance(probe, ObjectProbe)
    assert (probe.kind, probe.object) == ("PersistentVolumeClaim", "mine")
    simulation.facts[probe.name] = answer
    simulation.settle()
    assert simulation.condition("Ready") == ready
    assert simulation.plan.probes == ()
    assert ("model" in simulation.status) == (ready[0] == "True")


def test_an_operator_that_was_away_for_long_asks_all_the_same() -> None:
    simulation = on_users_claim()
    simulation.advance(7200).settle()
    assert simulation.status["phase"] == "Evaluating"
    assert len(simulation.plan.probes) == 1


def test_a_claim_that_goes_before_anything_was_kept_in_it_is_made_again() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    simulation.run("sentiment-prepare-1", 1).settle()
    end_claim(simulation)
    assert simulation.condition("Ready") == ("False", "StorageTerminating")
    simulation.put(simulation.pod("sentiment-prepare-1").ended(143)).end("sentiment-prepare-1", "Failed")
    simulation.step()
    simulation.remove(CLAIM)
    simulation.advance(30).settle()
    assert CLAIM in simulation.objects
    assert "sentiment-prepare-2" in simulation.jobs()


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        ("PersistentVolumeClaim", "StorageTerminating", "kubectl describe pvc sentiment-storage"),
        ("Job", "Terminating", "once it is gone"),
    ],
)
def test_what_an_earlier_job_of_that_name_leaves_is_named_while_it_goes(
    kind: str, reason: str, words: str
) -> None:
    simulation = Simulation(TrainingJobBuilder())
    child = next(c for c in simulation.decide().children if c.manifest["kind"] == kind)
    simulation.rejections = {child.id: Rejection("Terminating", f"{child.id} is still being deleted.")}
    simulation.settle()
    assert simulation.condition("Ready") == ("False", reason)
    assert simulation.condition("DataReady") == ("False", reason)
    assert words in simulation.message()
    simulation.rejections = {}
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "Progressing")
