"""Who may ask, and how often."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from modelyard.contract.gateway import RateLimitConfig
from modelyard_gateway.limits import rates
from modelyard_gateway.limits.keys import Keys
from modelyard_gateway.limits.rates import Rates

from tests.unit.gateway.rig import Rig, reply, run


def mount(folder: Path, version: str, **keys: str) -> None:
    """As Kubernetes mounts a Secret: files are links through `..data`, which is turned in one step."""
    (folder / version).mkdir(parents=True)
    for name, key in keys.items():
        (folder / version / name).write_text(key)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version)
    (folder / "..new").replace(folder / "..data")


def test_keys_are_read_anew_when_the_secret_changes(tmp_path: Path) -> None:
    mount(tmp_path, "..v1", alice="key-a\n", bob="key-b")
    keys = Keys(tmp_path)
    assert keys.find(b"key-a") is None
    keys.refresh()
    assert [keys.find(key) for key in (b"key-a", b"key-b", b"key-c", b"", None)] == [
        "alice",
        "bob",
        None,
        None,
        None,
    ]
    mount(tmp_path, "..v2", alice="key-a", carol="key-c")
    keys.refresh()
    assert [keys.find(key) for key in (b"key-a", b"key-b", b"key-c")] == ["alice", None, "carol"]


def test_that_keys_can_not_be_read_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "keys"
    keys = Keys(folder)
    for _ in range(2):
        for _ in range(5):
            keys.refresh()
        folder.mkdir()
        keys.refresh()
        folder.rmdir()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_an_empty_file_is_nobodys_key_and_a_missing_secret_lets_nobody_in(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "missing")
    keys.refresh()
    assert keys.find(b"") is None
    (tmp_path / "empty").write_text("\n")
    keys = Keys(tmp_path)
    keys.refresh()
    assert keys.find(b"") is None


def test_every_key_is_compared_in_constant_time_wherever_the_right_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / f"caller-{number}").write_text(f"key-{number}")
    keys = Keys(tmp_path)
    keys.refresh()
    compared: list[int] = []
    compare = hmac.compare_digest

    def count(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", count)
    for secret in (b"key-0", b"key-19", b"wrong"):
        compared.clear()
        keys.find(secret)
        assert compared == [32] * 20


def test_a_caller_without_a_key_is_refused_and_one_with_a_key_is_named_in_the_log(rig: Rig) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="the-secret")
        async with rig.gateway(reply(), keys=True) as (gateway, server):
            for path in ("/v1/embeddings", "/v1/models"):
                for field in ("", "Authorization: Bearer wrong\r\n", "Authorization: Basic the-secret\r\n"):
                    answer = await gateway.ask(path=path, fields=field)
                    assert (answer.status, answer.fields["www-authenticate"]) == (401, "Bearer")
                    assert answer.json()["error"]["code"] == "invalid_api_key"
            assert isinstance((await gateway.ask()).json()["error"], str)
            assert not server.got
            assert (await gateway.ask(fields="authorization: bearer the-secret\r\n")).status == 200
            assert (await gateway.ask(path="/v2/health/ready", method="GET")).status == 200
            # A body is not waited for from somebody who may not ask.
            caller = await gateway.call()
            caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
            assert (await caller.read()).status == 401
            assert [line.get("caller") for line in gateway.lines() if line["status"] == 200] == [
                "alice",
                None,
            ]
            assert b"the-secret" not in gateway.log.getvalue()

    run(scenario())


def test_the_servers_are_not_shown_the_gateways_keys(rig: Rig) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="the-secret")
        async with rig.gateway(reply(), keys=True) as (gateway, server):
            await gateway.ask(fields="Authorization: Bearer the-secret\r\n")
            assert server.got[0].fields("authorization") == []
        async with rig.gateway(reply()) as (gateway, server):
            await gateway.ask(fields="Authorization: Bearer the-servers\r\n")
            assert server.got[0].fields("authorization") == ["Bearer the-servers"]

    run(scenario())


def test_a_bucket_gives_its_burst_and_then_its_rate_exactly() -> None:
    limit = Rates(RateLimitConfig(requests_per_second=4, burst=3, per="key"))
    assert [limit.take("a", "10.0.0.1", 100.0) for _ in range(4)] == [0, 0, 0, 1]
    assert limit.take("b", "10.0.0.1", 100.0) == 0
    # 4 a second for 10 s, asked 100 times a second: those that are refused cost nothing.
    allowed = sum(limit.take("a", "10.0.0.1", 100.0 + step / 128) == 0 for step in range(1, 1281))
    assert allowed == 40
    assert [limit.take("a", "10.0.0.1", 1000.0) for _ in range(4)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_all_addresses_that_are_one_callers_share_a_bucket(one: str, other: str, same: bool) -> None:
    limit = Rates(RateLimitConfig(requests_per_second=0.1, burst=1, per="address"))
    assert limit.take(None, one, 0.0) == 0
    assert (limit.take(None, other, 0.0) > 0) == same


def test_whoever_is_refused_hears_when_to_come_again() -> None:
    limit = Rates(RateLimitConfig(requests_per_second=0.1, burst=1, per="key"))
    assert [
        limit.take("a", "10.0.0.1", 0.0),
        limit.take("a", "10.0.0.1", 0.0),
        limit.take("a", "10.0.0.1", 4.0),
    ] == [0, 10, 6]
    assert limit.take("a", "10.0.0.1", 10.0) == 0


def test_buckets_are_bounded_and_the_one_silent_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "CALLERS", 100)
    limit = Rates(RateLimitConfig(requests_per_second=1, burst=1, per="key"))
    for number in range(1000):
        assert limit.take("steady", "10.0.0.1", number / 1000) == (0 if number == 0 else 1)
        limit.take(f"other-{number}", "10.0.0.1", number / 1000)
        assert len(limit._buckets) <= 100


def test_what_the_gateway_answers_costs_nobody_its_rate(rig: Rig) -> None:
    async def scenario() -> None:
        limit = {"requests_per_second": 0.01, "burst": 1, "per": "address"}
        async with rig.gateway(reply(), rate_limit=limit) as (gateway, _):
            for _ in range(3):
                for path in ("/-/status", "/v1/models", "/v2/models/m/ready"):
                    assert (await gateway.ask(path=path, method="GET")).status == 200
            assert [(await gateway.ask()).status for _ in range(2)] == [200, 429]
            # What a server answers is another matter, whatever it is.
            assert (await gateway.ask(path="/v2/models/m", method="GET")).status == 429

    run(scenario())


@pytest.mark.parametrize("per", ["key", "address"])
def test_too_many_requests_are_refused_by_key_or_by_address(rig: Rig, per: str) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="a", bob="b")
        limit = {"requests_per_second": 0.01, "burst": 2, "per": per}
        async with rig.gateway(reply(), keys=True, rate_limit=limit) as (gateway, _):
            told = []
            for key in "aaabb":
                answer = await gateway.ask(fields=f"Authorization: Bearer {key}\r\n", path="/v1/embeddings")
                told.append(answer.status)
            assert told == ([200, 200, 429, 200, 200] if per == "key" else [200, 200, 429, 429, 429])
            answer = await gateway.ask(fields="Authorization: Bearer a\r\n", path="/v1/embeddings")
            assert 1 <= int(answer.fields["retry-after"]) <= 100
            assert answer.json()["error"]["code"] == "rate_limit_exceeded"
            assert gateway.process.metrics.limited >= 2
            assert (await gateway.ask(path="/v2/health/ready", method="GET")).status == 200

    run(scenario())
