"""Text that comes in pieces is the text of the whole, up to a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from modelyard_server.generation.text import Detokenizer, StopFinder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.unit.trainer.builders import LLAMA, WORDS
from tests.unit.trainer.exported import make_tokenizer

Decode = Callable[[Sequence[int]], str]
often = settings(max_examples=300, deadline=None)
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["  two  spaces", "深圳深圳 \U0001f600\U0001f469‍\U0001f680", "the quick brown fox", "a\n\nb\t c", "é" * 9]
)


def decoder(tokenizer: Any) -> Decode:
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


@pytest.fixture(scope="module")
def bytes_bpe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As GPT-2's and Llama 3's: every byte is a token."""
    return make_tokenizer(tmp_path_factory.mktemp("bpe"), LLAMA, "text-generation").backend_tokenizer


@pytest.fixture(scope="module")
def pieces() -> Any:
    """As Llama 2's and Gemma's: words begin with a visible space, rare characters are bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special[:3], show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    vocabulary = tokenizer.get_vocab()
    for name in special[3:]:
        vocabulary[name] = len(vocabulary)
    merges = __import__("json").loads(tokenizer.to_str())["model"]["merges"]
    tokenizer.model = models.BPE(
        vocabulary, [tuple(m) for m in merges], byte_fallback=True, unk_token="<unk>"
    )
    return tokenizer


def give(decode: Decode, ids: Sequence[int]) -> list[str]:
    stream = Detokenizer(decode)
    return [stream.push(token) for token in ids]


@often
@given(st.lists(st.integers(0, 319), max_size=40))
@example([0] * 200)
def test_pieces_of_any_tokens_are_the_text_of_all(bytes_bpe: Any, ids: list[int]) -> None:
    decode = decoder(bytes_bpe)
    assert "".join(give(decode, ids)).rstrip("�") == decode(ids).rstrip("�")


@often
@given(TEXTS, st.lists(st.integers(0, 4), max_size=3))
def test_pieces_of_a_text_are_the_text_and_never_half_a_character(
    bytes_bpe: Any, pieces: Any, text: str, between: list[int]
) -> None:
    if "�" in text:
        return
    for tokenizer in (bytes_bpe, pieces):
        decode = decoder(tokenizer)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        for place in between:  # special tokens, which have no text
            ids.insert(place, 1)
        made = give(decode, ids)
        assert "".join(made) == decode(ids)
        assert not any("�" in piece for piece in made)


def test_a_text_that_is_continued_keeps_the_space_before_the_first_word(bytes_bpe: Any, pieces: Any) -> None:
    for tokenizer in (bytes_bpe, pieces):
        before, ids = (
            tokenizer.encode(t, add_special_tokens=False).ids for t in ("the quick", "the quick brown")
        )
        assert ids[: len(before)] == before
        stream = Detokenizer(decoder(tokenizer), before)
        assert "".join(map(stream.push, ids[len(before) :])) == " brown"


def test_of_a_prompt_that_ends_in_half_a_character_nothing_is_given_again(bytes_bpe: Any) -> None:
    half = bytes_bpe.encode("the quick 😀", add_special_tokens=False).ids
    stream = Detokenizer(decoder(bytes_bpe), half[:-2])
    made = [stream.push(token) for token in (*half[-2:], *bytes_bpe.encode(" fox").ids)]
    assert "".join(made) == " fox"


def test_a_character_comes_when_its_last_byte_does(bytes_bpe: Any) -> None:
    ids = bytes_bpe.encode("\U0001f600", add_special_tokens=False).ids
    assert len(ids) == 4
    assert give(decoder(bytes_bpe), ids) == ["", "", "", "\U0001f600"]


def test_bytes_that_are_no_text_are_given_in_the_end_and_cost_no_more_and_more(bytes_bpe: Any) -> None:
    bad = bytes_bpe.encode("\U0001f600", add_special_tokens=False).ids[1]  # a byte that begins no character
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decoder(bytes_bpe)(ids)

    made = "".join(give(decode, [bad] * 1000))
    assert set(made) == {"�"}
    assert len(made) > 900
    assert longest < 150


def split(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def find_end(text: str, stops: Sequence[str]) -> int | None:
    """Where the text before the stop ends: character by character, as anyone would."""
    for end in range(len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return min(begins)
    return None


few = st.text("ab.", max_size=14)


@often
@given(
    few,
    st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 14), max_size=6),
)
def test_a_stop_is_found_however_the_text_is_cut_and_no_part_of_it_is_given(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    finder, given_ = StopFinder(stops), ""
    expected = find_end(text, stops)
    for piece in split(text, cuts):
        given_ += finder.push(piece)
        assert given_ == text[: len(given_)]
        if finder.found:
            break
        # What was given is never taken back: no stop can still begin in it.
        assert expected is None or len(given_) <= expected
    given_ += finder.flush()
    assert finder.found == (expected is not None)
    assert given_ == (text if expected is None else text[:expected])


def test_nothing_is_held_back_that_begins_no_stop() -> None:
    finder = StopFinder(["\n\n", "END"])
    assert [finder.push(piece) for piece in ("a\n", "b", "E", "ND")] == ["a", "\nb", "", ""]
    assert finder.found
