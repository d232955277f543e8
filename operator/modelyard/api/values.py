"""Value types shared by the kinds: URIs, quantities, names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field

# RFC 1123 label, as Kubernetes wants it for most object names.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_CONFIGMAP_KEY = re.compile(r"^[-._a-zA-Z0-9]+$")
_HF_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_NAME = re.compile(NAME_PATTERN)

ObjectName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]

DATA_SCHEMES = ("pvc", "https", "configmap")
MODEL_SCHEMES = ("pvc", "hf", "https")


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URI. `name` is the claim, the ConfigMap, the host or the hub repository; `path` has no
    leading slash.
    """

    scheme: str
    name: str
    path: str
    uri: str


def parse_uri(uri: str, schemes: tuple[str, ...]) -> Location:
    """Splits `pvc://claim/path`, `hf://org/name`, `https://host/path` or `configmap://name/key`.

    Raises ValueError with a sentence that says what to write instead.
    """
    parts = urlsplit(uri)
    wanted = ", ".join(f"{s}://" for s in schemes)
    # `http` is for servers inside the cluster; the schema documents https only.
    scheme = "https" if parts.scheme == "http" else parts.scheme
    if scheme not in schemes:
        raise ValueError(f"{uri!r} must begin with one of {wanted}")
    path = unquote(parts.path).strip("/")
    if any(piece in ("..", ".") for piece in path.split("/")):
        raise ValueError(f"{uri!r} must not contain '.' or '..' segments")
    if scheme == "hf":
        name = f"{parts.netloc}/{path}" if path else parts.netloc
        if not _HF_NAME.match(name):
            raise ValueError(f"{uri!r} must name a hub repository, as hf://org/name")
        return Location("hf", name, "", uri)
    if scheme == "https":
        if not parts.hostname or not path:
            raise ValueError(f"{uri!r} must name a host and a file")
        return Location("https", parts.netloc, path, uri)
    if not _NAME.match(parts.netloc):
        raise ValueError(f"{uri!r} must name a {'claim' if scheme == 'pvc' else 'ConfigMap'} in lower case")
    if scheme == "configmap" and not _CONFIGMAP_KEY.match(path):
        raise ValueError(f"{uri!r} must name one key, as configmap://name/key")
    return Location(scheme, parts.netloc, path, uri)


def _check(schemes: tuple[str, ...]) -> BeforeValidator:
    # Before the pattern, whose own message would be a regular expression.
    def check(value: Any) -> Any:
        if isinstance(value, str):
            parse_uri(value, schemes)
        return value

    return BeforeValidator(check)


ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
# The patterns are all that the schema can say; `parse_uri` says the rest when the operator reads the object.
DataUri = Annotated[
    str, Field(pattern=r"^(pvc|https?|configmap)://.+$", max_length=2048), _check(DATA_SCHEMES)
]
ModelUri = Annotated[str, Field(pattern=r"^(pvc|hf|https?)://.+$", max_length=2048), _check(MODEL_SCHEMES)]
ClaimUri = Annotated[str, Field(pattern=r"^pvc://.+$", max_length=2048), _check(("pvc",))]

_FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def parse_quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number (cores, bytes, devices). Raises ValueError on other forms."""
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)$", str(text))
    if not match or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    return float(match[1]) * _FACTORS[match[2]]
