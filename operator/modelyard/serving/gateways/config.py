"""What the gateways of a deployment are told."""

from __future__ import annotations

from modelyard.contract.gateway import CacheConfig, GatewayConfig, RateLimitConfig
from modelyard.serving.view import View

# Requests that run when a gateway shall end are given as long as any request has, within reason. Streams have no limit
# to their length, so this is one: whoever reads a text of some thousand tokens has it by then.
_SHORTEST_DRAIN, _LONGEST_DRAIN = 120, 600


def build_config(view: View) -> GatewayConfig:
    """From the spec alone, so that nothing but a change of it starts gateways anew.

    Nothing of what servers are: gateways have a change of the spec before there are such servers, or without them for
    ever. That each revision's Service tells.
    """
    traffic, gateway = view.spec.traffic, view.spec.gateway
    rate = traffic.rate_limit
    return GatewayConfig(
        name=view.name,
        namespace=view.namespace,
        deployment=view.name,
        timeout_seconds=traffic.timeout_seconds,
        max_queue=traffic.max_queue,
        max_request_bytes=traffic.max_request_bytes,
        cache=CacheConfig(max_entries=traffic.cache.max_entries, ttl_seconds=traffic.cache.ttl_seconds)
        if traffic.cache
        else None,
        keys=traffic.api_keys is not None,
        # In the long run each gateway sees its share of a caller's requests; what comes at once may come on one
        # connection, which is one gateway's.
        rate_limit=RateLimitConfig(
            requests_per_second=rate.requests_per_second / gateway.replicas,
            burst=rate.burst,
            per=rate.per,
        )
        if rate
        else None,
        suspended=view.spec.suspend,
        drain_seconds=min(max(traffic.timeout_seconds, _SHORTEST_DRAIN), _LONGEST_DRAIN),
    )
