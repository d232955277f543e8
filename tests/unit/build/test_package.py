"""The package's folder: found whole, made once, never half."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from modelyard.contract.build import BuildResult, VariantReport
from modelyard.contract.layout import PACKAGE
from modelyard_build.package import Package, held
from modelyard_models.failure import Failure

from tests.unit.build.builders import make_settings

DIGEST = "sha256-" + "0123456789abcdef" * 4


def make(root: Path, digest: str = DIGEST) -> tuple[Package, Path]:
    settings = make_settings(root)
    model = settings.storage / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_text("weights")
    return Package(settings, digest), model


def fill(text: str = "small") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.onnx").write_text(text)

    return write


def publish(package: Package, model: Path) -> BuildResult:
    made = package.make("int8", fill())
    reference = package.find_reference("int8", made)
    reference.write_text("{}")
    result = BuildResult(
        outcome="succeeded", digest=DIGEST, task="embeddings", chosen="int8", max_length=7,
        reference=package.name(reference),
        variants=[
            VariantReport(name="none", folder=package.name(model)),
            VariantReport(name="bf16", passed=False, reason="why not"),
            VariantReport(name="int8", folder=package.name(made)),
        ],
    )  # fmt: skip
    package.publish(result, model)
    return result


def test_a_published_package_is_read_as_it_was_written(tmp_path: Path) -> None:
    package, model = make(tmp_path)
    assert package.read(model) is None
    result = publish(package, model)
    assert package.read(model) == result
    assert json.loads((tmp_path / "storage/packages/p" / PACKAGE).read_text())["chosen"] == "int8"
    assert package.name(package.make("int8", fill())) == "packages/p/int8-0123456789ab"


FILES = ["model/model.safetensors", "packages/p/int8-0123456789ab/model.onnx"]


def read_damaged(root: Path, damage: Callable[[Path], object], file: str) -> BuildResult | None:
    package, model = make(root)
    publish(package, model)
    damage(root / "storage" / file)
    return package.read(model)


@pytest.mark.parametrize("file", [*FILES, "packages/p/int8-0123456789ab.json"])
def test_without_one_of_its_files_it_is_no_package(tmp_path: Path, file: str) -> None:
    assert read_damaged(tmp_path, Path.unlink, file) is None


@pytest.mark.parametrize("file", FILES)
def test_with_a_file_that_was_cut_it_is_no_package(tmp_path: Path, file: str) -> None:
    assert read_damaged(tmp_path, lambda path: path.write_text("x"), file) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outcome": "succeeded"}'])
def test_a_result_that_is_none_is_no_package(tmp_path: Path, text: str) -> None:
    package, model = make(tmp_path)
    publish(package, model)
    (tmp_path / "storage/packages/p" / PACKAGE).write_text(text)
    assert package.read(model) is None


def test_another_model_under_the_same_address_has_a_package_of_its_own(tmp_path: Path) -> None:
    package, model = make(tmp_path)
    publish(package, model)
    other, _ = make(tmp_path, "sha256-" + "f" * 64)
    assert other.read(model) is None
    made = other.make("int8", fill("other"))
    assert made.name == "int8-ffffffffffff"
    # Those who still serve the old one have its files.
    assert package.read(model) is not None
    assert (tmp_path / "storage/packages/p/int8-0123456789ab/model.onnx").read_text() == "small"


def test_a_variant_that_is_whole_is_not_made_again_and_one_that_is_not_is(tmp_path: Path) -> None:
    package, _ = make(tmp_path)
    made = package.make("int8", fill())

    def never(folder: Path) -> None:
        raise AssertionError

    assert package.make("int8", never) == made
    (made / "model.onnx").write_text("torn")
    assert package.make("int8", fill()) == made
    assert (made / "model.onnx").read_text() == "small"


def test_what_fails_leaves_nothing_and_what_a_killed_one_left_is_deleted(tmp_path: Path) -> None:
    package, _ = make(tmp_path)
    folder = tmp_path / "storage/packages/p"

    def fails(target: Path) -> None:
        (target / "half").write_text("x")
        raise ValueError

    with pytest.raises(ValueError):
        package.make("int8", fails)
    assert not [path for path in folder.iterdir() if path.name.startswith((".tmp", "int8"))]
    (folder / f".tmp-{make_settings(tmp_path).owner}-0a0a0a0a").mkdir()
    package.make("int8", fill())
    assert [path.name for path in folder.iterdir()] == ["int8-0123456789ab"]


def test_the_answers_of_a_trained_model_are_its_own(tmp_path: Path) -> None:
    package, model = make(tmp_path)
    folder = tmp_path / "storage/packages/p"
    assert package.find_reference("none", model) == folder / "none-0123456789ab.json"
    (model / "reference.json").write_text("{}")
    assert package.find_reference("none", model) == model / "reference.json"
    # A variant has its own, even where it was made of such a model.
    assert package.find_reference("bf16", model) == folder / "bf16-0123456789ab.json"


def test_a_variant_that_has_killed_two_builds_is_left_out(tmp_path: Path) -> None:
    package, _ = make(tmp_path)
    killed = [package.counting_deaths("int8") for _ in range(2)]
    for one in killed:
        one.__enter__()  # and never left, as by a process that is killed
    with pytest.raises(Failure) as caught, package.counting_deaths("int8"):
        raise AssertionError
    assert caught.value.reason == "HostOutOfMemory" and "2 builds were killed" in caught.value.message
    with package.counting_deaths("bf16"):
        pass


def test_builds_that_end_by_themselves_are_no_deaths(tmp_path: Path) -> None:
    package, _ = make(tmp_path)
    for end in (ValueError, SystemExit, KeyboardInterrupt):
        with pytest.raises(end), package.counting_deaths("int8"):
            raise end
    for _ in range(3):
        with package.counting_deaths("int8"):
            pass


HOLD = """
import sys
from pathlib import Path
from modelyard_build.package import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_build_waits_for_the_first_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        done = threading.Event()

        def second() -> None:
            with held(tmp_path):
                done.set()

        waiting = threading.Thread(target=second)
        waiting.start()
        assert not done.wait(0.5)
        first.kill()
        assert done.wait(60)
        waiting.join()


def test_on_storage_without_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("modelyard_build.package.fcntl.flock", refuse)
    with held(tmp_path):
        pass
