"""Deletes what a measurement made, in calls that stay small however much there is, and waits until it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

from tests.bench.server import METADATA_LIST, Server, ServerError

JOBS = "/apis/modelyard.dev/v1alpha1/namespaces/default/trainingjobs"
CHILDREN = "/apis/batch/v1/namespaces/default/jobs"
LABEL = "modelyard.dev/trainingjob"
BENCH = "bench-run"
# A call that deletes or lists thousands of objects takes the API server longer than the minute it allows itself.
PAGE = 250
CLIENTS = 8
OWNED = (
    CHILDREN,
    *(f"/api/v1/namespaces/default/{kind}" for kind in ("pods", "services", "persistentvolumeclaims")),
)


async def list_pages(server: Server, path: str, selector: str) -> AsyncIterator[list[str]]:
    """Names of the selected objects, at most PAGE at a time."""
    token = ""
    while True:
        url = f"{path}?labelSelector={quote(selector, safe='')}&limit={PAGE}"
        try:
            found = await server.insist(
                "GET", url + (f"&continue={quote(token)}" if token else ""), Accept=METADATA_LIST
            )
        except ServerError as error:
            if error.status != 410 or not token:
                raise
            token = ""  # the list that was begun is too old by now: from the start
            continue
        yield [item["metadata"]["name"] for item in found["items"] or ()]
        token = found["metadata"].get("continue", "")
        if not token:
            return


async def delete_all(server: Server, path: str, names: list[str]) -> None:
    """Deletes each by name, CLIENTS at a time. What is gone already is no error."""
    left = iter(names)

    async def client() -> None:
        for name in left:
            try:
                await server.insist("DELETE", f"{path}/{name}?propagationPolicy=Background")
            except ServerError as error:
                if error.status != 404:
                    raise

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


async def count_left(server: Server, path: str, selector: str, prefix: str) -> int:
    """How many of the selected objects have names that begin so."""
    return sum(
        [sum(name.startswith(prefix) for name in page) async for page in list_pages(server, path, selector)]
    )


async def remove(server: Server, run: str, seconds: float = 900, pause: float = 1.0) -> None:
    """Deletes the run's jobs and waits until they and all they owned are gone.

    Raises TimeoutError, saying how much of what is left, after `seconds`.
    """
    deadline = time.monotonic() + seconds
    selector = f"{BENCH}={run}"
    async for names in list_pages(server, JOBS, selector):
        await delete_all(server, JOBS, names)
    for path, chosen in ((JOBS, selector), *((path, LABEL) for path in OWNED)):
        while left := await count_left(server, path, chosen, f"{run}-"):
            if time.monotonic() > deadline:
                kind = path.rsplit("/", 1)[-1]
                raise TimeoutError(
                    f"{left} {kind} of the run {run} are still there {seconds:.0f} s after it was deleted"
                )
            await asyncio.sleep(pause)
