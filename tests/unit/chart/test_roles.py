"""Least privilege: what the operator's account may do, verb by verb."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from modelyard.api.profile import Settings
from modelyard.engine.feature import CRDS, find_permissions
from modelyard.features import FEATURES

from tests.unit.chart.rendering import ROOT, Manifests, of_kind, only, render

# What the features say that they need. A verb that is not among it is one too many.
OPERATOR = find_permissions(FEATURES)
GATEWAY = {("discovery.k8s.io", "endpointslices"): {"list", "watch"}}
CLUSTER_ROLES, ROLES = (("rbac.authorization.k8s.io", kind) for kind in ("clusterroles", "roles"))


def _verbs(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def _named(manifests: Manifests, kind: str, suffix: str) -> Manifests:
    return [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == f"modelyard-{suffix}"]


def test_the_operator_may_do_what_it_does_and_nothing_more() -> None:
    (role,) = _named(render(), "ClusterRole", "operator")
    assert _verbs(role) == OPERATOR


def test_the_documents_name_all_that_the_operator_may_do() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("## Permissions\n")[1].split("\n## ")[0]
    told: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`.*`) \| ([a-z, ]+) \|", section, re.MULTILINE):
        for resource in re.findall(r"`([^`]+)`", row[0]):
            told[resource] = set(row[1].split(", "))
    (role,) = _named(render(), "ClusterRole", "operator")
    assert told == {f"{name}.{group}".rstrip("."): verbs for (group, name), verbs in _verbs(role).items()}


def test_with_watch_namespaces_it_may_do_so_only_there() -> None:
    manifests = render({"watchNamespaces": ["team-a", "team-b"]})
    assert _named(manifests, "ClusterRole", "operator") == []
    assert of_kind(manifests, "ClusterRoleBinding") == []
    roles = _named(manifests, "Role", "operator")
    assert [role["metadata"]["namespace"] for role in roles] == ["team-a", "team-b"]
    there = {key: verbs for key, verbs in OPERATOR.items() if key not in (CLUSTER_ROLES, CRDS)}
    assert all(_verbs(role) == there | {ROLES: {"bind"}} for role in roles)
    bindings = _named(manifests, "RoleBinding", "operator")
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["team-a", "team-b"]


@pytest.mark.parametrize(
    "values", [{}, {"watchNamespaces": ["team-a"]}], ids=["all namespaces", "one namespace"]
)
def test_no_role_has_a_wildcard_or_reads_secrets(values: dict[str, Any]) -> None:
    manifests = render(values)
    for role in of_kind(manifests, "ClusterRole") + of_kind(manifests, "Role"):
        for rule in role["rules"]:
            everything = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in everything, role["metadata"]["name"]
            assert "secrets" not in rule["resources"], role["metadata"]["name"]
            assert not {"escalate", "impersonate"} & set(rule["verbs"])
            if "bind" in rule["verbs"]:
                assert rule["resourceNames"] == ["modelyard-gateway"]
                assert rule["verbs"] == ["bind"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [({}, "ClusterRole"), ({"watchNamespaces": ["team-a"]}, "Role")],
    ids=["all namespaces", "one namespace"],
)
def test_gateways_are_bound_to_a_role_that_exists_and_lets_them_see_endpoints_alone(
    values: dict[str, Any], kind: str
) -> None:
    manifests = render(values)
    (role,) = _named(manifests, kind, "gateway")
    assert _verbs(role) == GATEWAY
    profiles = next(m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"].endswith("-profiles"))
    settings = Settings.model_validate(yaml.safe_load(profiles["data"]["profiles.yaml"]))
    assert (settings.gateway_role.kind, settings.gateway_role.name) == (kind, role["metadata"]["name"])


@pytest.mark.parametrize(
    "values", [{}, {"watchNamespaces": ["team-a"]}], ids=["all namespaces", "one namespace"]
)
def test_every_binding_leads_from_the_operators_account_to_a_role_that_exists(values: dict[str, Any]) -> None:
    manifests = render(values)
    account = only(manifests, "ServiceAccount")["metadata"]
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["name"]
    for binding in of_kind(manifests, "ClusterRoleBinding") + of_kind(manifests, "RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject == {
            "kind": "ServiceAccount",
            "name": account["name"],
            "namespace": account["namespace"],
        }
        place = binding["metadata"].get("namespace")
        roles = of_kind(manifests, binding["roleRef"]["kind"])
        assert any(
            (role["metadata"]["name"], role["metadata"].get("namespace"))
            == (binding["roleRef"]["name"], place)
            for role in roles
        ), binding["metadata"]["name"]


def test_the_lease_is_the_only_one_it_may_change_and_only_beside_itself() -> None:
    manifests = render()
    role = only(manifests, "Role")
    args = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--lease") + 1] == "modelyard"
    assert role["metadata"]["namespace"] == "modelyard-system"
    named, unnamed = role["rules"]
    assert named["resourceNames"] == ["modelyard"]
    assert set(named["verbs"]) == {"get", "update"}
    assert (unnamed["resources"], unnamed["verbs"]) == (["leases"], ["create"])


def test_users_of_the_built_in_roles_see_and_edit_training_jobs() -> None:
    manifests = render()
    (view,) = _named(manifests, "ClusterRole", "view")
    (edit,) = _named(manifests, "ClusterRole", "edit")
    to = "rbac.authorization.k8s.io/aggregate-to-"
    assert {key for key in view["metadata"]["labels"] if key.startswith(to)} == {
        to + "view",
        to + "edit",
        to + "admin",
    }
    assert {key for key in edit["metadata"]["labels"] if key.startswith(to)} == {to + "edit", to + "admin"}
    assert all(verbs == {"get", "list", "watch"} for verbs in _verbs(view).values())
    # A user never writes what the operator says.
    assert ("modelyard.dev", "trainingjobs/status") not in _verbs(edit)
    left = of_kind(render({"rbac": {"aggregate": False}}), "ClusterRole")
    assert sorted(role["metadata"]["name"] for role in left) == ["modelyard-gateway", "modelyard-operator"]
