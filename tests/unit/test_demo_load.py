"""The demo's requests and its load, on a server of the test's own in place of the gateways."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.demo import load, serve
from examples.demo.load import Load, Sample, count_servers, format_line, percentile
from examples.demo.serve import Endpoint, count_clients
from examples.demo.shell import DemoError, Kubectl

CURL = """
import argparse, sys, urllib.request
words = argparse.ArgumentParser()
words.add_argument("url")
words.add_argument("-s", action="store_true")
words.add_argument("-d")
told = words.parse_args()
sys.stdout.buffer.write(urllib.request.urlopen(told.url, told.d.encode()).read())
"""
KUBE = Kubectl("kubectl", "helm", "/kube/config", "demo")


class Handler(BaseHTTPRequestHandler):
    """Answers with the text's length as label; texts that end with `bad` are refused, some of them late."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (text,) = body["inputs"][0]["data"]
        assert self.path == "/v2/models/sentiment/infer"
        good = not text.endswith("bad")
        if text == "late and bad":
            time.sleep(0.5)
        outputs = [{"name": "score", "data": [1.0]}, {"name": "label", "data": [str(len(text))]}]
        answer = json.dumps({"outputs": outputs} if good else {"error": "no"}).encode()
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Endpoint("127.0.0.1", server.server_port, clients=3)
    server.shutdown()
    thread.join()
    server.server_close()


def deployment(ready: int, wanted: int) -> dict[str, Any]:
    return {"spec": {"scaling": {"maxReplicas": 2}}, "status": {"readyReplicas": ready, "replicas": wanted}}


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the cluster says at one look after the other, in a demo that is not slow."""
    looks = [(1, 1), (1, 2), (2, 2)]
    monkeypatch.setattr(
        Kubectl, "get", lambda *_: deployment(*(looks.pop(0) if len(looks) > 1 else looks[0]))
    )
    monkeypatch.setattr(load, "INTERVAL", 0.05)
    monkeypatch.setattr(load, "STEADY", 0.01)
    return looks


def test_a_line_for_each_look_until_all_servers_have_answered(
    endpoint: Endpoint, replicas: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    load.show(KUBE, endpoint, ["good", "fine"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["seconds", "servers", "requests/s"]
    servers = [line.split()[1] for line in lines]
    assert servers[:3] == ["1/1", "1/2", "2/2"]
    assert all(float(line.split()[2]) > 0 and line.split()[-1] == "0" for line in lines)


@pytest.mark.parametrize("bad", ["bad", "late and bad"])
def test_a_request_that_fails_ends_the_demo_with_its_words(
    bad: str, endpoint: Endpoint, replicas: list[tuple[int, int]]
) -> None:
    with pytest.raises(
        DemoError, match=r"requests failed under load, the first one with ValueError: 503: .*no"
    ):
        load.show(KUBE, endpoint, ["good", bad])


def test_a_load_on_servers_that_never_come_ends(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, replicas: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(load, "LONGEST", 0.2)
    replicas[:] = [(1, 1)]
    load.show(KUBE, endpoint, ["good"])


def test_no_caller_is_left_behind(endpoint: Endpoint) -> None:
    before = threading.active_count()
    with Load(endpoint, ["good"]):
        assert threading.active_count() >= before + 3
    assert not [thread for thread in threading.enumerate() if thread.daemon and "_call" in thread.name]


def test_a_line_has_percentiles_of_the_good_and_the_number_of_the_bad() -> None:
    samples = [Sample(n / 1000) for n in range(1, 101)] + [Sample(30.0, "TimeoutError")]
    assert format_line(6.2, 2.0, "1/2", samples).split() == ["6", "1/2", "50.0", "50", "95", "1"]
    assert format_line(6.2, 2.0, "1/2", []).split() == ["6", "1/2", "0.0", "nan", "nan", "0"]


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.95, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_percentiles_are_nearest_ranks(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value
    assert math.isnan(percentile([], share))


def test_there_are_twice_as_many_callers_as_the_served_variant_was_best_with() -> None:
    variants = [{"name": "none", "concurrency": 32.0}, {"name": "int8", "concurrency": 8.0}, {"name": "bf16"}]
    assert count_clients({"compression": {"chosen": "int8", "variants": variants}}) == 16
    assert count_clients({"compression": {"chosen": "none", "variants": variants}}) == 64
    assert count_clients({"compression": {"chosen": "bf16", "variants": variants}}) == 16
    assert count_clients({}) == 16


def test_a_deployment_that_is_deleted_under_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kubectl, "get", lambda *_: None)
    with pytest.raises(DemoError, match="deleted under load"):
        count_servers(KUBE)


def test_the_printed_curl_works_in_a_shell_whatever_the_text(endpoint: Endpoint, tmp_path: Path) -> None:
    """A stand-in posts what the shell hands to curl, so that the words are checked on a machine without it, too."""
    stand_in = tmp_path / "curl"
    stand_in.write_text(f"#!{sys.executable}\n{CURL}")
    stand_in.chmod(0o755)
    command = endpoint.curl('it\'s "so" $HOME')
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=path)
    assert json.loads(done.stdout)["outputs"][1]["data"] == ["15"]


def test_a_model_that_answers_is_not_waited_for_and_one_out_of_reach_is_told(endpoint: Endpoint) -> None:
    serve.wait_answer(endpoint, 5)
    with pytest.raises(DemoError, match=r"does not reach it at the node's address 127\.0\.0\.1:1 "):
        serve.wait_answer(Endpoint("127.0.0.1", 1, 1), 0)
