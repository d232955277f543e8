"""`python -m tests.bench [api] [idle] [trainer] [recovery] [--out FILE]`: prints tables, stores JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.bench import burst
from tests.bench.process import Operator
from tests.bench.server import Server
from tests.cluster import native, plan

CLUSTER = "bench"
ROOT = Path(__file__).resolve().parents[2]
PROFILES = {"profiles": {"default": {"trainerImage": "localhost/none:1", "agentImage": "localhost/none:1"}}}
# What a user would compare with, and where it comes from: peers on a 2-core machine without nodes, Kubernetes 1.37.2,
# the same method (create call returned -> first child seen; writes by anyone; CPU of all controller processes).
PEERS = {
    "Kubeflow Trainer 2.3": {
        "p50_ms": 15.4,
        "total_s": 33.0,
        "writes_per_job": 13.0,
        "cpu_ms_per_job": 13.5,
        "restart_s": 17.0,
    },
    "Katib 0.19 (500)": {
        "p50_ms": 9.3,
        "total_s": 9.0,
        "writes_per_job": 10.0,
        "cpu_ms_per_job": 4.8,
        "restart_s": 0.6,
    },
}
TARGETS = {
    "p50_ms": 15,
    "total_s": 10,
    "writes_until_child": 6,
    "cpu_ms_per_job": 5,
    "restart_s": 2,
    "rss_mib_at_5000": 150,
}


def control_plane() -> str:
    """Starts a control plane of its own, without nodes and scheduler, as the peers had it; its kubeconfig's path."""
    subprocess.run(
        [sys.executable, "-m", "tests.cluster", "up", "--control-plane-only", "--name", CLUSTER],
        check=True,
        cwd=ROOT,
    )
    cluster = plan.load(CLUSTER)
    assert cluster is not None
    native.halt(cluster, ["kube-scheduler"])
    return str(cluster.kubeconfig)


async def prepare(server: Server) -> None:
    """The CRD and the rows that the jobs name. The first request to a new CRD's resource takes two seconds."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        name = crd["metadata"]["name"]
        url = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=bench&force=true"
        await server.call("PATCH", url, path.read_bytes(), Content_Type="application/apply-patch+yaml")
    rows = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rows"},
        "data": {"rows.csv": "text,label\na,b\n"},
    }
    url = "/api/v1/namespaces/default/configmaps/rows?fieldManager=bench&force=true"
    await server.call("PATCH", url, rows, Content_Type="application/apply-patch+yaml")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            await server.call("GET", burst.JOBS)
        except RuntimeError:
            await asyncio.sleep(0.2)
        else:
            return


def table(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints rows as a Markdown table."""
    columns = [c for c in rows[0] if c != "by_verb"]
    print(f"\n{title}\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print(
            "| " + " | ".join("-" if row.get(c) is None else str(row[c]) for c in columns) + " |", flush=True
        )


async def measure_api(kubeconfig: str, operator: Operator, idle: bool) -> dict[str, Any]:
    """The operator on a real API server: bursts, restart, rest."""
    results: dict[str, Any] = {}
    stamp = f"{int(time.time()) & 0xFFFFF:x}"
    async with Server(kubeconfig) as server:
        await prepare(server)
        operator.start()
        warm = f"w{stamp}"
        await burst.measure_burst(server, operator, warm, 20, one_by_one=False)
        await burst.remove(server, warm)
        rows = []
        for count, single in ((20, True), (100, False), (1000, False)):
            run = f"b{count}{stamp}"
            rows.append(
                {
                    "mode": "one by one" if single else "burst",
                    **await burst.measure_burst(server, operator, run, count, single),
                }
            )
            await burst.remove(server, run)
        results["burst"] = rows
        table("Create -> first child Job", rows)
        for row in rows:
            print(f"  requests per job ({row['mode']}, {row['jobs']}): {row['by_verb']}")
        run = f"r{stamp}"
        results["restart"] = [await burst.measure_restart(server, operator, run, 200)]
        await burst.remove(server, run)
        table("SIGTERM with 200 settled jobs -> first child of a new one", results["restart"])
        if idle:
            # A process keeps what a burst once took; at rest means without one before.
            operator.stop()
            operator.start()
            run = f"i{stamp}"
            results["idle"] = await burst.measure_idle(server, operator, run, [0, 1000, 5000], 15)
            await burst.remove(server, run)
            table("At rest", results["idle"])
        operator.stop()
    return results


def main() -> int:
    """Runs the sections and stores the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", default=[], help="api, idle, trainer, recovery (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "latest.json")
    options = parser.parse_args()
    sections = set(options.sections or ["api", "idle", "trainer", "recovery"])
    results: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "peers": PEERS,
        "targets": TARGETS,
    }
    if sections & {"api", "idle"}:
        with tempfile.TemporaryDirectory() as scratch:
            profiles = Path(scratch) / "profiles.yaml"
            profiles.write_text(yaml.safe_dump(PROFILES))
            operator = Operator(control_plane(), profiles, Path(scratch) / "operator.log")
            try:
                results |= asyncio.run(measure_api(operator.arguments[5], operator, "idle" in sections))
            except BaseException:
                sys.stderr.write(
                    "".join((Path(scratch) / "operator.log").read_text().splitlines(keepends=True)[-20:])
                )
                raise
            finally:
                operator.stop()
        print("\nFor comparison (same method, another sitting on such a machine):")
        table("Peers", [{"peer": name, **figures} for name, figures in PEERS.items()])
        print(f"Targets: {TARGETS}")
    if "trainer" in sections:
        from tests.bench import trainer  # imports the trainer's own packages

        results["trainer"] = trainer.measure()
        table("Trainer against a bare torchrun + DeepSpeed script", results["trainer"])
    if "recovery" in sections:
        from tests.bench import recovery

        results["recovery"] = recovery.measure()
        table("Two pods, a small model: stopping and coming back", results["recovery"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nstored in {options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
