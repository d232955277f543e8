"""Brings up what the demo stands on: the cluster, the images in it, the chart, a namespace."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from examples.demo.shell import ROOT, DemoError, Kubectl, read, run

CLUSTER = [sys.executable, "-m", "tests.cluster"]
BUILD = [sys.executable, "images/build.py"]
RELEASE = "modelyard"
SYSTEM_NAMESPACE = "modelyard-system"
NAMESPACE = "demo"


def start_cluster(name: str) -> Kubectl:
    """The running local cluster, started if need be."""
    run([*CLUSTER, "up", "--name", name], "starting the cluster")
    return find_cluster(name)


def find_cluster(name: str) -> Kubectl:
    """kubectl, helm and kubeconfig of a cluster that was started before. Raises DemoError without them."""
    said = read([*CLUSTER, "env", "--name", name], "asking for the cluster's settings")
    lines = (line.removeprefix("export ") for line in said.splitlines())
    settings = {name: os.path.expandvars(value) for name, _, value in (line.partition("=") for line in lines)}
    if not Path(settings.get("KUBECONFIG", "")).is_file():
        raise DemoError("there is no running cluster; run `make cluster-up`, then the demo again")
    programs = {program: shutil.which(program, path=settings.get("PATH")) for program in ("kubectl", "helm")}
    missing = [program for program, found in programs.items() if not found]
    if missing:
        raise DemoError(
            f"{' and '.join(missing)} can't be found; install it, put it on PATH, and run the demo again"
        )
    return Kubectl(str(programs["kubectl"]), str(programs["helm"]), settings["KUBECONFIG"], NAMESPACE)


def load_images(name: str) -> dict[str, str]:
    """Builds what changed, loads it into the cluster; returns whole references by image name."""
    tags: dict[str, str] = json.loads(read([*BUILD, "all", "--load", name], "building the images", live=True))
    return tags


def find_trainer_image(kube: Kubectl) -> str:
    """The trainer image that the installed chart names; the checkout may have moved on since."""
    profiles = kube(
        "-n",
        SYSTEM_NAMESPACE,
        "get",
        "configmap",
        f"{RELEASE}-profiles",
        "-o",
        "jsonpath={.data.profiles\\.yaml}",
    )
    found = re.search(r"^ *trainerImage: *(\S+)$", profiles, re.MULTILINE)
    if found is None:
        raise DemoError(f"the chart {RELEASE} names no trainer image; run `make demo` first")
    return found[1]


def image_values(key: str, reference: str) -> dict[str, str]:
    """helm's values for an image reference, as name:tag."""
    repository, _, tag = reference.rpartition(":")
    if not repository or "/" in tag:
        raise DemoError(f"the image {reference!r} has no tag; images/build.py tags must print name:tag")
    return {f"{key}.registry": "", f"{key}.repository": repository, f"{key}.tag": tag}


def install_chart(kube: Kubectl, images: Mapping[str, str]) -> None:
    """helm upgrade --install, and nothing else."""
    values = image_values("image", images["operator"])
    for name in ("trainer", "server", "gateway"):
        values |= image_values(f"{name}Image", images[name])
    command = [kube.helm, "upgrade", "--install", RELEASE, str(ROOT / "charts" / "modelyard"),
               "--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait",
               "--timeout", "120s"]  # fmt: skip
    for key, value in values.items():
        command += ["--set-string", f"{key}={value}"]
    run(command, "installing the chart", kube.env)


def make_namespace(kube: Kubectl) -> None:
    """The demo's namespace, at the strictest pod security level."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})


def remove(kube: Kubectl) -> None:
    """Undoes the namespace, the release and its definitions; a second call finds nothing to do."""
    kube("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")
    run([kube.helm, "uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--ignore-not-found", "--wait"],
        "removing the chart", kube.env)  # fmt: skip
    # The chart keeps its definitions on purpose; the demo leaves nothing.
    kube("delete", "crd", "trainingjobs.modelyard.dev", "modeldeployments.modelyard.dev", "--ignore-not-found",
         "--timeout=60s")  # fmt: skip
    kube("delete", "namespace", SYSTEM_NAMESPACE, "--ignore-not-found", "--timeout=120s")
