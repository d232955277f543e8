"""What is called a model is the one that was trained: the parts of the proof, on small models in this process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard.contract.model import REFERENCE_TOKENS, Reference
from modelyard_models.digest import model_digest
from modelyard_models.failure import Failure
from modelyard_trainer.tasks import Task
from modelyard_trainer.train.memory import read_available
from modelyard_trainer.train.portable import bound_length, clean_folder, hide_credentials, restore_settings
from modelyard_trainer.train.proof import check_numbers
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.reference import ask_model, count_rows, take_rows
from modelyard_trainer.train.reload import (
    MOST_BYTES,
    make_environment,
    read_verdict,
    reload_folder,
    why_too_large,
)
from modelyard_trainer.train.weights import compare_weights, count_bytes, find_no_number
from modelyard_trainer.verify import check
from modelyard_trainer.verify.check import Unproven, check_folder
from modelyard_trainer.verify.verdict import judge

from tests.unit.trainer.builders import BERT, LLAMA, SIZES, WORDS
from tests.unit.trainer.damage import break_folder
from tests.unit.trainer.exported import (
    CLASSES,
    LANGUAGE,
    Engine,
    Rows,
    make_model,
    make_tokenizer,
    write_model,
)

ROOT = Path(__file__).parents[3]
ALONE = Ranks(0, 1)


# The folder


@pytest.mark.parametrize("task", [CLASSES, LANGUAGE], ids=["classes", "language"])
def test_a_faithful_folder_gives_the_trained_models_answers(tmp_path: Path, task: Task) -> None:
    model, folder = write_model(tmp_path, task)
    problem, tensors = compare_weights(model, folder, ALONE)
    assert problem is None and tensors > 10
    assert check_folder(folder) < 1e-5


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "tensors are not in its files: 'bert.embeddings.position_embeddings.weight'"),
        ("permuted", "bert.embeddings.position_embeddings.weight has other values"),
        ("random", "bert.embeddings.position_embeddings.weight has other values"),
        ("shape", "is of shape (63, 32) in its file, not (64, 32)"),
    ],
)
def test_weights_that_are_not_the_trained_ones_are_found_by_name(
    tmp_path: Path, how: str, words: str
) -> None:
    model, folder = write_model(tmp_path)
    break_folder(folder, how)
    problem, _ = compare_weights(model, folder, ALONE)
    assert problem is not None and words in problem


@pytest.mark.parametrize("how", ["missing", "shape"])
def test_a_fresh_load_refuses_what_would_be_made_at_random(tmp_path: Path, how: str) -> None:
    _, folder = write_model(tmp_path)
    break_folder(folder, how)
    with pytest.raises((Unproven, RuntimeError), match=r"position_embeddings|ismatched"):
        check_folder(folder)


@pytest.mark.parametrize("task", [CLASSES, LANGUAGE], ids=["classes", "language"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_another_models_answers_are_far_outside_the_tolerance(
    tmp_path: Path, task: Task, dtype: torch.dtype
) -> None:
    model, folder = write_model(tmp_path, task)
    model = model.to(dtype)
    reference = Reference.model_validate_json((folder / "reference.json").read_bytes())
    rows = [(row.text, row.input_ids) for row in reference.rows]
    trained = ask_model(Engine(model), task, rows, "validation")
    model.save_pretrained(folder)
    (folder / "reference.json").write_text(trained.model_dump_json(by_alias=True))
    assert check_folder(folder) <= trained.tolerance / 10
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder)
    with pytest.raises(Unproven, match="its answers are others"):
        check_folder(folder)
    narrow = trained.tolerance * 5  # far: five times as wide would find it too
    (folder / "reference.json").write_text(
        trained.model_copy(update={"tolerance": narrow}).model_dump_json(by_alias=True)
    )
    with pytest.raises(Unproven, match="its answers are others"):
        check_folder(folder)


def test_a_configuration_that_computes_something_else_is_found_by_the_answers(tmp_path: Path) -> None:
    model, folder = write_model(tmp_path)
    break_folder(folder, "configuration")
    assert compare_weights(model, folder, ALONE)[0] is None
    with pytest.raises(Unproven, match="its answers are others"):
        check_folder(folder)


def test_a_tokenizer_that_was_written_wrong_is_found(tmp_path: Path) -> None:
    _, folder = write_model(tmp_path)
    about = json.loads((folder / "tokenizer.json").read_text())
    about["post_processor"] = None  # the special tokens are gone
    (folder / "tokenizer.json").write_text(json.dumps(about))
    with pytest.raises(Unproven, match="its tokenizer makes other tokens"):
        check_folder(folder)


def test_weights_that_are_no_numbers_are_never_written(tmp_path: Path) -> None:
    model, _ = write_model(tmp_path)
    check_numbers(Engine(model), ALONE)
    model.classifier.weight.data[1, 2] = float("nan")
    with pytest.raises(Failure, match=r"ModelUnproven.*classifier\.weight.*learningRate"):
        check_numbers(Engine(model), ALONE)


@pytest.mark.parametrize(("place", "found"), [(3, None), (2, "weight")])
def test_a_ranks_part_is_looked_at_without_its_filling(place: int, found: str | None) -> None:
    parameter = torch.nn.Parameter(torch.empty(0))
    parameter.ds_numel, parameter.ds_zero_partition_rank = 7, 1
    parameter.ds_tensor = torch.zeros(4)  # of 7 values this rank has the last three
    parameter.ds_tensor[place] = float("nan")
    model = torch.nn.Module()
    model.register_parameter("weight", parameter)
    assert find_no_number(model, ALONE) == found


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model, _ = write_model(tmp_path)
    model.classifier.bias.data[0] = float("inf")
    with pytest.raises(Failure, match="ModelUnproven"):
        ask_model(Engine(model), CLASSES, [(None, [1, 5, 2])], "validation")


def test_tied_weights_and_their_one_tensor_in_the_file_are_the_same(tmp_path: Path) -> None:
    model, folder = write_model(tmp_path, LANGUAGE, tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert compare_weights(model, folder, ALONE)[0] is None and check_folder(folder) < 1e-5


# The rows


def test_reference_rows_are_short_different_and_always_the_same(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, BERT)
    texts = [" ".join([WORDS[i % len(WORDS)]] * (3 if i % 3 else 90)) for i in range(60)]
    data = Rows(tokenizer(texts)["input_ids"])
    rows = take_rows(data, tokenizer)
    assert rows == take_rows(data, tokenizer) and len(rows) == 8
    assert len({text for text, _ in rows}) == 8
    assert all(text is not None and tokenizer(text)["input_ids"] == ids for text, ids in rows)
    assert max(len(ids) for _, ids in rows) < 20


def test_long_rows_are_cut_to_a_bounded_length(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, BERT)
    data = Rows(tokenizer([" ".join(WORDS[i:] * 20) for i in range(3)])["input_ids"])
    rows = take_rows(data, tokenizer)
    assert len(rows) == 3
    assert all(
        text is not None and REFERENCE_TOKENS - 10 < len(ids) <= REFERENCE_TOKENS for text, ids in rows
    )


def test_rows_that_are_no_text_are_kept_as_tokens(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, BERT)
    assert take_rows(Rows([[1, 2, 0]]), tokenizer) == [(None, [1, 2, 0])]


def test_answers_under_autocast_have_its_rounding(tmp_path: Path) -> None:
    model, _ = write_model(tmp_path)
    plain = ask_model(Engine(model), CLASSES, [(None, [1, 5, 2])], "train")
    model.torch_autocast_enabled, model.torch_autocast_dtype = (lambda: True), (lambda: torch.bfloat16)
    rounded = ask_model(Engine(model), CLASSES, [(None, [1, 5, 2])], "train")
    assert (plain.dtype, rounded.dtype) == ("float32", "bfloat16")
    assert rounded.tolerance == pytest.approx(5 * plain.tolerance)


def test_a_large_model_answers_fewer_rows() -> None:
    assert (count_rows(1 << 30), count_rows(14 << 30)) == (8, 2)


# The fresh process


def test_the_fresh_process_knows_nothing_of_the_training() -> None:
    env = make_environment({
        "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "TORCHELASTIC_RUN_ID": "y",
        "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "3", "HTTPS_PROXY": "kept", "CUDA_VISIBLE_DEVICES": "0",
    })  # fmt: skip
    assert env["OMP_NUM_THREADS"] == "6", "the other processes of the pod wait"
    assert env["CUDA_VISIBLE_DEVICES"] == "" and env["HTTPS_PROXY"] == "kept"
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"} & set(env)


def test_a_folder_is_checked_in_a_process_without_deepspeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = write_model(tmp_path)
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed" / "__init__.py").write_text("raise SystemExit('DeepSpeed was imported')")
    packages = [
        tmp_path,
        *(ROOT / p for p in ("operator", "images/models", "images/trainer", "images/agent")),
    ]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(p) for p in packages))
    beats: list[int] = []
    went = reload_folder(folder, lambda: beats.append(1))
    assert went.problem is None and went.difference is not None and went.difference < 1e-5
    assert beats, "the pod's agent hears of it meanwhile"
    (folder / "config.json").write_text("{")
    went = reload_folder(folder, lambda: None)
    assert went.difference is None and went.problem is not None and "can't load it" in went.problem


def test_a_model_that_finds_no_memory_is_not_refused_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = write_model(tmp_path)
    sizes = [1 << 56]  # more than any machine has: torch's own words

    def load_far_too_much(*_: Any) -> Any:
        return torch.empty(sizes, dtype=torch.uint8)

    monkeypatch.setattr(check, "_load", load_far_too_much)
    assert judge(folder) == {"unable": "there was too little memory to load it again"}
    sizes[0] = -1  # any other error of torch's is the folder's
    assert "RuntimeError" in str(judge(folder)["problem"])


@pytest.mark.parametrize(
    ("code", "output", "errors", "expected"),
    [
        (0, 'a warning\n{"maxDifference": 0.5}\n', "", ("difference", 0.5)),
        (1, '{"problem": "its answers are others"}', "", ("problem", "its answers are others")),
        (1, '{"storage": "Input/output error: x"}', "", ("storage", "Input/output error: x")),
        (1, '{"unable": "too little memory"}', "", ("unable", "too little memory")),
        (
            1,
            "",
            "Traceback\nKeyError: 'x'\n",
            ("unable", "the check of the loaded model failed itself: KeyError: 'x'"),
        ),
        (1, "", "", ("unable", "the check of the loaded model failed itself: exit code 1")),
        (-9, "", "", ("unable", "the process that loaded it again was killed (signal 9)")),
    ],
)
def test_what_a_check_says(code: int, output: str, errors: str, expected: tuple[str, Any]) -> None:
    went = read_verdict(code, output, errors)
    assert getattr(went, expected[0]) == expected[1]
    said = [went.difference, went.problem, went.storage, went.unable]
    assert sum(word is not None for word in said) == 1


def test_a_model_is_loaded_again_where_there_is_memory_for_it() -> None:
    assert why_too_large(90 << 20, 2 << 30) is None and why_too_large(90 << 20, None) is None
    assert "0.5 GiB are left" in str(why_too_large(90 << 20, 512 << 20))
    assert "more than the 40.0 GiB" in str(why_too_large(MOST_BYTES + 1, 1 << 50))


def test_memory_is_what_the_container_and_the_node_have_left(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert read_available(group, meminfo) == 4000 << 10
    group.mkdir()
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("600000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert read_available(group, meminfo) == 500_000, "cached files give way"
    (group / "memory.max").write_text("max\n")
    assert read_available(group, meminfo) == 4000 << 10
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("700000")
    (old / "memory.usage_in_bytes").write_text("400000")
    assert read_available(old.parent, meminfo) == 300_000
    assert read_available(tmp_path / "none", tmp_path / "nothing") is None


def test_the_size_of_a_model_is_that_of_its_parameters(tmp_path: Path) -> None:
    model, folder = write_model(tmp_path)
    assert count_bytes(model) == pytest.approx((folder / "model.safetensors").stat().st_size, rel=0.1)


# The folder anywhere


@pytest.mark.parametrize(
    ("own", "longest", "trained", "length"),
    [
        (int(1e30), 512, 128, 512),
        (int(1e30), None, 128, 128),
        (1 << 30, 39, 32, 39),
        (256, 512, 128, 256),
        (1024, 512, 128, 512),
        (4096, None, 128, 4096),
    ],
)
def test_a_tokenizer_truncates_within_the_model(
    own: int, longest: int | None, trained: int, length: int
) -> None:
    assert bound_length(own, longest, trained) == length


@pytest.mark.parametrize("cached", [True, False])
def test_what_training_switched_off_is_as_the_base_had_it(tmp_path: Path, cached: bool) -> None:
    tokenizer = make_tokenizer(tmp_path, LLAMA | {"use_cache": cached})
    model = make_model(LLAMA, LANGUAGE, tmp_path, use_cache=False)
    restore_settings(model, tokenizer, tmp_path, 32)
    assert model.config.use_cache is cached and model.generation_config.use_cache is cached
    assert tokenizer.model_max_length == 32
    config = {"model_type": "distilbert", "vocab_size": 320, "dim": 32, "n_layers": 1, "n_heads": 2}
    tokenizer = make_tokenizer(tmp_path / "other", config)
    model = make_model(config, CLASSES, tmp_path / "other", use_cache=False)
    restore_settings(model, tokenizer, tmp_path / "other", 32)
    assert not hasattr(model.config, "use_cache") and tokenizer.model_max_length == 512


@pytest.mark.parametrize(
    ("family", "padding", "written"),
    [("roberta", 3, 3), ("esm", 3, 3), ("bert", 3, 0), ("llama", 3, 0), ("bert", None, 0)],
)
def test_positions_that_begin_after_the_paddings_id_stay_where_they_were(
    tmp_path: Path, family: str, padding: int | None, written: int
) -> None:
    config = BERT | {"model_type": family, "mask_token_id": 5, "position_embedding_type": "absolute"}
    tokenizer = make_tokenizer(tmp_path, config)
    set_padding(tmp_path, padding)
    model = make_model(config, CLASSES, tmp_path).eval()
    ids = torch.tensor([[1, 9, 8, 7, 2]])
    before = model(input_ids=ids).logits
    model.config.pad_token_id = tokenizer.pad_token_id  # as the Trainer does before the first step
    restore_settings(model, tokenizer, tmp_path, 32)
    assert model.config.pad_token_id == written
    model.save_pretrained(tmp_path / "out")
    again = type(model).from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(again(input_ids=ids).logits, before)


@pytest.mark.parametrize(("family", "side"), [("xlnet", "left"), ("bert", "right")])
def test_a_tokenizer_pads_where_its_model_was_trained_with_padding(
    tmp_path: Path, family: str, side: str
) -> None:
    xlnet = {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}
    config = {"model_type": family, "vocab_size": 320, **(xlnet if family == "xlnet" else SIZES)}
    tokenizer = make_tokenizer(tmp_path, config)
    restore_settings(make_model(config, CLASSES, tmp_path), tokenizer, tmp_path, 32)
    assert tokenizer.padding_side == side


def set_padding(folder: Path, padding: int | None) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": padding}))


def test_a_written_folder_says_nothing_of_how_it_was_loaded_and_everyone_can_read_it(tmp_path: Path) -> None:
    _, folder = write_model(tmp_path)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "model.safetensors").chmod(0o600)
    before = json.loads((folder / "tokenizer_config.json").read_text())
    assert before["is_local"], "transformers writes it"
    clean_folder(folder)
    after = json.loads((folder / "tokenizer_config.json").read_text())
    assert before.items() >= after.items() and not {"is_local", "local_files_only"} & set(after)
    assert not (folder / "training_args.bin").exists()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert (folder / "model.safetensors").stat().st_mode & 0o044 == 0o044


def test_secrets_of_urls_are_not_published() -> None:
    given = {
        "uri": "https://user:word@host/x.csv?X-Amz-Signature=1#part",
        "rows": 3,
        "other": ["pvc://a/b?c"],
    }
    assert hide_credentials(given) == {"uri": "https://host/x.csv", "rows": 3, "other": ["pvc://a/b?c"]}


def test_the_digest_is_that_of_the_model_with_or_without_its_reference(tmp_path: Path) -> None:
    _, folder = write_model(tmp_path)
    digest = model_digest(folder)
    (folder / "reference.json").unlink()
    assert model_digest(folder) == digest
    break_folder(folder, "permuted")
    assert model_digest(folder) != digest
