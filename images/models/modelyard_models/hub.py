"""Models of a hub that speaks Hugging Face's download API (HF_ENDPOINT, HF_TOKEN)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard_models.failure import Failure, shorten, storage_failure
from modelyard_models.files import read_json
from modelyard_models.headers import INDEX, SINGLE, choose_weights
from modelyard_models.modules import MODULES, list_folders

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

_FULL = ("No space left", "quota exceeded")
_TIMEOUT = 20.0  # seconds for one question to the hub


@dataclass(frozen=True, slots=True)
class Listed:
    """A file's hash as the hub lists it, in hex: of its bytes where git-lfs keeps it (`sha256`), else git's of it."""

    sha256: str | None
    blob: str


def resolve_commit(repo: str, revision: str | None) -> str:
    """The commit that `revision` (default: the main branch) names now."""
    from huggingface_hub import HfApi

    with _explained(repo, revision):
        info = HfApi(endpoint=_endpoint(), token=_token()).model_info(
            repo, revision=revision, timeout=_TIMEOUT
        )
    if not info.sha:
        raise Failure(
            "ModelUnreachable", f"the hub named no commit for {repo}; check HF_ENDPOINT", temporary=True
        )
    return str(info.sha)


def fetch_snapshot(
    repo: str, commit: str, folder: Path, kept: tuple[str, ...], pickles: tuple[str, ...]
) -> dict[str, Listed]:
    """Downloads a repository's files with the endings `kept` into `folder`: those at its top and its modules'.

    Of the weights those that are loaded.

    Returns what the hub lists of them, by name. Raises Failure (UnsafeModel) before the download if the weights are
    there with the endings `pickles` only.
    """
    from huggingface_hub import HfApi, hf_hub_download, utils
    from huggingface_hub.hf_api import RepoFile

    with _explained(repo, commit):
        tree = HfApi(endpoint=_endpoint(), token=_token()).list_repo_tree(
            repo, revision=commit, recursive=True
        )
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        top = [n for n in files if "/" not in n]
        if not any(n.endswith(".safetensors") for n in top) and any(n.endswith(pickles) for n in top):
            raise Failure(
                "UnsafeModel",
                f"hf://{repo} has its weights as pickles only "
                f"({shorten(n for n in top if n.endswith(pickles))}), which "
                "can run code when they are loaded; name a model or revision with safetensors "
                "(spec.model.revision)",
            )
        utils.disable_progress_bars()
        index = None
        if INDEX in top and SINGLE not in top:
            hf_hub_download(
                repo, INDEX, revision=commit, local_dir=folder, endpoint=_endpoint(), token=_token()
            )
            _check_small(repo, folder, INDEX, _list(files[INDEX]))
            index = read_json(folder / INDEX)
        weights = choose_weights(top, index)
        wanted = [n for n in top if (n in weights if n.endswith(".safetensors") else n.endswith(kept))]
        _download(repo, commit, folder, wanted)
        if MODULES in wanted:
            _check_small(repo, folder, MODULES, _list(files[MODULES]))
        modules = list_folders(folder, f"hf://{repo}")
        if inner := [n for n in files if n.endswith(kept) and n.rpartition("/")[0] in modules]:
            _download(repo, commit, folder, inner)
            wanted += inner
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return {n: _list(files[n]) for n in wanted}


def check_snapshot(repo: str, folder: Path, listed: Mapping[str, Listed], hashes: Mapping[str, str]) -> None:
    """Compares files, of which `hashes` has the SHA-256, with what the hub lists; one that differs is deleted.

    Neither a length nor a safetensors header tells of a bit that flipped on the way. Raises Failure (ModelUnreachable).
    """
    for name, sha256 in hashes.items():
        _check(repo, folder, name, listed[name], sha256)


def _check_small(repo: str, folder: Path, name: str, told: Listed) -> None:
    """Compares a file that says what else is to be fetched before it is read: torn, it would be the model's fault."""
    _check(repo, folder, name, told, hashlib.sha256((folder / name).read_bytes()).hexdigest())


def _check(repo: str, folder: Path, name: str, told: Listed, sha256: str) -> None:
    path = folder / name
    if (sha256 == told.sha256) if told.sha256 else (_hash_blob(path) == told.blob):
        return
    path.unlink()
    raise Failure(
        "ModelUnreachable",
        f"hf://{repo}: {name} came with other bytes than {_endpoint() or 'the public hub'} lists (its SHA-256 is"
        f" {sha256}{f', not {told.sha256}' if told.sha256 else ''}); it is fetched again. If that repeats, look at"
        " what lies between: a mirror (HF_ENDPOINT), a proxy (HTTPS_PROXY), the storage",
        temporary=True,
    )


def _list(file: RepoFile) -> Listed:
    return Listed(file.lfs.sha256 if file.lfs else None, file.blob_id)


def _hash_blob(path: Path) -> str:
    content = path.read_bytes()  # git-lfs keeps what is large
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _download(repo: str, commit: str, folder: Path, names: list[str]) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        repo,
        revision=commit,
        local_dir=folder,
        allow_patterns=names,
        endpoint=_endpoint(),
        token=_token(),
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _token() -> str | bool:
    # False keeps the client from looking for a token in a home folder that the pod hasn't got.
    return os.environ.get("HF_TOKEN") or False


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors

    endpoint = _endpoint() or "the public hub"
    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except Failure:
        raise
    except errors.GatedRepoError as error:
        raise Failure(
            "ModelForbidden",
            f"hf://{repo} is gated; accept its terms on the hub and pass a token of yours as HF_TOKEN "
            "(the profile's env)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise Failure(
            "ModelNotFound", f"hf://{repo} has no revision {revision!r}; correct spec.model.revision"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise Failure(
            "ModelNotFound",
            f"hf://{repo}{at} isn't on {endpoint}, or is private; correct the name, or pass HF_TOKEN "
            "(the profile's env)",
        ) from error
    except errors.LocalEntryNotFoundError as error:  # the client's word for a download that failed
        raise _unreachable(repo, endpoint, str(error)) from error
    except errors.EntryNotFoundError as error:
        raise Failure("ModelNotFound", f"hf://{repo}{at} lacks a file that it lists: {error}") from error
    except (errors.HFValidationError, errors.BadRequestError) as error:
        raise Failure("ModelNotFound", f"hf://{repo}{at}: {error}") from error
    except errors.HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        if code in (401, 403):
            raise Failure(
                "ModelForbidden",
                f"{endpoint} refused hf://{repo} ({code}); check HF_TOKEN (the profile's env)",
            ) from error
        raise _unreachable(repo, endpoint, f"it answered {code}") from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise storage_failure(error, f"downloading hf://{repo}") from error
        raise _unreachable(repo, endpoint, str(error)) from error
    except RuntimeError as error:
        # All that hf_xet raises, by which Hugging Face's own storage is read. What Python itself lacks isn't the hub's.
        if type(error) is not RuntimeError or "start new thread" in str(error):
            raise
        if any(full in str(error) for full in _FULL):
            raise storage_failure(OSError(errno.ENOSPC, str(error)), f"downloading hf://{repo}") from error
        raise _unreachable(repo, endpoint, str(error)) from error
    except Exception as error:
        # The client passes its HTTP library's errors on, which one that is changes with its releases.
        if type(error).__module__.partition(".")[0] in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
        ):
            raise _unreachable(repo, endpoint, str(error) or type(error).__name__) from error
        raise


def _unreachable(repo: str, endpoint: str, why: str) -> Failure:
    return Failure(
        "ModelUnreachable",
        f"hf://{repo} could not be fetched from {endpoint}: {why}; check HF_ENDPOINT, the pod's network "
        "policy and "
        "HTTPS_PROXY, or put the model on a claim and name it pvc://",
        temporary=True,
    )
