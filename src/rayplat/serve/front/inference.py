"""The Open Inference Protocol, version 2: tensors with names in and out, and what a model tells of itself.

Knows the protocol's forms (https://github.com/kserve/open-inference-protocol, REST); it does not know how an
answer is made. A column of the asking table is an input of shape [rows] or [rows, 1]; the answer has the
outputs `probability`, `positive` and `prediction_id`.
"""

from typing import Any

import orjson

from rayplat.serve.predictor import Answer
from rayplat.serve.request import RequestError, RequestForm

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


def metadata(name: str, version: int, form: RequestForm) -> dict[str, Any]:
    """What GET on a model tells."""
    return {
        "name": name,
        "versions": [str(version)],
        "platform": "rayplat",
        "inputs": [
            {"name": column, "datatype": _TYPES.get(told.type, "BYTES"), "shape": [-1]}
            for column, told in form.columns.items()
        ],
        "outputs": [
            {"name": "probability", "datatype": "FP64", "shape": [-1]},
            {"name": "positive", "datatype": "BOOL", "shape": [-1]},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def body_of(content: bytes) -> tuple[bytes, str | None]:
    """An inference request as the body of a prediction, and the id that the caller has given it.

    Raises:
        RequestError: it is none; with the place of the fault.
    """
    try:
        asked = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, (f"the body is not JSON: {error}",)) from error
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or not inputs or len(inputs) > _MOST_INPUTS:
        raise RequestError(422, ("inputs: a list of at least one tensor is needed",))
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(inputs):
        name, values = _column(tensor, f"inputs[{place}]")
        if name in columns:
            raise RequestError(422, (f"inputs[{place}].name: named twice",))
        columns[name] = values
    if len({len(values) for values in columns.values()}) != 1:
        raise RequestError(422, ("inputs: the tensors are of different lengths",))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    parameters = asked.get("parameters")
    at = parameters.get("at") if isinstance(parameters, dict) else None
    given = asked.get("id")
    try:
        return orjson.dumps({"instances": rows, "at": at}), given if isinstance(given, str) else None
    except orjson.JSONEncodeError:
        raise RequestError(422, ("inputs: the values are nested too deeply",)) from None


def _column(tensor: Any, place: str) -> tuple[str, list[Any]]:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(tensor, dict) or not isinstance(name, str):
        raise RequestError(422, (f"{place}: is not a tensor with a name",))
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list):
        raise RequestError(422, (f"{place}.data: is not a list",))
    if shape not in ([len(data)], [len(data), 1]):
        raise RequestError(422, (f"{place}.shape: is not [{len(data)}] or [{len(data)}, 1]",))
    flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in data] if len(shape) > 1 else data
    return name, flat


def answered(name: str, version: int, answer: Answer, given: str | None) -> bytes:
    """An answer in the protocol's form."""
    told = answer.predictions()
    size = [len(told)]
    return orjson.dumps(
        {
            "model_name": name,
            "model_version": str(version),
            "id": given or told[0]["id"],
            "outputs": [
                _output("probability", "FP64", size, told),
                _output("positive", "BOOL", size, told),
                {**_output("id", "BYTES", size, told), "name": "prediction_id"},
            ],
        }
    )


def _output(key: str, kind: str, size: list[int], told: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": key, "datatype": kind, "shape": size, "data": [one[key] for one in told]}
