"""How the next token is chosen: the likeliest, or at random, reproducibly for a request whatever runs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from modelyard_server.generation.request import Sampling

_LIKELY = (
    1024  # tokens that hold the nucleus nearly always; sorting a whole vocabulary takes ten times as long
)


class Sampler(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """transformers draws from one generator for all requests; here each draw is a function of its request alone.

    It is put where continuous batching has its processors of logits. A drawn token is left as the only possible one,
    so that the manager, which takes the likeliest, takes it.
    """

    supported_kwargs = {"sampling": Sampling}  # noqa: RUF012 - the base class has it so
    ignored_kwargs = ()

    def __init__(self) -> None:
        self._rows: list[
            tuple[str, Sampling, int]
        ] = []  # of the next batch: request, how, and its token's place
        self.broken: set[str] = set()  # requests whose logits were no numbers

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """There is nothing to fill: what a row needs is kept here."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: Sequence[Any]) -> torch.Tensor:
        """Notes whose the rows are."""
        self._rows = [
            (state.request_id, state.logit_processor_kwargs["sampling"], count_made(state))
            for state in (request.state for request in requests_with_new_token)
        ]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Logits (rows, vocabulary) in float32, changed in place where a token is drawn."""
        finite = scores.amax(-1).isfinite().tolist()  # the largest is NaN where any is
        for row, (request, sampling, place) in enumerate(self._rows):
            if not finite[row]:
                self.broken.add(request)
            elif sampling.temperature > 0:
                token = draw(scores[row], sampling, place)
                scores[row].fill_(-torch.inf)
                scores[row, token] = 0
        return scores


def count_made(state: Any) -> int:
    """Tokens that a request has been given, also where it lost its cache and began anew with them as prompt."""
    before = len(state.initial_tokens) - state._true_initial_tokens if state._true_initial_tokens else 0
    return int(before + state.generated_len())


def draw(logits: torch.Tensor, sampling: Sampling, place: int) -> int:
    """A token by its probability. The same logits, sampling and place give the same token."""
    # From the largest on, so that the least temperature leaves it where it is.
    probabilities = ((logits - logits.max()).double() / sampling.temperature).softmax(-1)
    tokens = None
    if sampling.top_p < 1:
        likely, tokens = probabilities.topk(min(_LIKELY, len(probabilities)))
        if likely.sum() < sampling.top_p:
            likely, tokens = probabilities.sort(descending=True)
        before = likely.cumsum(-1) - likely  # what is likelier than each; the likeliest is always kept
        probabilities = likely[before < sampling.top_p]
    ends = probabilities.cumsum(-1)
    # Philox is a function of key and counter: any place of a sequence without those before it.
    bits = np.random.Philox(key=sampling.seed % 2**64, counter=place)
    wanted = np.random.Generator(bits).random() * ends[-1]
    found = min(int(torch.searchsorted(ends, wanted, right=True)), len(ends) - 1)
    return found if tokens is None else int(tokens[found])
