"""LitServe with batches of 16, the size that is best in-process. Arguments: folder, port."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import torch
import transformers


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """A batch is padded to its longest row."""

    def setup(self, device: str) -> None:
        """In the worker's process."""
        torch.set_num_threads(1)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()

    # Without types: LitServe takes them for what FastAPI is to read out of the request.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """A row."""
        return request["text"]

    def predict(self, texts: Any) -> list[dict[str, Any]]:
        """A batch of rows."""
        given = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            scores, places = self.model(**given).logits.softmax(-1).max(-1)
        names = self.model.config.id2label
        return [
            {"label": names[p], "score": s} for s, p in zip(scores.tolist(), places.tolist(), strict=True)
        ]

    def encode_response(self, output: Any) -> Any:
        """The answer to a row."""
        return output


if __name__ == "__main__":
    served = Classifier(max_batch_size=16, batch_timeout=0.005, api_path="/classify")
    server = litserve.LitServer(served, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
