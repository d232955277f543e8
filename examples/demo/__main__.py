"""From nothing to a trained model, with helm and kubectl."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from examples.demo import install, report
from examples.demo.inputs import load_inputs, prepare_inputs
from examples.demo.predict import predict
from examples.demo.shell import ROOT, DemoError, Kubectl, alone, step

JOB = "sentiment"
MANIFEST = ROOT / "examples" / "sentiment" / "trainingjob.yaml"
# Seconds for all of the job on a slow machine; the job itself has no deadline.
PATIENCE = 1800


def start_job(kube: Kubectl) -> str:
    """Applies the example; returns the job's uid. A job of an earlier run goes first: a TrainingJob trains once."""
    kube("delete", "trainingjob", JOB, "--ignore-not-found", "--timeout=120s")
    kube("apply", "--server-side", "-f", str(MANIFEST))
    return kube("get", "trainingjob", JOB, "-o", "jsonpath={.metadata.uid}")


def watch_job(kube: Kubectl) -> None:
    """The live view of the command line tool, until the job has ended."""
    command = [sys.executable, "-m", "modelyard.cli", "watch", JOB, "--namespace", kube.namespace]
    env = {**kube.env, "KUBECTL": kube.kubectl, "PYTHONPATH": str(ROOT / "operator")}
    # Its exit code says how the job ended, and so does the status, which is read afterwards either way.
    subprocess.run(command, cwd=ROOT, env=env, check=False)


def wait_end(kube: Kubectl, uid: str, patience: float) -> Mapping[str, Any]:
    """The status of that very job once it is final. Raises DemoError when it is gone or takes too long."""
    deadline = time.monotonic() + patience
    while True:
        found = kube.get("trainingjob", JOB)
        if found is None or found["metadata"]["uid"] != uid:
            # Another job of the same name is no result of this run.
            raise DemoError(
                f"the TrainingJob {JOB} was deleted or replaced while the demo waited for it; run it again"
            )
        status: Mapping[str, Any] = found.get("status") or {}
        true = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
        if true & {"Succeeded", "Stalled"}:
            return status
        if time.monotonic() > deadline:
            raise DemoError(report.format_failure(JOB, kube.namespace, status, kube.kubeconfig))
        time.sleep(2)


def up(cluster: str) -> None:
    """Everything, each step a no-op where it was done before."""
    start = time.monotonic()
    with step("Cluster"):
        kube = install.start_cluster(cluster)
    with step("Images: built if their inputs changed, loaded if the cluster lacks them"):
        images = install.load_images(cluster)
    with step("Chart: the operator, its CRDs, its roles"):
        install.install_chart(kube, images)
    with step("Inputs: all-MiniLM-L6-v2 and labelled tweets into the claim `inputs`"):
        install.make_namespace(kube)
        copied = load_inputs(kube, prepare_inputs(), images["operator"])
        print("    copied" if copied else "    already there")
    with step(f"TrainingJob: {MANIFEST.relative_to(ROOT)}"):
        uid = start_job(kube)
        watch_job(kube)
        status = wait_end(kube, uid, PATIENCE)
    if not any(c["type"] == "Succeeded" and c["status"] == "True" for c in status["conditions"]):
        raise DemoError(report.format_failure(JOB, kube.namespace, status, kube.kubeconfig))
    print(report.format_success(JOB, kube.namespace, status, kube.kubeconfig))
    print(f"All of it took {time.monotonic() - start:.0f} s.")


def down(cluster: str) -> None:
    """Removes what `up` put into the cluster; the cluster and the images stay."""
    with step("Removing the demo"):
        install.remove(install.find_cluster(cluster))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 and one clear message where the demo can't go on."""
    parser = argparse.ArgumentParser(prog="python3 -m examples.demo", description=__doc__)
    parser.add_argument("--cluster", default="default", help="name of the local cluster (default: default)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="cluster, images, chart, inputs, training; safe to repeat")
    commands.add_parser("down", help="remove what `up` put into the cluster")
    asking = commands.add_parser("predict", help="classify sentences with the trained model")
    asking.add_argument("texts", nargs="+", metavar="TEXT")
    args = parser.parse_args(argv)
    try:
        if args.command == "predict":
            kube = install.find_cluster(args.cluster)
            print(predict(kube, JOB, install.find_trainer_image(kube), args.texts), end="")
        else:
            with alone(args.cluster):
                {"up": up, "down": down}[args.command](args.cluster)
    except DemoError as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Run the demo again to go on, or `make demo-down` to remove it.", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
