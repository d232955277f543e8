"""CustomResourceDefinitions, made of what is said of a resource in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.api.base import API_VERSION, GROUP, VERSION, ApiModel, Rule
from modelyard.api.schema import structural_schema
from modelyard.api.structural import problems


@dataclass(frozen=True, slots=True)
class CustomResource:
    """One kind: its models, and what kubectl shows of it.

    `rules` see the whole object; `selectable` are paths for field selectors; `columns` are made by `column`; `scale`
    are the paths of the scale subresource.
    """

    kind: str
    short_name: str
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[dict[str, Any], ...]
    rules: tuple[Rule, ...] = ()
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None

    @property
    def plural(self) -> str:
        """As it stands in URLs."""
        return f"{self.kind.lower()}s"

    def root_schema(self) -> dict[str, Any]:
        """The schema of a whole object. Raises TypeError if it breaks a rule of structural schemas."""
        # Reads as "in progress" until the operator has answered; without it kstatus takes a new object for a
        # finished one.
        status = {
            **structural_schema(self.status, describe_defaults=False),
            "default": {"observedGeneration": -1},
        }
        properties = {"spec": structural_schema(self.spec), "status": status}
        found = [problem for name in properties for problem in problems(properties[name], f".{name}")]
        if found:
            raise TypeError("not a structural schema:\n" + "\n".join(found))
        if self.scale is not None:
            # The one default that is stored: the subresource can't be read where its field is absent.
            name = self.scale["specReplicasPath"].removeprefix(".spec.")
            properties["spec"]["properties"][name]["default"] = self.spec.model_fields[name].default
        return {
            "type": "object",
            "description": self.description,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
                "kind": {"type": "string", "description": f"{self.kind}."},
                "metadata": {"type": "object"},
                **properties,
            },
            "x-kubernetes-validations": [rule.dump() for rule in self.rules],
        }

    def definition(self) -> dict[str, Any]:
        """The whole manifest."""
        version = {
            "name": VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}, **({"scale": dict(self.scale)} if self.scale else {})},
            "additionalPrinterColumns": list(self.columns),
            "selectableFields": [{"jsonPath": path} for path in self.selectable],
            "schema": {"openAPIV3Schema": self.root_schema()},
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "listKind": f"{self.kind}List",
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "shortNames": [self.short_name],
                    "categories": ["modelyard"],
                },
                "scope": "Namespaced",
                "versions": [version],
            },
        }


def column(name: str, path: str, kind: str = "string", *, wide: bool = False, about: str) -> dict[str, Any]:
    """A printer column; a `wide` one is shown with `-o wide` only."""
    made = {"name": name, "jsonPath": path, "type": kind, "description": about}
    return {**made, "priority": 1} if wide else made
