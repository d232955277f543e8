"""YAML as Kubernetes reads it: `2e-5` is a number, a date is a string.

PyYAML follows YAML 1.1, where an exponent without a dot makes a string; kubectl, Helm and Argo read numbers
as JSON has them. A manifest must mean the same to us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    pass


_OURS = {"tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
_FLOAT = re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_all(text: str) -> Iterator[Any]:
    """The documents of a stream that are not empty. Raises yaml.YAMLError with line and column."""
    return (document for document in yaml.load_all(text, Loader=_Loader) if document is not None)


def load(text: str) -> Any:
    """The only document of `text`. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 — a SafeLoader


def dump(value: Any) -> str:
    """Sorted keys, block style, so that equal values are equal text."""
    return yaml.safe_dump(value, sort_keys=True, width=120, allow_unicode=True, default_flow_style=False)
