"""A schema registry on loopback: the few calls that Confluent's client and serializers make.

Knows subjects, versions and ids; it does not know compatibility, and keeps schemas as they were posted.
"""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from rayplat.core.settings import SchemaRegistrySettings

Schema = dict[str, Any]


@dataclass
class RegistryServer:
    """Serves on `url` while it is entered.

    Attributes:
        asked: the paths of all GET requests, in order.
        failing: the HTTP status that every request gets; 0: they are answered.
    """

    schemas: list[Schema] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failing: int = 0
    url: str = ""

    @property
    def address(self) -> SchemaRegistrySettings:
        """Where it is, as the settings say it."""
        return SchemaRegistrySettings(url=self.url)

    def __enter__(self) -> Self:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self._answer(*registry.get(unquote(urlsplit(self.path).path).strip("/").split("/")))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*registry.post(unquote(urlsplit(self.path).path).strip("/").split("/"), body))

            def _answer(self, status: int, body: Schema) -> None:
                if registry.failing:
                    status, body = registry.failing, {"error_code": registry.failing, "message": "failing"}
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def register(self, schema: Schema) -> int:
        """The id of a schema, a new one or the one that it has."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        return self.schemas.index(schema) + 1

    def get(self, path: list[str]) -> tuple[int, Schema]:
        match path:
            case ["schemas", "ids", number]:
                if 0 < int(number) <= len(self.schemas):
                    return 200, self.schemas[int(number) - 1]
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case ["subjects", subject, "versions", version] if int(version) <= len(
                self.subjects.get(subject, [])
            ):
                return 200, self._version(subject, int(version))
        return 404, {"error_code": 40401, "message": "Subject not found"}

    def post(self, path: list[str], body: Schema) -> tuple[int, Schema]:
        schema = {name: body[name] for name in ("schema", "schemaType", "references") if body.get(name)}
        match path:
            case ["subjects", subject, "versions"]:
                number = self.register(schema)
                versions = self.subjects.setdefault(subject, [])
                if number not in versions:
                    versions.append(number)
                return 200, {"id": number}
            case ["subjects", subject] if schema in self.schemas:
                number = self.schemas.index(schema) + 1
                return 200, self._version(subject, self.subjects[subject].index(number) + 1)
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def _version(self, subject: str, version: int) -> Schema:
        number = self.subjects[subject][version - 1]
        return {"subject": subject, "version": version, "id": number, **self.schemas[number - 1]}
