"""ONNX Runtime, with the folder's model.onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
from modelyard_models.failure import boundary

from modelyard_server.failure import Failure
from modelyard_server.package.folder import ONNX_FILE, Package
from modelyard_server.package.tokens import Batch
from modelyard_server.runtimes.runtime import Floats, Output, Runtime

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class OnnxRuntime(Runtime):
    """Computes the graph as it is: what it was quantised to was decided when it was made."""

    name = "onnx"

    def __init__(self, session: Any, field: str) -> None:
        self._session, self._field = session, field
        self._inputs = [given.name for given in session.get_inputs()]

    @classmethod
    def load(cls, package: Package, output: Output, threads: int) -> OnnxRuntime:
        import onnxruntime

        if package.config.variant == "bf16":
            raise Failure("ModelInvalid", "runtime onnx has no variant bf16; serve it with runtime torch")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the processor from whoever answers requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with boundary(
            "ModelInvalid", f"{package.config.folder}: {ONNX_FILE} can't be loaded", "build it anew"
        ):
            session = onnxruntime.InferenceSession(
                str(package.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
            )
        _check_inputs(session)
        return cls(session, _find_output(session, output))

    def run(self, batch: Batch) -> Floats:
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        given = dict(zip(_INPUTS, (batch.ids, batch.mask, types), strict=True))
        [found] = self._session.run([self._field], {name: given[name] for name in self._inputs})
        return np.asarray(found, np.float32)


def _check_inputs(session: Any) -> None:
    for given in session.get_inputs():
        if given.name not in _INPUTS or given.type != "tensor(int64)":
            raise Failure(
                "ModelInvalid",
                f"{ONNX_FILE} wants {given.name} ({given.type}); inputs may be {', '.join(_INPUTS)}, all int64",
            )


def _find_output(session: Any, output: Output) -> str:
    """The name of the wanted output: by its name, else the first with so many dimensions."""
    found: dict[str, int] = {made.name: len(made.shape) for made in session.get_outputs()}
    if found.get(output.field) == output.rank:
        return output.field
    for name, rank in found.items():
        if rank == output.rank:
            return name
    raise Failure(
        "ModelInvalid",
        f"{ONNX_FILE} gives {', '.join(f'{n} with {r} dimensions' for n, r in found.items())}; this task needs"
        f" {output.field} with {output.rank}",
    )
