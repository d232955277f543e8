"""What the documents must name, held against the code that gives it: reasons, metrics, profiles, targets of make."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from modelyard.api.profile import Profile
from pydantic.alias_generators import to_camel

from tests.metrics import (
    Labels,
    name_families,
    read_agent,
    read_all,
    read_gateway,
    read_operator,
    read_server,
)

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.glob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "charts/modelyard/README.md",
    ]
)

# What is called with a reason, wherever it stands among the arguments.
GIVERS = {
    "Problem", "Failure", "Refused", "Rejection", "Event", "FailureReport", "DataWarning", "emit", "build",
    "boundary", "fail_early", "add", "_refuse", "_describe", "_tell_classes",
}  # fmt: skip
# Where reasons stand in tuples.
TUPLES = {"refusal.py", "surroundings.py", "failure.py", "results.py"}
REASON = re.compile(
    r"[A-Z][a-z0-9]+[A-Z]\w*|[A-Z]{2,}[a-z]\w*|Contradictions|Deleted|Evicted|Forbidden|Invalid|Preempted|Queued"
    r"|Stopped|Superseded|Terminating"
)
# A condition's type; and what only an optional kind's child can be refused for, which no feature has yet.
NO_REASON = {"DisruptionTarget", "NotServed"}


def _candidates(path: Path, tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in GIVERS:
                yield from node.args
                yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "reason")
        elif isinstance(node, ast.Tuple) and path.name in TUPLES:
            yield from node.elts
        elif isinstance(node, ast.Return) and path.name == "ending.py":
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.Constant))


def find_reasons(path: Path, text: str) -> set[str]:
    """Reasons that a module gives, by themselves or by a constant of the module's."""
    tree = ast.parse(text)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    for given in _candidates(path, tree):
        value = given.value if isinstance(given, ast.Constant) else None
        value = constants.get(given.id) if isinstance(given, ast.Name) else value
        if isinstance(value, str) and REASON.fullmatch(value):
            found.add(value)
    return found - NO_REASON


def missing(names: Iterable[str], text: str) -> set[str]:
    """Those that do not stand in the text as code."""
    return {name for name in names if f"`{name}`" not in text}


def test_every_reason_that_the_program_gives_is_in_the_documents() -> None:
    folders = [ROOT / "operator" / "modelyard", ROOT / "images"]
    reasons = {
        reason for f in folders for path in f.rglob("*.py") for reason in find_reasons(path, path.read_text())
    }
    assert {"SpecTooLarge", "VolumeHeld", "RunConfigMissing", "QuotaExceeded", "ProcessKilled"} <= reasons
    assert len(reasons) > 90
    assert missing(reasons, (DOCS / "concepts.md").read_text()) == set()


def test_a_reason_is_found_however_it_is_given() -> None:
    module = (
        'LOST = "StorageLost"\nfail(Problem(LOST, "A sentence."))\nraise Refused("SpecTooLarge", text)\n'
        'x = {"reason": "NoResult"}\nwell("NothingOfThat")\n'
    )
    assert find_reasons(Path("a.py"), module) == {"StorageLost", "SpecTooLarge", "NoResult"}


@pytest.mark.parametrize(("read", "least"), [(read_operator, 50), (read_agent, 10)])
def test_every_metric_of_the_operator_and_of_the_agent_is_in_the_documents(
    read: Callable[[], Labels], least: int
) -> None:
    names = name_families(read())
    assert len(names) > least
    assert missing(names, (DOCS / "operations.md").read_text()) == set()


@pytest.mark.parametrize("read", [read_gateway, read_server])
def test_every_metric_of_gateways_and_servers_is_in_the_documents_with_its_type_and_labels(
    read: Callable[[], Labels],
) -> None:
    declared, told = read(), {}
    for names, kind, labels in re.findall(
        r"^\| (`(?:modelyard_gateway|modelyard_server|vllm)[^|]*) \| (\w+) \| ([^|]*)\|",
        (DOCS / "operations.md").read_text(),
        re.MULTILINE,
    ):
        for name in re.findall(r"`([^`]+)`", names):
            told[name] = (kind, set(re.findall(r"`(\w+)`", labels)))
    names = name_families(declared)
    assert len(names) > 10
    assert names - told.keys() == set()
    for name in names:
        histogram = f"{name}_bucket" in declared
        kind = "histogram" if histogram else "counter" if name.endswith("_total") else "gauge"
        labels = declared[f"{name}_bucket" if histogram else name] - {"le", "model_name", "engine"}
        assert told[name] == (kind, labels), name


def test_no_metric_in_the_documents_is_unknown() -> None:
    known = name_families(read_all())
    for page in ("operations.md", "runbooks.md", "serving.md"):
        named = set(
            re.findall(r"`((?:(?:modelyard|workqueue)_|vllm:)[a-z0-9_]+[a-z])`", (DOCS / page).read_text())
        )
        assert named <= known, page


def test_the_chart_explains_every_key_of_a_profile() -> None:
    values = (ROOT / "charts" / "modelyard" / "values.yaml").read_text()
    comments = values.split("# Keys of a profile")[1]
    keys = {to_camel(name) for name in Profile.model_fields}
    assert {key for key in keys if not re.search(rf"\b{key}\b", comments)} == set()


def test_the_charts_readme_names_every_value() -> None:
    chart = ROOT / "charts" / "modelyard"
    readme = (chart / "README.md").read_text()
    for name, value in yaml.safe_load((chart / "values.yaml").read_text()).items():
        assert re.search(rf"`{name}[`.]", readme), name
        for key in value if isinstance(value, dict) and name not in ("resources", "profiles") else ():
            assert re.search(rf"`{name}\.(\{{[^}}`]*\b)?{key}\b", readme) or f"`{name}.{{…}}`" in readme, key


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_the_documents_have_made_are_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
    assert named - targets == set()
