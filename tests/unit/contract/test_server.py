"""What a model is served with, as users, the operator, builds and servers have it."""

from __future__ import annotations

from modelyard.api.serving import Server
from modelyard.contract.build import BuildConfig
from modelyard.contract.server import Batching, ServerConfig


def test_a_build_and_a_server_are_told_the_same_of_batches_and_by_default_what_users_read() -> None:
    for name, field in Batching.model_fields.items():
        for config in (BuildConfig, ServerConfig):
            told = config.model_fields[name]
            assert (told.default, told.annotation) == (field.default, field.annotation), name
    delay = "max_batch_delay_milliseconds"
    assert Server.model_fields[delay].default == Batching.model_fields[delay].default
