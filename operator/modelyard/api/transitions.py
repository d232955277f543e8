"""What may change when: rules at the root of a resource, where the status of the stored object is in sight.

NB: an update of the spec carries the stored status (the API server puts it there before it checks the
rules), so a user can't lift a rule by sending another status.

NB: CEL's `==` does not see a renamed key inside a free-form object (training.args, model.config,
deepspeed.config) if the number of keys stays the same: the API server compares the keys that both sides
have. Changed values, added and removed keys are seen. The operator sees it by a digest (training.frozen).
"""

from __future__ import annotations

from pydantic.alias_generators import to_camel

from modelyard.api.base import Rule
from modelyard.api.data import Data
from modelyard.api.durability import Claim
from modelyard.api.expressions import has, unchanged
from modelyard.api.values import make_name_rules

NAME_LIMIT = 40
# What a job is trained on and how; of data, all but the size of the pod that prepares it.
FROZEN = ("task", "model", "data", "training", "deepspeed", "storage", "output")

NOT_FROZEN = {"data": ("resources",)}

_STARTED = " || ".join(
    f"({has(counter, 'oldSelf')} && oldSelf.{counter} > 0)"
    for counter in ("status.attempt", "status.prepareAttempt")
)
_SUSPENDED = " || ".join(
    f"({has('spec.suspend', side)} && {side}.spec.suspend)" for side in ("self", "oldSelf")
)


def _unchanged(field: str) -> str:
    if field not in NOT_FROZEN:
        return unchanged(f"spec.{field}")
    inner = [to_camel(name) for name in Data.model_fields if name not in NOT_FROZEN[field]]
    presence = f"({has(f'spec.{field}')}) == ({has(f'spec.{field}', 'oldSelf')})"
    return " && ".join((presence, *(f"({unchanged(f'spec.{field}.{name}')})" for name in inner)))


NAME_RULES = make_name_rules(NAME_LIMIT, "pods find each other by it")

TRANSITION_RULES = (
    *(
        Rule(
            rule=f"!({_STARTED}) || ({_unchanged(field)})",
            message=f"{field} can't change once the job has started: create a job with another name instead",
            field_path=f".spec.{field}",
            reason="FieldValueForbidden",
        )
        for field in FROZEN
    ),
    *(
        Rule(
            rule=f"!({_STARTED}) || {_SUSPENDED} || ({unchanged(f'spec.{field}')})",
            message=f"{field} can change only while the job is suspended: set suspend to true first",
            field_path=f".spec.{field}",
            reason="FieldValueForbidden",
        )
        for field in ("trainer", "data.resources")
    ),
)

# A claim can't be changed through the deployment that has made it: Kubernetes would refuse most of it, and the operator
# does nothing of it.
_MADE = f"{has('status.storage', 'oldSelf')} && oldSelf.status.storage == 'pvc://' + self.metadata.name + '-models'"
_SAME_CLAIM = " && ".join(
    f"({unchanged(f'spec.storage.claim.{to_camel(name)}')})" for name in Claim.model_fields
)

_KEPT = f"{has('spec.storage.claim.retain', 'oldSelf')} && oldSelf.spec.storage.claim.retain"

CLAIM_RULES = (
    Rule(
        rule=f"!({_MADE}) || !({has('spec.storage.claim')}) || ({_SAME_CLAIM})",
        message="storage.claim can't change once the claim is made: edit the PersistentVolumeClaim NAME-models itself "
        "(kubectl edit pvc) where its StorageClass lets it grow, or name another claim as storage.uri",
        field_path=".spec.storage.claim",
        reason="FieldValueForbidden",
    ),
    # Back it could not be put.
    Rule(
        rule=f"!({_MADE}) || !({_KEPT}) || ({has('spec.storage.claim')}) || ({has('spec.storage.uri')})",
        message="storage.claim can't be taken out once a claim is made that stays (retain): leave it, or name another "
        "claim as storage.uri",
        field_path=".spec",
        reason="FieldValueForbidden",
    ),
)
