"""Ways to disturb a training from outside."""

from __future__ import annotations

from tests.e2e.harness import Kube

_KILL = """
import os, signal

def is_rank(process):
    line = open(f'/proc/{process}/cmdline', 'rb').read()
    around = b'torch.distributed.run' in line or b'agent.pyz' in line
    return b'modelyard_trainer.train' in line and not around

ranks = [p for p in os.listdir('/proc') if p.isdigit() and p != str(os.getpid()) and is_rank(p)]
assert ranks, 'no rank runs here'
for rank in ranks:
    os.kill(int(rank), signal.SIGKILL)
"""


def kill_ranks(kube: Kube, job: str) -> None:
    """Kills the training processes of the second node of a job's first attempt; torchrun and the agent live on."""
    pod = next(p["metadata"]["name"] for p in kube.pods(job) if "-1-1-" in p["metadata"]["name"])
    kube.execute(pod, "python3", "-c", _KILL)
