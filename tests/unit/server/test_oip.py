"""The Open Inference Protocol V2, over ASGI."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest
from modelyard_server.app import make_app
from modelyard_server.batching import progress
from modelyard_server.protocols.body import MAX_ROWS
from modelyard_server.tasks import find_task

from tests.unit.server.models import LABELS, TEXTS, answer, client_of, make_service, serving, with_client

TASK = "text-classification"
INFER = "/v2/models/toy/infer"


def make_body(*texts: Any, **more: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}],
        **more,
    }


def make_input(**change: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **change}]}


def test_an_answer_has_label_and_score_by_default_and_names_model_and_version(classifier: Path) -> None:
    service = make_service(classifier, TASK)

    async def test(client: httpx2.AsyncClient) -> None:
        for path in (INFER, "/v2/models/toy/versions/r1/infer"):
            response = await client.post(path, json=make_body("a dog", "good", id="x1"))
            assert response.status_code == 200
            told = response.json()
            assert {k: told[k] for k in ("model_name", "model_version", "id")} == {
                "model_name": "toy", "model_version": "r1", "id": "x1",
            }  # fmt: skip
            label, score = told["outputs"]
            assert (label["name"], label["datatype"], label["shape"]) == ("label", "BYTES", [2])
            assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [2])
            assert set(label["data"]) <= set(LABELS)
            assert all(1 / 3 <= value <= 1 for value in score["data"])

    with_client(service, test)


def test_outputs_are_those_asked_for_in_that_order_and_scores_are_all_classes(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        wanted = {"outputs": [{"name": "scores"}, {"name": "label", "parameters": {"binary_data": False}}]}
        scores, label = (await client.post(INFER, json=make_body(*TEXTS, **wanted))).json()["outputs"]
        assert (scores["name"], scores["shape"], label["name"]) == ("scores", [len(TEXTS), 3], "label")
        table = np.reshape(scores["data"], scores["shape"])
        np.testing.assert_allclose(table.sum(-1), 1, atol=1e-6)
        assert [LABELS[i] for i in table.argmax(-1)] == label["data"]
        by_switch = await client.post(INFER, json=make_body("a", parameters={"scores": True}))
        assert [made["name"] for made in by_switch.json()["outputs"]] == ["label", "score", "scores"]

    with_client(make_service(classifier, TASK), test)


def test_what_goes_over_the_wire_is_the_models_answer_to_the_bit(encoder: Path) -> None:
    service = make_service(encoder, "embeddings")

    async def whole() -> None:
        async with serving(service) as model, client_of(make_app(service, find_task("embeddings"))) as client:
            [expected] = await answer(model, "a lazy dog")
            [made] = (await client.post(INFER, json=make_body("a lazy dog"))).json()["outputs"]
            assert (made["name"], made["datatype"], made["shape"]) == ("embedding", "FP32", [1, 32])
            np.testing.assert_array_equal(np.array(made["data"], np.float32), expected)

    asyncio.run(whole())


def test_a_request_or_its_input_may_say_that_texts_are_texts(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        said = {"parameters": {"content_type": "str"}}
        for body in (make_body("a", **said), make_input(**said)):
            assert (await client.post(INFER, json=body)).status_code == 200, body
            other = orjson.dumps(body).replace(b'"str"', b'"pd"')
            response = await client.post(INFER, content=other)
            assert response.status_code == 400, body
            assert "parameters.content_type isn't supported" in response.json()["error"]

    with_client(make_service(classifier, TASK), test)


def test_a_column_of_texts_may_be_nested_or_flat(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for data in (["a", "b"], [["a"], ["b"]]):
            response = await client.post(INFER, json=make_input(shape=[2, 1], data=data))
            assert response.status_code == 200
            assert response.json()["outputs"][0]["shape"] == [2]

    with_client(make_service(classifier, TASK), test)


REFUSED: list[tuple[Any, int, str]] = [
    (b"", 400, "the body is no JSON"),
    (b"{", 400, "the body is no JSON"),
    (b'{"inputs": NaN}', 400, "the body is no JSON"),
    (b"[" * 100_000, 400, "the body is no JSON"),
    (b'"\xff"', 400, "the body is no JSON"),
    ([], 400, "the body:"),
    ({}, 400, "inputs: Field required"),
    ({"inputs": []}, 400, "inputs: List should have at least 1 item"),
    (make_body("a", surprise=1), 400, "surprise isn't supported"),
    (make_body("a", parameters={"temperature": 1}), 400, "parameters.temperature isn't supported"),
    (make_body("a", parameters={"binary_data_output": True}), 400, "ask for JSON instead of binary data"),
    (make_body("a", parameters={"truncate": 1}), 400, "parameters.truncate must be true or false"),
    (
        make_body("a", outputs=[{"name": "logits"}]),
        400,
        "there is no output 'logits'; there are label, score, scores",
    ),
    (make_body("a", outputs=[{"name": "label"}, {"name": "label"}]), 400, "asked for twice"),
    (
        make_body("a", outputs=[{"name": "label", "parameters": {"classification": 2}}]),
        400,
        "classification isn't",
    ),
    (make_body("a", id=7), 400, "id: Input should be a valid string"),
    (make_input(name="ids"), 400, "takes one input, 'text', and the request has 'ids'"),
    ({"inputs": make_input()["inputs"] * 2}, 400, "takes one input"),
    (make_input(datatype="FP32"), 400, "has datatype FP32; it must be BYTES"),
    (make_input(parameters={"binary_data_size": 5}), 400, "binary_data_size isn't supported"),
    (make_input(shape=[2]), 400, "shape [2] doesn't fit 1 elements"),
    (make_input(shape=[]), 400, "it must be [n] or [n, 1]"),
    (make_input(shape=[-1]), 400, "it must be [n] or [n, 1]"),
    (make_input(shape=[1, 2]), 400, "it must be [n] or [n, 1]"),
    (make_input(shape=[0], data=[]), 400, "a request has 1 to"),
    (make_input(shape=[1], data=[1]), 400, "must be strings"),
    (make_input(shape=[1], data=[None]), 400, "must be strings"),
    (make_input(shape=[1], data=[["a"]]), 400, "must be strings"),
    (make_input(shape=[2, 1], data=[["a"], ["b", "c"]]), 400, "must be strings"),
    (make_input(shape=["1"]), 400, "inputs.0.shape.0"),
    (make_body(*["a"] * (MAX_ROWS + 1)), 400, f"a request has 1 to {MAX_ROWS} texts"),
    (make_body("dog " * 200), 400, "and this model takes 64: shorten it, or ask for it to be cut"),
]


def test_what_is_wrong_or_not_supported_is_refused_by_name(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for body, status, said in REFUSED:
            content = body if isinstance(body, bytes) else orjson.dumps(body)
            response = await client.post(INFER, content=content)
            told = response.json()
            assert (response.status_code, set(told)) == (status, {"error"}), (content[:200], told)
            assert said in told["error"]
        # And nothing of that has hurt it.
        assert (await client.post(INFER, json=make_body("a"))).status_code == 200
        header = {"inference-header-content-length": "10"}
        response = await client.post(INFER, json=make_body("a"), headers=header)
        assert "binary tensor extension isn't supported" in response.json()["error"]

    with_client(make_service(classifier, TASK), test)


def test_a_body_is_as_large_as_the_config_says(classifier: Path) -> None:
    content = orjson.dumps(make_body("a"))

    async def test(client: httpx2.AsyncClient) -> None:
        assert (await client.post(INFER, content=content)).status_code == 200
        response = await client.post(INFER, content=content + b" ")
        assert response.status_code == 413
        assert f"the body has more than {len(content)} bytes" in response.json()["error"]

    with_client(make_service(classifier, TASK, max_request_bytes=len(content)), test)

    async def test_default(client: httpx2.AsyncClient) -> None:
        assert (await client.post(INFER, content=content.ljust(16 << 20))).status_code == 200
        assert (await client.post(INFER, content=content.ljust((16 << 20) + 1))).status_code == 413

    with_client(make_service(classifier, TASK), test_default)


def test_a_text_too_long_is_cut_where_that_is_asked_for(classifier: Path) -> None:
    service = make_service(classifier, TASK, max_length=16)

    async def whole() -> None:
        from transformers import AutoTokenizer

        text = "the lazy dog " * 3000
        cut = AutoTokenizer.from_pretrained(classifier)(text, truncation=True, max_length=16)["input_ids"]
        async with serving(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            body = make_body(text, parameters={"truncate": True}, outputs=[{"name": "scores"}])
            [made] = (await client.post(INFER, json=body)).json()["outputs"]
            expected = model.head.make_outputs(
                ["scores"], await model.answer([model.take(cut, truncate=False)])
            )
            np.testing.assert_allclose(made["data"], expected[0], atol=1e-6)

    asyncio.run(whole())


def test_other_models_versions_paths_and_methods(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for path, said in {
            "/v2/models/other/infer": "there is no model 'other' here; there is 'toy'",
            "/v2/models/toy/versions/r0/infer": "model 'toy' has no version 'r0'; it has 'r1'",
            "/v2/elsewhere": "there is nothing at /v2/elsewhere; this server's task is text-classification",
        }.items():
            response = await client.post(path, json=make_body("a"))
            assert (response.status_code, response.json()) == (404, {"error": said})
        for path in ("/v2/models/other", "/v2/models/toy/versions/r0/ready"):
            assert (await client.get(path)).status_code == 404
        response = await client.get(INFER)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.json() == {"error": f"{INFER} doesn't take GET"}

    with_client(make_service(classifier, TASK), test)


def test_metadata(classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        assert (await client.get("/v2")).json()["name"] == "modelyard_server"
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        for path in ("/v2/models/toy", "/v2/models/toy/versions/r1"):
            assert (await client.get(path + "/ready")).json() == {"name": "toy", "ready": True}
            assert (await client.get(path)).json() == {
                "name": "toy", "versions": ["r1"], "platform": "modelyard_pytorch",
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
                "outputs": [
                    {"name": "label", "datatype": "BYTES", "shape": [-1]},
                    {"name": "score", "datatype": "FP32", "shape": [-1]},
                    {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
                ],
            }  # fmt: skip

    with_client(make_service(classifier, TASK), test)


def test_before_it_is_ready_it_lives_and_says_why_it_answers_nothing(classifier: Path) -> None:
    service = make_service(classifier, TASK)

    async def whole() -> None:
        async with client_of(make_app(service, find_task(TASK))) as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            for response in (
                await client.get("/v2/health/ready"),
                await client.get("/v2/models/toy/ready"),
                await client.get("/v2/models/toy"),
                await client.post(INFER, json=make_body("a")),
            ):
                assert response.status_code == 503
                assert response.json() == {"error": "the model toy is being loaded"}
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "toy"

    asyncio.run(whole())


def test_while_it_drains_it_answers_on_connections_that_end_and_is_not_ready(classifier: Path) -> None:
    service = make_service(classifier, TASK)

    async def test(client: httpx2.AsyncClient) -> None:
        assert "connection" not in (await client.post(INFER, json=make_body("a"))).headers
        service.state = "draining"
        response = await client.post(INFER, json=make_body("a"))
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        response = await client.get("/v2/health/ready")
        assert (response.status_code, response.json()["error"][:30]) == (
            503,
            "the server was asked to stop: ",
        )
        assert (await client.get("/v2/health/live")).status_code == 200

    with_client(service, test)


def test_a_worker_that_has_ended_is_neither_live_nor_ready(classifier: Path) -> None:
    service = make_service(classifier, TASK)

    async def test(client: httpx2.AsyncClient) -> None:
        assert service.model is not None
        await service.model.close()
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await client.get(path)).status_code == 503
        assert (await client.post(INFER, json=make_body("a"))).status_code == 503

    with_client(service, test)


def test_a_model_that_hangs_is_neither_live_nor_ready_and_says_why(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, let = make_service(classifier, TASK), threading.Event()

    async def whole() -> None:
        async with serving(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            run = model._runtime.run
            model._runtime.run = lambda batch: (let.wait(60), run(batch))[1]  # type: ignore[method-assign]
            asking = asyncio.create_task(client.post(INFER, json=make_body("a dog")))
            async with asyncio.timeout(60):
                while not model.running:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)
            assert (await client.get("/v2/health/live")).status_code == 200
            monkeypatch.setattr(progress, "PATIENCE", 0.0)
            monkeypatch.setattr(progress, "FACTOR", 0.0)
            for path in ("/v2/health/live", "/v2/health/ready"):
                response = await client.get(path)
                assert response.status_code == 503
                assert "has to be started anew: the model hangs: it has computed" in response.json()["error"]
            assert (await client.post(INFER, json=make_body("a"))).status_code == 503
            assert model.explain_end().reason == "ModelHung"
            model.abandon()
            assert (await asking).json() == {"error": "the server stops: ask another"}
            let.set()

    try:
        asyncio.run(whole())
    finally:
        let.set()


def test_a_full_queue_is_503_with_a_time_to_come_again(classifier: Path) -> None:
    service = make_service(classifier, TASK, max_queue=1, max_batch_tokens=8)

    async def test(client: httpx2.AsyncClient) -> None:
        answers = await asyncio.gather(*[client.post(INFER, json=make_body("a", "b")) for _ in range(20)])
        codes = {response.status_code for response in answers}
        assert codes == {200, 503}
        refused = next(response for response in answers if response.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert refused.json() == {"error": "the queue is full: come again in a second"}

    with_client(service, test)


def test_an_answer_that_is_no_number_is_an_error_and_nothing_of_it_gets_out(
    classifier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(classifier, TASK)

    async def whole() -> None:
        async with serving(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            run = model._runtime.run
            model._runtime.run = lambda batch: run(batch) * (math.nan if len(batch.ids[0]) > 9 else 1)  # type: ignore[method-assign]
            good, bad = await asyncio.gather(
                client.post(INFER, json=make_body("a")), client.post(INFER, json=make_body("many words " * 4))
            )
            assert good.status_code == 200
            assert bad.status_code == 500
            assert bad.headers["x-should-retry"] == "false"  # it would be no number again
            assert bad.json() == {"error": "the model could not answer; the server's log says why"}
            assert "NotFinite" in caplog.text

    asyncio.run(whole())


def test_a_caller_that_hangs_up_takes_its_rows_out_of_the_queue(classifier: Path) -> None:
    service = make_service(classifier, TASK, max_batch_tokens=1)

    async def whole() -> None:
        async with serving(service) as model:
            app = make_app(service, find_task(TASK))
            sent: list[Any] = []
            gone = asyncio.Event()
            messages = [
                {"type": "http.request", "body": orjson.dumps(make_body(*["a"] * 500)), "more_body": False}
            ]

            async def receive() -> Any:
                if messages:
                    return messages.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http", "method": "POST", "path": INFER, "headers": [], "query_string": b"",
                "http_version": "1.1", "scheme": "http", "server": ("server", 80), "root_path": "",
            }  # fmt: skip
            asking = asyncio.ensure_future(app(scope, receive, send))
            while not model.waiting:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)
            gone.set()
            await asking
            assert (model.waiting, model.running) == (0, 0)
            assert (
                b'modelyard_server_answers_total{code="499",protocol="oip"} 1.0' in service.metrics.render()
            )

    asyncio.run(whole())
