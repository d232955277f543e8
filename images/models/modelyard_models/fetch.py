"""A model of a URI: fetched, checked for pickles, and kept in hub/<digest of its files>."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelyard.api.values import MODEL_SCHEMES, Location, parse_uri
from modelyard.contract.layout import hub_dir
from modelyard.contract.run import ModelInput

from modelyard_models.archive import unpack
from modelyard_models.download import Remote, download, text_key, unchanged
from modelyard_models.failure import Failure, nearest, shorten
from modelyard_models.files import digest_of, hash_file, new_folder, read_json, walk_files, write_json
from modelyard_models.headers import INDEX, check_adapter, check_pointers, choose_weights
from modelyard_models.hub import check_snapshot, fetch_snapshot, resolve_commit
from modelyard_models.modules import list_folders

FILES = "modelyard.files.json"  # names, sizes and hashes of the model's files
ENV_SOURCES = "MODELYARD_SOURCES"  # where the sources are mounted; set only to run outside a pod
_KEPT = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".bpe")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TOKENIZER_WORDS = (
    "tokenizer",
    "vocab",
    "merges",
    "special_tokens",
    "added_tokens",
    "spiece",
    "sentencepiece",
    "chat_template",
)


class Place(Protocol):
    """Where a process fetches to. `scratch`, in the storage, keeps what a killed process has downloaded for the next.

    `sources` has claims as pvc/<claim>; `owner` names temporary folders (see files.new_folder).
    """

    @property
    def storage(self) -> Path: ...
    @property
    def sources(self) -> Path: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def owner(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A model below hub/. `tokenizer_key` changes with any file that the tokenizer reads."""

    digest: str
    folder: Path
    revision: str | None
    tokenizer_key: str


def fetch_model(place: Place, model: ModelInput) -> Model:
    """Brings the model of `model.uri` into the hub folder, or finds it there.

    Raises Failure: ModelNotFound, ModelForbidden, ModelUnreachable, ModelInvalid, UnsafeModel.
    """
    assert model.uri is not None  # noqa: S101 - `config` models are made, not fetched
    location = parse_uri(model.uri, MODEL_SCHEMES)
    if location.scheme == "pvc":
        return _from_claim(place, location)
    if location.scheme == "hf":
        return _from_hub(place, location, model.revision)
    return _from_web(place, location)


def _from_claim(place: Place, location: Location) -> Model:
    root = place.sources / "pvc" / location.name
    folder = root / location.path
    if not folder.is_dir():
        raise Failure(
            "ModelNotFound",
            f"model {location.uri}: the claim {location.name} has no folder {location.path or '/'!r}; it "
            "holds "
            f"{shorten(_neighbours(folder, root))}",
        )

    def fill(target: Path) -> None:
        _bring(folder, target, location.uri, shutil.copyfile)

    # Hashing what lies there is cheaper than copying it, and most jobs find the model in the hub already.
    digest = _digest(describe_files(select_files(folder, location.uri), folder))
    return _known(place, digest, None) or _store(place, fill, location.uri, None)


def _from_hub(place: Place, location: Location, revision: str | None) -> Model:
    commit = resolve_commit(location.name, revision)
    alias = _alias_path(place, f"{location.uri}@{commit}")
    known = read_json(alias) or {}
    if found := _known(place, known.get("digest"), commit):
        return found

    snapshot = place.scratch / text_key(f"{location.uri}@{commit}")
    listed = fetch_snapshot(location.name, commit, snapshot, _KEPT, _PICKLES)
    files = [p for p in walk_files(snapshot) if p.relative_to(snapshot).as_posix() in listed]
    came = {e["path"]: e for e in describe_files(files, snapshot)}
    # Before anything is read: what a mirror has spoilt would be the model's fault.
    check_snapshot(location.name, snapshot, listed, {path: e["sha256"] for path, e in came.items()})
    selected = select_files(snapshot, location.uri)
    entries = [came[p.relative_to(snapshot).as_posix()] for p in selected]

    def fill(target: Path) -> None:
        _bring(snapshot, target, location.uri, os.rename)

    model = _store(place, fill, location.uri, commit, entries)
    write_json(alias, {"uri": location.uri, "commit": commit, "digest": model.digest})
    return model


def _from_web(place: Place, location: Location) -> Model:
    alias = _alias_path(place, location.uri)
    known = read_json(alias) or {}
    if known.get("remote") and unchanged(Remote(**known["remote"])):
        found = _known(place, known.get("digest"), f"sha256:{known['remote']['sha256']}")
        if found:
            return found
    archive, remote = _download(place, location)
    unpacked = archive.with_name(archive.name + ".unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpack(archive, unpacked, location.uri)

    def fill(target: Path) -> None:
        _bring(_model_root(unpacked, location.uri), target, location.uri, os.rename)

    model = _store(place, fill, location.uri, f"sha256:{remote.sha256}")
    write_json(alias, {"uri": location.uri, "remote": remote.dump(), "digest": model.digest})
    return model


def _download(place: Place, location: Location) -> tuple[Path, Remote]:
    """The archive, as a killed process has left it or fetched anew."""
    archive = place.scratch / text_key(location.uri)
    note = archive.with_name(archive.name + ".whole.json")
    known = read_json(note)
    if known and archive.is_file() and unchanged(Remote(**known)):
        return archive, Remote(**known)
    note.unlink(missing_ok=True)
    remote = download(location.uri, archive, "Model", "model")
    write_json(note, remote.dump())
    return archive, remote


def _bring(folder: Path, target: Path, uri: str, put: Callable[[Path, Path], object]) -> None:
    """Puts a model's files into `target`, each at its place."""
    for path in select_files(folder, uri):
        place = target / path.relative_to(folder)
        place.parent.mkdir(exist_ok=True, parents=True)
        put(path, place)


def _store(
    place: Place,
    fill: Callable[[Path], None],
    uri: str,
    revision: str | None,
    entries: list[dict[str, Any]] | None = None,
) -> Model:
    """Lets `fill` write a folder and publishes it under the digest of what it wrote: `entries`, if known before."""
    staging = place.storage / "hub" / f"staging-{place.owner}"
    with new_folder(staging, place.owner) as temp:
        fill(temp)
        if entries is None:
            entries = describe_files(walk_files(temp), temp)
        write_json(temp / FILES, {"origin": uri, "revision": revision, "files": entries})
    digest = _digest(entries)
    target = place.storage / hub_dir(digest)
    if verified(target):
        shutil.rmtree(staging)
    else:
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    return Model(digest, target, revision, tokenizer_key(entries))


def _known(place: Place, digest: str | None, revision: str | None) -> Model | None:
    folder = place.storage / hub_dir(digest) if digest else None
    if folder is None or digest is None or not verified(folder):
        return None
    return Model(digest, folder, revision, tokenizer_key(read_json(folder / FILES)["files"]))


def verified(folder: Path, listing: Path | None = None) -> bool:
    """Whether a folder has all its files, by their sizes; those of the hub are listed in it."""
    listed = read_json(listing or folder / FILES)
    if not listed or not listed.get("files"):
        return False
    try:
        return all((folder / f["path"]).stat().st_size == f["bytes"] for f in listed["files"])
    except FileNotFoundError:
        return False


def tokenizer_key(entries: list[dict[str, Any]]) -> str:
    """Digest of the files that make the tokenizer."""
    return digest_of([[e["path"], e["sha256"]] for e in entries if e["path"].startswith(_TOKENIZER_WORDS)])


def select_files(folder: Path, uri: str) -> list[Path]:
    """The files of a model folder that are read: those at its top, and those of its modules.

    Raises Failure (UnsafeModel, ModelInvalid).
    """
    files = [
        p
        for p in walk_files(folder)
        # A list of another hub's is a copy's, and needn't be true of what lies here.
        if p.name != FILES and not any(x.startswith(".") for x in p.relative_to(folder).parts)
    ]
    top = [p for p in files if p.parent == folder]
    check_adapter(folder, uri)
    if not any(p.name == "config.json" for p in top):
        found = shorten(p.relative_to(folder).as_posix() for p in files)
        raise Failure(
            "ModelInvalid", f"{uri} has no config.json; it holds {found}. Name a Hugging Face model folder"
        )
    if not any(p.suffix == ".safetensors" for p in top):
        pickles = [p.name for p in top if p.suffix in _PICKLES]
        if pickles:
            raise Failure(
                "UnsafeModel",
                f"{uri} has its weights as pickles only ({shorten(pickles)}), which can run code when they "
                "are loaded; "
                "convert them once with save_pretrained(), which writes safetensors, or name a revision "
                "that has them",
            )
        raise Failure("ModelInvalid", f"{uri} has no *.safetensors; it holds {shorten(p.name for p in top)}")
    # Other folders below the model (exports for other frameworks) are read by nobody here.
    folders = {folder, *(folder / name for name in list_folders(folder, uri))}
    weights = choose_weights([p.name for p in top], read_json(folder / INDEX))
    kept = [p for p in files if p.parent in folders and p.suffix in _KEPT]
    kept = [p for p in kept if p.parent != folder or p.suffix != ".safetensors" or p.name in weights]
    check_pointers(kept, uri)
    return kept


def describe_files(files: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Path, size and hash of each file."""
    return [
        {"path": p.relative_to(folder).as_posix(), "bytes": p.stat().st_size, "sha256": hash_file(p)}
        for p in files
    ]


def _digest(entries: list[dict[str, Any]]) -> str:
    return digest_of([[e["path"], e["sha256"]] for e in entries])


def _model_root(unpacked: Path, uri: str) -> Path:
    # Most archives hold one folder with everything in it.
    roots = sorted((p.parent for p in unpacked.rglob("config.json")), key=lambda p: len(p.parts))
    if not roots:
        raise Failure("ModelInvalid", f"{uri} holds no config.json; pack a Hugging Face model folder")
    return roots[0]


def _alias_path(place: Place, name: str) -> Path:
    return place.storage / "hub" / ".aliases" / f"{text_key(name)}.json"


def _neighbours(path: Path, root: Path) -> list[str]:
    while not path.is_dir() and path != root:
        path = path.parent
    if not path.is_dir():
        return []
    names = sorted(p.relative_to(root).as_posix() + ("/" if p.is_dir() else "") for p in path.iterdir())
    hint = nearest(path.name, names)
    return [hint, *(n for n in names if n != hint)] if hint else names
