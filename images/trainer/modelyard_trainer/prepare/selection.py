"""Which files of a claim a source means, and the format of each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modelyard.api.data import DataSource
from modelyard.api.values import Location
from modelyard_models.failure import Failure, nearest, shorten, source_failure

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
_WILD = frozenset("*?[")


def find_format(spec: DataSource, name: str) -> str:
    """The format of a file, by the spec or by its ending. Raises Failure (DataInvalid)."""
    if spec.format != "auto":
        return spec.format
    found = _format_of(name)
    if found is None:
        raise Failure(
            "DataInvalid",
            f"source {spec.name}: the format of {name!r} isn't known by its ending; set "
            "data.sources[].format to csv, json, jsonl, parquet or text",
        )
    return found


def find_files(spec: DataSource, location: Location, root: Path) -> list[tuple[Path, str]]:
    """The files below `root` that the location's path means, with their names from there, sorted by them.

    The path is a file, a folder (all its data files, at any depth) or a glob with `*`, `?`, `[…]` and `**`.
    Hidden files are data only if the path says so. Raises Failure (SourceNotFound, DataInvalid …).
    """
    where = f"source {spec.name}: {location.uri}"
    path = root / location.path
    try:
        if path.is_file():
            found = [path]
        elif path.is_dir():
            found = _choose(_walk(path), path, spec)
        else:
            found = _match(root, location.path, where)
        # A link out of the claim would read the pod's own files.
        inside = [p for p in found if p.resolve().is_relative_to(root)]
        if not inside:
            raise Failure("SourceNotFound", _missing(spec, location, root, path))
    except OSError as error:
        raise source_failure(error, where) from error
    named = sorted((p.relative_to(root).as_posix(), p) for p in inside)
    return [(p, name) for name, p in named]


def check_formats(spec: DataSource, formats: dict[str, str]) -> None:
    """Refuses text files beside data of another kind, and a delimiter that no file has use for.

    `formats` are those of the files by name. Raises Failure (DataInvalid).
    """
    kinds = set(formats.values())
    if spec.format == "auto" and "text" in kinds and len(kinds) > 1:
        texts = [name for name, kind in formats.items() if kind == "text"]
        others = [name for name, kind in formats.items() if kind != "text"]
        named = sorted(kinds - {"text"})
        raise Failure(
            "DataInvalid",
            f"source {spec.name}: {spec.uri} holds text ({shorten(texts, 4)}) beside {' and '.join(named)} "
            f"({shorten(others, 4)}), and each line of text would be a row; set data.sources[].format to "
            f"{' or '.join([*named, 'text'])}, or name the files by a glob, as *{_ending(others[0])}",
        )
    if spec.delimiter and "csv" not in kinds:
        name, kind = next(iter(formats.items()))
        raise Failure(
            "DataInvalid",
            f"source {spec.name}: data.sources[].delimiter is for csv, but {name} is {kind}; remove it",
        )


def hint(name: str, names: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence; or nothing."""
    near = nearest(name, names)
    return f"; did you mean {near!r}?" if near else ""


def _walk(folder: Path) -> list[Path]:
    """All files below, but for hidden ones."""

    def refuse(error: OSError) -> None:
        raise error  # a folder that can't be read would be left out without a word

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return [path for path in found if path.is_file()]


def _choose(paths: list[Path], folder: Path, spec: DataSource) -> list[Path]:
    """Of a folder's files those of the format asked for: by their ending, else all whose ending says nothing."""
    if spec.format == "auto":
        return [p for p in paths if _format_of(p.name)]
    own = [p for p in paths if _format_of(p.name) == spec.format]
    # JSON Lines often lie in .json files, and the reader of json takes both.
    near = [p for p in paths if {_format_of(p.name), spec.format} == {"json", "jsonl"}]
    return own or near or [p for p in paths if _format_of(p.name) is None]


def _match(root: Path, pattern: str, where: str) -> list[Path]:
    parts = PurePosixPath(pattern).parts
    if not _WILD & set(pattern):
        return []
    # pathlib's final ** means folders only; here it means whatever lies below.
    pattern = f"{pattern}/*" if parts[-1] == "**" else pattern
    try:
        found = [p for p in root.glob(pattern) if p.is_file()]
    except (ValueError, NotImplementedError, IndexError) as error:
        raise Failure("SourceNotFound", f"{where} is no valid glob: {error}") from error
    if any(part.startswith(".") for part in parts):
        return found
    return [p for p in found if not any(x.startswith(".") for x in p.relative_to(root).parts)]


def _format_of(name: str) -> str | None:
    return ENDINGS.get(_ending(name))


def _ending(name: str) -> str:
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def _missing(spec: DataSource, location: Location, root: Path, path: Path) -> str:
    what = f"source {spec.name}: {location.uri}"
    if path.is_dir():
        return f"{what} is a folder without data files ({', '.join(sorted(ENDINGS))}, also .gz)"
    folder = path.parent
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    names = sorted(
        p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not p.name.startswith(".")
    )
    shown = folder.relative_to(root).as_posix()
    where = f"the folder {shown!r}" if shown != "." else f"the claim {location.name}"
    return f"{what} matches no file{hint(path.name, names)}; {where} holds {shorten(names)}"
