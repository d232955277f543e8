"""An image's tag follows from what it is made of, and from nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from images.building.recipe import (
    GATEWAY,
    OPERATOR,
    RECIPES,
    SERVER,
    TRAINER,
    Recipe,
    list_inputs,
    reference,
    stage,
)

ROOT = Path(__file__).parents[3]
RECIPE = Recipe("sample", "Dockerfile", "lock.txt", ("code", "tool.sh"), (("ARG", "1"),))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "code" / "__pycache__").mkdir(parents=True)
    for name in (
        "Dockerfile",
        "lock.txt",
        ".dockerignore",
        "tool.sh",
        "code/a.py",
        "code/__pycache__/a.pyc",
        "other",
    ):
        (root / name).write_text(name)
    return root


def test_an_unchanged_checkout_keeps_its_tag_whatever_its_file_times(checkout: Path) -> None:
    before = reference(checkout, RECIPE, "base")
    os.utime(checkout / "code" / "a.py", (1, 1))
    assert reference(checkout, RECIPE, "base") == before
    assert before.startswith("localhost/modelyard/sample:")


@pytest.mark.parametrize(
    "file", ["Dockerfile", "lock.txt", ".dockerignore", "tool.sh", "code/a.py", "code/new.py"]
)
def test_a_change_of_any_input_changes_the_tag(checkout: Path, file: str) -> None:
    before = reference(checkout, RECIPE, "base")
    (checkout / file).write_text("changed")
    assert reference(checkout, RECIPE, "base") != before


@pytest.mark.parametrize("file", ["other", "code/__pycache__/a.pyc"])
def test_what_the_image_does_not_hold_leaves_the_tag(checkout: Path, file: str) -> None:
    before = reference(checkout, RECIPE, "base")
    (checkout / file).write_text("changed")
    assert reference(checkout, RECIPE, "base") == before


def test_a_renamed_file_another_base_and_an_executable_bit_change_the_tag(checkout: Path) -> None:
    before = reference(checkout, RECIPE, "base")
    others = [reference(checkout, RECIPE, "another base")]
    (checkout / "tool.sh").chmod(0o755)
    others.append(reference(checkout, RECIPE, "base"))
    (checkout / "code" / "a.py").rename(checkout / "code" / "b.py")
    others.append(reference(checkout, RECIPE, "base"))
    assert len({before, *others}) == 4


def test_the_staged_copy_has_the_checkouts_tag_and_no_compiled_files(checkout: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    stage(checkout, RECIPE, context)
    assert reference(context, RECIPE, "base") == reference(checkout, RECIPE, "base")
    assert not (context / "other").exists()
    assert not list(context.rglob("*.pyc"))


def test_the_staged_copy_does_not_follow_the_checkouts_umask(checkout: Path, tmp_path: Path) -> None:
    (checkout / "code" / "a.py").chmod(0o600)
    stage(checkout, RECIPE, tmp_path / "context")
    assert (tmp_path / "context" / "code" / "a.py").stat().st_mode & 0o777 == 0o644


def test_a_missing_input_is_named(checkout: Path) -> None:
    (checkout / "lock.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lock\.txt is missing"):
        reference(checkout, RECIPE, "base")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_file_that_a_dockerfile_copies_counts_for_its_tag(recipe: Recipe) -> None:
    inputs = {str(file.relative_to(ROOT)) for file in list_inputs(ROOT, recipe)}
    for line in (ROOT / recipe.dockerfile).read_text().replace("\\\n", " ").splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            for source in line.split()[1:-1]:
                wanted = source.replace("${REQUIREMENTS}", dict(recipe.arguments).get("REQUIREMENTS", ""))
                assert any(file == wanted or file.startswith(f"{wanted}/") for file in inputs), source


def test_the_dockerfiles_start_from_a_chosen_base_and_end_without_root() -> None:
    for recipe in RECIPES.values():
        lines = (ROOT / recipe.dockerfile).read_text().splitlines()
        assert next(line for line in lines if line[:1] not in ("#", "")).startswith("ARG BASE_IMAGE=")
        assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert 'ENTRYPOINT ["python", "-m", "modelyard"]' in (ROOT / OPERATOR.dockerfile).read_text()


def read_torch_layer(recipe: Recipe) -> list[str]:
    """The instructions of the last stage, up to the one that installs torch."""
    stage = (ROOT / recipe.dockerfile).read_text().replace("\\\n", " ").split("\nFROM ")[-1]
    lines = [" ".join(line.split()) for line in stage.splitlines() if line[:1] not in ("#", "")]
    return lines[: next(i for i, line in enumerate(lines) if "install.sh /opt/install/torch.txt" in line) + 1]


def test_trainer_and_server_have_one_layer_with_torch() -> None:
    layer = read_torch_layer(TRAINER)
    assert layer == read_torch_layer(SERVER)
    assert not any("REQUIREMENTS" in line for line in layer)  # its value would be part of the layer
    big = re.compile(r"(torch|triton|setuptools|nvidia-[a-z0-9-]+|cuda-[a-z]+)==.*")
    for kind in ("", "-cpu"):
        trainer, server = (
            [line for line in lock.read_text().replace("\\\n", " ").splitlines() if big.match(line)]
            for lock in (ROOT / f"requirements/{name}{kind}.txt" for name in ("trainer", "server"))
        )
        assert trainer == server
        assert len(server) > 10


@pytest.mark.parametrize(
    ("recipe", "package", "strange"),
    [
        # accelerate is imported by transformers wherever it is installed, as it is here and not in the image.
        (SERVER, "modelyard_server", {"deepspeed", "pyarrow", "kopf"}),
        (SERVER, "modelyard_build", {"deepspeed", "accelerate", "pyarrow", "kopf"}),
        (GATEWAY, "modelyard_gateway", {"torch", "transformers", "numpy", "starlette", "kopf", "kubernetes"}),
    ],
)
def test_an_images_files_are_enough_for_it(
    tmp_path: Path, recipe: Recipe, package: str, strange: set[str]
) -> None:
    stage(ROOT, recipe, tmp_path)
    folders = [
        tmp_path / name for name in ("operator", "images/agent", "images/models", f"images/{recipe.name}")
    ]
    modules = [
        ".".join(path.relative_to(folders[-1]).with_suffix("").parts).removesuffix(".__init__")
        for path in (folders[-1] / package).rglob("*.py")
    ]
    assert len(modules) > 20
    script = (
        f"import sys, importlib; sys.path[:0] = {[str(folder) for folder in folders]!r}\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "from pathlib import Path\n"
        f"ours = [m for n, m in sys.modules.items() if n.startswith('modelyard') and getattr(m, '__file__', None)]\n"
        f"assert all(Path(m.__file__).is_relative_to({str(tmp_path)!r}) for m in ours), ours\n"
        f"assert not {strange!r} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
