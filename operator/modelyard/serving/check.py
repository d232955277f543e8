"""What no schema can say, checked before anything is made."""

from __future__ import annotations

from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.profile import Profile
from modelyard.api.values import MODEL_SCHEMES, parse_uri
from modelyard.serving.children import servers
from modelyard.serving.source import Source
from modelyard.workloads import stages
from modelyard.workloads.pods import overlay
from modelyard.workloads.problem import Refused
from modelyard.workloads.storage import Place


def check_profile(name: str, profile: Profile) -> None:
    """Raises Refused where the profile lacks what serving needs: one that was written for training alone."""
    missing = {"serverImage": profile.server_image, "gatewayImage": profile.gateway_image}
    for field, image in missing.items():
        if not image:
            raise Refused(
                "ProfileIncomplete", f"Profile {name!r} names no {field}. Profiles are values of the chart."
            )


def check_spec(spec: ModelDeploymentSpec, profile: Profile, place: Place, found: Source | None) -> None:
    """Combinations of fields. Raises Refused."""
    if spec.engine.type == "vllm" and not profile.vllm_image:
        raise Refused(
            "ProfileIncomplete",
            f"Profile {spec.profile!r} names no vllmImage, which spec.engine.type: vllm needs. Profiles are values"
            " of the chart.",
        )
    if spec.scaling.scaler == "keda" and not profile.prometheus:
        raise Refused(
            "ProfileIncomplete",
            f"Profile {spec.profile!r} names no prometheus, which spec.scaling.scaler: keda needs. Profiles are values"
            " of the chart.",
        )
    template = spec.server.pod_template
    overlay.check(template, servers.POD_TEMPLATE, stages.find(servers.COMPONENT).container)
    mounted = _find_mounted(place, found)
    for volume in template.get("spec", {}).get("volumes", []):
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim in mounted:
            raise Refused(
                "InvalidSpec",
                f"{servers.POD_TEMPLATE} mounts claim {claim!r} a second time; it is {mounted[claim]}. A pod waits for"
                " ever for the second of two volumes of one claim: take it out.",
            )


def _find_mounted(place: Place, found: Source | None) -> dict[str, str]:
    """Claims that pods of this deployment mount, builds as well as servers, and what for."""
    uris = [uri for uri in (found.uri, found.dataset) if uri] if found is not None else []
    locations = [location for uri in uris if (location := parse_uri(uri, MODEL_SCHEMES)).scheme == "pvc"]
    read = {location.name: "read by the build, at /modelyard/sources" for location in locations}
    return {**read, place.claim: "the model's storage, at /modelyard/storage"}
