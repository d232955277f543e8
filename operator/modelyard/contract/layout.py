"""Where everything lies below the storage root. Standard library only, Python 3.8."""

from __future__ import annotations

CHECKPOINT_MANIFEST = "manifest.json"
CHECKPOINT_PART = ".part-"  # what one node found while a checkpoint is verified: .part-<save>-<node>.json
RESULT = "result.json"
REPORT = "report.json"
MODEL_MANIFEST = "modelyard.json"
MODEL_REFERENCE = "reference.json"
PACKAGE = "package.json"


def run_dir(namespace: str, job: str, uid: str) -> str:
    """Folder of one TrainingJob. The uid keeps a job apart from an earlier one of the same name."""
    return "runs/{}/{}-{}".format(namespace, job, uid.replace("-", "")[:8])


def find_root(path: str, namespace: str) -> str | None:
    """The storage root above something of a TrainingJob's of this namespace; None where it lies elsewhere."""
    root, found, _ = path.rpartition("/runs/{}/".format(namespace))
    return root if found else None


def attempt_dir(run: str, attempt: int) -> str:
    """Attempts write under their own index, so that a zombie can't overwrite its successor's files."""
    return "{}/a{}".format(run, attempt)


def checkpoint_dir(run: str, attempt: int, step: int) -> str:
    """One checkpoint; it exists once its manifest does."""
    return "{}/checkpoint-{}".format(attempt_dir(run, attempt), step)


def model_dir(run: str) -> str:
    """The trained model, a Hugging Face folder."""
    return run + "/model"


def log_dir(run: str) -> str:
    """Logs of all attempts: a<attempt>-node<index>.log."""
    return run + "/logs"


def dataset_dir(digest: str) -> str:
    """Prepared data: train/, validation/, test/ (Arrow), report.json, removed/."""
    return "datasets/" + digest


def hub_dir(digest: str) -> str:
    """A base model, content-addressed."""
    return "hub/" + digest


def package_dir(build: str) -> str:
    """What a build has made of a model: package.json, and a folder for each variant that is not the model itself."""
    return "packages/" + build
