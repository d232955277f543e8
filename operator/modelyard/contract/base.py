"""The base of the contract's models: camelCase in JSON; unknown fields ignored, so that releases can meet."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from modelyard.contract.codes import CONTRACT_VERSION


class ContractModel(BaseModel):
    """A message between the operator and a pod. A reader ignores what a newer writer added."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Versioned(ContractModel):
    """A message that says which contract it follows."""

    contract_version: int = CONTRACT_VERSION
