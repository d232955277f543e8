"""A real chat model in pods: by our server, by somebody else's in its place, and the change between them under load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from modelyard.api import yaml

from examples.demo.inputs import load_inputs
from examples.demo.shell import Kubectl
from tests.bench.serving import inprocess
from tests.bench.serving.background import ConstantLoad
from tests.bench.serving.load import Target
from tests.bench.serving.protocols import Case, OpenAIGeneration
from tests.e2e.harness import Kube, ModelDeployment, is_ready
from tests.e2e.serving import Endpoint, expose
from tests.e2e.setup import PROFILES, ROOT, Cluster, set_profiles
from tests.server.chat_model import prepare_chat_model
from tests.soak.thirdparty import image

pytestmark = pytest.mark.timeout(1800)

QUESTIONS = ["What is the capital of France?", "Name three colours.", "What do cows eat?", "Count to five."]
TOKENS = 16
CHAT, OWN = (
    yaml.load((ROOT / "examples" / name / "modeldeployment.yaml").read_text())["spec"]
    for name in ("chat", "custom-engine")
)
OURS = {
    "profile": "default",
    "engine": {"type": "builtin", "custom": None, "args": None},
    "server": CHAT["server"],
}


def chat(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS}


@pytest.fixture(scope="module")
def model() -> Path:
    return prepare_chat_model()


@pytest.fixture(scope="module")
def expected(model: Path) -> dict[str, dict[str, Any]]:
    """What transformers' generate() answers, by question."""
    told = inprocess.ask("text-generation", model, [json.dumps(chat(question)) for question in QUESTIONS])
    return dict(zip(QUESTIONS, told["answers"], strict=True))


@pytest.fixture(scope="module")
def deployment(
    kube: Kube, cluster: Cluster, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelDeployment]:
    folder = tmp_path_factory.mktemp("chat") / "inputs"
    shutil.copytree(model, folder / "smol")
    tools = Kubectl(cluster.tools.kubectl, cluster.tools.helm, cluster.tools.kubeconfig, kube.namespace)
    load_inputs(tools, folder, cluster.images["operator"])
    # From a claim, since no hub is in reach.
    changes = {
        "model": {"uri": "pvc://inputs/smol"},
        "storage": {"uri": "pvc://inputs"},
        "scaling": {"scaler": "none"},
    }
    with ModelDeployment(kube, "chat", {**CHAT, **changes}).serving(600) as found:
        yield found


@pytest.fixture(scope="module")
def endpoint(kube: Kube, deployment: ModelDeployment) -> Endpoint:
    return expose(kube, deployment)


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    url = f"http://{endpoint.host}:{endpoint.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as made:
        yield made


def check_answers(client: openai.OpenAI, name: str, expected: dict[str, dict[str, Any]]) -> None:
    """All questions at once as streams, and one as a whole, are answered as generate() answers them."""

    def stream(question: str) -> tuple[str, int]:
        chunks = client.chat.completions.create(model=name, temperature=0, stream=True, **chat(question))
        pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        return "".join(pieces), len(pieces)

    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        for question, (text, pieces) in zip(QUESTIONS, pool.map(stream, QUESTIONS), strict=True):
            assert text == expected[question]["text"]
            assert pieces > 3
    told = client.chat.completions.create(model=name, temperature=0, **chat(QUESTIONS[0]))
    assert told.choices[0].message.content == expected[QUESTIONS[0]]["text"]


def test_the_openai_client_gets_what_generate_answers(
    deployment: ModelDeployment, client: openai.OpenAI, expected: dict[str, dict[str, Any]]
) -> None:
    assert [found.id for found in client.models.list()] == [deployment.name]
    check_answers(client, deployment.name, expected)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", **chat(QUESTIONS[0]))
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.chat.completions.create(model=deployment.name, logit_bias={"1": 1}, **chat(QUESTIONS[0]))


TakeOver = Callable[[dict[str, Any], str], None]


@pytest.fixture
def take_over(
    deployment: ModelDeployment,
    endpoint: Endpoint,
    client: openai.OpenAI,
    expected: dict[str, dict[str, Any]],
) -> TakeOver:
    """Under load, has a spec's changes bring servers of an image, which answer as ours do, and ours again."""

    def change(spec: dict[str, Any], wanted: str) -> None:
        protocol = OpenAIGeneration(deployment.name, stream=False)
        cases = [Case(chat(question), {"text": answer["text"]}) for question, answer in expected.items()]
        with ConstantLoad(Target(endpoint.host, endpoint.port), protocol, cases, rate=0.5) as load:
            deployment.patch(spec)
            deployment.wait_ready(900)
            (server,) = [pod for pod in deployment.servers() if is_ready(pod)]
            assert server["spec"]["containers"][0]["image"] == wanted
            assert [found.id for found in client.models.list()] == [deployment.name]
            check_answers(client, deployment.name, expected)
            deployment.patch(OURS)
            deployment.wait_ready(600)
            check_answers(client, deployment.name, expected)
        load.report.check()

    return change


def test_transformers_own_server_takes_over_and_gives_back_without_a_failed_request(
    cluster: Cluster, take_over: TakeOver
) -> None:
    custom = {**OWN["engine"]["custom"], "image": image.provide("transformers", cluster.images["server"])}
    # It doesn't read maxLength, which would be refused.
    take_over(
        {"engine": {"type": "custom", "custom": custom}, "server": {"maxLength": None}}, custom["image"]
    )


def test_vllm_takes_over_and_gives_back_without_a_failed_request(
    cluster: Cluster, take_over: TakeOver
) -> None:
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    made = image.provide("vllm", cluster.images["server"])
    profile = {"vllmImage": made, "env": [{"name": name, "value": value} for name, value in env.items()]}
    set_profiles(cluster.tools, {**PROFILES, "vllm": profile})
    # It would compile for minutes.
    engine = {"type": "vllm", "args": ["--enforce-eager", "--dtype", "float32"]}
    larger = {"limits": {"cpu": "1", "memory": "6Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}
    take_over({"profile": "vllm", "engine": engine, "server": {"resources": larger}}, made)
