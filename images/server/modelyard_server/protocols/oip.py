"""Open Inference Protocol V2, for models that answer texts with tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard_models.failure import shorten
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from modelyard_server.protocols.body import Several, Strict
from modelyard_server.protocols.endpoint import answer, check_count, read_body, ready_predictor, unless_gone
from modelyard_server.protocols.problem import Problem, bad_request, unsupported
from modelyard_server.serving.head import TensorInfo
from modelyard_server.serving.predictor import INPUT
from modelyard_server.serving.service import Service

_BINARY = "inference-header-content-length"
_TEXTS = {"content_type": "str"}  # of MLServer's clients: how to read BYTES, and so they are read


class RequestInput(Strict):
    """A tensor of the request."""

    name: str
    shape: Several[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any]


class RequestOutput(Strict):
    """A tensor that is wanted."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(Strict):
    """The body of an inference request."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: Several[RequestInput] = Field(min_length=1)
    outputs: Several[RequestOutput] | None = None


def render(problem: Problem) -> dict[str, str]:
    """The protocol's error."""
    return {"error": problem.message}


class Infer:
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        """Raises Problem and what the predictor raises."""
        check_model(self._service, request)
        predictor = ready_predictor(self._service)
        if _BINARY in request.headers:
            raise unsupported("the binary tensor extension", "send the data as JSON")
        body = await read_body(self._service, request, InferRequest)
        texts = read_texts(body)
        infos = {info.name: info for info in predictor.head.list_outputs()}
        truncate, wanted = read_wishes(body, infos, predictor.head.switches)
        rows = await predictor.encode(texts, truncate=truncate)
        _check_rows(rows)
        vectors = await unless_gone(request, predictor.answer(rows))
        self._service.metrics.see_finished(sum(map(len, rows)))
        made = predictor.head.make_outputs(wanted, vectors)
        outputs = [
            {
                "name": name,
                "datatype": infos[name].datatype,
                "shape": [len(rows), *infos[name].shape],
                "data": data,
            }
            for name, data in zip(wanted, made, strict=True)
        ]
        config = self._service.config
        told = {"model_name": config.name, "model_version": config.revision, "outputs": outputs}
        return answer(told if body.id is None else told | {"id": body.id})


def read_wishes(
    body: InferRequest, infos: dict[str, TensorInfo], switches: Sequence[str]
) -> tuple[bool, list[str]]:
    """Whether texts are to be cut, and the names of the outputs, in the order in which they were asked for."""
    said = read_flags(body.parameters, ("truncate", *switches))
    for output in body.outputs or ():
        if output.name not in infos:
            raise bad_request(f"there is no output {output.name!r}; there are {', '.join(infos)}", "outputs")
        _refuse_binary(output.parameters, f"outputs {output.name}")
    names = [output.name for output in body.outputs or ()]
    if len(set(names)) < len(names):
        raise bad_request("an output is asked for twice", "outputs")
    names = names or [info.name for info in infos.values() if info.wanted]
    names += [name for name in switches if said.get(name) and name not in names]
    return said.get("truncate", False), names


def check_model(service: Service, request: Request) -> None:
    """Raises Problem (404) unless the path names this server's model, and its version if any."""
    config = service.config
    name, version = request.path_params["model"], request.path_params.get("version")
    if name != config.name:
        raise Problem(404, f"there is no model {name!r} here; there is {config.name!r}")
    if version is not None and version != config.revision:
        raise Problem(404, f"model {name!r} has no version {version!r}; it has {config.revision!r}")


def read_texts(body: InferRequest) -> list[str]:
    """The texts of the one input. Raises Problem."""
    given = body.inputs[0]
    if len(body.inputs) > 1 or given.name != INPUT:
        names = shorten((tensor.name for tensor in body.inputs), 3)
        raise bad_request(f"this model takes one input, {INPUT!r}, and the request has {names}", "inputs")
    if given.datatype != "BYTES":
        raise bad_request(f"input {INPUT!r} has datatype {given.datatype}; it must be BYTES", "inputs")
    _refuse_binary(given.parameters, f"inputs {INPUT}", allowed=_TEXTS)
    if not given.shape or len(given.shape) > 2 or given.shape[1:] not in ([], [1]) or given.shape[0] < 0:
        raise bad_request(f"input {INPUT!r} has shape {given.shape}; it must be [n] or [n, 1]", "inputs")
    data = given.data
    if len(given.shape) == 2 and data and all(isinstance(row, list) and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    if len(data) != given.shape[0]:
        raise bad_request(f"shape {given.shape} doesn't fit {len(data)} elements of data", "inputs")
    if not all(isinstance(text, str) for text in data):
        raise bad_request(f"data of input {INPUT!r} must be strings", "inputs")
    check_count(len(data), "inputs")
    return data


def _check_rows(rows: Sequence[Any]) -> None:
    for index, row in enumerate(rows):
        if not len(row):
            raise bad_request(f"text {index} has no tokens", "inputs")


def read_flags(parameters: dict[str, Any] | None, known: Sequence[str]) -> dict[str, bool]:
    """Parameters that are true or false. Raises Problem for others, but for those that change nothing."""
    said = {name: value for name, value in (parameters or {}).items() if (name, value) not in _TEXTS.items()}
    for name, value in said.items():
        if name not in known:
            hint = (
                "ask for JSON instead of binary data"
                if name.startswith("binary")
                else f"there is {', '.join(known)}"
            )
            raise unsupported(f"parameters.{name}", hint)
        if not isinstance(value, bool):
            raise bad_request(f"parameters.{name} must be true or false", f"parameters.{name}")
    return said


def _refuse_binary(
    parameters: dict[str, Any] | None, where: str, allowed: dict[str, Any] | None = None
) -> None:
    """Of a tensor's parameters only those that change nothing are taken."""
    harmless = {"binary_data": False, **(allowed or {})}
    for name, value in (parameters or {}).items():
        if name not in harmless or value != harmless[name]:
            raise unsupported(f"{where}.parameters.{name}")
