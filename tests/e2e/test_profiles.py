"""A platform team's change of profiles."""

from __future__ import annotations

from tests.e2e.harness import Kube, TrainingJob, condition
from tests.e2e.jobs import classification
from tests.e2e.setup import PROFILES, Cluster, OperatorDeployment, set_profiles


def test_a_new_profile_is_in_force_when_helm_is_done(
    cluster: Cluster, kube: Kube, operator: OperatorDeployment, reviews: None
) -> None:
    set_profiles(cluster.tools, {**PROFILES, "late": {"podLabels": {"came": "late"}}})
    job = TrainingJob(kube, "late", classification(5, profile="late")).create()
    status = job.wait("the first word", lambda s: s.get("conditions"), 30)
    assert condition(status, "Stalled").get("reason") != "ProfileNotFound", status
    job.wait("a pod of that profile", lambda _: kube.find("pods", "came=late"), 60)
    job.delete()
