"""Chat: Modelyard's server beside transformers' own and vLLM's, each answer compared with what generate() gives."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from examples.demo.shell import CACHE
from tests.bench.sections import Rows
from tests.bench.serving import inprocess, models, modelyard
from tests.bench.serving.comparison import Contender, Limit, clients, compare
from tests.bench.serving.peers import servers
from tests.bench.serving.processors import CALLERS, SERVER, on
from tests.bench.serving.protocols import Case, OpenAIGeneration
from tests.bench.serving.workload import make_chats, read_texts

TITLE = "Chat (SmolLM2-135M, float32), one processor for the server, streams, greedy"
CHATS = 16
SECONDS = 30.0
WARM = 10.0
ROUNDS = 3


def measure(rows: Rows) -> None:
    """Closed loops of 1, 8 and 16 clients."""
    folder = models.prepare_chat_model()
    cases = _make_cases(folder)
    ours = OpenAIGeneration(modelyard.NAME)
    contenders: list[Contender | Limit] = [
        Contender("Modelyard", partial(modelyard.direct, folder, "text-generation"), ours, cases),
        Contender(
            "Modelyard, gateway", partial(modelyard.through_gateway, folder, "text-generation"), ours, cases
        ),
        Contender(
            "transformers serve",
            partial(servers.transformers_serve, folder),
            OpenAIGeneration(str(folder), done=False),
            cases,
        ),
        Contender("vLLM (CPU)", partial(servers.vllm, folder), OpenAIGeneration("m"), cases),
    ]
    with on(CALLERS):
        compare(rows, contenders, clients(1, 8, 16, seconds=SECONDS, warm=WARM), ROUNDS)


def _make_cases(folder: Path) -> list[Case]:
    """Chats made of tweets, with what generate() answers to each; kept, since that takes minutes."""
    chats = make_chats(read_texts(models.tweets(), 200), CHATS)
    recipe = hashlib.sha256(json.dumps(chats).encode() + Path(inprocess.__file__).read_bytes()).hexdigest()[
        :12
    ]
    kept = CACHE / "models" / f"bench-chats-{folder.name}-{recipe}.json"
    if not kept.is_file():
        with on(SERVER):
            answers = inprocess.ask("text-generation", folder, [json.dumps(chat) for chat in chats])[
                "answers"
            ]
        new = kept.with_suffix(".new")
        new.write_text(json.dumps(answers))
        new.replace(kept)
    found: list[dict[str, Any]] = json.loads(kept.read_text())
    return [Case(chat, answer) for chat, answer in zip(chats, found, strict=True)]
