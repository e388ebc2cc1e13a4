"""Tensors of the gRPC protocol: those of a request as rows of the asking table, and an answer as tensors.

Knows the protocol's data types and both ways in which contents are sent; it does not know what is answered.
A column of the table is an input of shape [rows] or [rows, 1], one of vectors of shape [rows, N], as over
HTTP. A tensor has no null: NaN stands for it.
"""

import math
import struct
from base64 import b64encode
from typing import Any

from rayplat.core.project.column_types import vector_length
from rayplat.serve.grpc import open_inference_pb2 as pb
from rayplat.serve.request import MAX_INSTANCES, RequestError, RequestForm

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_RAW = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_MOST_INPUTS = 10_000


def content_of(request: pb.ModelInferRequest, form: RequestForm) -> dict[str, Any]:
    """A request as the body of a question, see `RequestForm.parse`.

    Raises:
        RequestError: a tensor is not what its name, type and shape say.
    """
    inputs = request.inputs
    if not inputs or len(inputs) > _MOST_INPUTS:
        raise RequestError(422, ("inputs: at least one tensor is needed",))
    raw = request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise RequestError(422, (f"raw_input_contents: {len(raw)} for {len(inputs)} inputs",))
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(inputs):
        if tensor.name in columns:
            raise RequestError(422, (f"inputs[{place}].name: named twice",))
        columns[tensor.name] = _column(tensor, raw[place] if raw else None, f"inputs[{place}]", form)
    sizes = {len(values) for values in columns.values()}
    if len(sizes) != 1:
        raise RequestError(422, ("inputs: the tensors are of different lengths",))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    content: dict[str, Any] = {"instances": rows}
    if "at" in request.parameters:
        content["at"] = request.parameters["at"].string_param
    return content


def _column(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, place: str, form: RequestForm
) -> list[Any]:
    column = form.columns.get(tensor.name)
    kind = "" if column is None else column.type
    shape, length = list(tensor.shape), vector_length(kind)
    wanted = "[rows] or [rows, 1]" if length is None else f"[rows, {length}]"
    fits = len(shape) == 2 and shape[1] == length if length else len(shape) == 1 or shape[1:] == [1]
    if not fits or not 0 <= shape[0] <= MAX_INSTANCES:
        most = f"of {MAX_INSTANCES} rows at most"
        raise RequestError(422, (f"{place}.shape: {shape[:5]} is not {wanted}, {most}",))
    size = shape[0] * (length or 1)
    values = _values(tensor, place) if raw is None else _unpacked(tensor.datatype, raw, size, place)
    if len(values) != size:
        raise RequestError(422, (f"{place}: {len(values)} values do not fill the shape {shape}",))
    told = [_told(value, kind, place) for value in values]
    if length is None:
        return told
    return [told[at : at + length] for at in range(0, size, length)]


def _values(tensor: pb.ModelInferRequest.InferInputTensor, place: str) -> list[Any]:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        known = ", ".join(_CONTENTS)
        raise RequestError(422, (f"{place}.datatype: {tensor.datatype[:20]!r} is none of {known}",))
    return list(getattr(tensor.contents, field))


def _unpacked(datatype: str, raw: bytes, size: int, place: str) -> list[Any]:
    """Raw contents: numbers little-endian; of BYTES, each with its length in four bytes before it."""
    if datatype == "BYTES":
        return _unpacked_bytes(raw, place)
    code = _RAW.get(datatype)
    if code is None:
        raise RequestError(422, (f"{place}.datatype: {datatype[:20]!r} has no raw contents here",))
    if len(raw) != size * struct.calcsize("<" + code):
        raise RequestError(422, (f"{place}: {len(raw)} bytes are not {size} values of {datatype}",))
    return list(struct.unpack(f"<{size}{code}", raw))


def _unpacked_bytes(raw: bytes, place: str) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if end > len(raw):
            raise RequestError(422, (f"{place}: the raw contents end within a value",))
        found.append(raw[at + 4 : end])
        at = end
    return found


def _told(value: Any, kind: str, place: str) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        if kind == "binary":
            return b64encode(value).decode()
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise RequestError(422, (f"{place}: a text is not UTF-8",)) from None
    if isinstance(value, float) and math.isinf(value):
        raise RequestError(422, (f"{place}: {value} is not a finite number",))
    return None if isinstance(value, float) and math.isnan(value) else value


def answer_of(told: dict[str, Any], given: str) -> pb.ModelInferResponse:
    """An answer as tensors: probability, positive and prediction_id.

    Args:
        told: as HTTP has it.
        given: the id that the caller has given the request; empty: that of the first prediction.
    """
    predictions = told["predictions"]
    answer = pb.ModelInferResponse(
        model_name=told["endpoint"],
        model_version=str(told["version"]),
        id=given or predictions[0]["id"],
    )
    if "fallback" in predictions[0]:
        answer.parameters["fallback"].string_param = predictions[0]["fallback"]
    probabilities = [p["probability"] for p in predictions]
    positives = [p["positive"] for p in predictions]
    ids = [p["id"].encode() for p in predictions]
    for name, datatype, content in (
        ("probability", "FP64", pb.InferTensorContents(fp64_contents=probabilities)),
        ("positive", "BOOL", pb.InferTensorContents(bool_contents=positives)),
        ("prediction_id", "BYTES", pb.InferTensorContents(bytes_contents=ids)),
    ):
        answer.outputs.add(name=name, datatype=datatype, shape=[len(predictions)], contents=content)
    return answer
