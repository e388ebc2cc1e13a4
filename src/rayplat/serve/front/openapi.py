"""The OpenAPI document of an endpoint, with the columns of its own model.

Knows JSON Schema and OpenAPI 3.1; it does not know how a request is answered.
"""

from collections.abc import Sequence
from typing import Any

from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Column
from rayplat.serve.front.accept import EVENTS, LINES
from rayplat.serve.front.head import ARROW as ARROW_KIND
from rayplat.serve.request import MAX_INSTANCES, RequestForm

ARROW = ARROW_KIND.decode()
_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_SCHEMAS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float32": {"type": "number"},
    "float64": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "binary": {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
    "timestamp": {"type": "string", "format": "date-time"},
}
_EXAMPLES: dict[str, Any] = {
    "string": "a",
    "bool": True,
    "date": "2013-09-01",
    "binary": "AA==",
    "timestamp": "2013-09-01T12:00:00Z",
}
_PREDICTION = {
    "type": "object",
    "required": ["id", "probability", "positive", "features_of"],
    "properties": {
        "id": {"type": "string", "pattern": "^prd_[0-9a-f]{32}$"},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "positive": {"type": "boolean"},
        "fallback": {"enum": ["previous", "default"], "description": "what stood in, where something did"},
        "features_of": {
            "type": "object",
            "description": "view -> event time of the row behind its features, null where there is none",
            "additionalProperties": {"type": ["string", "null"]},
        },
    },
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "faults": {"type": "array", "items": {"type": "string"}},
    },
}
_BYTES = {"schema": {"type": "string", "format": "binary", "description": "an Arrow IPC stream"}}
_EVENTS = {
    "type": "string",
    "description": "`prediction` with the id, any number of `part`, then `done` once the record is durable, "
    "or `error` with a problem document",
}
_PARTS = {EVENTS.decode(): {"schema": _EVENTS}, LINES.decode(): {"schema": _EVENTS}}
_KEY = {"type": "string", "minLength": 1, "maxLength": 255}
_REFUSALS = {
    "400": "the body is no JSON",
    "401": "no valid token",
    "403": "the token does not allow it",
    "404": "there is no such model or version",
    "406": "the endpoint does not answer in parts, and the caller takes nothing else",
    "409": "the same Idempotency-Key is being answered; Retry-After tells when to ask again",
    "411": "the body has no stated length",
    "413": "the body, or the number of instances, is too large",
    "422": "the body is not what the schema says",
    "429": "over the caller's limit; Retry-After tells when to ask again",
    "431": "the head is too long",
    "503": "not now; Retry-After tells when to ask again",
}


def document(
    name: str,
    model: str,
    version: int,
    form: RequestForm,
    *,
    in_parts: bool = False,
    choices: Sequence[str] = (),
) -> dict[str, Any]:
    """The document of an endpoint.

    Args:
        in_parts: whether it answers in parts too.
        choices: the models and versions beside its own that it answers with.
    """
    refusals = {
        status: {"description": why, "content": {"application/problem+json": {"schema": _PROBLEM}}}
        for status, why in _REFUSALS.items()
    }
    answer = {
        "type": "object",
        "required": ["endpoint", "model", "version", "predictions"],
        "properties": {
            "endpoint": {"const": name},
            "model": {"const": model},
            "version": {"type": "integer"},
            "predictions": {"type": "array", "items": _PREDICTION},
        },
    }
    operation = {
        "operationId": "predict",
        "summary": f"Predictions of {model}",
        "parameters": [
            {"name": "traceparent", "in": "header", "required": False, "schema": {"type": "string"}},
            {"name": "Idempotency-Key", "in": "header", "required": False, "schema": _KEY},
            *_choice_parameters(choices, "header"),
        ],
        "requestBody": {"required": True, "content": {"application/json": _asked(form), ARROW: _BYTES}},
        "responses": {
            "200": {
                "description": "predictions, in the form that was asked in",
                "content": {
                    "application/json": {"schema": answer},
                    ARROW: _BYTES,
                    **(_PARTS if in_parts else {}),
                },
            },
            **refusals,
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(version)},
        "paths": {
            f"/v1/endpoints/{name}/predict": {"post": operation},
            **(_choices(name, operation, choices) if choices else {}),
        },
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


def _choice_parameters(choices: Sequence[str], place: str) -> list[dict[str, Any]]:
    if not choices:
        return []
    name = "Rayplat-Model" if place == "header" else "choice"
    schema = {"type": "string", "enum": list(choices)}
    return [{"name": name, "in": place, "required": place == "path", "schema": schema}]


def _choices(name: str, operation: dict[str, Any], choices: Sequence[str]) -> dict[str, Any]:
    """The paths of other models and versions; each has columns of its own."""
    rows = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MAX_INSTANCES}
    schema = {"type": "object", "required": ["instances"], "properties": {"instances": rows}}
    content = {**operation["responses"]["200"]["content"], "application/json": {"schema": {"type": "object"}}}
    other = {
        **operation,
        "operationId": "predictWith",
        "summary": "Predictions of another model or version",
        "parameters": [*operation["parameters"][:2], *_choice_parameters(choices, "path")],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}, ARROW: _BYTES}},
        "responses": {**operation["responses"], "200": {"description": "predictions", "content": content}},
    }
    told = {"description": "model, version, and whether it is loaded here, by name"}
    listed = {"operationId": "models", "summary": "What it answers with", "responses": {"200": told}}
    return {
        f"/v1/endpoints/{name}/models": {"get": listed},
        f"/v1/endpoints/{name}/models/{{choice}}/predict": {"post": other},
    }


def _asked(form: RequestForm) -> dict[str, Any]:
    instance = {
        "type": "object",
        "properties": {name: _schema(column) for name, column in form.columns.items()},
        "required": list(form.needed),
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": instance, "minItems": 1, "maxItems": MAX_INSTANCES}
    schema = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {"instances": rows, "at": {"type": ["string", "null"], "format": "date-time"}},
    }
    example = {name: _example(form.columns[name]) for name in form.needed}
    return {"schema": schema, "example": {"instances": [example]}}


def _example(column: Column) -> Any:
    length = vector_length(column.type)
    return _EXAMPLES.get(column.type, 1) if length is None else [0.0] * length


def _schema(column: Column) -> dict[str, Any]:
    schema = dict(_SCHEMAS.get(column.type, {}))
    if (length := vector_length(column.type)) is not None:
        schema = {"type": "array", "items": {"type": "number"}, "minItems": length, "maxItems": length}
    if column.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if column.description:
        schema["description"] = column.description
    return schema
