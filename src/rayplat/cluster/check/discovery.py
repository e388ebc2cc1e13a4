"""A Google API's discovery document: what a request body may hold, and answers from a cloud in memory.

Knows the document that comes with Google's own SDK; it does not know what a cluster asks for.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

Answer = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Path and query parameters, and the body of a request, to the body of its answer."""


@cache
def document(api: str, version: str) -> dict[str, Any]:
    """The discovery document as Google's SDK ships it."""
    import json
    from importlib.resources import files

    name = f"{api}.{version}.json"
    text = (files("googleapiclient.discovery_cache") / "documents" / name).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def body_faults(api: str, version: str, schema: str, body: Any) -> list[str]:
    """What a request body holds that the API's schema does not know, or of another type."""
    import jsonschema  # type: ignore[import-untyped]

    known = document(api, version)["schemas"]
    strict = {
        "$defs": {name: _strict(one) for name, one in known.items()},
        "$ref": f"#/$defs/{schema}",
    }
    validator = jsonschema.Draft202012Validator(strict)
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(body)]


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A discovery schema as a JSON schema that refuses what it does not name."""
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    kept: dict[str, Any] = {k: v for k, v in schema.items() if k in ("type", "enum") and v != "any"}
    if "properties" in schema:
        kept["properties"] = {name: _strict(one) for name, one in schema["properties"].items()}
        kept["additionalProperties"] = False
    if "additionalProperties" in schema:
        kept["additionalProperties"] = _strict(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = _strict(schema["items"])
    return kept


def client(api: str, version: str, answers: dict[str, Answer]) -> Any:
    """Google's own client of an API, whose requests are answered here.

    The SDK builds and checks each request by the discovery document; a method that has no answer is
    an error, and nothing leaves this process.
    """
    import json
    from urllib.parse import parse_qsl, urlsplit

    from google.auth.credentials import AnonymousCredentials
    from googleapiclient.discovery import build_from_document  # type: ignore[import-untyped]

    class Request:
        """Stands where the SDK puts a request that is to be sent."""

        def __init__(self, _http: Any, _postproc: Any, uri: str, **request: Any) -> None:
            self.method, self.body = request.get("methodId"), request.get("body")
            parts = urlsplit(uri)
            self.parameters = {"path": parts.path, **dict(parse_qsl(parts.query))}

        def execute(self, **_: Any) -> dict[str, Any]:
            if self.method not in answers:
                raise LookupError(f"the launcher calls {self.method}, which it was not expected to")
            return answers[str(self.method)](self.parameters, json.loads(self.body or "{}"))

    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return build_from_document(document(api, version), credentials=nobody, requestBuilder=Request)
