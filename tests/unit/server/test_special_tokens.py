"""Texts become the tokens that transformers makes of them, by the short way and by the long one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelyard_server.package.tokens import Tokens, load_tokens
from transformers import AutoConfig, AutoTokenizer

from tests.unit.server.models import write_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_encoder(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **more: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def load(folder: Path) -> tuple[Tokens, Any]:
    """Ours, and transformers' own."""
    return load_tokens(folder, AutoConfig.from_pretrained(folder)), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("split", [False, True])
def test_what_looks_like_a_special_token_in_a_text_is_one_only_where_transformers_takes_it_for_one(
    folder: Path, split: bool
) -> None:
    edit(folder, split_special_tokens=split)
    tokens, own = load(folder)
    assert tokens._fast is not None
    assert own.all_special_tokens
    for special in own.all_special_tokens:
        text = f"a dog {special} jumps over{special}it"
        expected = own(text)["input_ids"]
        assert tokens.encode(text).ids.tolist() == expected
        assert (own.convert_tokens_to_ids(special) in expected[1:-1]) is not split
        cut = own(text, truncation=True, max_length=7)["input_ids"]
        assert tokens.encode(text, 7).ids.tolist() == cut


def test_a_tokenizer_that_reads_special_tokens_in_its_own_way_is_asked_itself(folder: Path) -> None:
    tokens, own = load(folder)
    assert tokens._fast is not None

    def read(text: str, **options: Any) -> Any:
        return type(own).__call__(own, text.replace(special, "good"), **options)

    special = own.pad_token
    asked = Tokens(_Wrapped(own, read), AutoConfig.from_pretrained(folder), tokens._habits, typed=False)
    assert asked._fast is None
    assert asked.encode(f"a {special} dog").ids.tolist() == own("a good dog")["input_ids"]


class _Wrapped:
    """A tokenizer that is called in another way."""

    def __init__(self, own: Any, call: Any) -> None:
        self._own, self._call = own, call

    def __call__(self, text: str, **options: Any) -> Any:
        return self._call(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)
