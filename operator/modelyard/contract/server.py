"""The server config: what the operator tells a model server, as one JSON file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned

Variant = Literal["fp32", "bf16", "int8", "none"]
Runtime = Literal["torch", "onnx"]


class Batching(ContractModel):
    """What decides how fast a server answers: a build measures with what is served."""

    max_length: int | None = Field(
        None, description="Tokens of one text, at most; unset: what the model can take.", ge=1
    )
    max_batch_tokens: int | None = Field(
        None, description="Tokens of one batch, its padding included; unset: what suits the processors.", ge=1
    )
    max_batch_delay_milliseconds: float = Field(
        5.0, description="How long a row that came to a busy model waits for company, at most.", ge=0
    )

    def dump_batching(self) -> dict[str, Any]:
        """These fields alone, by their names here."""
        return {name: getattr(self, name) for name in Batching.model_fields}


class ServerConfig(Batching, Versioned):
    """Everything that a server of one revision needs to know. No secrets."""

    name: str = Field(description="The model's name in URLs and in `model` of requests.", min_length=1)
    revision: str = Field("1", description="Its version in the Open Inference Protocol.", min_length=1)
    task: str
    folder: str = Field(description="The model's folder, below the storage root.")
    reference: str | None = Field(
        None, description="reference.json, below the storage root; unset: the folder's own, if it has one."
    )
    variant: Variant = Field("none", description="What is computed in; none: what the folder is stored in.")
    runtime: Runtime = "torch"
    max_queue: int = Field(256, description="Requests that may wait; those beyond get 503.", ge=1)
    max_request_bytes: int = Field(
        16 << 20, description="Largest body of a request; a larger one gets 413.", ge=1
    )
    drain_seconds: float = Field(
        30.0, description="From the request to stop, how long running requests may take.", ge=0
    )
