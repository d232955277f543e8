"""The demo's own logic; the end-to-end tests run what it stands on."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from examples.demo import inputs, report
from examples.demo.install import image_values
from examples.demo.shell import DemoError, Kubectl, alone
from examples.demo.train import start_job, wait_end

TABLE = "sentiment,confidence,text\n" + "".join(
    f"{label},{confidence},tweet {index % 30}\n"
    for index in range(40)
    for label, confidence in [("positive", "1" if index % 2 else "0.4"), ("neutral", "")]
)
STATUS: dict[str, Any] = {
    "phase": "Failed",
    "conditions": [{"type": "Stalled", "status": "True", "reason": "GateFailed", "message": "It is 0.9."}],
    "attempts": [{"index": 1, "failure": {"reason": "UserCodeError", "message": "boom", "excerpt": "a\nb"}}],
    "model": {
        "uri": "pvc://sentiment-storage/runs/demo/sentiment-1/model",
        "digest": "sha256-1",
        "evaluation": {"validation": {"eval_loss": 0.5, "eval_f1": 0.78}, "test": {"eval_f1": 0.77}},
        "baseline": {"validation": {"eval_loss": 1.1, "eval_f1": 0.16}, "test": {"eval_f1": 0.15}},
    },
    "gate": {"metric": "eval_loss", "value": 0.5, "threshold": 0.7, "passed": True},
    "data": {
        "rowsIn": 10, "rowsOut": 8, "splits": {"train": 6, "validation": 2},
        "removed": [{"step": "1.deduplicate.exact", "reason": "duplicate", "rows": 2}],
    },
}  # fmt: skip


def test_the_sample_is_always_the_same_and_leaves_out_what_annotators_disputed() -> None:
    sample = inputs.sample_tweets(TABLE, 20)
    assert sample == inputs.sample_tweets(TABLE, 20)
    assert len(sample) == 20
    everything = inputs.sample_tweets(TABLE, 1000)
    assert len(everything) == 60
    assert sample == everything[:20]


def test_the_load_asks_the_very_tweets(tmp_path: Path) -> None:
    (tmp_path / inputs.TWEETS).write_text('text,label\n"a ""b"",\nc",positive\n', encoding="utf-8")
    assert inputs.read_tweets(tmp_path) == [('a "b",\nc', "positive")]


def test_repeated_tweets_come_together_so_that_a_sample_holds_duplicates() -> None:
    texts = [text for text, _ in inputs.sample_tweets(TABLE, 20)]
    assert len(set(texts)) < len(texts)


def _unpack(tar: bytes, root: Path, digest: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", inputs.UNPACK, str(root), digest]
    return subprocess.run(command, input=tar, capture_output=True, check=False)


def _seen(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", inputs.SEEN, str(root)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_copy_replaces_what_was_there_and_is_known_by_its_digest(tmp_path: Path) -> None:
    source, root, packed = tmp_path / "source", tmp_path / "root", tmp_path / "inputs.tar"
    (source / "model").mkdir(parents=True)
    (source / "model" / "config.json").write_text("{}")
    (source / "tweets.csv").write_text("text,label\n")
    (root / "model").mkdir(parents=True)
    (root / "model" / "old.bin").write_text("old")
    digest = inputs._pack(source, packed)
    assert digest == inputs._pack(source, packed)
    assert _seen(root) == ""
    assert _unpack(packed.read_bytes(), root, digest).returncode == 0
    assert sorted(p.name for p in (root / "model").iterdir()) == ["config.json"]
    assert _seen(root) == digest
    assert not (root / ".incoming").exists()


def test_an_interrupted_copy_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("tweets.csv")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(bytes(100_000)))
    assert _unpack(buffer.getvalue()[:50_000], tmp_path, "digest").returncode != 0
    assert _seen(tmp_path) == ""
    assert not (tmp_path / "tweets.csv").exists()


def test_the_table_sets_the_trained_model_beside_the_untrained_one() -> None:
    lines = report.format_metrics(STATUS).splitlines()
    assert lines[2].split() == ["loss", "1.100", "0.500", "-", "-"]
    assert lines[3].split() == ["macro", "F1", "0.160", "0.780", "0.150", "0.770"]
    assert len({len(line) for line in lines}) == 1


def test_success_says_where_the_model_lies() -> None:
    text = report.format_success("sentiment", STATUS)
    assert "pvc://sentiment-storage/runs/demo/sentiment-1/model" in text
    assert "10 rows read, 8 kept (train 6, validation 2); removed: 2 duplicate" in text


def test_at_its_end_the_demo_says_how_to_ask_the_model_and_what_else_to_try() -> None:
    text = report.format_next("sentiment", "demo", "curl -s http://h:1/", "/kube/config")
    for command in (
        "curl -s http://h:1/",
        "-n demo get tj,md",
        "kubectl explain",
        "examples.demo predict",
        "make demo-down",
        "KUBECONFIG=/kube/config",
    ):
        assert command in text


def test_a_model_that_is_not_served_is_reported_with_where_to_look() -> None:
    text = report.format_stuck("sentiment", "demo", "/kube/config")
    assert "kubectl -n demo describe md sentiment" in text
    assert "logs -l modelyard.dev/modeldeployment=sentiment" in text


def test_success_tells_what_looked_wrong_about_the_data() -> None:
    assert "warning" not in report.format_success("sentiment", STATUS)
    warnings = [{"reason": "TruncatedRows", "count": 3, "message": "Raise maxLength."}, {"reason": "NewHead"}]
    warned = {**STATUS, "data": {**STATUS["data"], "warnings": warnings}}
    text = report.format_success("sentiment", warned)
    assert "\n  warning  TruncatedRows (3): Raise maxLength.\n  warning  NewHead: \n  gate " in text


def test_failure_says_every_condition_and_the_first_failing_ranks_words() -> None:
    text = report.format_failure("sentiment", "demo", STATUS, "/kube/config")
    assert "Stalled=True" in text
    assert "GateFailed: It is 0.9." in text
    assert "UserCodeError: boom\n    a\n    b" in text


@pytest.mark.parametrize("status", [{}, {"conditions": []}], ids=["never written", "empty"])
def test_a_job_without_a_status_can_be_reported(status: dict[str, object]) -> None:
    assert "has not succeeded" in report.format_failure("sentiment", "demo", status, "/kube/config")


def test_a_job_that_took_the_name_is_not_reported_as_this_runs_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    succeeded = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    found = {"metadata": {"uid": "mine"}, "status": succeeded}
    kube = Kubectl("kubectl", "helm", "/kube/config", "demo")
    monkeypatch.setattr(Kubectl, "get", lambda *_: found)
    assert wait_end(kube, "mine", 1) == succeeded
    with pytest.raises(DemoError, match="replaced"):
        wait_end(kube, "another", 1)


def test_a_deployment_of_an_earlier_run_goes_before_the_storage_that_its_servers_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, ...]] = []

    def call(_: Kubectl, *words: str) -> str:
        asked.append(words[:2])
        return "uid"

    monkeypatch.setattr(Kubectl, "__call__", call)
    assert start_job(Kubectl("kubectl", "helm", "/kube/config", "demo")) == "uid"
    assert asked[:2] == [("delete", "modeldeployment"), ("delete", "trainingjob")]


def test_a_second_demo_on_the_same_cluster_is_refused(tmp_path: Path) -> None:
    with alone("default", tmp_path):
        with pytest.raises(DemoError, match="another demo runs"), alone("default", tmp_path):
            pass
        with alone("other", tmp_path):
            pass
    with alone("default", tmp_path):
        pass


def test_an_images_tag_is_told_from_its_registrys_port() -> None:
    assert image_values("image", "registry:5000/a/b:1") == {
        "image.registry": "", "image.repository": "registry:5000/a/b", "image.tag": "1",
    }  # fmt: skip
    with pytest.raises(DemoError, match="no tag"):
        image_values("image", "registry:5000/a/b")
