"""Questions to pods through a real API server, answers that are held back, and sums computed elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web
from modelyard.cluster.login import log_in

from tests.apiserver.inprocess import Bench, Scenario
from tests.fakes.harness import LISTENER

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "gateway-0"},
    "spec": {"containers": [{"name": "gateway", "image": "i"}], "nodeName": "nowhere"},
}


class Gateway:
    """A pod's server. It holds its answer back until it has another, as long as it is asked to."""

    def __init__(self) -> None:
        self.load = 1
        self.changed = asyncio.Event()
        self.waits: list[str | None] = []
        self.let_go = 0  # answers that were held back until there was another

    async def answer(self, request: web.Request) -> web.Response:
        prefer, tag = request.headers.get("Prefer"), request.headers.get("If-None-Match")
        self.waits.append(prefer)
        if prefer and tag == f'"{self.load}"':
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), float(prefer.removeprefix("wait=")))
                self.let_go += 1
            except TimeoutError:
                return web.Response(status=304, headers={"ETag": tag})
        return web.json_response({"load": self.load}, headers={"ETag": f'"{self.load}"'})

    def say(self, load: int) -> None:
        self.load = load
        self.changed.set()


def test_a_pod_that_holds_its_answer_back_is_heard_at_once_through_the_api_server(
    engine: Callable[[Scenario], None], kubeconfig: str
) -> None:
    async def scenario(bench: Bench) -> None:
        # A pod has the address that its kubelet reports; the API server calls it there, and here is where we are.
        address = str(urlsplit((await log_in(kubeconfig)).server).hostname)
        gateway = Gateway()
        app = web.Application()
        app.router.add_get("/v1/load", gateway.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, address, 0).start()
        try:
            await bench.kubectl("create", "-f", "-", input=json.dumps(POD))
            status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
            await bench.kubectl(
                "patch", "pod", "gateway-0", "--subresource=status", "--patch", json.dumps({"status": status})
            )
            port = runner.addresses[0][1]
            await bench.create("l", LISTENER, pod="gateway-0", port=port, numbers=[10, 20])
            await bench.says(LISTENER, "l", load=1, total=31)

            async def held() -> bool:
                return gateway.waits[-1] == "wait=10"

            await bench.until("a question that may wait", held)
            asked = len(gateway.waits)
            await asyncio.sleep(1.5)
            assert len(gateway.waits) == asked, "as long as nothing changes, nobody asks again"
            gateway.say(7)
            await bench.says(LISTENER, "l", load=7, total=37)
            assert gateway.let_go == 1, "the answer that was held back told it"
            assert len(gateway.waits) <= asked + 2
        finally:
            await runner.cleanup()

    engine(scenario)
