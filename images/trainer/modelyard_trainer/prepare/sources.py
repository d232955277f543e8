"""Data sources: where their files lie, fetched if need be, with what identifies their contents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.api.data import DataSource
from modelyard.api.values import DATA_SCHEMES, Location, parse_uri

from modelyard_trainer.context import Context
from modelyard_trainer.failure import Failure, nearest, shorten
from modelyard_trainer.files import hash_file, read_json, write_json
from modelyard_trainer.prepare.download import Remote, download, text_key, unchanged

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source. `path` is unset while a file on a server is known but not downloaded."""

    name: str
    format: str
    sha256: str
    bytes: int
    path: Path | None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source and its files, in the order in which they are read."""

    spec: DataSource
    files: list[SourceFile]

    def identity(self) -> dict[str, Any]:
        """What makes two sources give the same rows: contents, formats and columns, not places."""
        return {
            "files": [[f.sha256, f.format] for f in self.files],
            "columns": self.spec.columns.model_dump(),
        }


def find_source(ctx: Context, spec: DataSource) -> Source:
    """Finds the files of a source and hashes them. Raises Failure (SourceNotFound, SourceUnreachable …)."""
    location = parse_uri(spec.uri, DATA_SCHEMES)
    if location.scheme == "https":
        return Source(spec, [_find_remote(ctx, spec, location)])
    if location.scheme == "configmap":
        paths = [_find_key(ctx, spec, location)]
    else:
        paths = _find_files(ctx, spec, location)
    files = []
    for path, name in paths:
        try:
            files.append(
                SourceFile(name, find_format(spec, name), hash_file(path), path.stat().st_size, path)
            )
        except PermissionError as error:
            raise Failure(
                "SourceForbidden",
                f"source {spec.name}: {name} can't be read by the pod's user; make it readable (chmod a+r, "
                "or fsGroup)",
            ) from error
    return Source(spec, files)


def open_source(ctx: Context, source: Source) -> Source:
    """The source with all its files on the disk."""
    files = [
        f if f.path is not None else _fetch(ctx, source.spec, str(f.url), f.format) for f in source.files
    ]
    return Source(source.spec, files)


def find_format(spec: DataSource, name: str) -> str:
    """The format of a file, by the spec or by its ending. Raises Failure (DataInvalid)."""
    if spec.format != "auto":
        return spec.format
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if suffix not in _FORMATS:
        raise Failure(
            "DataInvalid",
            f"source {spec.name}: the format of {name!r} isn't known by its ending; set "
            "data.sources[].format to csv, "
            "jsonl, parquet or text",
        )
    return _FORMATS[suffix]


def _find_remote(ctx: Context, spec: DataSource, location: Location) -> SourceFile:
    format_ = find_format(spec, location.path)
    known = (read_json(_alias_path(ctx, location.uri)) or {}).get("remote")
    if known and unchanged(Remote(**known)):
        # Enough to know the dataset's digest; downloaded only if that dataset isn't there.
        return SourceFile(location.path, format_, known["sha256"], known["bytes"], None, location.uri)
    return _fetch(ctx, spec, location.uri, format_)


def _fetch(ctx: Context, spec: DataSource, url: str, format_: str) -> SourceFile:
    target = ctx.run_dir / "prepare" / text_key(url)
    remote = download(url, target, "Source", f"source {spec.name}")
    write_json(_alias_path(ctx, url), {"remote": remote.dump()})
    return SourceFile(parse_uri(url, ("https",)).path, format_, remote.sha256, remote.bytes, target, url)


def _alias_path(ctx: Context, url: str) -> Path:
    return ctx.storage / "datasets" / ".aliases" / f"{text_key(url)}.json"


def _find_key(ctx: Context, spec: DataSource, location: Location) -> tuple[Path, str]:
    folder = ctx.sources / "configmap" / location.name
    path = folder / location.path
    if not path.is_file():
        keys = (
            sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
        )
        hint = _hint(location.path, keys)
        raise Failure(
            "SourceNotFound",
            f"source {spec.name}: the ConfigMap {location.name} has no key {location.path!r}{hint}; it has "
            f"{shorten(keys)}",
        )
    return path, location.path


def _find_files(ctx: Context, spec: DataSource, location: Location) -> list[tuple[Path, str]]:
    root = (ctx.sources / "pvc" / location.name).resolve()
    if not root.is_dir():
        raise Failure(
            "SourceNotFound", f"source {spec.name}: the claim {location.name} is not mounted in this pod"
        )
    path = root / location.path
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and _readable(p, path, spec)]
    else:
        try:
            found = [p for p in root.glob(location.path) if p.is_file()]
        except ValueError as error:
            message = f"source {spec.name}: {location.uri} is no valid glob: {error}"
            raise Failure("SourceNotFound", message) from error
    # A link out of the claim would read the pod's own files.
    inside = [p for p in found if p.resolve().is_relative_to(root)]
    if not inside:
        raise Failure("SourceNotFound", _missing(spec, location, root, path))
    names = sorted((p.relative_to(root).as_posix(), p) for p in inside)
    return [(p, name) for name, p in names]


def _readable(path: Path, folder: Path, spec: DataSource) -> bool:
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    return spec.format != "auto" or Path(path.name.lower().removesuffix(".gz")).suffix in _FORMATS


def _missing(spec: DataSource, location: Location, root: Path, path: Path) -> str:
    what = f"source {spec.name}: {location.uri}"
    if path.is_dir():
        return f"{what} is a folder without data files ({', '.join(sorted(_FORMATS))}, also .gz)"
    folder = path.parent
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    names = sorted(
        p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not p.name.startswith(".")
    )
    shown = folder.relative_to(root).as_posix()
    where = f"the folder {shown!r}" if shown != "." else f"the claim {location.name}"
    return f"{what} matches no file{_hint(path.name, names)}; {where} holds {shorten(names)}"


def _hint(name: str, names: list[str]) -> str:
    near = nearest(name, names)
    return f"; did you mean {near!r}?" if near else ""
