"""A control plane for one section: real components without nodes, new at the start and gone at the end."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import yaml

from tests.bench.process import Operator
from tests.bench.removal import JOBS
from tests.bench.server import Server, ServerError
from tests.cluster import cache, native, plan

CLUSTER = "bench"
ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("trainerImage", "agentImage", "serverImage", "gatewayImage")
PROFILES = {"profiles": {"default": dict.fromkeys(IMAGES, "localhost/none:1")}}
# The first start builds Kubernetes.
UP_SECONDS, DOWN_SECONDS, WAIT_SECONDS = 2400, 120, 5.0


@contextmanager
def control_plane(logs: Path, cluster: str = CLUSTER) -> Iterator[str]:
    """A control plane without nodes and scheduler, as the peers had it; its kubeconfig's path.

    What an earlier section or an interrupted run left is removed first: a section that failed with thousands of
    objects would else be measured with the next one. The components' logs are kept in `logs`.
    Raises ClusterError when another process uses it.
    """
    with cache.locked(
        plan.clusters_folder() / f"{cluster}.used", f"using the control plane {cluster}", seconds=WAIT_SECONDS
    ):
        yield from _new(logs, cluster)


def _new(logs: Path, cluster: str) -> Iterator[str]:
    _command(DOWN_SECONDS, "down", "--wipe", "--name", cluster)
    try:
        _command(UP_SECONDS, "up", "--control-plane-only", "--name", cluster)
        made = plan.load(cluster)
        if made is None:
            raise RuntimeError(f"the control plane {cluster} came up without a record of itself")
        native.halt(made, ["kube-scheduler"])
        yield str(made.kubeconfig)
    finally:
        made = plan.load(cluster)
        if made is not None and made.logs.is_dir():
            shutil.copytree(made.logs, logs, dirs_exist_ok=True)
        _command(DOWN_SECONDS, "down", "--wipe", "--name", cluster)


def make_operator(
    kubeconfig: str, folder: Path, *flags: str, script: Path | None = None, name: str = "operator"
) -> Operator:
    """An operator that is not started yet, with its profiles and an empty log in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    profiles, log = folder / "profiles.yaml", folder / f"{name}.log"
    profiles.write_text(yaml.safe_dump(PROFILES))
    log.unlink(missing_ok=True)
    return Operator(kubeconfig, profiles, log, *flags, script=script)


@asynccontextmanager
async def operated(
    kubeconfig: str, folder: Path, script: Path | None = None
) -> AsyncIterator[tuple[Server, Operator]]:
    """A client of the control plane, with the CRDs installed, and an operator at work; its log is in `folder`."""
    operator = make_operator(kubeconfig, folder, script=script)
    async with Server(kubeconfig) as server:
        await prepare(server)
        operator.start()
        try:
            yield server, operator
        except BaseException:
            sys.stderr.write(operator.tail(20) + "\n")
            raise
        finally:
            operator.stop()


async def prepare(server: Server, seconds: float = 60) -> None:
    """The CRD and the rows that the jobs name. The first request to a new CRD's resource takes two seconds.

    Raises TimeoutError when the new resource isn't served after `seconds`.
    """
    apply = "application/apply-patch+yaml"
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        name = yaml.safe_load(path.read_text())["metadata"]["name"]
        url = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=bench&force=true"
        await server.insist("PATCH", url, path.read_bytes(), Content_Type=apply)
    rows = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rows"},
        "data": {"rows.csv": "text,label\na,b\n"},
    }
    url = "/api/v1/namespaces/default/configmaps/rows?fieldManager=bench&force=true"
    await server.insist("PATCH", url, rows, Content_Type=apply)
    deadline = time.monotonic() + seconds
    while True:
        try:
            await server.call("GET", JOBS)
            return
        except ServerError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"trainingjobs are not served {seconds:.0f} s after the CRD: {error}"
                ) from error
        await asyncio.sleep(0.2)


def _command(seconds: float, *arguments: str) -> None:
    command = [sys.executable, "-m", "tests.cluster", *arguments]
    done = subprocess.run(command, cwd=ROOT, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError(
            f"`python -m tests.cluster {' '.join(arguments)}` ended with {done.returncode}; its message is above"
        )
