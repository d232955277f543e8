"""Texts to token ids, and rows of ids to one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from modelyard.contract.layout import MODEL_MANIFEST
from modelyard_models.failure import boundary
from modelyard_models.files import read_json
from modelyard_models.padding import pads_left
from modelyard_models.positions import longest_input
from modelyard_models.tokenizer import load_tokenizer

from modelyard_server.failure import Failure

Ids: TypeAlias = Any  # a NumPy array of int64

INLINE_CHARACTERS = 16_384  # of one request; more is tokenised aside, so that others are heard meanwhile
_BRIEF = 1024  # characters, whose tokens are made in a millisecond or two; the tokenizer keeps Python from going on
# A text may have more tokens than are wanted. Then its beginning tells: of so many characters for each token that is
# wanted and for some more, and if that isn't enough of so many times as many. What a tokenizer makes of a beginning
# changes with what follows it, but only at its end, and by less than those some: a word that is known to WordPiece by
# none of its pieces is one token, and up to a hundred where it is cut.
_CHARACTERS, _MARGIN, _GROWTH = 16, 256, 4
_UNBOUNDED = 1 << 30  # tokens: what tokenizers without a length of their own say is larger
_DEFAULT_LONGEST = 8192  # tokens, where neither tokenizer nor model has a bound
# sentence-transformers reads texts as the first of these says that is there; older folders have the model's type in it.
_READING = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_PROBE = "A text, to see that 2 ways agree: naïve, 深, \U0001f600."


class Untemplated(Exception):  # noqa: N818 - the caller's problem
    """A conversation that no prompt can be made of. The message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One text as the model takes it: `ids` (tokens,), and its token types where the model is given any.

    Unless it is `whole`, the text has more tokens.
    """

    ids: Ids
    types: Ids | None = None
    whole: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self) -> str:
        """How many tokens the text has."""
        return f"{len(self)} tokens" if self.whole else f"more than {len(self)} tokens"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows made of one length. All (rows, tokens) int64; `mask` is 1 where a row's own tokens are."""

    ids: Ids
    mask: Ids
    types: Ids | None


@dataclass(frozen=True, slots=True)
class Habits:
    """What sentence-transformers does with texts: a prompt before each, lower case, a bound (tokens)."""

    prompt: str = ""
    lower: bool = False
    longest: int | None = None


class Tokens:
    """A model's tokenizer. `longest` is what a text may have, in tokens, special ones included."""

    def __init__(self, tokenizer: Any, about: Any, habits: Habits, *, typed: bool) -> None:
        self._tokenizer = tokenizer
        self._typed = typed
        self._habits = habits
        self._left = pads_left(about.model_type)
        self.vocabulary: int = int(about.get_text_config().vocab_size)
        pads = (getattr(about.get_text_config(), "pad_token_id", None), tokenizer.pad_token_id)
        self._pad = next((pad for pad in pads if isinstance(pad, int) and 0 <= pad < self.vocabulary), 0)
        self._type_pad: int = getattr(tokenizer, "pad_token_type_id", 0)
        bounds = [tokenizer.model_max_length, longest_input(about), habits.longest]
        known = [int(bound) for bound in bounds if bound is not None and bound < _UNBOUNDED]
        self.longest = min(known, default=_DEFAULT_LONGEST)
        self._fast = self._find_fast()
        self._cutting: dict[int, Any] = {}
        self._ends = self._count_ends()

    def encode(self, text: str, cut_at: int | None = None, most: int | None = None) -> Row:
        """A text with the model's special tokens; with `cut_at` no more than so many in all.

        Of a text with more than `most` tokens it may be a beginning with more than `most`: a caller may send a text
        that has thousands of times as many, and they are not all made to refuse it.
        """
        text = self._habits.prompt + text
        return self._encode(text.lower() if self._habits.lower else text, cut_at, most)

    def encode_prompt(self, text: str, most: int | None = None) -> Row:
        """A text to be gone on with: without the tokens that a tokenizer puts behind a whole one. `most` as of encode.

        Ends that the caller wrote stay.
        """
        row = self.encode(text, most=most)
        types = None if row.types is None else row.types[: len(row) - self._ends]
        return dataclasses.replace(row, ids=row.ids[: len(row) - self._ends], types=types)

    def encode_chat(self, messages: Sequence[dict[str, str]], most: int | None = None) -> Row:
        """A conversation as the model's chat template has it, up to where the model answers. `most` as of encode.

        Raises Untemplated.
        """
        if not self._tokenizer.chat_template:
            raise Untemplated(
                "this model has no chat template: ask /v1/completions, with the prompt as the model wants it"
            )
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # templates raise what they like
            raise Untemplated(f"the model's chat template refuses these messages: {error}") from error
        # The template has the special tokens.
        return self._encode(text, None, most, special=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; special ones have none."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=True))
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    @property
    def end(self) -> int | None:
        """The token that ends a text."""
        return self._tokenizer.eos_token_id  # type: ignore[no-any-return]

    def take(self, ids: Sequence[int]) -> Row:
        """Ids as they are."""
        return Row(np.asarray(ids, np.int64))

    def pad(self, rows: Sequence[Row]) -> Batch:
        """Rows as one batch, as wide as the longest."""
        shape = len(rows), max(map(len, rows))
        ids: Ids = np.full(shape, self._pad, np.int64)
        mask: Ids = np.zeros(shape, np.int64)
        types: Ids | None = None
        if any(row.types is not None for row in rows):
            types = np.full(shape, self._type_pad, np.int64)
        for index, row in enumerate(rows):
            place = slice(shape[1] - len(row), None) if self._left else slice(len(row))
            ids[index, place] = row.ids
            mask[index, place] = 1
            if types is not None:
                types[index, place] = 0 if row.types is None else row.types
        return Batch(ids, mask, types)

    def _encode(self, text: str, cut_at: int | None, most: int | None, *, special: bool = True) -> Row:
        if most is not None and not (cut_at is not None and self._tokenizer.truncation_side == "left"):
            size = _CHARACTERS * (most + _MARGIN)
            while size < len(text):
                row = self._encode_whole(text[:size], None, special)
                if len(row) >= most + _MARGIN:
                    cut = row if cut_at is None else self._encode_whole(text[:size], cut_at, special)
                    return dataclasses.replace(cut, whole=False)
                size *= _GROWTH
        return self._encode_whole(text, cut_at, special)

    def _encode_whole(self, text: str, cut_at: int | None, special: bool) -> Row:
        if self._fast is None:
            options = {} if cut_at is None else {"truncation": True, "max_length": cut_at}
            made = self._tokenizer(text, add_special_tokens=special, **options)
            return self._row(made["input_ids"], made.get("token_type_ids"))
        fast = self._fast if cut_at is None else self._cut(cut_at)
        if len(text) <= _BRIEF:
            encoding = fast.encode(text, add_special_tokens=special)
        else:  # the tokenizers' only call that lets Python's other threads go on
            [encoding] = fast.encode_batch([text], add_special_tokens=special)
        return self._row(encoding.ids, encoding.type_ids)

    def _row(self, ids: Sequence[int], types: Sequence[int] | None) -> Row:
        # Models take types that are all 0 where they are given none.
        typed = self._typed and types is not None and any(types)
        return Row(np.asarray(ids, np.int64), np.asarray(types, np.int64) if typed else None)

    def _cut(self, length: int) -> Any:
        """The tokenizer that cuts at a length; one is kept for each, of which a server has one or two."""
        if length not in self._cutting:
            assert self._fast is not None  # noqa: S101 - asked only where there is one
            copy = _copy(self._fast)
            copy.enable_truncation(length, direction=self._tokenizer.truncation_side)
            self._cutting[length] = copy
        return self._cutting[length]

    def _count_ends(self) -> int:
        """How many tokens are put behind each text."""
        bare, whole = (self._encode_whole("a", None, special).ids.tolist() for special in (False, True))
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return len(whole) - start - len(bare)
        return 0

    def _find_fast(self) -> Any | None:
        """The Rust tokenizer itself, which takes a tenth of the time; None where transformers does more than it."""
        if not getattr(self._tokenizer, "is_fast", False):
            return None
        fast = _copy(self._tokenizer.backend_tokenizer)
        fast.no_truncation()
        fast.no_padding()
        probe = " ".join([_PROBE, *(f"{special}a {special} a" for special in _list_special(self._tokenizer))])
        return fast if fast.encode(probe).ids == self._tokenizer(probe)["input_ids"] else None


def _copy(fast: Any) -> Any:
    made = type(fast).from_str(fast.to_str())
    made.encode_special_tokens = (
        fast.encode_special_tokens
    )  # whether they are mere text in texts; no part of to_str()
    return made


def _list_special(tokenizer: Any) -> list[str]:
    """All texts that may be read as a special token, those without a role among them."""
    added = tokenizer.added_tokens_decoder.values()
    return sorted({*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)})


def load_tokens(folder: Path, about: Any) -> Tokens:
    """Loads a folder's tokenizer. Raises Failure (ModelInvalid) where it has none that fits the model."""
    advice = "the folder must hold the tokenizer that the model was trained with (tokenizer.json)"
    with boundary("ModelInvalid", "its tokenizer can't be loaded", advice):
        tokenizer = load_tokenizer(folder)
    # Modelyard trains without token types.
    typed = "token_type_ids" in tokenizer.model_input_names and not (folder / MODEL_MANIFEST).is_file()
    tokens = Tokens(tokenizer, about, read_habits(folder), typed=typed)
    if len(tokenizer) > tokens.vocabulary:
        raise Failure(
            "ModelInvalid",
            f"its tokenizer has {len(tokenizer)} tokens, the model {tokens.vocabulary}: they don't belong together;"
            f" {advice}",
        )
    return tokens


def read_habits(folder: Path) -> Habits:
    """What the folder's files for sentence-transformers say; nothing where there are none."""
    prompting = _read_object(folder / "config_sentence_transformers.json")
    prompts, name = prompting.get("prompts"), prompting.get("default_prompt_name")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    reading = next((_read_object(folder / name) for name in _READING if (folder / name).is_file()), {})
    longest = reading.get("max_seq_length")
    return Habits(
        prompt=prompt if isinstance(prompt, str) else "",
        lower=reading.get("do_lower_case") is True,
        longest=longest if isinstance(longest, int) and longest > 0 else None,
    )


def _read_object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    return found if isinstance(found, dict) else {}
