"""What `modelyard status` and `modelyard watch` show of a ModelDeployment, and when watching ends."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from modelyard.cli import watch
from modelyard.cli.errors import CommandError, NotFoundError
from modelyard.cli.modeldeployment.view import look

from tests.unit.serving.world import KEY, World, built, deployment, trained_job, variant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VARIANTS = [
    variant("none", bytes=91_588_622, loadSeconds=9.05, latencyMilliseconds=14.72, requestsPerSecond=116.4,
            metrics={"accuracy": 0.80333, "loss": 0.55}),
    variant("bf16", bytes=45_800_000, agreement=0.99789, metrics={"accuracy": 0.80123, "loss": 0.56}),
    variant("int8", bytes=980_400, agreement=0.9, passed=False, metrics={"accuracy": 0.7},
            reason="accuracy fell by 0.10, allowed is 0.01"),
]  # fmt: skip


def condition(kind: str, status: str, reason: str, message: str = "A sentence.") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def resource(*conditions: dict[str, Any], generation: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "sentiment", "generation": generation},
        "spec": {},
        "status": {"observedGeneration": 1, "conditions": list(conditions), **status},
    }


READY = (condition("Ready", "True", "Serving"), condition("UpToDate", "True", "Serving"))


def follow(*answers: dict[str, Any] | CommandError) -> tuple[int, str]:
    left, out = list(answers), io.StringIO()

    def read() -> dict[str, Any]:
        answer = left.pop(0)
        if isinstance(answer, CommandError):
            raise answer
        return answer

    code = watch.run(read, look, "md/sentiment", out, 1.0, sleep=lambda _: None, clock=lambda: NOW)
    assert not left, "it ended too early"
    return code, out.getvalue()


def test_what_the_operator_writes_of_one_that_serves_is_shown_whole() -> None:
    compression = {"method": "auto", "gate": {"metric": "accuracy", "maxDrop": 0.01}}
    world = World(result=built("bf16", variants=VARIANTS)).create(trained_job())
    world.create(deployment(compression=compression, scaling={"maxReplicas": 2}))
    seen = look(world.cluster.objects[KEY], NOW)
    assert seen.outcome is True
    assert seen.head == "sentiment  Ready  1/1 replicas  bf16  http://sentiment.team.svc"
    table, rest = seen.body[:4], seen.body[4:]
    assert table == [
        "variant     size  load s  p50 ms  requests/s  agreement  accuracy  gate",
        "none     91.6 MB    9.05    14.7         116     1.0000    0.8033  passed",
        "bf16     45.8 MB       5       -          80     0.9979    0.8012  chosen",
        "int8      980 kB       5       -          80     0.9000    0.7000  accuracy fell by 0.10, allowed is 0.01",
    ]
    assert rest[0].startswith("revision sentiment-") and rest[0].endswith("  Serving  100 %")
    assert rest[1].startswith("scaling: 1 desired (") and rest[1].endswith(")  0.0 queued  0.0 in flight")
    assert len(rest) == 2, "one that serves has nothing to explain"


def test_one_that_waits_says_for_what_and_each_word_once() -> None:
    world = World().create(trained_job(completionTime=None, phase="Training")).create(deployment())
    seen = look(world.cluster.objects[KEY], NOW)
    assert seen.outcome is None
    assert seen.head == "sentiment  WaitingForTraining  http://sentiment.team.svc"
    assert [line for line in seen.body if "TrainingJob sentiment is Training" in line] == seen.body[:1]
    assert seen.body[0].startswith("Ready: WaitingForTraining: ")
    assert not [line for line in seen.body if "NoServers" in line]


def test_a_change_that_fails_is_told_while_the_earlier_revision_serves() -> None:
    stuck = condition("Stalled", "True", "ModelInvalid", "Revision b is not ready after 600 s.")
    behind = condition("UpToDate", "False", "ModelInvalid", "Revision b is not ready after 600 s.")
    revisions = [
        {"name": "sentiment-b", "state": "Failed", "reason": "ModelInvalid", "weight": 0, "variant": "int8"},
        {"name": "sentiment-a", "state": "Serving", "weight": 100, "variant": "none"},
        {"name": "sentiment-0", "state": "Retired", "weight": 0, "variant": "none"},
    ]
    failed = resource(READY[0], stuck, behind, revisions=revisions, replicas=2, readyReplicas=2)
    assert look(failed, NOW).lines == [
        "sentiment  Ready  Stalled  2/2 replicas  none",
        "  revision sentiment-b  Failed  0 %  ModelInvalid",
        "  revision sentiment-a  Serving  100 %",
        "  UpToDate: ModelInvalid: Revision b is not ready after 600 s.",
    ]
    code, text = follow(failed)
    assert code == 1
    assert "  revision sentiment-b  Failed  0 %  ModelInvalid  revision sentiment-a  Serving  100 %  " in text


def test_of_a_build_that_failed_its_own_figures_are_shown_and_not_those_of_what_serves() -> None:
    serves = {"chosen": "none", "variants": [{"name": "none", "bytes": 2_000_000_000}]}
    why = {"name": "int8", "bytes": 1000, "agreement": 0.5, "passed": False, "reason": "agreement 0.5"}
    failed = resource(compression=serves, build={"failed": True, "variants": [why]})
    assert [line.split("  ")[0] for line in look(failed, NOW).body] == ["variant", "int8"]
    assert look(failed, NOW).body[1].endswith("0.5000       -  agreement 0.5")
    under_way = resource(compression=serves, build={"failed": False})
    assert look(under_way, NOW).body[1].split() == ["none", "2.0", "GB", "-", "-", "-", "-", "-", "chosen"]


def test_words_that_only_the_summary_has_are_not_lost() -> None:
    why = condition("Reconciling", "True", "GatewayFailed", "The gateway in pod g ended with exit code 1.")
    seen = look(resource(*READY, why), NOW)
    assert seen.body == ["Reconciling: GatewayFailed: The gateway in pod g ended with exit code 1."]
    assert seen.outcome is None, "the gateways' new settings don't serve yet"


def test_watching_one_that_serves_ends_at_once() -> None:
    code, text = follow(resource(*READY))
    assert code == 0
    assert text == "00:00:00  sentiment  Ready\n"


@pytest.mark.parametrize(
    "status",
    [
        (READY[0], condition("UpToDate", "False", "WaitingForTraining")),
        (
            READY[0],
            condition("UpToDate", "False", "Progressing"),
            condition("Reconciling", "True", "Progressing"),
        ),
        (condition("Ready", "False", "Starting"), READY[1]),
        (),
    ],
    ids=["a new model trains", "a new revision starts", "servers start", "not seen yet"],
)
def test_watching_goes_on_until_what_the_spec_asks_for_serves(status: tuple[dict[str, Any], ...]) -> None:
    assert follow(resource(*status), resource(*status), resource(*READY))[0] == 0


@pytest.mark.parametrize(
    "before", [READY, (condition("Stalled", "True", "InvalidSpec"),)], ids=["good", "bad"]
)
def test_what_was_said_of_an_earlier_spec_ends_nothing(before: tuple[dict[str, Any], ...]) -> None:
    code, text = follow(resource(*before, generation=2), resource(condition("Stalled", "True", "GateFailed")))
    assert code == 1
    assert "GateFailed" in text


def test_a_log_has_the_builds_table_once_and_a_line_for_each_wish_of_the_load() -> None:
    compression = {"chosen": "none", "variants": [{"name": "none", "bytes": 1000}]}
    starting = condition("Ready", "False", "Starting", "The servers are starting.")

    def seen(desired: int, queued: float) -> dict[str, Any]:
        # One revision alone is in the head.
        revisions = [{"name": "a", "state": "Starting", "weight": desired}]
        scaling = {"desired": desired, "queued": queued}
        return resource(starting, compression=compression, revisions=revisions, scaling=scaling)

    _, text = follow(seen(1, 0), seen(1, 3), seen(2, 5), resource(*READY, compression=compression))
    assert text.count("variant") == 1
    assert [line.split("scaling: ")[1][0] for line in text.splitlines() if "scaling" in line] == ["1", "2"]
    assert "queued" not in text and "revision" not in text


def test_one_that_is_deleted_meanwhile_is_named_as_it_was_asked_for() -> None:
    code, text = follow(resource(), NotFoundError("NotFound"))
    assert code == 1
    assert text.endswith("md/sentiment was deleted\n")
