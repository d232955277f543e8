"""Models and data from servers, and archives from strangers."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
from modelyard_models import download as downloads
from modelyard_models.archive import unpack
from modelyard_models.download import download, text_key
from modelyard_models.failure import Failure
from modelyard_trainer.prepare.main import prepare
from safetensors.numpy import load, save

from tests.unit.trainer.builders import make_context, make_rows, make_run, write_rows
from tests.unit.trainer.web import WebServer

COMMIT = "c0ffee" * 6 + "beef"


def quick(url: str, target: Path) -> downloads.Remote:
    return download(url, target, "Source", "source rows", sleep=lambda _: None)


def test_a_cut_connection_goes_on_where_it_was_cut(web: WebServer, tmp_path: Path) -> None:
    web.files["/big"] = bytes(range(256)) * 20_000
    web.faults["/big"] = [("cut", 3_000_000), 503]
    remote = quick(f"{web.url}/big", tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == web.files["/big"] and remote.bytes == 5_120_000
    ranges = [r for _, _, r in web.requests]
    assert ranges[0] is None and ranges[-1] is not None and int(ranges[-1][6:-1]) > 0
    assert not list(tmp_path.glob("*.part*"))


def test_a_file_that_changed_meanwhile_is_fetched_anew(web: WebServer, tmp_path: Path) -> None:
    web.files["/file"] = b"old" * 1000
    web.faults["/file"] = [("cut", 300), *[503] * 9]
    with pytest.raises(Failure):
        quick(f"{web.url}/file", tmp_path / "file")
    web.files["/file"], web.faults["/file"] = b"new" * 900, []
    quick(f"{web.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new" * 900


STALE: list[tuple[str, Any]] = [
    ("another file of the same size", lambda web, path: web.files.update({path: web.files[path][::-1]})),
    ("a range that begins earlier", lambda web, path: setattr(web, "shift", 1000)),
]


def put_aside(web: WebServer, path: str, target: Path, validator: str | None = None) -> None:
    """What a killed process leaves: the first half of a file."""
    data = web.files[path]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name(target.name + ".part").write_bytes(data[: len(data) // 2])
    etag = validator or f'"{hashlib.sha256(data).hexdigest()}"'
    told = {"url": f"{web.url}{path}", "validator": etag, "bytes": len(data)}
    target.with_name(target.name + ".part.json").write_text(json.dumps(told))


@pytest.mark.parametrize("change", [c[1] for c in STALE], ids=[c[0] for c in STALE])
def test_a_server_that_goes_on_with_another_file_is_not_believed(
    web: WebServer, tmp_path: Path, change: Any
) -> None:
    web.ignores_if_range = True
    web.files["/file"] = bytes(range(250)) * 400
    put_aside(web, "/file", tmp_path / "file")
    change(web, "/file")
    remote = quick(f"{web.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == web.files["/file"]
    assert remote.validator == f'"{remote.sha256}"'
    assert [r is not None for _, _, r in web.requests] == [True, False]


def test_a_file_of_another_size_under_the_same_date_is_fetched_anew(web: WebServer, tmp_path: Path) -> None:
    web.ignores_if_range, web.date = True, "Mon, 30 Nov 2026 06:00:00 GMT"
    web.files["/file"] = bytes(range(250)) * 400
    put_aside(web, "/file", tmp_path / "file", web.date)
    web.files["/file"] = b"longer" + web.files["/file"]
    assert quick(f"{web.url}/file", tmp_path / "file").validator == web.date
    assert (tmp_path / "file").read_bytes() == web.files["/file"]


@pytest.mark.parametrize("user", ["source", "model"])
def test_neither_rows_nor_models_are_made_of_two_files(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    defaults = download.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)
    web.ignores_if_range = True
    if user == "source":
        path, new = "/rows.csv", write_rows(tmp_path / "new.csv", make_rows(40)).read_bytes()
        run = make_run(data={"sources": [{"name": "rows", "uri": f"{web.url}{path}"}]})
        (tmp_path / "sources/pvc/models").mkdir(parents=True)
        (tmp_path / "sources/pvc/models/base").symlink_to(model_folder)
    else:
        path, new = "/model.tar", archive_of(model_folder, "tar")
        run = make_run(model={"uri": f"{web.url}{path}"})
        write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(40))
    ctx = make_context(tmp_path, run)
    web.files[path] = b"x" * len(new)
    put_aside(web, path, ctx.scratch / text_key(f"{web.url}{path}"))
    web.files[path] = new
    assert prepare(ctx).rows_in == 40
    assert [r is not None for _, p, r in web.requests if p == path] == [True, False]


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (404, "SourceNotFound", 2),
        (410, "SourceNotFound", 2),
        (403, "SourceForbidden", 2),
        (503, "SourceUnreachable", 75),
    ],
)
def test_a_refusal_is_told_apart_from_a_fault(
    web: WebServer, tmp_path: Path, status: int, reason: str, code: int
) -> None:
    web.files["/file"], web.faults["/file"] = b"x", [status] * 9
    with pytest.raises(Failure) as caught:
        quick(f"{web.url}/file", tmp_path / "file")
    assert (caught.value.reason, caught.value.exit_code) == (reason, code)
    assert str(status) in caught.value.message and f"{web.url}/file" in caught.value.message


def test_nobody_listening_is_temporary(tmp_path: Path) -> None:
    with WebServer() as gone:
        url = gone.url
    with pytest.raises(Failure) as caught:
        quick(f"{url}/file", tmp_path / "file")
    assert (caught.value.reason, caught.value.exit_code) == ("SourceUnreachable", 75)


def test_a_source_on_a_server_is_downloaded_once_and_recognised_after(
    web: WebServer, tmp_path: Path, model_folder: Path
) -> None:
    web.files["/rows.csv"] = write_rows(tmp_path / "rows.csv", make_rows(40)).read_bytes()
    (tmp_path / "sources/pvc/models").mkdir(parents=True)
    (tmp_path / "sources/pvc/models/base").symlink_to(model_folder)
    data = {"sources": [{"name": "rows", "uri": f"{web.url}/rows.csv"}]}
    ctx = make_context(tmp_path, make_run(data=data))
    first, second = prepare(ctx), prepare(ctx)
    assert second.cache_hit and second.digest == first.digest
    assert [m for m, _, _ in web.requests] == ["GET", "HEAD"]
    # Other steps need the rows again.
    other = prepare(make_context(tmp_path, make_run(data=data | {"split": {"seed": 3}})))
    assert not other.cache_hit and other.rows_in == 40
    web.files["/rows.csv"] += b'"one more row",positive\n'
    assert prepare(ctx).rows_in == 41


def archive_of(folder: Path, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for path in folder.iterdir():
                file.write(path, f"model/{path.name}")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as file:
            file.add(folder, "model")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_model_archive_is_fetched_unpacked_and_reused(
    web: WebServer, tmp_path: Path, model_folder: Path, kind: str
) -> None:
    web.files[f"/model.{kind}"] = archive_of(model_folder, kind)
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": f"{web.url}/model.{kind}"}))
    first, second = prepare(ctx), prepare(ctx)
    assert first.model_digest == second.model_digest and first.model_revision == second.model_revision
    assert str(first.model_revision).startswith("sha256:")
    assert [m for m, _, _ in web.requests] == ["GET", "HEAD"]
    hub = ctx.storage / "hub" / str(first.model_digest)
    assert (hub / "tokenizer.json").read_bytes() == (model_folder / "tokenizer.json").read_bytes()
    assert sorted(p.name for p in (ctx.storage / "hub").iterdir()) == sorted(
        [".aliases", str(first.model_digest)]
    )


def hub_files(model_folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in model_folder.iterdir()}


def test_a_hub_model_is_resolved_to_a_commit_fetched_and_reused(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(web, monkeypatch)
    web.models["org/base"] = (
        COMMIT,
        hub_files(model_folder) | {"pytorch_model.bin": b"pickle", "code.py": b"evil"},
    )
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": "hf://org/base", "revision": "main"}))
    first = prepare(ctx)
    assert first.model_revision == COMMIT
    hub = ctx.storage / "hub" / str(first.model_digest)
    assert not (hub / "pytorch_model.bin").exists() and not (hub / "code.py").exists()
    before = len(web.requests)
    assert prepare(ctx).model_digest == first.model_digest
    assert [p for _, p, _ in web.requests[before:]] == ["/api/models/org/base/revision/main"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_came_with_other_bytes_than_the_hub_lists_is_fetched_again(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    use_hub(web, monkeypatch)
    files = hub_files(model_folder)
    web.models["org/base"] = (COMMIT, files)
    flipped = bytearray(files[name])
    flipped[-3] ^= 1
    web.damaged[f"/org/base/resolve/{COMMIT}/{name}"] = [bytes(flipped)]
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": "hf://org/base"}))
    with pytest.raises(Failure, match=f"{name} came with other bytes than") as caught:
        prepare(ctx)
    assert (caught.value.reason, caught.value.exit_code) == ("ModelUnreachable", 75)
    assert not list((ctx.storage / "hub").glob("sha256-*"))
    before = len(web.requests)
    hub = ctx.storage / "hub" / str(prepare(ctx).model_digest)
    assert (hub / name).read_bytes() == files[name]
    fetched = {p.rpartition("/")[2] for m, p, _ in web.requests[before:] if m == "GET" and "/resolve/" in p}
    # Of the others git-lfs' hash is known to the client.
    assert name in fetched and (name == "model.safetensors" or "model.safetensors" not in fetched)


@pytest.mark.parametrize("name", ["modules.json", "model.safetensors.index.json"])
def test_a_file_that_says_what_else_to_fetch_is_compared_before_it_is_read(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    use_hub(web, monkeypatch)
    modules = json.dumps([{"path": ""}, {"path": "1_Pooling"}]).encode()
    files = shard(hub_files(model_folder)) | {"modules.json": modules, "1_Pooling/config.json": b"{}"}
    web.models["org/base"] = (COMMIT, files)
    web.damaged[f"/org/base/resolve/{COMMIT}/{name}"] = [b"[]".ljust(len(files[name]))]
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": "hf://org/base"}))
    with pytest.raises(Failure, match=f"{name} came with other bytes than") as caught:
        prepare(ctx)
    assert (caught.value.reason, caught.value.exit_code) == ("ModelUnreachable", 75)
    hub = ctx.storage / "hub" / str(prepare(ctx).model_digest)
    assert (hub / "1_Pooling/config.json").exists()


def test_a_pointer_where_the_hub_lists_the_file_itself_is_the_mirrors_fault(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(web, monkeypatch)
    web.models["org/base"] = (COMMIT, hub_files(model_folder))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    web.damaged[f"/org/base/resolve/{COMMIT}/model.safetensors"] = [pointer]
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": "hf://org/base"}))
    with pytest.raises(Failure, match=r"model\.safetensors came with other bytes than") as caught:
        prepare(ctx)
    assert caught.value.reason == "ModelUnreachable"
    assert prepare(ctx).model_digest


def shard(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same weights as shards and index."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    tensors = load(files["model.safetensors"])
    placed = {tensor: names[i % 2] for i, tensor in enumerate(tensors)}
    parts = {
        name: save({t: v for t, v in tensors.items() if placed[t] == name}, {"format": "pt"})
        for name in names
    }
    index = json.dumps({"metadata": {}, "weight_map": placed}).encode()
    rest = {n: b for n, b in files.items() if n != "model.safetensors"}
    return rest | parts | {"model.safetensors.index.json": index}


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("scheme", ["hf", "pvc"])
def test_copies_of_the_weights_for_others_are_not_fetched(
    web: WebServer,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    shards: bool,
    scheme: str,
) -> None:
    files = shard(hub_files(model_folder)) if shards else hub_files(model_folder)
    extra = dict.fromkeys(("consolidated.safetensors", "model.fp16.safetensors"), b"large")
    if scheme == "hf":
        use_hub(web, monkeypatch)
        web.models["org/base"] = (COMMIT, files | extra)
    else:
        for name, content in (files | extra).items():
            (tmp_path / "sources/pvc/org" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "sources/pvc/org" / name).write_bytes(content)
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    uri = "hf://org/base" if scheme == "hf" else "pvc://org/"
    ctx = make_context(tmp_path, make_run(model={"uri": uri}))
    hub = ctx.storage / "hub" / str(prepare(ctx).model_digest)
    weights = {p.name for p in hub.glob("*.safetensors")}
    assert weights == {n for n in files if n.endswith(".safetensors")}
    assert not any(path.endswith(tuple(extra)) for _, path, _ in web.requests)


def use_hub(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)


HUB_CASES: list[tuple[str, dict[str, Any], str, int]] = [
    ("unknown repository", {"uri": "hf://org/none"}, "ModelNotFound", 2),
    ("unknown revision", {"uri": "hf://org/base", "revision": "v9"}, "ModelNotFound", 2),
    ("pickles only", {"uri": "hf://org/pickle"}, "UnsafeModel", 2),
    ("no weights", {"uri": "hf://org/bare"}, "ModelInvalid", 2),
]


@pytest.mark.parametrize(
    ("model", "reason", "code"), [c[1:] for c in HUB_CASES], ids=[c[0] for c in HUB_CASES]
)
def test_hub_models_are_refused_with_a_reason(
    web: WebServer,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: dict[str, Any],
    reason: str,
    code: int,
) -> None:
    use_hub(web, monkeypatch)
    files = hub_files(model_folder)
    bare = {k: v for k, v in files.items() if not k.endswith(".safetensors")}
    web.models = {
        "org/base": (COMMIT, files),
        "org/pickle": (COMMIT, bare | {"pytorch_model.bin": b"x"}),
        "org/bare": (COMMIT, bare),
    }
    with pytest.raises(Failure) as caught:
        prepare(make_context(tmp_path, make_run(model=model)))
    assert (caught.value.reason, caught.value.exit_code) == (reason, code)
    assert not any(p.endswith(".bin") for _, p, _ in web.requests)


def test_an_unreachable_hub_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer() as gone:
        use_hub(gone, monkeypatch)
    with pytest.raises(Failure) as caught:
        prepare(make_context(tmp_path, make_run(model={"uri": "hf://org/base"})))
    assert (caught.value.reason, caught.value.exit_code) == ("ModelUnreachable", 75)
    assert "HF_ENDPOINT" in caught.value.message


@pytest.mark.parametrize(
    ("said", "reason", "code"),
    [
        ("CAS Client Error: Request middleware error: error sending request for url", "ModelUnreachable", 75),
        ("CAS Client Error: IO Error: No space left on device (os error 28)", "StorageFull", 2),
        ("IO Error: Disk quota exceeded (os error 122)", "StorageFull", 2),
    ],
)  # fmt: skip
def test_what_xet_storage_tells_without_a_kind_of_error_is_the_networks_or_the_disks(
    web: WebServer,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    reason: str,
    code: int,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError(f"Task error: File reconstruction error: {said}")

    use_hub(web, monkeypatch)
    web.models["org/base"] = (COMMIT, hub_files(model_folder))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(Failure) as caught:
        prepare(make_context(tmp_path, make_run(model={"uri": "hf://org/base"})))
    assert (caught.value.reason, caught.value.exit_code) == (reason, code)


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), RecursionError("maximum recursion depth exceeded")]
)
def test_what_python_could_not_do_is_not_the_networks(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    use_hub(web, monkeypatch)
    web.models["org/base"] = (COMMIT, hub_files(model_folder))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(type(error), match=str(error)):
        prepare(make_context(tmp_path, make_run(model={"uri": "hf://org/base"})))


def write_tar(path: Path, members: list[tuple[str, bytes, bytes]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            file.addfile(info, io.BytesIO(content))
    return path


TAR_CASES = [
    ("up", [("../out", tarfile.REGTYPE, b"x")]),
    ("absolute", [("/out", tarfile.REGTYPE, b"x")]),
    ("symlink", [("link", tarfile.SYMTYPE, b"")]),
    ("hardlink", [("link", tarfile.LNKTYPE, b"")]),
    ("device", [("dev", tarfile.CHRTYPE, b"")]),
]


@pytest.mark.parametrize("members", [c[1] for c in TAR_CASES], ids=[c[0] for c in TAR_CASES])
def test_a_hostile_tar_is_refused(tmp_path: Path, members: list[tuple[str, bytes, bytes]]) -> None:
    archive = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(Failure, match="UnsafeModel"):
        unpack(archive, tmp_path / "out", "a.tar")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_hostile_zip_is_refused(tmp_path: Path) -> None:
    for name in ("../out", "/out", "a\\..\\..\\out"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr(name, "x")
        with pytest.raises(Failure, match="UnsafeModel"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "a.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.safetensors", bytes(1 << 25))
    with pytest.raises(Failure, match="UnsafeModel"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "a.zip")


def test_a_tar_that_holds_a_zip_is_no_zip(tmp_path: Path) -> None:
    """training_args.bin is one, and a zip is found by its end, which in a tar may be that of a file in it."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    members = [
        ("m/config.json", tarfile.REGTYPE, b"{}"),
        ("m/training_args.bin", tarfile.REGTYPE, inner.getvalue()),
    ]
    archive = write_tar(tmp_path / "a.tar", members)
    assert zipfile.is_zipfile(archive)
    unpack(archive, tmp_path / "out", "m")
    assert sorted(p.name for p in (tmp_path / "out/m").iterdir()) == ["config.json", "training_args.bin"]


def test_what_is_no_archive_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>login</html>")
    with pytest.raises(Failure, match="ModelInvalid"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "a.zip")


Mode = Literal["w:gz", "w:bz2", "w:xz"]


def write_model(path: Path, mode: Mode) -> bytes:
    """An archive of random numbers as text, which no compressor stores as they are."""
    numbers = random.Random(1)  # noqa: S311
    with tarfile.open(path, mode) as file:
        for name in ("config.json", "tokenizer.json"):
            content = b" ".join(b"%d" % numbers.randrange(1000) for _ in range(20_000))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path.read_bytes()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_with_a_wrong_byte_is_refused(tmp_path: Path, mode: Mode) -> None:
    archive = tmp_path / "a.tar.gz"
    whole = write_model(archive, mode)
    unpack(archive, tmp_path / "out", "a.tar.gz")
    places = random.Random(2).sample(range(20, len(whole) - 12), 20)  # noqa: S311
    # The last bytes of gzip's are its checksum and its length.
    for place in [*places, len(whole) - 6] if mode == "w:gz" else places:
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(Failure) as caught:
            unpack(archive, tmp_path / "out", "a.tar.gz")
        assert caught.value.reason in ("ModelInvalid", "UnsafeModel")


def test_a_tar_with_a_broken_header_is_no_shorter_one(tmp_path: Path) -> None:
    archive = write_tar(
        tmp_path / "a.tar", [(name, tarfile.REGTYPE, b"x" * 2000) for name in ("a", "b", "c")]
    )
    broken = bytearray(archive.read_bytes())
    broken[512 + 2048 + 150] ^= 1  # in the second one's checksum
    archive.write_bytes(broken)
    with pytest.raises(Failure, match=r"ModelInvalid.*broken in the middle"):
        unpack(archive, tmp_path / "out", "a.tar")


def mark_zip(path: Path, local: int, central: int, value: int) -> None:
    """Writes a byte into both headers of the only member."""
    found = bytearray(path.read_bytes())
    found[found.find(b"PK\x03\x04") + local] = found[found.find(b"PK\x01\x02") + central] = value
    path.write_bytes(found)


@pytest.mark.parametrize(
    ("local", "central", "value", "said"),
    [(6, 8, 1, "encrypted"), (8, 10, 9, "compression method is not supported")],
    ids=["encrypted", "Deflate64"],
)
def test_a_zip_that_can_not_be_read_is_the_models_fault(
    tmp_path: Path, local: int, central: int, value: int, said: str
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}" * 100)
    mark_zip(path, local, central, value)
    with pytest.raises(Failure, match=said) as caught:
        unpack(path, tmp_path / "out", "a.zip")
    assert caught.value.reason == "ModelInvalid"


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_full_disk_is_not_the_models_fault(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(archive_of(model_folder, kind))
    monkeypatch.setattr("modelyard_models.archive.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a", tmp_path / "out", "a")


def test_an_archive_that_was_fetched_whole_is_not_fetched_again(
    web: WebServer, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a process is killed while it unpacks."""
    web.files["/model.zip"] = archive_of(model_folder, "zip")
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(20))
    ctx = make_context(tmp_path, make_run(model={"uri": f"{web.url}/model.zip"}))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("modelyard_models.fetch.unpack", die)
        prepare(ctx)
    first = prepare(ctx)
    assert [m for m, _, _ in web.requests] == ["GET", "HEAD"]
    web.files["/model.zip"] += b"changed"
    assert prepare(ctx).model_revision != first.model_revision
