"""What callers may do, and what becomes of a deployment that its owner stops or breaks: each setting by its effect."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import TRAINED_CLAIM
from tests.e2e.harness import Kube, ModelDeployment, condition, is_ready, is_true
from tests.e2e.serving import Endpoint, expose, infer
from tests.e2e.sleepy import sleepy_spec

KEYS = {"shop": "key-of-the-shop", "desk": "key-of-the-desk"}
SHOP, DESK = ({"Authorization": f"Bearer {key}"} for key in KEYS.values())
PATH = "/v2/models/strict/infer"
BURST = 12
TIMEOUT = 4  # seconds
TRAFFIC = {
    "timeoutSeconds": TIMEOUT,
    "maxQueue": 2,
    "maxRequestBytes": 2000,
    "apiKeys": {"secretRef": {"name": "callers"}},
    "rateLimit": {"requestsPerSecond": 1, "burst": BURST, "per": "key"},
    "cache": {"maxEntries": 10, "ttlSeconds": 3},
}


@pytest.fixture(scope="module")
def strict(kube: Kube, trained: dict[str, Any], trainer_image: str) -> Iterator[ModelDeployment]:
    """One gateway and one server, which takes a second for an answer."""
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "callers"}, "stringData": KEYS})
    spec = sleepy_spec(
        trainer_image, trained["model"]["uri"], TRAINED_CLAIM, traffic=TRAFFIC, scaling={"scaler": "none"},
        keepRevisions=1, progressDeadlineSeconds=15,
    )  # fmt: skip
    token = {"name": "TOKEN", "secretKeyRef": {"name": "callers", "key": "shop"}}
    spec["engine"]["custom"]["env"].append(token)
    with ModelDeployment(kube, "strict", spec).serving() as found:
        yield found


@pytest.fixture(scope="module")
def endpoint(kube: Kube, strict: ModelDeployment) -> Endpoint:
    return expose(kube, strict)


def test_callers_without_a_key_too_large_too_often_or_for_the_same_are_told_so(
    kube: Kube, strict: ModelDeployment, endpoint: Endpoint
) -> None:
    assert endpoint.call(PATH, infer("a"))[0] == 401
    assert endpoint.call(PATH, infer("a"), Authorization="Bearer key-of-the-shoq")[0] == 401
    assert endpoint.call("/v1/models")[0] == 401
    status, fields, answer = endpoint.ask(PATH, infer("a"), **SHOP)
    assert (status, fields["x-modelyard-cache"]) == (200, "miss"), answer
    assert endpoint.ask(PATH, infer("a"), **DESK)[1]["x-modelyard-cache"] == "hit"
    assert endpoint.call(PATH, infer("a" * 2000), **SHOP)[0] == 413
    time.sleep(3.5)  # longer than an answer is kept
    assert endpoint.ask(PATH, infer("a"), **SHOP)[1]["x-modelyard-cache"] == "miss"

    asked = [endpoint.ask(PATH, infer("a"), **DESK) for _ in range(2 * BURST)]
    told = Counter(status for status, _, _ in asked)
    assert told[200] >= BURST - 1
    assert told[429] > 0
    assert set(told) == {200, 429}
    assert all(int(fields["Retry-After"]) >= 1 for status, fields, _ in asked if status == 429)
    assert endpoint.call(PATH, infer("a"), **SHOP)[0] == 200  # another's bucket is its own

    (server,) = strict.servers()
    assert kube.execute(server["metadata"]["name"], "printenv", "TOKEN").strip() == KEYS["shop"]
    for pod in strict.living("gateway"):
        log = kube.run("logs", pod["metadata"]["name"])
        assert "shop" in log
        assert not any(key in log for key in KEYS.values())


def is_suspended(endpoint: Endpoint) -> bool:
    """Whether callers are told so; gateways of before wait for a server."""
    status, answer = endpoint.call(PATH, infer("c"), **SHOP)
    assert status == 503
    return "suspended" in answer["error"]


def test_without_a_server_so_many_wait_for_so_long_and_who_stopped_it_is_told(
    strict: ModelDeployment, endpoint: Endpoint
) -> None:
    strict.patch({"replicas": 0, "traffic": {"rateLimit": None, "cache": None}})
    strict.wait("no server", lambda status: status.get("replicas") == 0 and not strict.servers(), 60)
    strict.kube.run("rollout", "status", f"deployment/{strict.name}-gateway", "--timeout=90s")
    strict.wait("the old gateway's end", lambda _: len(strict.pods("gateway")) == 1, 60)

    def ask(number: int) -> tuple[int, float, str]:
        started = time.monotonic()
        status, fields, answer = endpoint.ask(PATH, infer(f"b {number}"), **SHOP)
        assert int(fields["Retry-After"]) >= 1
        return status, time.monotonic() - started, answer["error"]

    with ThreadPoolExecutor(5) as pool:
        told = sorted(pool.map(ask, range(5)), key=lambda found: found[1])
    assert [status for status, _, _ in told] == [503] * 5
    assert [waited >= TIMEOUT for _, waited, _ in told] == [False] * 3 + [True] * 2
    assert "wait already" in told[0][2]

    strict.patch({"suspend": True, "replicas": 1})
    found = strict.wait_reason("Ready", "Suspended")
    assert "spec.suspend" in found["message"]
    strict.wait("its gateways' word", lambda _: is_suspended(endpoint), 60)
    strict.patch({"suspend": False})
    strict.wait_ready()
    assert endpoint.call(PATH, infer("c"), **SHOP)[0] == 200


def test_a_revision_that_is_not_ready_in_time_leaves_the_old_one_serving_and_history_is_kept_short(
    strict: ModelDeployment, endpoint: Endpoint, trainer_image: str
) -> None:
    custom = strict.spec["engine"]["custom"]
    strict.patch({"engine": {"custom": {"image": "localhost/no-such-image:1"}}})
    strict.wait_reason("UpToDate", "ImagePullFailed", 60)
    status = strict.status()
    assert is_true(status, "Ready")
    assert "no-such-image" in condition(status, "UpToDate")["message"]
    assert endpoint.call(PATH, infer("d"), **SHOP)[0] == 200
    # One that starts, and is never ready.
    strict.patch({"engine": {"custom": {"image": trainer_image, "readinessPath": "/v2/no", "port": 9001}}})
    strict.wait_reason("UpToDate", "ProgressDeadlineExceeded", 60)
    assert is_true(strict.status(), "Ready")
    assert endpoint.call(PATH, infer("d"), **SHOP)[0] == 200

    strict.patch({"engine": {"custom": {**custom, "args": ["unread"]}}})
    strict.wait_ready()
    strict.wait("one server", lambda _: [is_ready(pod) for pod in strict.servers()] == [True], 60)
    (server,) = strict.servers()
    assert server["spec"]["containers"][0]["args"] == ["unread"]
    gone = [r for r in strict.status()["revisions"] if r["state"] in ("Retired", "Failed")]
    assert len(gone) <= 1, strict.status()["revisions"]
