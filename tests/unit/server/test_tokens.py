"""Long texts: others are heard while they are tokenised, and what is too long is known by its beginning."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard_server.package.tokens import Habits, Tokens
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SAMPLE = ["the quick brown fox jumps over the lazy dog 123 Ünïcode 深い 😀 it's"] * 50
MOST = 8


def train(model: Any, trainer: Any, **parts: Any) -> Tokens:
    made = Tokenizer(model)
    for name, part in parts.items():
        setattr(made, name, part)
    made.train_from_iterator(SAMPLE, trainer)
    made.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    text = SimpleNamespace(vocab_size=made.get_vocab_size(), pad_token_id=0)
    about = SimpleNamespace(model_type="none", get_text_config=lambda: text)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")
    return Tokens(wrapped, about, Habits(), typed=False)


SPECIAL = ["<unk>", "<s>", "</s>"]
KINDS = {
    "WordPiece": train(
        models.WordPiece(unk_token="<unk>"),
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False),
        normalizer=normalizers.BertNormalizer(), pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
    ),
    "bytes": train(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        normalizer=normalizers.NFC(), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    ),
    "Unigram": train(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=100, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        ),
        normalizer=normalizers.NFKC(), pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
    # As older models of SentencePiece: no words, all of a text is one.
    "wordless": train(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False),
        normalizer=normalizers.Replace(" ", "▁"),
    ),
}  # fmt: skip
UNITS = [
    "the quick ", "fox", "a", " ", "\n", "\t", "深", "😀", "e\u0301", "\u0301", "\x00", "1 ", ".", "ß", "x" * 99 + " ",
    "q" * 150 + " ", "Ω ",
]  # fmt: skip
texts = st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 3000)), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(parts=texts)
def test_a_beginning_tells_what_the_whole_text_does(kind: str, parts: list[tuple[str, int]]) -> None:
    tokens, text = KINDS[kind], "".join(unit * times for unit, times in parts)[:40_000]
    whole, found = tokens.encode(text), tokens.encode(text, most=MOST)
    assert (len(found) > MOST) == (len(whole) > MOST)
    if found.whole:
        assert found.ids.tolist() == whole.ids.tolist()
    assert tokens.encode(text, MOST, MOST).ids.tolist() == tokens.encode(text, MOST).ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_text_that_is_much_too_long_only_the_beginning_is_read(kind: str) -> None:
    row = KINDS[kind].encode("the quick brown fox " * 200_000, most=MOST)
    assert not row.whole and MOST < len(row) < 10_000
    assert row.describe() == f"more than {len(row)} tokens"


def test_others_are_heard_while_a_long_text_is_tokenised() -> None:
    async def whole() -> int:
        reading = asyncio.create_task(
            asyncio.to_thread(KINDS["WordPiece"].encode, "the quick brown fox " * 52_429)
        )
        turns = 0
        while not reading.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert len(reading.result()) > 200_000
        return turns

    # It takes a second and more; while the tokenizer keeps Python from going on there are one or two.
    assert asyncio.run(whole()) > 20
