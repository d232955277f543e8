"""Data sources: where their files lie, fetched if need be, with what identifies their contents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.api.data import DataSource
from modelyard.api.values import DATA_SCHEMES, Location, parse_uri
from modelyard_models.download import Remote, download, text_key, unchanged
from modelyard_models.failure import Failure, shorten, source_failure
from modelyard_models.files import hash_file, read_json, write_json

from modelyard_trainer.context import Context
from modelyard_trainer.prepare.selection import check_formats, find_files, find_format, hint


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
            "delimiter": self.spec.delimiter,
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
    formats = {name: find_format(spec, name) for _, name in paths}
    check_formats(spec, formats)
    files = []
    for path, name in paths:
        try:
            files.append(SourceFile(name, formats[name], hash_file(path), path.stat().st_size, path))
        except OSError as error:
            raise source_failure(error, f"source {spec.name}, {name}") from error
    return Source(spec, files)


def open_source(ctx: Context, source: Source) -> Source:
    """The source with all its files on the disk."""
    files = [
        f if f.path is not None else _fetch(ctx, source.spec, str(f.url), f.format) for f in source.files
    ]
    return Source(source.spec, files)


def _find_remote(ctx: Context, spec: DataSource, location: Location) -> SourceFile:
    format_ = find_format(spec, location.path)
    check_formats(spec, {location.path: format_})
    known = (read_json(_alias_path(ctx, location.uri)) or {}).get("remote")
    if known and unchanged(Remote(**known)):
        # Enough to know the dataset's digest; downloaded only if that dataset isn't there.
        return SourceFile(location.path, format_, known["sha256"], known["bytes"], None, location.uri)
    return _fetch(ctx, spec, location.uri, format_)


def _fetch(ctx: Context, spec: DataSource, url: str, format_: str) -> SourceFile:
    target = ctx.scratch / text_key(url)
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
        raise Failure(
            "SourceNotFound",
            f"source {spec.name}: the ConfigMap {location.name} has no key {location.path!r}"
            f"{hint(location.path, keys)}; it has {shorten(keys)}",
        )
    return path, location.path


def _find_files(ctx: Context, spec: DataSource, location: Location) -> list[tuple[Path, str]]:
    root = (ctx.sources / "pvc" / location.name).resolve()
    if not root.is_dir():
        raise Failure(
            "SourceNotFound", f"source {spec.name}: the claim {location.name} is not mounted in this pod"
        )
    return find_files(spec, location, root)
