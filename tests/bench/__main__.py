"""`python -m tests.bench [SECTION ...] [--out FILE]`: tables, JSON.

Sections: api, idle, deployments, trainer, verification, recovery, scaling, gateway, load, serving. A section that
fails says so in its table and in the JSON, and the others go on; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import api, gateway, scaling, verification
from tests.bench.sections import Rows, Section, print_table, run_sections
from tests.bench.serving import ceiling, generative, predictive

ROOT = Path(__file__).resolve().parents[2]
GROUPS = (
    "api",
    "idle",
    "deployments",
    "trainer",
    "verification",
    "recovery",
    "scaling",
    "gateway",
    "load",
    "serving",
)
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


def build_sections(chosen: set[str], logs: Path) -> list[Section]:
    """The sections of the chosen groups, in their order. The trainer's packages are imported when it is measured."""

    def measure_trainer(rows: Rows) -> None:
        from tests.bench import trainer

        trainer.measure(rows)

    def measure_recovery(rows: Rows) -> None:
        from tests.bench import recovery

        recovery.measure(rows)

    title = "Two pods, a small model: stopping and coming back"
    groups = api.sections(logs) | {
        "trainer": [
            Section("trainer", "Trainer against a bare torchrun + DeepSpeed script", 3600, measure_trainer)
        ],
        "verification": [
            Section("verification", "Verifying a checkpoint of 10 GB", 1800, verification.measure)
        ],
        "recovery": [Section("recovery", title, 5400, measure_recovery)],
        "scaling": [Section("scaling", scaling.TITLE, 600, scaling.measure)],
        "gateway": [Section("gateway", gateway.TITLE, 900, gateway.measure)],
        "load": ceiling.sections(),
        "serving": [
            Section("classification", predictive.CLASSIFICATION, 3600, predictive.measure_classification),
            Section("embeddings", predictive.EMBEDDINGS, 3600, predictive.measure_embeddings),
            Section("generation", generative.TITLE, 5400, generative.measure),
        ],
    }
    return [section for group in GROUPS if group in chosen for section in groups[group]]


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Replaces the file: what is there is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sections and stores the results after each. Returns 0, or 1 when any section failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", default=[], help=f"{', '.join(GROUPS)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "latest.json")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.sections) - set(GROUPS))
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    sections = build_sections(set(options.sections or GROUPS), options.out.parent / "logs")
    results: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "peers": PEERS,
        "targets": TARGETS,
    }
    failed = run_sections(sections, results, partial(write_json, options.out, results))
    if {"burst", "idle"} & set(results):
        print("\nFor comparison (same method, another sitting on such a machine):")
        print_table("Peers", [{"peer": name, **figures} for name, figures in PEERS.items()])
        print(f"Targets: {TARGETS}")
    print(f"\nstored in {options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out}")
    for name, errors in failed.items():
        for error in errors:
            print(f"FAILED {name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    # As for Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
