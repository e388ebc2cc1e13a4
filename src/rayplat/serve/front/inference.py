"""The Open Inference Protocol, version 2: tensors with names in and out, and what a model tells of itself.

Knows the protocol's forms (https://github.com/kserve/open-inference-protocol, REST); it does not know how an
answer is made. A column of the asking table is an input of shape [rows] or [rows, 1], one of vectors of shape
[rows, N]; the answer has the outputs `probability`, `positive` and `prediction_id`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from rayplat.core.project.column_types import vector_length
from rayplat.serve.front.reply import JSON, Reply
from rayplat.serve.predictor import Answer
from rayplat.serve.request import Question, RequestError, RequestForm
from rayplat.serve.served import Served

SERVER = {"name": "rayplat", "extensions": []}
_TYPES = {
    "string": "BYTES",
    "binary": "BYTES",
    "date": "BYTES",
    "timestamp": "BYTES",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
    "bool": "BOOL",
}
_MOST_INPUTS = 10_000


def metadata(name: str, version: int, form: RequestForm, others: Iterable[str] = ()) -> dict[str, Any]:
    """What GET on a model tells.

    Args:
        others: the models and versions beside its own, which have columns of their own.
    """
    return {
        "name": name,
        "versions": list(dict.fromkeys((str(version), *others))),
        "platform": "rayplat",
        "inputs": [
            {"name": column, "datatype": _datatype(told.type), "shape": _shape(told.type)}
            for column, told in form.columns.items()
        ],
        "outputs": [
            {"name": "probability", "datatype": "FP64", "shape": [-1]},
            {"name": "positive", "datatype": "BOOL", "shape": [-1]},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _datatype(kind: str) -> str:
    return _TYPES.get(kind, "FP32" if vector_length(kind) is not None else "BYTES")


def _shape(kind: str) -> list[int]:
    length = vector_length(kind)
    return [-1] if length is None else [-1, length]


class InferExchange:
    """See `plain.Exchange`; for one request, because it may have an id of its own."""

    name = b"infer"
    kind = JSON

    def __init__(self, served: Served) -> None:
        self._served = served
        self._given: str | None = None

    def parse(self, body: bytes, now: datetime) -> Question:
        """See `RequestForm.parse`; faults are told with the place of the tensor."""
        form = self._served.form
        instances, self._given, at = _instances(body, form)
        return form.read({"instances": instances, "at": at}, now)

    def reply(self, answer: Answer) -> Reply:
        """See `plain.Exchange`."""
        predictor = self._served.predictor
        return Reply(answered(predictor.endpoint, answer.version, answer, self._given))


def _instances(content: bytes, form: RequestForm) -> tuple[list[dict[str, Any]], str | None, Any]:
    """The instances of an inference request, the id that the caller has given it, and the time asked for."""
    try:
        asked = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, (f"the body is not JSON: {error}",)) from error
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or not inputs or len(inputs) > _MOST_INPUTS:
        raise RequestError(422, ("inputs: a list of at least one tensor is needed",))
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(inputs):
        name, values = _column(tensor, f"inputs[{place}]", form)
        if name in columns:
            raise RequestError(422, (f"inputs[{place}].name: named twice",))
        columns[name] = values
    if len({len(values) for values in columns.values()}) != 1:
        raise RequestError(422, ("inputs: the tensors are of different lengths",))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    parameters, given = asked.get("parameters"), asked.get("id")
    at = parameters.get("at") if isinstance(parameters, dict) else None
    return rows, given if isinstance(given, str) else None, at


def _column(tensor: Any, place: str, form: RequestForm) -> tuple[str, list[Any]]:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(tensor, dict) or not isinstance(name, str):
        raise RequestError(422, (f"{place}: is not a tensor with a name",))
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list):
        raise RequestError(422, (f"{place}.data: is not a list",))
    column = form.columns.get(name)
    length = None if column is None else vector_length(column.type)
    if length is not None:
        return name, _vectors(data, shape, length, place)
    if shape not in ([len(data)], [len(data), 1]):
        raise RequestError(422, (f"{place}.shape: is not [{len(data)}] or [{len(data)}, 1]",))
    flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in data] if len(shape) > 1 else data
    return name, flat


def _vectors(data: list[Any], shape: Any, length: int, place: str) -> list[Any]:
    """The rows of a tensor of vectors, sent flat in row-major order or as a list of lists."""
    nested = bool(data) and isinstance(data[0], list)
    rows = len(data) if nested else len(data) // length
    if shape != [rows, length] or (not nested and rows * length != len(data)):
        raise RequestError(422, (f"{place}.shape: is not [rows, {length}], the shape of its data",))
    return data if nested else [data[at : at + length] for at in range(0, len(data), length)]


def answered(name: str, version: int, answer: Answer, given: str | None) -> bytes:
    """An answer in the protocol's form."""
    told = answer.predictions()
    size = [len(told)]
    return orjson.dumps(
        {
            "model_name": name,
            "model_version": str(version),
            "id": given or told[0]["id"],
            **({"parameters": {"fallback": told[0]["fallback"]}} if "fallback" in told[0] else {}),
            "outputs": [
                _output("probability", "FP64", size, told),
                _output("positive", "BOOL", size, told),
                {**_output("id", "BYTES", size, told), "name": "prediction_id"},
            ],
        }
    )


def _output(key: str, kind: str, size: list[int], told: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": key, "datatype": kind, "shape": size, "data": [one[key] for one in told]}
