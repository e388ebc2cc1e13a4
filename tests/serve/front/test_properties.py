"""The OpenAPI document is true: what it allows is answered, all else is a problem, and nothing is a 5xx."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from .served import fronted

PREDICT = "/v1/endpoints/buys/predict"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def http():
    with fronted() as front, httpx.Client(base_url=f"http://127.0.0.1:{front.port}") as client:
        yield client


@pytest.fixture(scope="module")
def operation(http):
    return http.get("/v1/endpoints/buys/openapi.json").json()["paths"][PREDICT]["post"]


def of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema, of the keywords that the document uses."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_of_kind(kind, schema) for kind in kinds])


def _of_kind(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        needed = {name: of(schema["properties"][name]) for name in schema.get("required", ())}
        others = {name: of(one) for name, one in schema["properties"].items() if name not in needed}
        return st.fixed_dictionaries(needed, optional=others)
    if kind == "array":
        return st.lists(of(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
    if kind == "string":
        forms = {
            "date": st.dates().map(str),
            "date-time": st.datetimes(datetime(1, 1, 2), timezones=st.just(UTC)).map(datetime.isoformat),  # noqa: DTZ001
        }
        if schema.get("contentEncoding") == "base64":
            return st.binary(max_size=9).map(lambda raw: b64encode(raw).decode())
        return forms.get(schema.get("format", ""), st.text(st.characters(exclude_categories=["Cs"])))
    return {
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "boolean": st.booleans(),
        "null": st.none(),
    }[kind]


def _told(operation: dict[str, Any], answer: httpx.Response) -> bool:
    """Whether an answer is one that the document tells of."""
    told = operation["responses"].get(str(answer.status_code))
    return told is not None and answer.headers["content-type"] in told["content"]


@QUIET
@given(data=st.data())
def test_what_the_document_allows_is_answered(http, operation, data):
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(of(schema))
    answer = http.post(PREDICT, json=body)
    assert (answer.status_code, len(answer.json().get("predictions", []))) == (200, len(body["instances"]))


@QUIET
@given(body=ANYTHING)
def test_what_it_does_not_is_a_problem_that_it_tells_of(http, operation, body):
    answer = http.post(PREDICT, content=json.dumps(body).encode("utf-8", "surrogatepass"))
    assert answer.status_code in (400, 422)
    assert _told(operation, answer)


@QUIET
@given(raw=st.binary(max_size=200), infer=st.booleans(), arrow=st.booleans())
def test_any_bytes_are_a_problem_and_never_a_failure(http, raw, infer, arrow):
    headers = {"content-type": "application/vnd.apache.arrow.stream"} if arrow else {}
    answer = http.post("/v2/models/buys/infer" if infer else PREDICT, content=raw, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@QUIET
@given(
    name=st.sampled_from(["traceparent", "idempotency-key", "content-type", "accept", "expect", "range"]),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300),
)
def test_any_header_is_taken_or_refused(http, operation, name, value):
    value = value.strip()  # the client sends no others
    assume(name != "expect" or value.lower() != "100-continue")
    body = {"instances": [{"shop": "a", "amount": 1}]}
    answer = http.post(PREDICT, json=body, headers={name: value})
    assert answer.status_code < 500
    assert _told(operation, answer)


@QUIET
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?%\\"), max_size=60),
)
def test_any_path_is_answered_without_a_failure(http, method, path):
    assert http.request(method, f"http://127.0.0.1:{http.base_url.port}/{path}").status_code < 500
