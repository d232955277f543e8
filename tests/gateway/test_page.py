"""The page, in a browser."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from modelyard_gateway.balance.servers import Target

from tests.chromium import browse
from tests.unit.gateway.rig import Handler, Request, Rig, reply, run
from tests.unit.gateway.test_limits import mount

SECRET = "<img src=x onerror=alert(1)>"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def classify(request: Request, writer: asyncio.StreamWriter) -> None:
    text = json.loads(request.body)["inputs"][0]["data"][0]
    outputs = [
        {"name": "label", "data": ["positive"]},
        {"name": "score", "data": [0.98]},
        {"name": "text", "data": [text]},
    ]
    await reply(json.dumps({"outputs": outputs}).encode())(request, writer)


async def chat(request: Request, writer: asyncio.StreamWriter) -> None:
    assert json.loads(request.body)["stream"] is True
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for word in ("Hel", "lo ", "there"):
        event = b"data: " + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await asyncio.sleep(0.01)
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


async def embed(request: Request, writer: asyncio.StreamWriter) -> None:
    await reply(json.dumps({"data": [{"embedding": [0.25] * 384}]}).encode())(request, writer)


@pytest.mark.parametrize(
    ("task", "speaks", "handler", "text", "shown"),
    [
        ("text-classification", "builtin", classify, SECRET, "label: positive\nscore: 0.98\ntext: " + SECRET),
        ("text-generation", "vllm", chat, "Hi", "Hello there"),
        ("embeddings", "", embed, "Hi", "384 numbers: 0.2500"),
        ("text-classification", "builtin", reply(b'{"error": "too long"}', 400), "Hi", "too long"),
        ("text-classification", "openai", chat, "Hi", "Hello there"),
        ("embeddings", "openai", embed, "Hi", "384 numbers: 0.2500"),
        ("text-generation", "oip", classify, "Hi", "label: positive\nscore: 0.98\ntext: Hi"),
    ],
)
def test_the_page_shows_the_model_and_lets_it_be_tried(
    rig: Rig, task: str, speaks: str, handler: Handler, text: str, shown: str
) -> None:
    async def scenario() -> None:
        async with (
            rig.gateway(handler, task=task, speaks=speaks, cache={"max_entries": 9, "ttl_seconds": 9}) as (
                gateway,
                _,
            ),
            browse(rig.folder / "browser") as page,
        ):
            await page.open(f"http://127.0.0.1:{gateway.process.port}/")
            await page.until("document.title.startsWith('m')")
            assert await page.run("document.getElementById('revisions').innerText") == "r1\t100 %\t1\t0"
            await page.run(f"document.getElementById('text').value = {json.dumps(text)}")
            await page.run("document.getElementById('send').click()")
            await page.until("/ ms/.test(document.getElementById('took').textContent)")
            assert shown in await page.run("document.getElementById('answer').textContent")
            for _ in range(20):
                await gateway.ask(json.dumps({"inputs": [{"data": ["x"]}], "stream": True}).encode())
            await page.until("parseFloat(document.getElementById('rate').textContent) > 0")
            assert await page.run("document.images.length") == 0
            assert await page.run("document.getElementById('key').offsetParent === null")  # none is needed
            await page.shoot(rig.folder / "page.png")
            # A refused answer is in the console too; nothing else may be.
            assert [problem for problem in page.problems if '"source": "network"' not in problem] == []

    run(scenario())


def test_a_page_of_a_model_with_keys_asks_for_one(rig: Rig) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="secret")
        made = rig.gateway(classify, keys=True, task="text-classification")
        async with made as (gateway, _), browse(rig.folder / "browser") as page:
            await page.open(f"http://127.0.0.1:{gateway.process.port}/")
            await page.until("document.getElementById('trouble')?.textContent.includes('API key')")
            await page.run("document.getElementById('key').value = 'secret'")
            await page.until("document.title.startsWith('m')")
            assert await page.run("document.getElementById('trouble').hidden")
            assert "secret" not in await page.run("document.getElementById('curl').textContent")

    run(scenario())


def test_a_page_says_what_the_servers_tell_and_why_none_answers(rig: Rig) -> None:
    async def scenario() -> None:
        limit = {"requests_per_second": 0.001, "burst": 1, "per": "address"}
        made = rig.gateway(chat, suspended=True, rate_limit=limit)
        async with made as (gateway, server), browse(rig.folder / "browser") as page:
            told = Target(100, 0, frozenset({("127.0.0.1", server.port)}), "text-generation")
            gateway.process.take({"r1": told})
            await page.open(f"http://127.0.0.1:{gateway.process.port}/")
            await page.until("document.getElementById('trouble')?.textContent.includes('is suspended')")
            assert "text-generation" in await page.run("document.getElementById('about').textContent")
            await page.until("samples.length > 2")  # no limit to how often it looks
            assert "is suspended" in await page.run("document.getElementById('trouble').textContent")

    run(scenario())


def test_the_page_loads_nothing_from_elsewhere_and_may_not(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            for path in ("/", "/-/page.js", "/-/page.css"):
                answer = await gateway.ask(path=path, method="GET")
                assert answer.status == 200
                assert "default-src 'none'" in answer.fields["content-security-policy"]
                assert "unsafe" not in answer.fields["content-security-policy"]
                assert not re.search(rb"https?://|\burl\(|@import|innerHTML|eval\(", answer.body)
            assert b" style=" not in (await gateway.ask(path="/", method="GET")).body

    run(scenario())
