"""Addresses of data and models: what they are made of, and what a refused one probably meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from modelyard.api.base import Rule

# RFC 1123 label, as Kubernetes wants it for most object names.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN)
_CONFIGMAP_KEY = re.compile(r"^[-._a-zA-Z0-9]+$")
_HUB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$"
_HF_NAME = re.compile(_HUB_NAME)
_FILE_ENDING = r"(?i)\.(csv|tsv|jsonl?|ndjson|parquet|txt|safetensors|gz|zip|tar|tgz)$"
_FILE = re.compile(_FILE_ENDING)
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "wasb", "wasbs", "oci", "hdfs")

DATA_SCHEMES = ("pvc", "https", "configmap")
MODEL_SCHEMES = ("pvc", "hf", "https")
FORMS = {
    "pvc": "pvc://claim/path",
    "hf": "hf://org/name",
    "https": "https://host/file",
    "configmap": "configmap://name/key",
}


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

    Paths are percent-decoded; `?`, `#`, `*` and brackets in a claim's path stand for themselves, so that they
    can be globs. Raises ValueError with a sentence that says what to write instead.
    """
    given, separator, rest = uri.partition("://")
    # `http` is for servers inside the cluster; the schema documents https only.
    scheme = "https" if given == "http" else given
    if not separator or scheme not in schemes:
        raise ValueError(f"{uri!r} must be {forms(schemes)}{suggest(uri, schemes)}")
    if scheme == "https":
        return _parse_web(uri)
    host, _, rest = rest.partition("/")
    path = unquote(rest).strip("/")
    if any(piece in ("..", ".") for piece in path.split("/")):
        raise ValueError(f"{uri!r} must not contain '.' or '..' segments")
    if any(ord(character) < 32 for character in path):
        raise ValueError(f"{uri!r} must not contain control characters")
    if scheme == "hf":
        name = f"{host}/{path}" if path else host
        if not _HF_NAME.match(name):
            raise ValueError(f"{uri!r} must name a hub repository, as hf://org/name")
        return Location("hf", name, "", uri)
    if not _NAME.match(host):
        raise ValueError(f"{uri!r} must name a {'claim' if scheme == 'pvc' else 'ConfigMap'} in lower case")
    if scheme == "configmap" and not _CONFIGMAP_KEY.match(path):
        raise ValueError(f"{uri!r} must name one key, as configmap://name/key")
    return Location(scheme, host, path, uri)


def forms(schemes: tuple[str, ...]) -> str:
    """The forms that an address may have: `a, b or c`."""
    texts = [FORMS[scheme] for scheme in schemes]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def suggest(uri: str, schemes: tuple[str, ...]) -> str:
    """What a refused address probably meant, as the end of a sentence; or nothing."""
    scheme, separator, rest = uri.partition("://")
    lower = scheme.lower()
    if separator and lower in _OBJECT_STORES:
        return f"; {lower}:// is not supported yet: copy the files to a claim and write pvc://claim/path"
    meant = _guess(uri, lower if separator else "", rest, schemes)
    return f"; did you mean {meant}?" if meant else ""


def make_rule(schemes: tuple[str, ...]) -> Rule:
    """What `parse_uri` says of the form, as far as CEL can say it: users read the API server's refusal first."""
    words = "|".join("https?" if scheme == "https" else scheme for scheme in schemes)
    cases = [
        (f"self.matches('(?i)^({'|'.join(_OBJECT_STORES)})://')", "object stores are not supported yet: copy "
         "the files to a claim and write pvc://claim/path"),
        ("self.matches('(?i)^file:')", "name the claim that the file lies on, as pvc://claim/path"),
        ("self.startsWith('/')", "did you mean pvc://claim' + self + '?"),
        (f"self.matches('(?i)^({words}):')", "write the scheme in lower case and with ://"),
        (f"!self.contains(':') && self.matches(r'{_FILE_ENDING}')", "did you mean pvc://claim/' + self + '?"),
    ]  # fmt: skip
    if "hf" in schemes:
        cases.append((f"self.matches('{_HUB_NAME}')", "did you mean hf://' + self + '?"))
    said = " : ".join(f"{condition} ? '; {text}'" for condition, text in cases)
    must = f"must be {forms(schemes)}"
    return Rule(
        rule=f"self.matches('^({words})://.+$')",
        message=must,
        message_expression=f"'{must}' + ({said} : '')",
    )


def _guess(uri: str, scheme: str, rest: str, schemes: tuple[str, ...]) -> str | None:
    if scheme == "file":
        return f"pvc://claim/{rest.lstrip('/')}"
    if scheme in (*schemes, "http"):  # PVC://
        return f"{scheme}://{rest}"
    if "hf" in schemes and scheme in ("huggingface", "hub"):
        return f"hf://{rest}"
    if scheme:
        return None
    slipped = re.match(r"^([A-Za-z]+):/*(.*)$", uri)  # http:/host, pvc:claim
    if slipped:
        word = slipped[1].lower()
        return f"{word}://{slipped[2]}" if word in (*schemes, "http") and slipped[2] else None
    path = uri.lstrip("./")
    if not path or uri.startswith(("/", "./", "../")) or _FILE.search(uri) or "hf" not in schemes:
        return f"pvc://claim/{path}" if path else None
    return f"hf://{uri}" if _HF_NAME.match(uri) else None


def _parse_web(uri: str) -> Location:
    try:
        parts = urlsplit(uri)
        host, path = parts.hostname, unquote(parts.path).strip("/")
    except ValueError as error:  # as in https://[::1
        raise ValueError(f"{uri!r} is no valid address: {error}") from error
    if any(piece in ("..", ".") for piece in path.split("/")):
        raise ValueError(f"{uri!r} must not contain '.' or '..' segments")
    if not host or not path:
        raise ValueError(f"{uri!r} must name a host and a file")
    return Location("https", parts.netloc, path, uri)
