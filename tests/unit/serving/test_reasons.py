"""Words of others as reasons of conditions."""

from __future__ import annotations

import pytest
from modelyard.api.conditions import Condition
from modelyard.workloads.reasons import as_reason


@pytest.mark.parametrize("text", ["ModelInvalid", "x", "Failed_2", "a:b,c", "A" * 128])
def test_a_word_that_a_condition_takes_is_kept(text: str) -> None:
    assert as_reason(text, "Other") == text
    Condition(type="Built", status="False", reason=text)


@pytest.mark.parametrize(
    "text", ["", "404", "Überlauf", "two words", "End\n", "Trailing:", "_x", "١٢", "A" * 129]
)
def test_any_other_is_replaced(text: str) -> None:
    assert as_reason(text, "Other") == "Other"
