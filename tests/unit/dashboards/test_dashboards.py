"""The chart's dashboards: current, whole, and asking for nothing but what there is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from dashboards.__main__ import find_differences, generate, main, write
from tests import prometheus
from tests.dashboards import (
    BOARDS,
    FOLDER,
    Query,
    choose,
    fill_in,
    read_panels,
    read_queries,
    read_variables,
)
from tests.metrics import find_labels, find_made, find_unknown, read_all

QUERIES = read_queries()
KINDS = {"row", "stat", "bargauge", "timeseries", "state-timeline", "table"}
LABELS = read_all()


@pytest.fixture(scope="session")
def promtool() -> Path:
    return prometheus.find("promtool")


def _labels_of(metric: str) -> set[str]:
    return find_labels(metric, LABELS)


def test_the_committed_files_are_up_to_date() -> None:
    assert find_differences(FOLDER, generate()) == []


def test_check_notices_missing_changed_and_left_over_files(tmp_path: Path) -> None:
    files = {"a.json": "a", "b.json": "b"}
    write(tmp_path / "new", files)
    assert find_differences(tmp_path / "new", files) == []
    (tmp_path / "new" / "a.json").unlink()
    (tmp_path / "new" / "b.json").write_text("by hand")
    (tmp_path / "new" / "c.json").write_text("old")
    assert find_differences(tmp_path / "new", files) == [
        "a.json is not what dashboards/ makes",
        "b.json is not what dashboards/ makes",
        "c.json is not generated any more",
    ]
    write(tmp_path / "new", files)
    assert find_differences(tmp_path / "new", files) == []


def test_the_command_fails_where_a_file_is_not_current(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dashboards.__main__.FOLDER", tmp_path)
    assert main(["--check"]) == 1
    assert "fleet.json is not what dashboards/ makes: run `make generate`" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_there_is_a_dashboard_of_the_operator_of_the_fleet_of_one_job_and_of_deployments() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        "deployments": "modelyard-deployments",
        "fleet": "modelyard-fleet",
        "job": "modelyard-job",
        "operator": "modelyard-operator",
    }


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: Query) -> None:
    assert query.metrics
    assert find_unknown(query.expr, LABELS) == set()
    there = find_made(query.expr).union(*map(_labels_of, query.metrics))
    assert set(re.findall(r"{{(\w+)}}", query.legend)) <= there


def test_every_expression_is_promql(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"q{i}", "expr": fill_in(query.expr, "1m", choose(query.board, "n", "j"))}
        for i, query in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


@pytest.mark.parametrize("name", BOARDS)
def test_a_panel_says_what_it_shows_and_asks_the_chosen_data_source(name: str) -> None:
    for panel in read_panels(BOARDS[name]):
        assert panel["type"] in KINDS, panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert len(panel["description"]) > 5, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        if panel["type"] not in ("table", "state-timeline"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_cover_each_other(name: str) -> None:
    panels = list(read_panels(BOARDS[name]))
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_the_variables_that_it_names(name: str) -> None:
    variables = read_variables(BOARDS[name])
    asked = "".join(query.expr for query in QUERIES if query.board == name) + "".join(variables.values())
    used = set(re.findall(r"\$(\w+)", asked)) - {"__rate_interval", "__range"}
    assert used == set(variables)
    for label, series in variables.items():
        assert label in _labels_of(series.partition("{")[0])


def test_links_lead_to_dashboards_that_there_are_with_variables_that_they_have() -> None:
    by_uid = {board["uid"]: board for board in BOARDS.values()}
    links = [
        link["url"]
        for board in BOARDS.values()
        for panel in read_panels(board)
        for override in panel.get("fieldConfig", {}).get("overrides", [])
        for field in override["properties"]
        if field["id"] == "links"
        for link in field["value"]
    ]
    assert links
    for link in links:
        found = re.match(r"/d/([\w-]+)\?", link)
        assert found is not None
        assert set(re.findall(r"&var-(\w+)=", link)) <= set(read_variables(by_uid[found[1]]))


def test_a_table_shows_every_label_and_value_that_it_names() -> None:
    for board in BOARDS.values():
        for panel in read_panels(board):
            if panel["type"] != "table":
                continue
            (organize,) = [t["options"] for t in panel["transformations"] if t["id"] == "organize"]
            letters = [target["refId"] for target in panel["targets"]]
            values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
            asked = "".join(target["expr"] for target in panel["targets"])
            for field in organize["renameByName"]:
                assert field in values or re.search(rf"\b{field}\b", asked), field
            assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= set(
                organize["renameByName"].values()
            )


def _evaluate(
    promtool: Path, folder: Path, series: Mapping[str, str], expr: str, at: str, samples: Mapping[str, float]
) -> None:
    """Fails where the expression is anything but these samples then, of series with a value a minute."""
    expected = {
        "expr": expr,
        "eval_time": at,
        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [expected],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _find(board: str, title: str) -> str:
    """The first expression of a panel, as for a reader who has chosen job j of namespace ns, or All."""
    expr = next(query.expr for query in QUERIES if (query.board, query.title) == (board, title))
    return fill_in(expr, "5m", choose(board, "ns", "j"))


# Two operators, of which one has just taken over and the other is still scraped; and what panels must say then.
_TWICE = {
    f'{metric}{{{labels}, instance="{instance}"}}': f"{value}x10"
    for instance in ("a", "b")
    for metric, labels, value in (
        ("modelyard_trainingjob_info", 'namespace="ns", name="j", project="p", team="t", task="x", profile="d"', 1),
        ("modelyard_trainingjob_info", 'namespace="ns", name="k", task="x", profile="d"', 1),
        ("modelyard_trainingjob_step", 'namespace="ns", name="j"', 5),
        ("modelyard_trainingjob_max_steps", 'namespace="ns", name="j"', 10),
        ("modelyard_trainingjob_interruptions", 'namespace="ns", name="j", cause="user"', 2),
        ("modelyard_trainingjob_interruptions", 'namespace="ns", name="j", cause="process"', 1),
        ("modelyard_trainingjob_cost_forecast", 'namespace="ns", name="j", currency="EUR"', 3),
        ("modelyard_trainingjob_attempt", 'namespace="ns", name="j"', 2),
        ("modelyard_trainingjob_attempt_start_timestamp_seconds", 'namespace="ns", name="j"', 7),
        ("modelyard_resources", 'kind="TrainingJob", phase="Training", project="p", team="t"', 1),
        ("modelyard_resources", 'kind="TrainingJob", phase="Training"', 1),
        ("modelyard_modeldeployment_info", 'namespace="ns", name="j", project="p", team="t", task="x"', 1),
        ("modelyard_modeldeployment_info", 'namespace="ns", name="k", task="x"', 1),
        ("modelyard_modeldeployment_condition", 'namespace="ns", name="j", type="Ready"', 0),
        ("modelyard_modeldeployment_condition", 'namespace="ns", name="k", type="Ready"', 0),
        ("modelyard_modeldeployment_condition", 'namespace="ns", name="k", type="Suspended"', 1),
        ("modelyard_modeldeployment_replicas", 'namespace="ns", name="j", state="ready"', 3),
        ("modelyard_modeldeployment_replicas", 'namespace="ns", name="j", state="desired"', 3),
        ("modelyard_modeldeployment_revisions", 'namespace="ns", name="j", state="Serving"', 1),
    )
}  # fmt: skip
_EXPECTED = [
    ("fleet", "Jobs with pods", {"{}": 2}),
    ("fleet", "By phase", {'{phase="Training"}': 2}),
    ("fleet", "With pods, by team", {'{team="t"}': 1, '{team="(none)"}': 1}),
    ("fleet", "What running jobs will have cost", {'{team="t", currency="EUR"}': 3}),
    ("job", "Progress", {"{}": 0.5}),
    ("job", "Interruptions", {"{}": 3}),
    ("job", "Attempts", {'{number="2"}': 7000}),
    ("operator", "Resources", {"{}": 2}),
    ("deployments", "Deployments", {"{}": 2}),
    ("deployments", "Not ready", {"{}": 1}),
    ("deployments", "Servers", {"{}": 3}),
    ("deployments", "Revisions", {'{state="Serving"}': 1}),
]


@pytest.mark.parametrize(("board", "title", "samples"), _EXPECTED, ids=lambda value: str(value))
def test_nothing_counts_twice_while_two_operators_are_scraped(
    promtool: Path, tmp_path: Path, board: str, title: str, samples: dict[str, float]
) -> None:
    _evaluate(promtool, tmp_path, _TWICE, _find(board, title), "5m", samples)


@pytest.mark.parametrize(("board", "title", "samples"), [
    ("fleet", "By phase", {'{phase="Failed"}': 12}),
    ("fleet", "Failed", {"{}": 12}),
    ("operator", "Resources", {"{}": 12}),
])  # fmt: skip
def test_what_several_installs_count_is_added(
    promtool: Path, tmp_path: Path, board: str, title: str, samples: dict[str, float]
) -> None:
    failed = 'modelyard_resources{{kind="TrainingJob", phase="Failed", {}, job="m", instance="i"}}'
    installs = {'namespace="a"': "9x10", 'namespace="b"': "1x10", 'namespace="a", cluster="other"': "2x10"}
    series = {failed.format(install): values for install, values in installs.items()}
    _evaluate(promtool, tmp_path, series, _find(board, title), "5m", samples)


_OF_JOB = 'namespace="ns", name="j"'
_BEGUN = {
    f'modelyard_trainingjob_info{{{_OF_JOB}, project="p", team="t", task="x", profile="d"}}': "1x60",
    f"modelyard_trainingjob_attempt_start_timestamp_seconds{{{_OF_JOB}}}": "0x60",
}
_TRAINS = f'modelyard_trainingjob_phase{{{_OF_JOB}, phase="Training"}}'
_ALLOWED = f"modelyard_trainingjob_checkpoint_max_lost_seconds{{{_OF_JOB}}}"
_SAVED = f"modelyard_trainingjob_checkpoint_timestamp_seconds{{{_OF_JOB}}}"
_STEP = f"modelyard_trainingjob_step{{{_OF_JOB}}}"


def _condition(kind: str, values: str) -> dict[str, str]:
    return {f'modelyard_trainingjob_condition{{{_OF_JOB}, type="{kind}"}}': values}


@pytest.mark.parametrize(
    ("series", "at", "problem"),
    [
        (_condition("Stalled", "1x60"), "2m", "stalled"),
        (_condition("Stalled", "0x60"), "2m", None),
        (_condition("PodsReady", "0x60"), "12m", "pods don't run for ten minutes"),
        (_condition("PodsReady", "0x60"), "9m", None),
        (_condition("PodsReady", "0x10 1 0x60"), "15m", None),
        ({_TRAINS: "1x60", _STEP: "7x60"}, "32m", "no step for half an hour"),
        ({_TRAINS: "1x60", _STEP: "7x60"}, "29m", None),
        ({_TRAINS: "1x60", _STEP: "7x20 8x40"}, "32m", None),
        ({_STEP: "7x60"}, "32m", None),
        ({_TRAINS: "1x60", _ALLOWED: "600x60"}, "26m", "the newest checkpoint is too old"),
        ({_TRAINS: "1x60", _ALLOWED: "600x60", _SAVED: "0x10 1200x50"}, "26m", None),
        ({_TRAINS: "1x60", _ALLOWED: "600x60"}, "24m", None),
        ({_ALLOWED: "600x60"}, "26m", None),
    ],
)
def test_a_job_needs_a_look_where_it_does_not_get_on(
    promtool: Path, tmp_path: Path, series: dict[str, str], at: str, problem: str | None
) -> None:
    expr = f"0 * ({_find('fleet', 'Jobs that need a look')})"
    samples = {f'{{{_OF_JOB}, project="p", team="t", problem="{problem}"}}': 0} if problem else {}
    _evaluate(promtool, tmp_path, _BEGUN | series, expr, at, samples)


_POD = 'namespace="ns", modeldeployment="j"'


def _requests(values: str, outcome: str, revision: str = "r", pod: str = "a") -> dict[str, str]:
    labels = f'{_POD}, pod="{pod}", outcome="{outcome}", revision="{revision}"'
    return {f"modelyard_gateway_requests_total{{{labels}}}": values}


def _away(values: str, reason: str) -> dict[str, str]:
    return {f'modelyard_gateway_unavailable_total{{{_POD}, reason="{reason}"}}': values}


@pytest.mark.parametrize(
    ("series", "share"),
    [
        (_requests("0+6x20", "ok") | _requests("0+2x20", "error") | _away("0x20", "full"), 0.25),
        (_requests("0+6x20", "ok") | _requests("0+2x20", "timeout", pod="b") | _away("0x20", "full"), 0.25),
        (_requests("0+6x20", "ok") | _away("0+2x20", "no_server"), 0.25),
        (
            _requests("0+6x20", "ok")
            | _requests("0+2x20", "gone")
            | _away("0x20", "full")
            | _away("0+2x20", "suspended"),
            0,
        ),
        (_requests("0+6x20", "refused") | _requests("0+2x20", "ok", "") | _away("0x20", "full"), 0),
    ],
)
def test_a_request_has_failed_that_got_no_answer_or_a_servers_error(
    promtool: Path, tmp_path: Path, series: dict[str, str], share: float
) -> None:
    expr = next(q.expr for q in QUERIES if (q.board, q.title) == ("deployments", "Failed") and q.legend)
    expr = fill_in(expr, "5m", choose("deployments", "ns", "j"))
    _evaluate(promtool, tmp_path, series, expr, "15m", {f"{{{_POD}}}": share})


def _deployed(name: str, value: float, **labels: str) -> dict[str, str]:
    more = "".join(f', {key}="{each}"' for key, each in labels.items())
    return {f"modelyard_modeldeployment_{name}{{{_OF_JOB}{more}}}": f"{value}x10"}


_READY = _deployed("condition", 1, type="Ready")
_UNREADY = _deployed("condition", 0, type="Ready")


@pytest.mark.parametrize(
    ("series", "found"),
    [
        (_READY, None),
        (_UNREADY, 'problem="no requests are answered"'),
        (_UNREADY | _deployed("condition", 1, type="Suspended"), None),
        (
            _READY | _deployed("condition", 1, type="Stalled"),
            'problem="what the spec asks for can\'t be served"',
        ),
        (
            _READY | _deployed("replicas", 2, state="desired") | _deployed("replicas", 1, state="ready"),
            'problem="some servers are not ready"',
        ),
        (_READY | _deployed("replicas", 0, state="desired") | _deployed("replicas", 0, state="ready"), None),
        (
            _READY | _deployed("condition", 0, type="ScalingReady"),
            'problem="the number of servers doesn\'t follow what it should"',
        ),
        (
            _READY | _deployed("failing_revisions", 1, reason="ModelUnproven"),
            'problem="servers of a revision fail", reason="ModelUnproven"',
        ),
    ],
)
def test_a_deployment_needs_a_look_where_something_is_wrong_with_it(
    promtool: Path, tmp_path: Path, series: dict[str, str], found: str | None
) -> None:
    expr = f"0 * ({_find('deployments', 'Deployments that need a look')})"
    samples = {f"{{{_OF_JOB}, {found}}}": 0} if found else {}
    _evaluate(promtool, tmp_path, series, expr, "5m", samples)


def test_a_table_joins_what_operator_and_pods_say_of_a_deployment(promtool: Path, tmp_path: Path) -> None:
    series = _requests("0+60x20", "ok") | _requests("0+60x20", "ok", pod="b")
    expr = next(q.expr for q in QUERIES if q.title == "All deployments" and "requests_total" in q.expr)
    expr = fill_in(expr, "5m", choose("deployments", "ns", "j"))
    _evaluate(promtool, tmp_path, series, expr, "15m", {f"{{{_OF_JOB}}}": 2})


def test_what_nothing_declares_is_noticed() -> None:
    wrong = 'sum by (pot) (rate(vllm:num_requests_runing{x="1"}[5m])) / modelyard_gateway_servers{revision!="a=b"}'
    assert find_unknown(wrong, LABELS) == {
        "vllm:num_requests_runing",
        "modelyard_gateway_servers.revision",
        "pot",
    }
