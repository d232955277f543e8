"""The life of a real server: start, answers, a bad model, and the way to its end."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from modelyard.contract.codes import EXIT_OK, EXIT_TEMPORARY, EXIT_USER_ERROR
from prometheus_client.parser import text_string_to_metric_families

from tests.server.running import Server, running
from tests.unit.server.models import TEXTS
from tests.unit.server.test_classification import ask_pipeline
from tests.unit.server.test_proof import edit_weights


def metric(server: Server, name: str) -> float:
    families = text_string_to_metric_families(server.get("/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_a_server_starts_answers_as_transformers_counts_and_ends(classifier: Path, tmp_path: Path) -> None:
    with running(classifier, tmp_path / "run") as server:
        server.until_ready()
        response = server.infer(*TEXTS, parameters={"scores": True})
        label, score, _ = response.json()["outputs"]
        for index, expected in enumerate(ask_pipeline(classifier, TEXTS)):
            best = max(expected, key=lambda name: expected[name])
            assert label["data"][index] == best
            assert score["data"][index] == pytest.approx(expected[best], abs=1e-5)
        assert server.infer("a", outputs=[{"name": "x"}]).status_code == 400
        assert metric(server, "vllm:request_success_total") == 1
        assert metric(server, "modelyard_server_answers_total") == 2
        assert metric(server, "vllm:num_requests_waiting") == 0
        assert metric(server, "modelyard_server_ready") == 1
        assert 'vllm:num_requests_running{engine="0",model_name="toy"} 0.0' in server.get("/metrics").text
        server.stop()
        assert server.wait() == EXIT_OK
        assert "Traceback" not in server.log.read_text()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.02)


async def ask_without_end(server: Server, stop: asyncio.Event, codes: list[int | str]) -> None:
    """A client as a gateway is: it keeps its connection, and sends nothing more once it knows that it shouldn't."""
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES", "data": ["a dog", "good", "many bad words"]}
    async with httpx2.AsyncClient(timeout=60) as client:
        while not stop.is_set():
            try:
                response = await client.post(f"{server.url}/v2/models/toy/infer", json={"inputs": [tensor]})
                codes.append(response.status_code)
            except httpx2.TransportError as error:
                codes.append(repr(error))


async def watch(server: Server, stop: asyncio.Event) -> None:
    """Tells the clients, a second after the server has said that it is not ready any more."""
    async with httpx2.AsyncClient() as client:
        while (await client.get(f"{server.url}/v2/health/ready")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    stop.set()


def test_a_drain_under_load_loses_nothing(classifier: Path, tmp_path: Path) -> None:
    async def load(server: Server) -> list[int | str]:
        stop, codes = asyncio.Event(), list[int | str]()
        clients = [asyncio.create_task(ask_without_end(server, stop, codes)) for _ in range(8)]
        await until(lambda: len(codes) >= 40)
        before = len(codes)
        server.stop()
        await watch(server, stop)
        await asyncio.gather(*clients)
        assert len(codes) > before + 8  # it went on taking requests until they knew
        return codes

    with running(classifier, tmp_path / "run", drainSeconds=20) as server:
        server.until_ready()
        codes = asyncio.run(load(server))
        assert set(codes) == {200}
        assert server.wait() == EXIT_OK


def test_what_runs_when_the_port_closes_is_finished(classifier: Path, tmp_path: Path) -> None:
    # One row a batch: it takes longer than the time in which the server goes on accepting.
    with running(classifier, tmp_path / "run", drainSeconds=60, maxBatchTokens=1, maxQueue=2000) as server:
        server.until_ready()

        async def ask() -> list[int]:
            tensor = {"name": "text", "shape": [2000], "datatype": "BYTES", "data": ["a dog"] * 2000}
            async with httpx2.AsyncClient(timeout=100) as client:
                asked = [
                    asyncio.create_task(
                        client.post(f"{server.url}/v2/models/toy/infer", json={"inputs": [tensor]})
                    )
                    for _ in range(3)
                ]
                await until(lambda: metric(server, "vllm:num_requests_waiting") > 0)
                server.stop()
                await until(lambda: server.readiness()[0] == 0)
                left = sum(not task.done() for task in asked)
                assert left, "all was done before the port closed: ask for more"
                return [(await task).status_code for task in asked]

        assert asyncio.run(ask()) == [200] * 3
        assert server.wait() == EXIT_OK


def test_a_drain_ends_when_its_time_is_over(classifier: Path, tmp_path: Path) -> None:
    with running(classifier, tmp_path / "run", drainSeconds=1, maxBatchTokens=1, maxQueue=9000) as server:
        server.until_ready()

        async def ask() -> None:
            tensor = {"name": "text", "shape": [2000], "datatype": "BYTES", "data": ["a dog " * 15] * 2000}
            async with httpx2.AsyncClient(timeout=100) as client:
                asked = [
                    asyncio.create_task(
                        client.post(f"{server.url}/v2/models/toy/infer", json={"inputs": [tensor]})
                    )
                    for _ in range(24)
                ]
                await until(lambda: metric(server, "vllm:num_requests_waiting") >= 4)
                server.stop()
                results = await asyncio.gather(*asked, return_exceptions=True)
                assert not any(
                    isinstance(result, httpx2.Response) and result.status_code == 200 for result in results
                )

        begun = time.monotonic()
        asyncio.run(ask())
        assert server.wait() == EXIT_OK
        # It would go on for a minute and more.
        assert time.monotonic() - begun < 30


def test_asked_to_stop_while_it_loads_it_ends_at_once(classifier: Path, tmp_path: Path) -> None:
    with running(classifier, tmp_path / "run") as server:
        server.until("port", lambda: server.readiness()[0] != 0)
        assert server.readiness() == (503, "the model toy is being loaded")
        assert server.get("/v2/health/live").status_code == 200
        server.stop()
        assert server.wait() == EXIT_OK
        assert "ready: toy" not in server.log.read_text()


WAIT = """
import sys, time
from modelyard_server import __main__ as server
def serve(settings):
    print("there", flush=True)
    time.sleep(3600)
server.serve = serve
sys.exit(server.main())
"""


def test_asked_to_stop_before_it_listens_it_ends_at_once(classifier: Path, tmp_path: Path) -> None:
    """The first process of a container is ended by no signal that it doesn't handle."""
    with running(classifier, tmp_path / "run", program=("-c", WAIT)) as server:
        server.until("process", lambda: "there" in server.log.read_text())
        server.stop()
        assert server.wait() == EXIT_OK


def test_a_model_that_is_no_number_is_never_ready_and_says_why_everywhere(
    classifier: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(classifier, tmp_path / "storage" / "model")
    edit_weights(folder, lambda weights: weights["classifier.bias"].fill_(float("nan")))
    with running(folder, tmp_path / "run") as server:
        seen = set()

        def failed() -> bool:
            status, reason = server.readiness()
            seen.add(status)
            return "no numbers" in reason

        server.until("reason", failed)
        assert 200 not in seen
        assert server.infer("a").status_code == 503
        assert server.get("/v2/health/live").status_code == 200
        assert server.wait() == EXIT_USER_ERROR
        told = json.loads(server.result.read_text())
        assert (told["reason"], told["exitCode"]) == ("ModelInvalid", EXIT_USER_ERROR)
        assert "its weight classifier.bias holds values that are no numbers" in told["message"]
        assert "ModelInvalid: its weight classifier.bias" in server.log.read_text()


HANGING = """
import os, time
from modelyard_server.batching import progress
from modelyard_server.serving.predictor import Predictor
compute = Predictor._compute
def hang(self, rows):
    if len(rows[0]) > 40:
        progress.PATIENCE = progress.FACTOR = 0.1
        time.sleep(3600)
    return compute(self, rows)
Predictor._compute = hang
from modelyard_server.__main__ import main
os._exit(main([]))
"""


def test_a_model_that_hangs_ends_the_process_with_the_reason(classifier: Path, tmp_path: Path) -> None:
    with running(classifier, tmp_path / "run", program=["-c", HANGING]) as server:
        server.until_ready()
        assert server.infer("a dog").status_code == 200
        response = server.infer("the lazy dog " * 15)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert server.wait() == EXIT_TEMPORARY
        told = json.loads(server.result.read_text())
        assert (told["reason"], told["exitCode"]) == ("ModelHung", EXIT_TEMPORARY)
        assert "the model hangs: it has computed" in told["message"]
        assert "ModelHung: the model hangs" in server.log.read_text()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"task": "translation"}, "this server has no task 'translation'"),
        ({"maxQueue": 0}, "maxQueue: Input should be"),
    ],
)
def test_a_config_that_can_not_be_meant_ends_it_with_the_reason(
    classifier: Path, tmp_path: Path, config: dict[str, object], said: str
) -> None:
    with running(classifier, tmp_path / "run", **config) as server:  # type: ignore[arg-type]
        assert server.wait() == EXIT_USER_ERROR
        told = json.loads(server.result.read_text())
        assert told["reason"] == "InvalidServerConfig"
        assert said in told["message"]
