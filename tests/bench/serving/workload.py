"""What is asked: real texts in their own mix of lengths, and chat prompts of several lengths."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Words of a prompt and most tokens of its answer, with how often: short questions, ordinary ones, and a few that bring
# a page of text along; answers of a word, of some sentences, of a paragraph.
PROMPT_WORDS = ((10, 5), (40, 3), (150, 2))
ANSWER_TOKENS = ((8, 2), (32, 5), (96, 3))


def read_texts(table: Path, number: int, column: str = "text", seed: int = 0) -> list[str]:
    """So many different texts of a CSV file, chosen by the seed, so that their lengths are mixed as the file's are.

    Raises ValueError when there are fewer.
    """
    with table.open(encoding="utf-8", newline="") as file:
        texts = list(dict.fromkeys(row[column] for row in csv.DictReader(file)))
    if len(texts) < number:
        raise ValueError(f"{table.name} has {len(texts)} different texts, {number} are wanted")
    return random.Random(f"texts {seed}").sample(texts, number)  # noqa: S311 - no secret


def make_chats(texts: Sequence[str], number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Inputs of OpenAIGeneration: messages made of the texts' words, and max_tokens, in the mix above."""
    chooser = random.Random(f"chats {seed}")  # noqa: S311 - no secret
    made = []
    for _ in range(number):
        length, most = (_choose(chooser, mix) for mix in (PROMPT_WORDS, ANSWER_TOKENS))
        words: list[str] = []
        while len(words) < length:
            new = chooser.choice(texts).split()
            if not new:
                raise ValueError("a text without a word can't be part of a prompt")
            words += new
        content = "Say what these messages are about: " + " ".join(words[:length])
        made.append({"messages": [{"role": "user", "content": content}], "max_tokens": most})
    return made


def _choose(chooser: random.Random, mix: Sequence[tuple[int, int]]) -> int:
    values, weights = zip(*mix, strict=True)
    return int(chooser.choices(values, weights)[0])
