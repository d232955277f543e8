"""The trained model as a Hugging Face folder, with its lineage (modelyard.json) and card (README.md)."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from datetime import UTC, datetime
from typing import Any

from modelyard.contract.layout import MODEL_MANIFEST, model_dir
from modelyard.contract.model import Proof
from modelyard.contract.report import ModelReport, TrainResult
from modelyard_models.digest import CARD, model_digest
from modelyard_models.failure import Failure
from modelyard_models.files import (
    publish_folder,
    sync_tree,
    write_atomic,
    write_json,
)

from modelyard_trainer.context import Context
from modelyard_trainer.train.card import write_card
from modelyard_trainer.train.portable import clean_folder, hide_credentials, restore_settings
from modelyard_trainer.train.prepared import Prepared
from modelyard_trainer.train.proof import check_numbers, prove
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.reference import make_reference
from modelyard_trainer.train.weights import count_bytes

FORMAT = 1
_PACKAGES = ("modelyard", "torch", "transformers", "deepspeed", "accelerate", "tokenizers", "safetensors")


def export_model(
    ctx: Context, ranks: Ranks, trainer: Any, prepared: Prepared, result: TrainResult
) -> ModelReport:
    """Writes <run>/model by temp + rename, once it is proved that it holds the trained model.

    All ranks take part: ZeRO-3 has a part of the weights on each. Raises Failure: ModelUnproven; StorageError
    (temporary). What isn't proved is deleted.
    """
    target = ctx.storage / model_dir(ctx.run_path)
    temp = target.parent / f".tmp-model-a{ctx.attempt}"
    task, splits, hub = prepared.task, prepared.splits, prepared.folder
    if ranks.leads:
        for left in target.parent.glob(".tmp-model-a*"):  # by an attempt that was killed
            shutil.rmtree(left, ignore_errors=True)
    ranks.wait()
    check_numbers(trainer, ranks)
    reference = make_reference(trainer, ranks, task, splits, hub, count_bytes(trainer.model))
    restore_settings(trainer.model, trainer.processing_class, hub, ctx.run.training.max_length)
    trainer.save_model(str(temp))
    ranks.wait()
    if ranks.leads:
        clean_folder(temp)
    try:
        proof = prove(trainer, ranks, temp, reference, ctx.run_path)
    except Failure:
        if ranks.leads:
            shutil.rmtree(temp, ignore_errors=True)
        raise
    digest = ""
    if ranks.leads:
        digest = model_digest(temp)
        manifest = hide_credentials(describe_model(ctx, result, prepared, digest, proof))
        write_json(temp / MODEL_MANIFEST, manifest)
        write_atomic(temp / CARD, write_card(manifest, hide_credentials(prepared.report)))
        sync_tree(temp)
        publish_folder(temp, target)
    return ModelReport(path=model_dir(ctx.run_path), digest=ranks.share(digest))


def describe_model(
    ctx: Context, result: TrainResult, prepared: Prepared, digest: str, proof: Proof
) -> dict[str, Any]:
    """The content of modelyard.json."""
    run, report = ctx.run, prepared.report
    told = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = ("metrics", "testMetrics", "baseline", "baselineTest", "gate", "step", "maxSteps", "resumedFrom")
    return {
        "format": FORMAT,
        "name": run.output_name,
        "task": run.task,
        "digest": digest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": run.identity.model_dump(mode="json", by_alias=True),
        "data": {"digest": report.get("digest"), "sources": report.get("sources", [])},
        "base": {
            "digest": (ctx.model or "").rpartition("/")[2],
            "uri": run.model.uri if run.model else None,
            "revision": run.model.revision if run.model else None,
            **prepared.describe_base(),
        },
        **{key: told[key] for key in kept if key in told},
        "proof": proof.model_dump(mode="json", by_alias=True, exclude_none=True),
        "bestCheckpoint": told.get("bestCheckpoint"),
        "attempts": ctx.attempt,
        "worldSize": ctx.world_size,
        "run": run.model_dump(mode="json", by_alias=True),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
