"""`python -m modelyard run`: reads the options and puts the operator together. Wiring only."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

DEFAULT_PROFILES = "/etc/modelyard/profiles.yaml"


def build_parser() -> argparse.ArgumentParser:
    """The command line.

    Every option has an environment variable, so that a chart need not build a command.
    """
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="python -m modelyard", description="The Modelyard operator.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the operator until SIGTERM")
    run.add_argument(
        "--kubeconfig", default=None, help="default: $KUBECONFIG, the service account, ~/.kube/config"
    )
    run.add_argument(
        "--namespace", dest="namespaces", action="append", metavar="NS", default=None,
        help="watch this namespace only; may be repeated; default: all ($MODELYARD_NAMESPACES, by commas)",
    )  # fmt: skip
    run.add_argument(
        "--profiles", type=Path, metavar="FILE", default=Path(env("MODELYARD_PROFILES", DEFAULT_PROFILES)),
        help="YAML file of profiles ($MODELYARD_PROFILES)",
    )  # fmt: skip
    run.add_argument(
        "--workers", type=int, default=int(env("MODELYARD_WORKERS", "8")),
        help="resources reconciled at once ($MODELYARD_WORKERS)",
    )  # fmt: skip
    run.add_argument(
        "--no-leader-election", dest="leader_election", action="store_false",
        default=env("MODELYARD_LEADER_ELECTION", "true").lower() != "false",
        help="write without holding the Lease; only for a single operator ($MODELYARD_LEADER_ELECTION=false)",
    )  # fmt: skip
    run.add_argument(
        "--lease", default=env("MODELYARD_LEASE", "modelyard"), help="name of the Lease ($MODELYARD_LEASE)"
    )
    run.add_argument(
        "--lease-namespace", default=env("MODELYARD_LEASE_NAMESPACE"),
        help="default: the pod's own, else default ($MODELYARD_LEASE_NAMESPACE)",
    )  # fmt: skip
    run.add_argument(
        "--metrics-host", default=env("MODELYARD_METRICS_HOST", ""), help="address to listen on; default: all"
    )
    run.add_argument(
        "--metrics-port", type=int, default=int(env("MODELYARD_METRICS_PORT", "8080")),
        help="port of /healthz, /readyz and /metrics; 0 takes a free one ($MODELYARD_METRICS_PORT)",
    )  # fmt: skip
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"),
        default=env("MODELYARD_LOG_LEVEL", "info"),
        help="least level that is logged ($MODELYARD_LOG_LEVEL)",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after a stop on request, 1 where the operator can't run or must not go on."""
    options = build_parser().parse_args(arguments)
    if options.workers < 1:
        print("--workers must be at least 1", file=sys.stderr)
        return 2
    if options.namespaces is None:
        options.namespaces = [
            n.strip() for n in os.environ.get("MODELYARD_NAMESPACES", "").split(",") if n.strip()
        ]
    # Imported late: `--help` and mistakes need no Kubernetes client. Nothing of it is garbage, and looking for some
    # meanwhile would take a tenth of the start.
    gc.disable()
    from modelyard.assembly import Operator
    from modelyard.cluster.login import LoginError
    from modelyard.cluster.reflector import WatchError
    from modelyard.observe.profiles import ProfilesError
    from modelyard.telemetry.logs import set_up_logs

    gc.enable()
    set_up_logs(options.log_level)
    try:
        return asyncio.run(Operator(options).run())
    except (LoginError, WatchError, ProfilesError) as error:
        print(f"modelyard: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"modelyard: can't listen on port {options.metrics_port}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
