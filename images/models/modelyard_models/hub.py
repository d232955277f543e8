"""Models of a hub that speaks Hugging Face's download API (HF_ENDPOINT, HF_TOKEN)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard_models.failure import Failure, shorten, storage_failure
from modelyard_models.modules import list_folders

_TIMEOUT = 20.0  # seconds for one question to the hub


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
) -> None:
    """Downloads a repository's files with the endings `kept` into `folder`: those at its top and its modules'.

    Raises Failure (UnsafeModel) before the download if the weights are there with the endings `pickles` only.
    """
    from huggingface_hub import HfApi, utils

    with _explained(repo, commit):
        names = HfApi(endpoint=_endpoint(), token=_token()).list_repo_files(repo, revision=commit)
        top = [n for n in names if "/" not in n]
        if not any(n.endswith(".safetensors") for n in top) and any(n.endswith(pickles) for n in top):
            raise Failure(
                "UnsafeModel",
                f"hf://{repo} has its weights as pickles only "
                f"({shorten(n for n in top if n.endswith(pickles))}), which "
                "can run code when they are loaded; name a model or revision with safetensors "
                "(spec.model.revision)",
            )
        utils.disable_progress_bars()
        _download(repo, commit, folder, [n for n in top if n.endswith(kept)])
        modules = list_folders(folder, f"hf://{repo}")
        if inner := [n for n in names if n.endswith(kept) and n.rpartition("/")[0] in modules]:
            _download(repo, commit, folder, inner)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


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
