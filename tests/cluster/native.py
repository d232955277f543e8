"""The cluster without Docker: the real components as supervised processes on this machine."""

from __future__ import annotations

import contextlib
import functools
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import (
    archive,
    base_image,
    binaries,
    cache,
    components,
    images,
    network,
    node,
    pki,
    plan,
    prerequisites,
    sharing,
)
from .plan import Cluster, Node
from .shell import ClusterError, attempt, run, say, wait_until
from .supervisor import Component, Supervisor


def up(name: str, control_plane_only: bool, nodes: int | None = None) -> Cluster:
    """Bring the cluster up; what already runs as it should is left alone. Returns once pods can be made.

    `nodes` None: as many as it has, or 1.
    """
    prerequisites.ensure_system(control_plane_only)
    binaries.ensure(control_plane_only)
    layouts = [] if control_plane_only else [base_image.ensure_pause(binaries.folder() / "pause")]
    if not control_plane_only:
        layouts.append(base_image.ensure_base())
    cluster, started = plan.create(name, control_plane_only, nodes), time.monotonic()
    with _alone(cluster):
        pki.ensure(cluster)
        shutil.copy(cluster.pki / "admin.kubeconfig", cluster.kubeconfig)
        network.ensure_link(cluster)
        _start_control_plane(cluster)
        if not control_plane_only:
            _start_nodes(cluster, layouts)
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
            failed += _run_all(
                [*_each(node.remove_runtime_state, cluster), lambda: shutil.rmtree(cluster.run, True)]
            )
        failed += [f"could not remove {left}" for left in node.leftovers(cluster)]
        if failed:
            raise ClusterError("; ".join(failed))
        if wipe:
            shutil.rmtree(cluster.folder)
    say(f"cluster '{name}' is {'gone' if wipe else 'stopped; its objects, images and volumes are kept'}")


def _steps_down(cluster: Cluster) -> list[Callable[[], None]]:
    supervisor = _supervisor(cluster)
    steps: list[Callable[[], None]] = [
        lambda: supervisor.stop(["provisioner"]),
        *_each(lambda one: _node_supervisor(one).stop(["kubelet"]), cluster),
        *_each(node.kill_pods_and_shims, cluster),
        *_each(lambda one: _node_supervisor(one).stop(components.NODE), cluster),
        lambda: supervisor.stop(["coredns", "kube-controller-manager", "kube-scheduler"]),
        # The API server waits for its watchers to leave; nobody is left here who would mind.
        lambda: supervisor.stop(["kube-apiserver"], seconds=3),
        lambda: supervisor.stop(["etcd"]),
        lambda: node.unmount_all(cluster.folder),
        lambda: network.remove_links(cluster),
        *_each(node.remove_cgroups, cluster),
        *_each(node.remove_traces, cluster),
    ]
    if cluster.shares_machine:
        steps.append(network.remove_packet_rules)
    if cluster.nodes:
        steps.append(lambda: network.release_settings(_settings(cluster), _settings_of_others(cluster)))
    return steps


def _each(step: Callable[[Node], None], cluster: Cluster) -> list[Callable[[], None]]:
    return [functools.partial(step, one) for one in cluster.nodes]


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


def lose(cluster: Cluster, name: str, cut_off: bool = False) -> None:
    """Take a node away as a power failure does: nobody hears from it again. The next `up` brings it back, empty.

    `cut_off`: only its network fails, and its pods live on.
    Raises ClusterError for a node that has this machine's network.
    """
    one = _find(cluster, name)
    if one.namespace is None:
        raise ClusterError(
            f"node {name} is this machine itself: only a cluster of several nodes can lose one"
        )
    with _alone(cluster):
        network.disconnect(one)
        if cut_off:
            return
        _node_supervisor(one).stop(components.NODE, seconds=0)
        node.kill_pods_and_shims(one)
        node.unmount_all(one.folder)
        node.remove_cgroups(one)
        node.remove_traces(one)
        node.remove_runtime_state(one)


def _find(cluster: Cluster, name: str) -> Node:
    found = {one.name: one for one in cluster.nodes}
    if name not in found:
        raise ClusterError(
            f"cluster '{cluster.name}' has no node {name}; it has {', '.join(found) or 'none'}"
        )
    return found[name]


def load(cluster: Cluster, path: Path, name: str | None) -> str:
    """Put an image into every node, while nobody may stop them; return what was done."""
    if cluster.control_plane_only:
        raise ClusterError(f"cluster '{cluster.name}' has no node that could hold images")
    with _alone(cluster):
        with archive.opened(path, name) as image:
            known_as = image.name
        return "; ".join(_load(one, path, known_as) for one in cluster.nodes)


def _load(one: Node, path: Path, name: str) -> str:
    with sharing.borrowed(one, name):
        return images.load(one, path, name)


def status(cluster: Cluster) -> list[str]:
    """Return one line a component: its name, and its pid or that it is stopped."""
    supervisor = _supervisor(cluster)
    found = {name: supervisor.pid(name) for name in components.CONTROL_PLANE}
    for one in cluster.nodes:
        prefix = f"{one.name} " if one.number else ""
        found |= {prefix + name: _node_supervisor(one).pid(name) for name in components.NODE}
    if cluster.nodes:
        found |= {name: supervisor.pid(name) for name in components.SERVICES}
    return [f"{name:<24} {_state(pid)}" for name, pid in found.items()]


def is_up(cluster: Cluster) -> bool:
    """Tell whether every component runs and the API server answers."""
    return "stopped" not in " ".join(status(cluster)) and _answers(cluster, f"{cluster.server}/readyz")


def _state(pid: object) -> str:
    return f"running, pid {pid}" if pid else "stopped"


def _supervisor(cluster: Cluster) -> Supervisor:
    return Supervisor(cluster.folder, cluster.run, cluster.logs)


def _node_supervisor(one: Node) -> Supervisor:
    return Supervisor(one.folder, one.run, one.logs)


def _settings(cluster: Cluster) -> Path:
    return cluster.folder / "kernel-settings.saved"


def _settings_of_others(cluster: Cluster) -> list[Path]:
    return [_settings(other) for other in plan.known() if other.name != cluster.name]


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


def _start_nodes(cluster: Cluster, layouts: list[Path]) -> None:
    network.save_settings(_settings(cluster))
    network.enable_forwarding()
    cluster.volumes.mkdir(parents=True, exist_ok=True)
    components.render_configurations(cluster)
    for one in cluster.nodes:
        _start_containerd(one, layouts)
    run(kubectl(cluster, "apply", "-f", str(cluster.run / "objects.yaml")))
    for one in cluster.nodes:
        for name in components.NODE[1:]:
            _node_supervisor(one).ensure(components.node(one)[name])
    supervisor, parts = _supervisor(cluster), components.services(cluster)
    for part in parts.values():
        supervisor.ensure(part)
    for one in cluster.nodes:
        _wait_for_node(one)
    _wait_for(cluster, supervisor, parts["coredns"], f"http://{cluster.loopback}:8181/ready")
    supervisor.must_run("provisioner")


def _start_containerd(one: Node, layouts: list[Path]) -> None:
    network.ensure_namespace(one)
    node.ensure_cgroup(one)
    supervisor = _node_supervisor(one)
    supervisor.ensure(components.node(one)["containerd"])
    wait_until(
        "containerd",
        lambda: attempt(images.ctr(one, "version"), seconds=20) is not None,
        seconds=30,
        hint=lambda: supervisor.complain("containerd"),
    )
    for layout in layouts:
        images.load(one, layout)


def _wait_for_node(one: Node) -> None:
    """Until kubelet answers, and the API server has heard from it: what an earlier run left still says Ready."""
    supervisor = _node_supervisor(one)
    condition = "{.status.conditions[?(@.type=='Ready')].status}"
    healthy = kubectl(one.cluster, "get", "--raw", f"/api/v1/nodes/{one.name}/proxy/healthz")
    ready = kubectl(one.cluster, "get", "node", one.name, "-o", f"jsonpath={condition}")

    def works() -> bool:
        supervisor.must_run("kubelet")
        return attempt(healthy, seconds=20) == "ok" and attempt(ready, seconds=20) == "True"

    wait_until(f"node {one.name} to be Ready", works, seconds=90, hint=lambda: supervisor.complain("kubelet"))
    supervisor.must_run("kube-proxy")


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
