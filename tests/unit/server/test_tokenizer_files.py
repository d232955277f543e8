"""A tokenizer.json that reads otherwise than the class its folder names: the model was trained with the file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from modelyard_models.tokenizer import load_tokenizer
from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Tokens, load_tokens
from modelyard_server.serving.generator import Generator
from modelyard_trainer.prepare.tokenizer import Tokenizer as TrainersTokenizer
from modelyard_trainer.train.modeling import load_padding_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre
from transformers import AutoConfig, AutoTokenizer

from tests.unit.server.models import (
    make_service,
    serving_any,
    with_model,
    write_encoder,
    write_generator,
    write_json,
)

SAMPLE = ["the quick brown fox 2023 650841823 2023 2023 dog's I'll Hello World ünïcode"] * 50
TEXTS = ["2023", "650841823", "Hello World", "dog's 2023", "I'll", "ünïcode", " two  spaces"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
NAMES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
BERTS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def make_bytes(cutter: Any, post: Any = None) -> Tokenizer:
    """Byte-level pairs, trained on whole words and used behind `cutter`."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SAMPLE, trainer)
    made.pre_tokenizer = cutter
    if post is not None:
        made.post_processor = post
    return made


def make_words(normalizer: Any, cutter: Any) -> Tokenizer:
    """WordPiece, as BERT has it."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=BERTS, show_progress=False)
    made.train_from_iterator(SAMPLE, trainer)
    made.normalizer, made.pre_tokenizer = normalizer, cutter
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def frame(*, ends: bool) -> Any:
    template = "<s> $A </s>" if ends else "<s> $A"
    return processors.TemplateProcessing(template, special_tokens=[("<s>", 1), ("</s>", 2)])


def digits() -> Any:
    return pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])


def threes() -> Any:
    split = pre.Split(Regex(r"\p{N}{1,3}"), "isolated")
    return pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def cased() -> Any:
    return normalizers.BertNormalizer(lowercase=False)


CASES: dict[str, tuple[str, str, Tokenizer, dict[str, Any]]] = {
    "digits, as SmolLM2": ("llama", "GPT2Tokenizer", make_bytes(digits()), NAMES),
    "digits of StarCoder": ("starcoder2", "GPT2Tokenizer", make_bytes(digits()), NAMES),
    "digits of GPT-2": ("gpt2", "GPT2TokenizerFast", make_bytes(digits()), NAMES),
    "digits of GPT-NeoX": ("gpt_neox", "GPTNeoXTokenizerFast", make_bytes(digits()), NAMES),
    "threes of Qwen": ("qwen3", "Qwen2Tokenizer", make_bytes(threes()), NAMES),
    "bytes of Llama": ("llama", "LlamaTokenizerFast", make_bytes(digits()), NAMES),
    "framed": ("roberta", "RobertaTokenizer", make_bytes(digits(), frame(ends=True)), NAMES),
    "plain": ("llama", "PreTrainedTokenizerFast", make_bytes(digits()), NAMES),
    "words by spaces": (
        "bert", "BertTokenizerFast", make_words(cased(), pre.WhitespaceSplit()), {"do_lower_case": False}
    ),
    "another normalizer": ("bert", "BertTokenizer", make_words(normalizers.NFC(), pre.BertPreTokenizer()), {}),
    "BERT's own": ("bert", "BertTokenizer", make_words(cased(), pre.BertPreTokenizer()), {"do_lower_case": False}),
}  # fmt: skip


def write(folder: Path, case: str) -> Tokenizer:
    """A folder with such a tokenizer, as transformers 4 wrote it."""
    kind, named, made, settings = CASES[case]
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    write_json(folder / "config.json", {"model_type": kind, "vocab_size": 1000, **sizes})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": named, **settings})
    return made


@pytest.mark.parametrize("case", CASES)
def test_texts_become_the_tokens_of_the_file(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "model"
    told = write(folder, case)
    wanted = [told.encode(text).ids for text in TEXTS]
    tokens = load_tokens(folder, AutoConfig.from_pretrained(folder))
    assert [tokens.encode(text).ids.tolist() for text in TEXTS] == wanted
    assert TrainersTokenizer.load(folder).encode(TEXTS, None)[0] == wanted
    loaded = load_padding_tokenizer(folder)
    assert loaded.pad_token == (
        "[PAD]" if "bert" in case.lower() or "words" in case or "another" in case else "<pad>"
    )
    # What is trained goes on in plain transformers.
    loaded.save_pretrained(tmp_path / "exported")
    again = AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert again(TEXTS)["input_ids"] == wanted
    assert again.special_tokens_map == loaded.special_tokens_map


def test_the_settings_say_whether_berts_kind_is_lower_case(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    told = write(folder, "words by spaces")
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}
    )
    wanted = told.encode("hello world").ids
    assert wanted != told.encode("Hello World").ids
    assert load_tokenizer(folder)("Hello World")["input_ids"] == wanted


def test_a_class_that_reads_as_its_file_does_stays_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "model", "BERT's own")
    assert type(load_tokenizer(tmp_path / "model")).__name__ == "BertTokenizer"


@pytest.mark.parametrize("unk", ["<unk>", None])  # with one the class differs from its file
def test_the_settings_say_whether_there_is_a_space_in_front(tmp_path: Path, unk: str | None) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    made = make_bytes(pre.ByteLevel(add_prefix_space=False))
    made.model.unk_token = unk
    made.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, **NAMES}
    write_json(folder / "config.json", {"model_type": "gpt2", "vocab_size": 1000})
    write_json(folder / "tokenizer_config.json", about)
    assert load_tokenizer(folder)("fox")["input_ids"] == made.encode(" fox").ids


def generator(tmp_path: Path, *, ends: bool) -> Path:
    """A causal model whose tokenizer frames texts."""
    folder = tmp_path / "model"
    write_generator(folder)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.post_processor = frame(ends=ends)
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("text", ["the quick", "the quick</s>", ""])
def test_a_prompt_has_no_end_but_the_callers(tmp_path: Path, text: str) -> None:
    ending = load(generator(tmp_path / "a", ends=True))
    open_ = load(generator(tmp_path / "b", ends=False))
    assert ending.encode(text).ids.tolist() == [*open_.encode(text).ids.tolist(), 2]
    assert ending.encode_prompt(text).ids.tolist() == open_.encode(text).ids.tolist()
    assert open_.encode_prompt(text).ids.tolist() == open_.encode(text).ids.tolist()
    # Of a long one the beginning.
    assert 2 not in ending.encode_prompt("the quick " * 5000, 8).ids.tolist()


def load(folder: Path) -> Tokens:
    return load_tokens(folder, AutoConfig.from_pretrained(folder))


def test_a_completion_goes_on_from_where_the_prompt_ends(tmp_path: Path) -> None:
    folder = generator(tmp_path, ends=True)
    wanted = [
        1,
        *Tokenizer.from_file(str(folder / "tokenizer.json"))
        .encode("the quick", add_special_tokens=False)
        .ids,
    ]
    found: list[int] = []

    async def ask() -> None:
        async with serving_any(make_service(folder, "text-generation")) as model:
            assert isinstance(model, Generator)
            found.extend((await model.encode("the quick")).ids.tolist())

    asyncio.run(ask())
    assert found == wanted


@pytest.mark.parametrize(
    ("mode", "ends", "refused"),
    [("lasttoken", False, True), ("lasttoken", True, False), ("mean_tokens", False, False)],
)
def test_vectors_of_the_last_token_want_the_end_that_the_settings_name(
    tmp_path: Path, mode: str, ends: bool, refused: bool
) -> None:
    folder = tmp_path / "model"
    write_encoder(folder, model_type="llama", max_position_embeddings=64, num_key_value_heads=2)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.post_processor = frame(ends=ends)
    made.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(
        folder / "tokenizer_config.json",
        settings | {"add_eos_token": True, "tokenizer_class": "LlamaTokenizerFast"},
    )
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": True})

    async def test(model: Any) -> None:
        assert model is not None

    if refused:
        with pytest.raises(Failure, match="add_eos_token"):
            with_model(folder, "embeddings", test)
    else:
        with_model(folder, "embeddings", test)
