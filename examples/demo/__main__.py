"""From nothing to a model that answers, with helm and kubectl."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from examples.demo import install, load, report, serve, train
from examples.demo.inputs import load_inputs, prepare_inputs, read_tweets
from examples.demo.predict import predict
from examples.demo.shell import ROOT, DemoError, alone, step


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
        folder = prepare_inputs()
        copied = load_inputs(kube, folder, images["operator"])
        print("    copied" if copied else "    already there")
    with step(f"TrainingJob: {train.MANIFEST.relative_to(ROOT)}"):
        status = train.train(kube)
    print(report.format_success(train.JOB, status))
    with step(f"ModelDeployment: {serve.MANIFEST.relative_to(ROOT)}"):
        endpoint = serve.serve(kube)
    with step(f"Load: {endpoint.clients} callers, twice as many as one server is best with"):
        load.show(kube, endpoint, [text for text, _ in read_tweets(folder)])
    print(report.format_next(train.JOB, kube.namespace, endpoint.curl("I love it"), kube.kubeconfig))
    print(f"The demo itself took {time.monotonic() - start:.0f} s.")


def down(cluster: str) -> None:
    """Removes what `up` put into the cluster; the cluster and the images stay."""
    with step("Removing the demo"):
        install.remove(install.find_cluster(cluster))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 and one clear message where the demo can't go on."""
    parser = argparse.ArgumentParser(prog="python3 -m examples.demo", description=__doc__)
    parser.add_argument("--cluster", default="default", help="name of the local cluster (default: default)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="cluster, images, chart, inputs, training, serving; safe to repeat")
    commands.add_parser("down", help="remove what `up` put into the cluster")
    asking = commands.add_parser("predict", help="classify sentences with the trained model")
    asking.add_argument("texts", nargs="+", metavar="TEXT")
    args = parser.parse_args(argv)
    try:
        if args.command == "predict":
            kube = install.find_cluster(args.cluster)
            print(predict(kube, train.JOB, install.find_trainer_image(kube), args.texts), end="")
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
