"""Tokenizers: the base model's own, or a byte-level BPE trained on the training split."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_models.failure import Failure
from modelyard_models.files import digest_of
from modelyard_models.tokenizer import load_tokenizer

DEFAULT_VOCABULARY = 8000
BPE_VERSION = 1  # raise it whenever training gives other tokens for the same text
_PAD, _BOS, _EOS = "<pad>", "<s>", "</s>"
_BYTES = 256


@dataclass
class Tokenizer:
    """Text to token ids, as the model wants them."""

    backend: Any  # a fast transformers tokenizer

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Loads a model folder's tokenizer. Raises Failure (ModelInvalid)."""
        os.environ.setdefault(
            "TRANSFORMERS_VERBOSITY", "error"
        )  # it warns that there is no torch, on purpose here
        try:
            backend = load_tokenizer(folder)
        except Exception as error:  # whatever a foreign file makes it raise, it is the model's fault
            raise Failure(
                "ModelInvalid",
                f"the model's tokenizer can't be loaded: {error}; the folder must hold tokenizer.json",
            ) from error
        if not backend.is_fast:
            raise Failure(
                "ModelInvalid", "the model has no fast tokenizer; save one with it (tokenizer.json)"
            )
        backend.model_max_length = 1 << 30  # lengths are ours to bound; it would warn about longer texts
        return cls(backend)

    @property
    def eos_id(self) -> int | None:
        """Id of the end-of-text token."""
        return self.backend.eos_token_id  # type: ignore[no-any-return]

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token."""
        return self.backend.pad_token_id  # type: ignore[no-any-return]

    def encode(self, texts: list[str], max_length: int | None) -> tuple[list[list[int]], list[int]]:
        """Token ids with special tokens, cut at `max_length`, and the places of the texts that were cut."""
        encoded = self._call(texts, truncation=max_length is not None, max_length=max_length)
        return encoded["input_ids"], [i for i, e in enumerate(encoded.encodings) if e.overflowing]

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text, without special tokens and uncut."""
        encoded = self._call(texts, add_special_tokens=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _call(self, texts: list[str], **options: Any) -> Any:
        common = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False}
        try:
            return self.backend(texts, **common, **options)
        except BaseException as error:  # Rust's panics are no Exceptions
            if isinstance(error, MemoryError | KeyboardInterrupt | SystemExit):
                raise
            raise Failure(
                "ModelInvalid",
                f"the model's tokenizer can't encode the data: {error}; check its tokenizer.json (an unknown token "
                "must be in its vocabulary), or choose another model",
            ) from error


def vocabulary_of(config: dict[str, Any]) -> int:
    """Tokens of a new tokenizer. Raises Failure (ModelInvalid)."""
    size = config.get("vocab_size", DEFAULT_VOCABULARY)
    if not isinstance(size, int) or size < _BYTES + 8:
        raise Failure(
            "ModelInvalid",
            f"model.config.vocab_size is {size!r}; give a whole number of at least {_BYTES + 8}",
        )
    return size


def new_tokenizer_key(config: dict[str, Any]) -> str:
    """Stands for a tokenizer that is yet to be trained: what decides it, but for the text."""
    return digest_of({"bpe": BPE_VERSION, "vocabulary": vocabulary_of(config)})


def train_tokenizer(texts: Iterable[str], config: dict[str, Any], folder: Path, *, frames: bool) -> None:
    """Trains a byte-level BPE and writes it with the completed config.json into `folder`.

    With `frames` each text is put between <s> and </s>; else nothing is added.
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    size = vocabulary_of(config)
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_PAD, _BOS, _EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    try:
        fast.train_from_iterator(texts, trainer)
    except Failure:
        raise
    except BaseException as error:  # Rust's panics are no Exceptions
        if isinstance(error, MemoryError | OSError | KeyboardInterrupt | SystemExit):
            raise
        raise Failure(
            "ModelInvalid",
            f"no tokenizer could be trained on the training split: {error}; check model.config.vocab_size and the data",
        ) from error
    if frames:
        fast.post_processor = processors.TemplateProcessing(
            single=f"{_BOS} $A {_EOS}",
            special_tokens=[(_BOS, fast.token_to_id(_BOS)), (_EOS, fast.token_to_id(_EOS))],
        )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    special = {"pad_token": _PAD, "bos_token": _BOS, "eos_token": _EOS}
    # The generic class: a model's own would put its own normalizer around these tokens.
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1))
    ids = {f"{k}_id": fast.token_to_id(v) for k, v in special.items()}
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": size, **ids}, indent=1))
