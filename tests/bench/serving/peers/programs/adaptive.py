"""BentoML with adaptive batching. MODEL_FOLDER: the model's folder."""

import os
from typing import Any

import bentoml
import torch
import transformers


@bentoml.service(workers=1, threads=64, traffic={"timeout": 300, "max_concurrency": 256})
class Classifier:
    """A batch is padded to its longest row."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        folder = os.environ["MODEL_FOLDER"]
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()

    # As long as a batch of 16 and those that wait for it take here: what takes longer is refused.
    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=60000)  # type: ignore[untyped-decorator]
    def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        """Rows of several requests."""
        given = self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            scores, places = self.model(**given).logits.softmax(-1).max(-1)
        names = self.model.config.id2label
        return [
            {"label": names[p], "score": s} for s, p in zip(scores.tolist(), places.tolist(), strict=True)
        ]
