"""What one would write without Modelyard: a loop over deepspeed.initialize, for torchrun.

Arguments: model folder, dataset folder (Arrow shards), rows per process, tokens per row, steps to warm
up, steps to measure.
Rank 0 prints {"seconds": …} of the measured steps.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForSequenceClassification


def read_rows(folder: Path) -> list[tuple[list[int], int]]:
    """(tokens, label) of all shards."""
    rows: list[tuple[list[int], int]] = []
    for path in sorted(folder.glob("*.arrow")):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        rows += zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True)
    return rows


def collate(rows: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Pads to the longest row of the batch."""
    longest = max(len(tokens) for tokens, _ in rows)
    ids: Any = np.zeros((len(rows), longest), np.int64)
    mask: Any = np.zeros((len(rows), longest), np.int64)
    for index, (tokens, _) in enumerate(rows):
        ids[index, : len(tokens)] = tokens
        mask[index, : len(tokens)] = 1
    labels = torch.tensor([label for _, label in rows])
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": labels}


def main() -> None:
    """Trains and prints how long the measured steps took."""
    folder, dataset, rows_per_process, length, warm, measured = sys.argv[1:]
    # A shared-memory op for inference that DeepSpeed would compile at every start on a CPU.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    torch.manual_seed(42)
    rows = read_rows(Path(dataset))
    if any(len(tokens) != int(length) for tokens, _ in rows):
        raise SystemExit(
            "rows of several lengths: batches differ in work, so the two loops can't be compared"
        )
    labels = len({label for _, label in rows})
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels, dtype=torch.float32)
    config = {
        "train_micro_batch_size_per_gpu": int(rows_per_process), "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0, "zero_optimization": {"stage": 1},
    }  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    engine.train()  # a loaded model is in evaluation mode: without dropout, and so a good deal faster
    sampler = DistributedSampler(rows, seed=42)
    loader = DataLoader(rows, int(rows_per_process), sampler=sampler, collate_fn=collate, drop_last=True)
    steps, began = 0, 0.0
    while True:
        for batch in loader:
            loss = engine(**batch).loss
            engine.backward(loss)
            engine.step()
            loss.item()
            steps += 1
            if steps == int(warm):
                began = time.perf_counter()
            if steps == int(warm) + int(measured):
                if torch.distributed.get_rank() == 0:
                    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
                return


if __name__ == "__main__":
    main()
