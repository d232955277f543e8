"""text-generation: a causal language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from modelyard_models.failure import Failure

from modelyard_trainer.preflight.causality import make_causal
from modelyard_trainer.prepare.cleaned import Cleaned
from modelyard_trainer.prepare.shards import ShardWriter, cut_parts
from modelyard_trainer.prepare.split import SPLITS
from modelyard_trainer.prepare.spool import Spool
from modelyard_trainer.prepare.tokenizer import Tokenizer
from modelyard_trainer.tasks.task import Task

if TYPE_CHECKING:
    from modelyard_trainer.train.metrics import Sums


class TextGeneration(Task):
    """The documents of a split in its order, each followed by the EOS token, laid end to end and cut into blocks.

    Blocks have maxLength tokens and run over the documents' borders. The last one of a split is shorter; it is kept
    if it has at least two tokens, since one predicts nothing.
    """

    name = "text-generation"
    auto_class = "AutoModelForCausalLM"
    noun = "causal language model"
    families = "llama, qwen3 or gpt2"
    # A longer text is cut at its beginning, to go on from its end.
    call = 'model("a text", max_new_tokens=20, handle_long_generation="hole")'
    predicts_tokens = True

    def write_splits(
        self, folder: Path, cleaned: Cleaned, parts: dict[str, Any], tokenizer: Tokenizer, max_length: int
    ) -> dict[str, dict[str, Any]]:
        """Blocks of tokens."""
        if tokenizer.eos_id is None:
            raise Failure(
                "ModelInvalid",
                "the model's tokenizer has no EOS token, which text-generation needs; choose another",
            )
        splits = {s: _write_split(folder / s, cleaned.spool, parts[s], tokenizer, max_length) for s in SPLITS}
        for name, about in splits.items():
            if about["rows"] and not about["examples"]:
                raise Failure(
                    "DataInvalid", f"the {name} split has too little text for a single block; add data"
                )
        return splits

    def adapt(self, config: Any) -> bool:
        """An encoder that can be is made causal."""
        return make_causal(config)

    def make_sums(self) -> Sums:
        """Loss and perplexity."""
        from modelyard_trainer.train.metrics import TokenSums

        return TokenSums()

    def pick_answer(self, logits: Any) -> Any:
        """Those of the token that follows."""
        return logits[0, -1]


def _write_split(
    folder: Path, spool: Spool, rows: Any, tokenizer: Tokenizer, max_length: int
) -> dict[str, Any]:
    eos = tokenizer.eos_id
    writer = ShardWriter(folder, labelled=False)
    left: Any = np.zeros(0, np.int32)
    for part in cut_parts(rows):
        encoded, _ = tokenizer.encode(spool.texts(part), None)
        pieces = [left]
        pieces += [np.asarray(ids if ids[-1:] == [eos] else [*ids, eos], np.int32) for ids in encoded]
        stream = np.concatenate(pieces)
        whole = len(stream) // max_length * max_length
        writer.write(list(stream[:whole].reshape(-1, max_length)), None)
        left = stream[whole:]
    if len(left) > 1:
        writer.write([left], None)
    writer.close()
    return {"rows": len(rows), **writer.describe()}
