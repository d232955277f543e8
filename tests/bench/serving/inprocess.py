"""`python -m tests.bench.serving.inprocess`: a model without a server, by transformers or ONNX Runtime themselves.

Reads a job (one line of JSON: task, folder, runtime, dtype, texts; seconds or none), answers each text alone, which is
the reference for all servers, and, given seconds, measures the limits: one by one, and in batches sorted by length and
padded to their longest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.sections import Row
from tests.bench.serving.processes import ROOT
from tests.bench.serving.summary import percentiles

BATCHES = (16, 32)
LONGEST = 256  # tokens, as the model's own configuration has it

Compute = Callable[[Sequence[str]], Any]


def ask(
    task: str,
    folder: Path,
    texts: Sequence[str],
    *,
    runtime: str = "torch",
    dtype: str = "float32",
    seconds: float | None = None,
) -> dict[str, Any]:
    """`answers`, one for each text, and with seconds the rows `alone` and `batches`."""
    job = {"task": task, "folder": str(folder), "runtime": runtime, "dtype": dtype, "seconds": seconds}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.serving.inprocess"],
        cwd=ROOT,
        input=json.dumps(job | {"texts": list(texts)}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """From the job to the answer."""
    job = json.loads(sys.stdin.read())
    load = _load_generator if job["task"] == "text-generation" else _load_torch
    compute = (_load_onnx if job["runtime"] == "onnx" else load)(job)
    texts = job["texts"]
    told: dict[str, Any] = {"answers": [compute([text])[0] for text in texts]}
    if job["seconds"]:
        told["alone"] = _measure_alone(compute, texts, job["seconds"])
        told["batches"] = max(
            (_measure_batches(compute, texts, job["seconds"], size) for size in BATCHES),
            key=lambda row: row["req/s"],
        )
    print(json.dumps(told))


def _measure_alone(compute: Compute, texts: Sequence[str], seconds: float) -> Row:
    times: list[float] = []
    begin, cpu = time.monotonic(), time.process_time()
    while time.monotonic() < begin + seconds:
        before = time.monotonic()
        compute([texts[len(times) % len(texts)]])
        times.append((time.monotonic() - before) * 1e3)
    used = time.process_time() - cpu
    rate = round(len(times) / (time.monotonic() - begin), 1)
    return {"req/s": rate, **percentiles("ms", times), "CPU ms/req": round(used * 1e3 / len(times), 3)}


def _measure_batches(compute: Compute, texts: Sequence[str], seconds: float, size: int) -> Row:
    ordered = sorted(texts, key=len)
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    rows, begin, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() < begin + seconds:
        for batch in batches:  # whole rounds: all lengths count alike
            compute(batch)
            rows += len(batch)
    rate = round(rows / (time.monotonic() - begin), 1)
    return {"req/s": rate, "batch": size, "CPU ms/req": round((time.process_time() - cpu) * 1e3 / rows, 3)}


def _load_torch(job: dict[str, Any]) -> Compute:
    import torch
    import transformers

    torch.set_num_threads(1)
    kind = transformers.AutoModelForSequenceClassification if _classifies(job) else transformers.AutoModel
    # What is fastest here for bfloat16 is not what transformers takes by itself.
    attention = {"attn_implementation": "eager"} if job["dtype"] == "bfloat16" else {}
    model = kind.from_pretrained(job["folder"], dtype=job["dtype"], **attention).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])

    def compute(texts: Sequence[str]) -> Any:
        given = tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            if _classifies(job):
                return _name(model(**given).logits.float().softmax(-1), model.config.id2label)
            mask = given["attention_mask"].unsqueeze(-1).float()
            mean = (model(**given).last_hidden_state.float() * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean, dim=-1).tolist()

    return compute


def _load_onnx(job: dict[str, Any]) -> Compute:
    import onnxruntime
    import torch
    import transformers

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(Path(job["folder"]) / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])
    labels = transformers.AutoConfig.from_pretrained(job["folder"]).id2label
    names = [each.name for each in session.get_inputs()]

    def compute(texts: Sequence[str]) -> Any:
        given = tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="np")
        [logits] = session.run(None, {name: given[name] for name in names})
        return _name(torch.from_numpy(logits).softmax(-1), labels)

    return compute


def _load_generator(job: dict[str, Any]) -> Compute:
    """Each text is a chat, as JSON: `messages` and `max_tokens`. Greedy."""
    import torch
    import transformers

    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(job["folder"], dtype=job["dtype"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])

    def answer(text: str) -> dict[str, Any]:
        chat = json.loads(text)
        given = tokenizer.apply_chat_template(
            chat["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**given, max_new_tokens=chat["max_tokens"], do_sample=False)
        new = made[0, given["input_ids"].shape[1] :]
        ended = int(new[-1]) == tokenizer.eos_token_id
        return {
            "text": tokenizer.decode(new, skip_special_tokens=True),
            "finish_reason": "stop" if ended else "length",
        }

    def compute(texts: Sequence[str]) -> Any:
        return [answer(text) for text in texts]

    return compute


def _classifies(job: dict[str, Any]) -> bool:
    return bool(job["task"] == "text-classification")


def _name(chances: Any, labels: dict[int, str]) -> list[dict[str, Any]]:
    scores, places = chances.max(-1)
    return [
        {"label": labels[place], "score": score}
        for score, place in zip(scores.tolist(), places.tolist(), strict=True)
    ]


if __name__ == "__main__":
    main()
