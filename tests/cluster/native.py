"""The cluster without Docker: the real components as supervised processes on this machine."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import base_image, binaries, cache, components, images, network, node, pki, plan, prerequisites
from .plan import Cluster
from .shell import ClusterError, attempt, run, say, wait_until
from .supervisor import Component, Supervisor


def up(name: str, control_plane_only: bool) -> Cluster:
    """Bring the cluster up; what already runs as it should is left alone. Returns once pods can be made."""
    prerequisites.ensure_system(control_plane_only)
    binaries.ensure(control_plane_only)
    layouts = [] if control_plane_only else [base_image.ensure_pause(binaries.folder() / "pause")]
    if not control_plane_only:
        layouts.append(base_image.ensure_base())
    cluster, started = plan.create(name, control_plane_only), time.monotonic()
    with _alone(cluster):
        pki.ensure(cluster)
        shutil.copy(cluster.pki / "admin.kubeconfig", cluster.kubeconfig)
        network.ensure_node_link(cluster)
        _start_control_plane(cluster)
        if not control_plane_only:
            _start_node(cluster, layouts)
        _wait_for_service_account(cluster)
    say(
        f"cluster '{name}' is up ({time.monotonic() - started:.1f} s): export KUBECONFIG={cluster.kubeconfig}"
    )
    return cluster


def down(name: str, wipe: bool) -> None:
    """Stop the cluster and put the machine back; with `wipe` also remove its objects, images and volumes."""
    cluster = plan.load(name)
    if not cluster:
        say(f"there is no cluster '{name}'")
        return
    prerequisites.ensure_root()
    with _alone(cluster):
        failed = _run_all(_steps_down(cluster))
        if not node.mounts_below(cluster.folder, Path("/proc/mounts").read_text()):
            # With a volume still mounted below, this would delete what is in it.
            failed += _run_all([lambda: node.remove_runtime_state(cluster)])
        failed += [f"could not remove {left}" for left in node.leftovers(cluster)]
        if failed:
            raise ClusterError("; ".join(failed))
        if wipe:
            shutil.rmtree(cluster.folder)
    say(f"cluster '{name}' is {'gone' if wipe else 'stopped; its objects, images and volumes are kept'}")


def _steps_down(cluster: Cluster) -> list[Callable[[], None]]:
    supervisor = _supervisor(cluster)
    steps: list[Callable[[], None]] = [
        lambda: supervisor.stop(["kubelet", "provisioner"]),
        lambda: node.kill_pods_and_shims(cluster),
        lambda: supervisor.stop([*components.NODE, "kube-controller-manager", "kube-scheduler"]),
        # The API server waits for its watchers to leave; nobody is left here who would mind.
        lambda: supervisor.stop(["kube-apiserver"], seconds=3),
        lambda: supervisor.stop(["etcd"]),
        lambda: node.unmount_all(cluster),
        lambda: network.remove_links(cluster),
    ]
    if not cluster.control_plane_only:
        steps += [
            network.remove_packet_rules,
            lambda: network.restore_settings(_settings(cluster)),
            lambda: node.remove_cgroups(cluster),
            lambda: node.remove_traces(cluster),
        ]
    return steps


def _run_all(steps: Iterable[Callable[[], None]]) -> list[str]:
    """Run every step, whatever the others do: what one leaves must not keep the rest running. What failed."""
    failed = []
    for step in steps:
        try:
            step()
        except (ClusterError, OSError) as error:
            failed.append(str(error))
    return failed


def halt(cluster: Cluster, names: list[str]) -> None:
    """Stop single components of a running cluster; the next `up` starts them again."""
    with _alone(cluster):
        _supervisor(cluster).stop(names)


def load(cluster: Cluster, path: Path, name: str | None) -> str:
    """Put an image into the node, while nobody may stop it; return what was done."""
    if cluster.control_plane_only:
        raise ClusterError(f"cluster '{cluster.name}' has no node that could hold images")
    with _alone(cluster):
        return images.load(cluster, path, name)


def status(cluster: Cluster) -> list[str]:
    """Return one line a component: its name, and its pid or that it is stopped."""
    supervisor = _supervisor(cluster)
    names = (
        components.CONTROL_PLANE if cluster.control_plane_only else components.CONTROL_PLANE + components.NODE
    )
    return [f"{name:<24} {_state(supervisor.pid(name))}" for name in names]


def is_up(cluster: Cluster) -> bool:
    """Tell whether every component runs and the API server answers."""
    return "stopped" not in " ".join(status(cluster)) and _answers(cluster, f"{cluster.server}/readyz")


def _state(pid: object) -> str:
    return f"running, pid {pid}" if pid else "stopped"


def _supervisor(cluster: Cluster) -> Supervisor:
    return Supervisor(cluster.folder, cluster.run, cluster.logs)


def _settings(cluster: Cluster) -> Path:
    return cluster.folder / "kernel-settings.saved"


@contextlib.contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    with cache.locked(
        plan.clusters_folder() / f"{cluster.name}.lock",
        f"starting, stopping or loading into '{cluster.name}'",
    ):
        yield


def _start_control_plane(cluster: Cluster) -> None:
    (cluster.state / "etcd").mkdir(parents=True, exist_ok=True, mode=0o700)
    supervisor, parts = _supervisor(cluster), components.control_plane(cluster)
    for name in ("etcd", "kube-apiserver"):
        supervisor.ensure(parts[name])
    # The others end at once if they may not read yet what the API server's first start writes.
    _wait_for(cluster, supervisor, parts["kube-apiserver"], f"{cluster.server}/readyz")
    for name in ("kube-controller-manager", "kube-scheduler"):
        supervisor.ensure(parts[name])


def _start_node(cluster: Cluster, layouts: list[Path]) -> None:
    network.save_settings(_settings(cluster))
    network.enable_forwarding()
    node.ensure_cgroup(cluster)
    cluster.volumes.mkdir(parents=True, exist_ok=True)
    components.render_configurations(cluster)
    supervisor, parts = _supervisor(cluster), components.node(cluster)
    supervisor.ensure(parts["containerd"])
    wait_until(
        "containerd",
        lambda: attempt(images.ctr(cluster, "version"), seconds=20) is not None,
        seconds=30,
        hint=lambda: supervisor.complain("containerd"),
    )
    for layout in layouts:
        images.load(cluster, layout)
    run(kubectl(cluster, "apply", "-f", str(cluster.run / "objects.yaml")))
    for name in components.NODE[1:]:
        supervisor.ensure(parts[name])
    # The node object of an earlier run still says Ready; kubelet itself has to answer first.
    _wait_for(cluster, supervisor, parts["kubelet"], f"http://{cluster.loopback}:10248/healthz")
    _wait_for(cluster, supervisor, parts["coredns"], f"http://{cluster.loopback}:8181/ready")
    ready = "{.status.conditions[?(@.type=='Ready')].status}"
    question = kubectl(cluster, "get", "node", cluster.node_name, "-o", f"jsonpath={ready}")
    wait_until(
        "the node to be Ready",
        lambda: attempt(question, seconds=20) == "True",
        seconds=60,
        hint=lambda: supervisor.complain("kubelet"),
    )
    supervisor.must_run("kube-proxy")
    supervisor.must_run("provisioner")


def _wait_for(cluster: Cluster, supervisor: Supervisor, part: Component, url: str) -> None:
    def ready() -> bool:
        supervisor.must_run(part.name)
        return _answers(cluster, url)

    wait_until(part.name, ready, seconds=90, hint=lambda: supervisor.complain(part.name))


def _answers(cluster: Cluster, url: str) -> bool:
    context = (
        ssl.create_default_context(cafile=str(cluster.pki / "ca.crt")) if url.startswith("https") else None
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _wait_for_service_account(cluster: Cluster) -> None:
    question = kubectl(cluster, "-n", "default", "get", "serviceaccount", "default")
    wait_until(
        "the default service account",
        lambda: attempt(question, seconds=20) is not None,
        seconds=60,
        hint=lambda: _supervisor(cluster).complain("kube-controller-manager"),
    )


def kubectl(cluster: Cluster, *words: str) -> list[str]:
    """Return a kubectl command for this cluster, whatever KUBECONFIG says."""
    return [str(binaries.folder() / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), *words]
