"""Objects at rest come back as they were, and are small."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from modelyard.engine.packing import WINDOW, Packer

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
OBJECTS = st.dictionaries(st.text(), VALUES)


@given(st.lists(st.tuples(st.sampled_from(["Job", "Pod"]), OBJECTS), min_size=1))
def test_every_object_comes_back_whatever_was_packed_before_it(objects: list[tuple[str, Any]]) -> None:
    packer = Packer()
    packed = [packer.pack(kind, body) for kind, body in objects]
    assert [each.unpack() for each in packed] == [body for _, body in objects]


def test_what_an_object_shares_with_the_first_of_its_kind_takes_no_room() -> None:
    packer = Packer()
    words = [f"--argument-{i}={i * 7919 % 1000}" for i in range(200)]
    bodies = [{"name": f"job-{i}", "args": words} for i in range(100)]
    first, *others = [packer.pack("Job", body) for body in bodies]
    assert len(first.content) < 150  # the first one's sample is itself, and there is one of it
    assert max(len(other.content) for other in others) < 100
    assert {id(other.sample) for other in others} == {id(first.sample)}
    alone = Packer().pack("Pod", bodies[1])
    assert alone.sample is not first.sample and alone.unpack() == bodies[1]


def test_a_sample_is_no_longer_than_what_zlib_reads_of_it() -> None:
    packer = Packer()
    body = {"data": [str(i * i) for i in range(30_000)]}
    packed = packer.pack("ConfigMap", body)
    assert len(json.dumps(body)) > 4 * WINDOW == 4 * len(packed.sample)
    assert packed.unpack() == body
