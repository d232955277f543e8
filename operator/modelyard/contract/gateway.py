"""The gateway's config, and what it tells back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned


class CacheConfig(ContractModel):
    """Answers that are kept, by each gateway for itself."""

    max_entries: int = Field(ge=1)
    ttl_seconds: float = Field(gt=0)


class RateLimitConfig(ContractModel):
    """A token bucket for each caller, in each gateway for itself: the operator has divided the rate by their number."""

    requests_per_second: float = Field(gt=0)
    burst: int = Field(ge=1)
    per: Literal["key", "address"]


class GatewayConfig(Versioned):
    """Everything that the gateways of one deployment need to know. No secrets: keys are files of a mounted Secret."""

    name: str = Field(description="The model's name in URLs and in `model` of requests.", min_length=1)
    namespace: str
    deployment: str = Field(description="The ModelDeployment whose EndpointSlices are followed.")
    timeout_seconds: float = Field(60.0, gt=0)
    max_queue: int = Field(200, description="Requests that wait for a server; those beyond get 503.", ge=0)
    max_request_bytes: int = Field(1 << 20, ge=1)
    cache: CacheConfig | None = None
    keys: bool = Field(False, description="Callers must give one of the keys in the mounted Secret.")
    rate_limit: RateLimitConfig | None = None
    suspended: bool = Field(
        False, description="Whatever a server would answer is 503: the deployment is suspended."
    )
    drain_seconds: float = Field(
        60.0,
        description="How long requests may still take, streams included, once a gateway that stops accepts no more.",
        ge=0,
    )


class WindowReport(ContractModel):
    """As contract.load.Window."""

    queued: float
    running: float
    arrival_rate: float
    finish_rate: float


class GatewayReport(Versioned):
    """Answer of `GET /v1/load` of a gateway. See contract.load.LoadReport for the load."""

    time: float = Field(description="Unix seconds.")
    queued: int
    running: int
    stable: WindowReport
    panic: WindowReport
    idle_seconds: float
    covered_seconds: float
    weights: dict[str, int] = Field(
        default_factory=dict, description="Percent of the requests, by the revisions that it follows."
    )
    trouble: str | None = Field(None, description="What keeps it from following them at the moment.")
