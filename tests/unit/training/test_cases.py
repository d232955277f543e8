"""What the kubelet, the scheduler, the Job controller and admission can do to a pod, stage by stage.

One case each: the pod's status as the real component writes it, and what the job makes of it. Each case is
played on preparing and on training pods, unless one of them can't meet it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.builders import PodBuilder, TrainingJobBuilder
from tests.unit.training.simulation import Simulation

Change = Callable[[PodBuilder], PodBuilder]
BOTH = ("prepare", "train")
RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create"
    " failed: unable to start container process: {}: unknown"
)
NOT_FOUND = RUNC.format('exec: "python3": executable file not found in $PATH')
AT_ONCE = {"startedAt": "2026-01-01T00:00:30Z", "finishedAt": "2026-01-01T00:00:31Z"}
TAINTED = "Taint manager: deleting due to NoExecute taint"


def start_error(message: str) -> dict[str, Any]:
    ended = {"exitCode": 128, "reason": "StartError", "message": message}
    # containerd's time of a start that never was.
    return {
        "terminated": {**ended, "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:30Z"}
    }


def died(code: int, reason: str = "Error", **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **fields}}


# Pods that have failed.


@dataclass(frozen=True)
class Failed:
    """`cause` as in status.attempts; `over`: the job has ended with it; `counts`: the counter that went up."""

    change: Change
    cause: str
    reason: str
    words: str = ""
    over: bool = False
    stages: tuple[str, ...] = BOTH


def refused_by_kubelet(reason: str, message: str = "Pod was rejected: x") -> Failed:
    """Admission at the node: no container has a status."""
    name = "".join(c for c in reason if c.isalnum())
    return Failed(
        lambda p: p.says(phase="Failed", reason=reason, message=message), "Infrastructure", name, message
    )


def evicted(message: str, *, over: bool = False) -> Failed:
    def change(pod: PodBuilder) -> PodBuilder:
        pod = pod.says(phase="Failed", reason="Evicted", message=message).main(died(137))
        return pod.condition("DisruptionTarget", "True", "TerminationByKubelet", message)

    if over:
        return Failed(change, "UserError", "StorageLimitExceeded", "Raise the limit", over=True)
    return Failed(change, "Infrastructure", "Evicted", message.strip())


def disrupted(reason: str, message: str, code: int = 137) -> Failed:
    """The API's eviction, the scheduler's preemption and their like: a condition, then the pod is deleted."""
    return Failed(
        lambda p: (
            p.says(phase="Failed")
            .main(died(code))
            .deleted("2026-01-01T00:00:00Z")
            .condition("DisruptionTarget", "True", reason, message)
        ),
        "Infrastructure",
        reason,
        message,
    )


def unstartable(message: str, words: str, *, over: bool) -> Failed:
    return Failed(
        lambda p: p.says(phase="Failed").main(start_error(message)),
        "UserError" if over else "Infrastructure",
        "ContainerCannotRun",
        words,
        over,
    )


FAILED: dict[str, Failed] = {
    "the node has not the CPUs after all": refused_by_kubelet("OutOfcpu"),
    "the node has not the memory after all": refused_by_kubelet("OutOfmemory"),
    "the node has not the accelerators after all": refused_by_kubelet("OutOfnvidia.com/gpu"),
    "the node has no place for another pod": refused_by_kubelet("OutOfpods"),
    "a device plugin gives no device": refused_by_kubelet("UnexpectedAdmissionError"),
    "the node's labels have changed": refused_by_kubelet("NodeAffinity"),
    "the node's topology manager can't align it": refused_by_kubelet("TopologyAffinityError"),
    "the node has another operating system": refused_by_kubelet("PodOSNotSupported"),
    "the node can attach no more volumes": refused_by_kubelet("VolumeAttachmentLimitExceeded"),
    "the node is shutting down and takes no pod": refused_by_kubelet("NodeShutdown"),
    "a critical pod takes its place": refused_by_kubelet("Preempting", "Preempted in order to admit"),
    "the node shuts down under it": Failed(
        lambda p: (
            p.says(
                phase="Failed",
                reason="Terminated",
                message="Pod was terminated in response to imminent node shutdown.",
            )
            .main(died(137))
            .condition("DisruptionTarget", "True", "TerminationByKubelet")
        ),
        "Infrastructure",
        "Terminated",
        "imminent node shutdown",
    ),
    "the node is low on memory": evicted("The node was low on resource: memory."),
    "the node is low on disk": evicted("The node was low on resource: ephemeral-storage."),
    "it wrote more than ephemeral-storage allows": evicted(
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", over=True
    ),
    "it filled a volume in memory": evicted(
        'Usage of EmptyDir volume "modelyard-shm" exceeds the limit "2Gi". ', over=True
    ),
    "another container wrote too much": evicted(
        'Container aaa-mesh exceeded its local ephemeral storage limit "1Gi". '
    ),
    "a drain": disrupted("EvictionByEvictionAPI", "Eviction API: evicting"),
    "a pod of higher priority": disrupted(
        "PreemptionByScheduler", "preempting to accommodate a higher priority"
    ),
    "a taint": disrupted("DeletionByTaintManager", TAINTED),
    "its node is gone": disrupted("DeletionByPodGC", "PodGC: node no longer exists"),
    "its node was lost, and says so late": Failed(
        lambda p: p.says(phase="Failed", reason="NodeLost", message="Node x is unreachable").main(died(137)),
        "Infrastructure",
        "NodeLost",
        "unreachable",
    ),
    "the node has restarted and knows nothing of it": Failed(
        lambda p: p.says(phase="Failed").main(
            died(
                137,
                "ContainerStatusUnknown",
                message="The container could not be located when the pod was deleted.",
            )
        ),
        "Infrastructure",
        "ContainerStatusUnknown",
        "lost by its node",
    ),
    "a deadline that a policy put on the pod": Failed(
        lambda p: p.says(
            phase="Failed",
            reason="DeadlineExceeded",
            message="Pod was active on the node longer than the specified deadline",
        ).main(died(137)),
        "Infrastructure",
        "PodDeadlineExceeded",
        "longer than the specified deadline",
    ),
    "killed for its memory": Failed(
        lambda p: p.says(phase="Failed").main(died(137, "OOMKilled")),
        "UserError",
        "HostOutOfMemory",
        "memory",
        over=True,
    ),
    "killed by nobody knows whom while it prepared": Failed(
        lambda p: p.says(phase="Failed").main(died(137)),
        "Infrastructure",
        "PodKilled",
        "was killed (exit code 137)",
        stages=("prepare",),
    ),
    "an image without python3": unstartable(
        NOT_FOUND, 'exec: "python3": executable file not found', over=True
    ),
    "an entry that is missing": unstartable(
        RUNC.format('exec: "/bin/x": stat /bin/x: no such file or directory'), "lacks this program", over=True
    ),
    "a program that its user may not run": unstartable(
        RUNC.format('exec: "/bin/x": permission denied'), "may not run it", over=True
    ),
    "another architecture, as CRI-O tells it": unstartable(
        RUNC.format("exec /usr/bin/python3: exec format error"), "processor architecture", over=True
    ),
    "another architecture, as runc ends of it": Failed(
        lambda p: p.says(phase="Failed").main(died(255)),
        "UserError",
        "ContainerCannotRun",
        "processor architecture",
        over=True,
    ),
    "another architecture, as the kernel tells it": Failed(
        lambda p: p.says(phase="Failed").main(died(1, **AT_ONCE)),
        "UserError",
        "ContainerCannotRun",
        "processor architecture",
        over=True,
    ),
    "a library that the image lacks": Failed(
        lambda p: p.says(phase="Failed").main(died(127)),
        "UserError",
        "ContainerCannotRun",
        "one of its libraries",
        over=True,
    ),
    "a runtime in trouble": unstartable(
        RUNC.format("unable to apply cgroup configuration: no space left on device"),
        "no space left",
        over=False,
    ),
    "an accelerator's runtime hook that fails": unstartable(
        RUNC.format("nvidia-container-cli: initialization error: nvml error: driver not loaded"),
        "driver not loaded",
        over=False,
    ),
    "Docker's word for it": Failed(
        lambda p: p.says(phase="Failed").main(
            died(127, "ContainerCannotRun", message='exec: "python3": executable file not found in $PATH')
        ),
        "UserError",
        "ContainerCannotRun",
        "python3",
        over=True,
    ),
    "the agent's image has no python3": Failed(
        lambda p: p.says(phase="Failed").init("agent", start_error(NOT_FOUND)),
        "UserError",
        "ContainerCannotRun",
        "Container agent",
        over=True,
        stages=("train",),
    ),
    "an init container of others fails": Failed(
        lambda p: p.says(phase="Failed").init("istio-init", died(3)),
        "Infrastructure",
        "InitContainerFailed",
        "istio-init",
    ),
    "an init container of others is killed for its memory": Failed(
        lambda p: p.says(phase="Failed").init("istio-init", died(137, "OOMKilled")),
        "Infrastructure",
        "InitContainerFailed",
        "used more than its memory limit",
    ),
    "a container of others fails the pod that had ended well": Failed(
        lambda p: p.ended(0).beside("aaa-mesh", 1),
        "Infrastructure",
        "ContainerFailed",
        "Container aaa-mesh",
    ),
}


def begin(stage: str, **policy: Any) -> tuple[Simulation, str]:
    builder = TrainingJobBuilder()
    if policy:
        builder.spec("failurePolicy", policy)
    simulation = Simulation(builder)
    if stage != "prepare":
        simulation.prepare()
    simulation.settle()
    if stage == "collect":  # the train pod's word is lost
        job = "sentiment-train-1"
        simulation.run(job, 1).settle()
        simulation.put(simulation.pod(job).ended(0)).end(job, "Complete").settle()
    return simulation, f"sentiment-{stage}-1"


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name, case in FAILED.items() for stage in case.stages]
)
def test_a_pod_that_failed(name: str, stage: str) -> None:
    case = FAILED[name]
    simulation, job = begin(stage)
    simulation.advance(30).put(case.change(simulation.pod(job))).end(job, "Failed").settle()
    status = simulation.status
    counted = {k: v for k, v in status["counters"].items() if v}
    if stage == "train":
        attempt = status["attempts"][0]
        assert (attempt["cause"], attempt["failure"]["reason"]) == (case.cause, case.reason)
        assert case.words in attempt["failure"]["message"]
    if case.over:
        assert counted == {"userFailures": 1}
        assert simulation.condition("Stalled") == ("True", case.reason)
        assert case.words in simulation.message("Stalled")
        simulation.advance(4000).settle()
        assert simulation.jobs()[-1] == job, "no retry can help"
    else:
        assert counted == {"infraFailures": 1}
        assert simulation.condition("Stalled")[0] == "absent"
        simulation.advance(4000).settle()
        assert simulation.jobs()[-1] == f"sentiment-{stage}-2"


@pytest.mark.parametrize(
    ("name", "stage"),
    [(name, stage) for name, case in FAILED.items() for stage in case.stages if not case.over],
)
def test_what_is_tried_again_ends_with_its_own_reason_at_the_limit(name: str, stage: str) -> None:
    case = FAILED[name]
    simulation, job = begin(stage, maxInfraRestarts=0)
    simulation.advance(30).put(case.change(simulation.pod(job))).end(job, "Failed").settle()
    assert simulation.condition("Stalled") == ("True", "RestartLimit")
    assert case.words in simulation.message("Stalled")


# Pods that wait.


@dataclass(frozen=True)
class Waiting:
    """`after` seconds it is named; `event`: what the pod's Event says (reason, message)."""

    change: Change
    reason: str
    words: str
    after: float = 0.0
    event: tuple[str, str] | None = None
    over: bool = False
    stages: tuple[str, ...] = BOTH


CREATING = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}


def setting_up(p: PodBuilder) -> PodBuilder:
    return p.main(CREATING).condition("PodReadyToStartContainers", "False", "")


def initializing(p: PodBuilder) -> PodBuilder:
    return p.main(INITIALIZING).condition("PodReadyToStartContainers", "True", "")


def driven_off(p: PodBuilder) -> PodBuilder:
    message = "Taint manager: deleting due to NoExecute taint"
    return p.condition("DisruptionTarget", "True", "DeletionByTaintManager", message)


def unassigned(p: PodBuilder) -> PodBuilder:
    p._pod["spec"].pop("nodeName")
    return p


WAITING: dict[str, Waiting] = {
    "no node fits": Waiting(
        lambda p: p.unscheduled("0/3 nodes are available: 3 Insufficient cpu."),
        "Unschedulable",
        "Insufficient",
    ),
    "a taint that nothing tolerates": Waiting(
        lambda p: p.unscheduled(
            "0/3 nodes are available: 3 node(s) had untolerated taint {nvidia.com/gpu: present}. preemption: 0/3"
            " nodes are available: 3 Preemption is not helpful for scheduling."
        ),
        "Unschedulable",
        "Tolerate the taint",
    ),
    "nodes that each lack something else": Waiting(
        lambda p: p.unscheduled(
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector, 1"
            " node(s) were unschedulable."
        ),
        "Unschedulable",
        "add nodes that have as much; correct nodeSelector or affinity in",
    ),
    "a volume in another zone": Waiting(
        lambda p: p.unscheduled(
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match PersistentVolume's node affinity."
        ),
        "Unschedulable",
        "another zone",
    ),
    "a claim that one pod alone may hold": Waiting(
        lambda p: p.unscheduled(
            "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and"
            " ReadWriteOncePod access mode."
        ),
        "Unschedulable",
        "ReadWriteMany",
    ),
    "a scheduler's sentence that nobody knows": Waiting(
        lambda p: p.unscheduled("the moon is full"), "Unschedulable", "kubectl describe pod"
    ),
    "its scheduling is gated": Waiting(
        lambda p: unassigned(p).condition(
            "PodScheduled",
            "False",
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates",
        ),
        "SchedulingGated",
        "schedulingGates",
    ),
    "its scheduler does not exist": Waiting(unassigned, "Unschedulable", "schedulerName", after=61),
    "a ConfigMap that a volume names is missing": Waiting(
        setting_up,
        "VolumeMountFailed",
        "Create what is missing",
        event=("FailedMount", 'MountVolume.SetUp failed for volume "script" : configmap "train" not found'),
    ),
    "a disk that is still attached elsewhere": Waiting(
        setting_up,
        "VolumeMountFailed",
        "Multi-Attach error",
        event=(
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) x',
        ),
    ),
    "a network that can't be set up": Waiting(
        setting_up,
        "PodSandboxFailed",
        "kubectl describe node node-0",
        event=(
            "FailedCreatePodSandBox",
            'Failed to create pod sandbox: rpc error: plugin type="calico" failed',
        ),
    ),
    "volumes of which nobody says anything": Waiting(
        setting_up, "VolumePending", "kubectl describe pod", after=61
    ),
    "an image that is not made for the node's architecture": Waiting(
        lambda p: p.waiting(
            "ErrImagePull", "failed to resolve: no match for platform in manifest: not found"
        ),
        "ImagePullFailed",
        "processor architecture",
    ),
    "an image that is not there, or not for us": Waiting(
        lambda p: p.waiting("ErrImagePull", "pull access denied, repository does not exist"),
        "ImagePullFailed",
        "check its name, and imagePullSecrets",
    ),
    "an image whose own name sounds like another cause": Waiting(
        lambda p: p.waiting("ErrImagePull", 'failed to resolve "r.example/certificate-bot:429": not found'),
        "ImagePullFailed",
        "check its name, and imagePullSecrets",
    ),
    "an image that must be on the node": Waiting(
        lambda p: p.waiting(
            "ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'
        ),
        "ImagePullFailed",
        "Load it there",
    ),
    "a node whose disk is full of images": Waiting(
        lambda p: p.waiting("ErrImagePull", "failed to extract layer: write /x: no space left on device"),
        "ImagePullFailed",
        "disk of the pod's node is full",
    ),
    "a registry that wants fewer requests": Waiting(
        lambda p: p.waiting(
            "ImagePullBackOff",
            'Back-off pulling image "x": ErrImagePull: 429 Too Many Requests - toomanyrequests',
        ),
        "ImagePullFailed",
        "no more requests",
    ),
    "a registry that can't be reached": Waiting(
        lambda p: p.waiting("ErrImagePull", "dial tcp: lookup r.example: no such host"),
        "ImagePullFailed",
        "can't reach its registry",
    ),
    "a registry whose certificate is the company's own": Waiting(
        lambda p: p.waiting("ErrImagePull", "tls: failed to verify certificate: x509: unknown authority"),
        "ImagePullFailed",
        "trust its registry's certificate",
    ),
    "an image whose signature is refused": Waiting(
        lambda p: p.waiting("SignatureValidationFailed", "no signature"), "ImagePullFailed", "no signature"
    ),
    "an image whose name is no name": Waiting(
        lambda p: p.waiting("InvalidImageName", "couldn't parse image name", image="Mine:1:2"),
        "InvalidImageName",
        "'Mine:1:2'",
        over=True,
    ),
    "a program that the image lacks, as CRI-O tells it": Waiting(
        lambda p: p.waiting(
            "CreateContainerError",
            "container create failed: executable file `python3` not found in $PATH: No such file or directory",
        ),
        "ContainerCannotRun",
        "lacks this program",
        over=True,
    ),
    "a container whose creation takes the runtime too long": Waiting(
        lambda p: p.waiting("CreateContainerError", "context deadline exceeded"),
        "ContainerCannotRun",
        "context deadline exceeded",
    ),
    "a Secret that a variable names is missing": Waiting(
        lambda p: p.waiting("CreateContainerConfigError", 'secret "hub" not found'),
        "CreateContainerConfigError",
        'secret "hub"',
    ),
    "a container of others whose image has no name": Waiting(
        lambda p: initializing(p).init("mesh", {"waiting": {"reason": "InvalidImageName", "message": "x"}}),
        "InvalidImageName",
        "Container mesh",
    ),
    "an init container of others that does not end": Waiting(
        lambda p: initializing(p).init("mesh", {"running": {}}), "InitContainerRuns", "-c mesh", after=61
    ),
    "a node that does not answer": Waiting(
        lambda p: p.running("2026-01-01T00:00:00Z").deleted("2026-01-01T00:00:30Z"),
        "ProgressingWithRetry",
        "may be lost",
        after=61,
        stages=("train",),
    ),
    "a node whose taint drives it off": Waiting(
        lambda p: driven_off(p.running("2026-01-01T00:00:00Z")).deleted("2026-01-01T00:02:00Z"),
        "NodeTainted",
        "30 s after 2026-01-01T00:02:00Z, its node counts as lost",
    ),
}


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name, case in WAITING.items() for stage in case.stages]
)
def test_a_pod_that_waits(name: str, stage: str) -> None:
    case = WAITING[name]
    simulation, job = begin(stage)
    simulation.named(job)["status"] = {"active": 1}
    simulation.put(case.change(simulation.pod(job)))
    if case.event:
        reason, message = case.event
        simulation.facts[f"events-{simulation.named(job)['metadata']['uid']}-0"] = {
            "events": [{"reason": reason, "message": message}]
        }
    elif case.after:
        simulation.settle()
        assert simulation.condition("Ready") == ("False", "Progressing"), "so long is normal"
    simulation.advance(case.after).settle()
    if case.over:
        assert simulation.condition("Stalled") == ("True", case.reason)
        simulation.advance(31).settle()
        assert job not in simulation.jobs(), "its pod would wait for ever"
    else:
        assert simulation.condition("Ready") == ("False", case.reason)
        assert simulation.condition("PodsReady")[0] == "False"
        assert simulation.condition("Stalled")[0] == "absent"
    assert case.words in simulation.message()


@pytest.mark.parametrize("name", [name for name, case in WAITING.items() if "prepare" in case.stages])
def test_a_pod_that_collects_a_result_and_waits(name: str) -> None:
    case = WAITING[name]
    simulation, job = begin("collect")
    simulation.named(job)["status"] = {"active": 1}
    simulation.put(case.change(simulation.pod(job)))
    if case.event:
        uid = f"{simulation.named(job)['metadata']['uid']}-0"
        reason, message = case.event
        simulation.facts[f"events-{uid}"] = {"events": [{"reason": reason, "message": message}]}
    simulation.advance(case.after).settle()
    if case.over:
        failure = simulation.status["attempts"][0]["failure"]
        assert failure["reason"] == "ResultLost"
        assert case.words in failure["message"]
    else:
        assert simulation.condition("Ready") == ("False", case.reason)
        assert case.words in simulation.message()


@pytest.mark.parametrize("name", FAILED)
def test_a_pod_that_collects_a_result_and_fails_leads_to_another_attempt(name: str) -> None:
    simulation, job = begin("collect")
    pod = FAILED[name].change(simulation.pod(job))
    simulation.advance(30).put(pod).end(job, "Failed").settle()
    simulation.advance(10).settle()
    (attempt,) = simulation.status["attempts"]
    assert (attempt["cause"], attempt["failure"]["reason"]) == ("Infrastructure", "ResultLost")
    simulation.advance(4000).settle()
    assert "sentiment-train-2" in simulation.jobs()


@pytest.mark.parametrize(
    ("stage", "field"), [("prepare", "spec.data.resources"), ("train", "resourcesPerNode")]
)
def test_a_pod_killed_for_its_memory_says_which_limit_to_raise(stage: str, field: str) -> None:
    simulation, job = begin(stage)
    simulation.put(FAILED["killed for its memory"].change(simulation.pod(job))).end(job, "Failed").settle()
    assert f"Raise {field}.limits.memory" in simulation.message("Stalled")


def test_a_crash_after_the_agents_first_word_would_have_come_is_the_programs_own() -> None:
    simulation, job = begin("train")
    later = {**AT_ONCE, "finishedAt": "2026-01-01T00:01:00Z"}
    simulation.put(simulation.pod(job).says(phase="Failed").main(died(1, **later))).end(
        job, "Failed"
    ).settle()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "UserCodeError"


def test_a_container_that_never_started_was_active_for_no_time() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("activeDeadlineSeconds", 3600)).prepare()
    job = "sentiment-train-1"
    pod = simulation.pod(job).says(phase="Failed").main(start_error(RUNC.format("no space left on device")))
    simulation.advance(30).put(pod).end(job, "Failed").settle()
    assert simulation.status["attempts"][0]["activeSeconds"] < 60
    assert simulation.condition("Stalled")[0] == "absent"


@pytest.mark.parametrize("stage", BOTH)
def test_a_healthy_pod_is_asked_about_only_while_it_is_set_up(stage: str) -> None:
    simulation, job = begin(stage)
    simulation.put(setting_up(simulation.pod(job))).settle()
    assert [probe.name for probe in simulation.plan.probes] == [
        f"events-{simulation.named(job)['metadata']['uid']}-0"
    ]
    simulation.put(initializing(simulation.pod(job))).settle()
    assert simulation.plan.probes == ()
    simulation.advance(3600).settle()  # a large image
    assert simulation.condition("Ready") == ("False", "Progressing")


def test_a_sidecar_that_is_ready_is_not_what_an_image_waits_for() -> None:
    simulation, job = begin("train")
    pod = simulation.pod(job).main(CREATING).condition("PodReadyToStartContainers", "True", "")
    simulation.put(pod.init("mesh", {"running": {}}, ready=True)).advance(600).settle()
    assert simulation.condition("Ready") == ("False", "Progressing")


def test_a_crash_is_the_cause_even_where_a_container_of_others_failed_beside_another_rank() -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    pods = [
        simulation.pod("sentiment-train-1", 0).ended(1, "boom"),
        simulation.pod("sentiment-train-1", 1).ended(0).beside("aaa-mesh", 1),
    ]
    simulation.put(*pods).end("sentiment-train-1", "Failed").settle()
    assert simulation.status["attempts"][0]["cause"] == "UserError"


@pytest.mark.parametrize(
    ("stage", "field"), [("prepare", "spec.data.resources"), ("train", "spec.trainer.resourcesPerNode")]
)
def test_a_pod_that_fits_no_node_says_which_field_asks_for_too_much(stage: str, field: str) -> None:
    simulation, job = begin(stage)
    simulation.put(
        simulation.pod(job).unscheduled("0/3 nodes are available: 3 Insufficient memory.")
    ).settle()
    assert f"Ask for less in {field}, or add nodes" in simulation.message()
