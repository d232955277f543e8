"""Tokenizers as their files say, where transformers would make another one of them.

AutoTokenizer takes from tokenizer.json the vocabulary and the merges, and what cuts texts before them from the class
that tokenizer_config.json names (transformers 5; e.g. transformers#45920). Where a file cuts otherwise than its class
(SmolLM2 splits digits, GPT2Tokenizer doesn't) the model would get ids that it was not trained with, and nobody is told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelyard_models.files import read_json

FILE = "tokenizer.json"
_CONFIG, _SPACE = "tokenizer_config.json", "add_prefix_space"
# What texts go through before the vocabulary; each writes itself as JSON.
_PARTS = ("normalizer", "pre_tokenizer")
# How a vocabulary is read, by the names of whichever kind it is of.
_FLAGS = (
    "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "ignore_merges",
    "max_input_chars_per_word", "unk_token",
)  # fmt: skip
_LIKE_CLASS = ("model_input_names", "model_max_length", "padding_side", "truncation_side", "chat_template")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model's folder: transformers' own, or the file's where that makes other tokens of texts.

    The latter is of the generic class, so that it also comes back as it is from where it is saved to. Raises whatever
    transformers does.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    path = folder / FILE
    if not path.is_file() or not made.is_fast:
        return made
    from tokenizers import Tokenizer

    told = Tokenizer.from_file(str(path))
    settings = read_json(folder / _CONFIG)
    settings = settings if isinstance(settings, dict) else {}
    if _cuts_alike(made.backend_tokenizer, told, settings):
        return made
    generic = PreTrainedTokenizerFast.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        **{name: getattr(made, name) for name in _LIKE_CLASS},
    )
    lacking = {
        name: token
        for name, token in made.special_tokens_map.items()
        if isinstance(token, str) and getattr(generic, name, None) is None
    }
    generic.add_special_tokens(lacking)  # those that a class has without being told
    if _is_bert(told.normalizer) and _is_bert(made.backend_tokenizer.normalizer):
        generic.backend_tokenizer.normalizer = made.backend_tokenizer.normalizer
    cutter = told.pre_tokenizer
    if hasattr(cutter, _SPACE) and isinstance(settings.get(_SPACE), bool):
        setattr(cutter, _SPACE, settings[_SPACE])
        generic.backend_tokenizer.pre_tokenizer = cutter
    return generic


def _cuts_alike(made: Any, told: Any, settings: dict[str, Any]) -> bool:
    if type(made.model) is not type(told.model):
        return False
    if any(
        (getattr(made.model, flag, None) or None) != (getattr(told.model, flag, None) or None)
        for flag in _FLAGS
    ):
        return False
    spaced = isinstance(settings.get(_SPACE), bool)
    return all(_is_alike(getattr(made, part), getattr(told, part), spaced) for part in _PARTS)


def _is_alike(made: Any, told: Any, spaced: bool) -> bool:
    """`spaced`: the settings say whether texts get a space in front, which then counts more than the file.

    The same holds for what makes texts lower case in BERT's kind, whose file was always rewritten by the settings.
    """
    return (_is_bert(made) and _is_bert(told)) or _describe(made, spaced) == _describe(told, spaced)


def _is_bert(part: Any) -> bool:
    return type(part).__name__ == "BertNormalizer"


def _describe(part: Any, spaced: bool) -> Any:
    if part is None:
        return None

    def drop(found: dict[str, Any]) -> dict[str, Any]:
        # Where a text's pieces are, and not what they are.
        left_out = {"trim_offsets", *(["add_prefix_space"] if spaced else [])}
        return {name: value for name, value in found.items() if name not in left_out}

    return json.loads(part.__getstate__(), object_hook=drop)
