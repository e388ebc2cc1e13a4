"""An Iceberg REST catalog on loopback: the endpoints of the REST specification that tables need.

Knows HTTP and hands everything on to pyiceberg's SQL catalog, whose compare-and-swap decides who wins; it
does not know rayplat. (Tables, namespaces and commits; no views, no scans planned by the server, no OAuth:
one bearer token.)
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import CommitTableRequest, Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

TOKEN = "a-token-of-the-tests"
_UNSET = {"location": None, "partition-spec": None, "write-order": None}
_STATUS = {
    NoSuchTableError: 404,
    NoSuchNamespaceError: 404,
    TableAlreadyExistsError: 409,
    NamespaceAlreadyExistsError: 409,
    CommitFailedException: 409,
}


class UnauthorizedError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    catalog: SqlCatalog

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest's output is for failures."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise UnauthorizedError("a bearer token is needed")
            status, told = 200, self._route(body)
        except Exception as error:
            status = 401 if isinstance(error, UnauthorizedError) else _STATUS.get(type(error), 500)
            told = json.dumps(
                {"error": {"message": str(error), "type": type(error).__name__, "code": status}}
            )
        content = b"" if told is None or self.command == "HEAD" else told.encode()
        self.send_response(204 if status == 200 and told is None else status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _route(self, body: dict[str, Any]) -> str | None:
        match [unquote(part) for part in urlsplit(self.path).path.split("/")[2:]]:
            case ["config"]:
                return json.dumps({"defaults": {}, "overrides": {}})
            case ["namespaces"]:
                return self._namespaces(body)
            case ["namespaces", name]:
                return self._namespace(name)
            case ["namespaces", name, "tables"]:
                return self._tables(name, body)
            case ["namespaces", name, "tables", table]:
                return self._table((name, table), body)
        raise NoSuchTableError(f"no endpoint {self.command} {self.path}")

    def _namespaces(self, body: dict[str, Any]) -> str:
        if self.command == "GET":
            return json.dumps({"namespaces": [list(found) for found in self.catalog.list_namespaces()]})
        self.catalog.create_namespace(tuple(body["namespace"]), body.get("properties", {}))
        return json.dumps({"namespace": body["namespace"], "properties": body.get("properties", {})})

    def _namespace(self, name: str) -> str | None:
        if self.command == "DELETE":
            self.catalog.drop_namespace(name)
            return None
        return json.dumps(
            {"namespace": [name], "properties": dict(self.catalog.load_namespace_properties(name))}
        )

    def _tables(self, name: str, body: dict[str, Any]) -> str:
        if self.command == "GET":
            found = self.catalog.list_tables(name)
            return json.dumps({"identifiers": [{"namespace": list(i[:-1]), "name": i[-1]} for i in found]})
        return _told(self._create(name, CreateTableRequest.model_validate({**_UNSET, **body})))

    def _create(self, namespace: str, wanted: CreateTableRequest) -> Table:
        return self.catalog.create_table(
            (namespace, wanted.name),
            wanted.table_schema,
            wanted.location,
            wanted.partition_spec or UNPARTITIONED_PARTITION_SPEC,
            wanted.write_order or UNSORTED_SORT_ORDER,
            wanted.properties,
        )

    def _table(self, identifier: tuple[str, str], body: dict[str, Any]) -> str | None:
        if self.command == "DELETE":
            self.catalog.drop_table(identifier)
            return None
        found = self.catalog.load_table(identifier)
        if self.command != "POST":
            return _told(found)
        wanted = CommitTableRequest.model_validate(body)
        done = self.catalog.commit_table(found, wanted.requirements, wanted.updates)
        return str(done.model_dump_json(by_alias=True))


def _told(table: Table) -> str:
    metadata = json.loads(table.metadata.model_dump_json(by_alias=True, exclude_none=True))
    return json.dumps({"metadata-location": table.metadata_location, "metadata": metadata, "config": {}})


@contextmanager
def rest_catalog(folder: Path) -> Iterator[str]:
    """Serve a catalog whose tables lie in `folder`; gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("rest", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())
    handler = type("Handler", (_Handler,), {"catalog": catalog})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        catalog.engine.dispose()
