"""Unpacking archives from strangers: no path outside the folder, no links, no devices, no bombs."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from modelyard_models.failure import Failure, describe, lacks_memory

_MAX_FILES = 10_000
_CHUNK = 1 << 20  # bytes
_MAX_RATIO = 200  # unpacked : packed bytes; safetensors hardly compress, JSON by about 10
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpacks a .tar, .tar.gz or .zip into `folder`. Raises Failure (UnsafeModel, ModelInvalid), OSError."""
    limit = max(archive.stat().st_size * _MAX_RATIO, 1 << 24)
    try:
        if tarfile.is_tarfile(archive):  # first: a zip is found by its end, and a tar's last file may be one
            _unpack_tar(archive, folder, name, limit)
        elif zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, name, limit)
        else:
            raise Failure("ModelInvalid", f"{name} is no archive; give one of {', '.join(_ENDINGS)}")
    except Failure:
        raise
    except Exception as error:
        # Broken bytes raise what each format's library likes; OSErrors among it have no number of the disk's.
        if lacks_memory(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise Failure(
            "ModelInvalid",
            f"{name} can't be unpacked: {describe(error)}; pack it as one of {', '.join(_ENDINGS)}, without a password,"
            " and upload it again",
        ) from error


def _unpack_zip(archive: Path, folder: Path, name: str, limit: int) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_bounds(name, len(members), sum(m.file_size for m in members), limit)
        for member in members:
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(name, member.filename, "is a link")
            target = _target(folder, name, member.filename)
            if not member.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)


def _unpack_tar(archive: Path, folder: Path, name: str, limit: int) -> None:
    with tarfile.open(archive) as file:
        count = size = 0
        for member in file:  # read as a stream: a bomb is met before it is unpacked
            count, size = count + 1, size + member.size
            _check_bounds(name, count, size, limit)
            if member.isdir():
                continue
            if not member.isreg():
                raise _unsafe(name, member.name, "is a link or a device")
            target = _target(folder, name, member.name)
            source = file.extractfile(member)
            if source is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
        _check_end(file, name, limit)


def _check_end(file: tarfile.TarFile, name: str, limit: int) -> None:
    """Reads on to the end of the bytes, where a compressed archive has its checksum.

    tarfile takes a broken header for the archive's end: so nothing but padding may follow that.
    """
    size = 0
    while left := file.fileobj.read(_CHUNK):
        size += len(left)
        _check_bounds(name, 0, size, limit)
        if left.strip(b"\0"):
            raise tarfile.ReadError("it is broken in the middle")


def _check_bounds(name: str, count: int, size: int, limit: int) -> None:
    if count > _MAX_FILES or size > limit:
        raise Failure(
            "UnsafeModel", f"{name} unpacks to {count} files and {size} bytes or more, which no model does"
        )


def _target(folder: Path, name: str, member: str) -> Path:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _unsafe(name, member, "lies outside the archive's folder")
    return folder / path


def _unsafe(name: str, member: str, why: str) -> Failure:
    return Failure("UnsafeModel", f"{name}: {member!r} {why}; pack plain files only")
