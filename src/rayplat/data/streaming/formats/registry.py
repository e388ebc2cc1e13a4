"""The schema registry: from the id in a record's frame to the schema that wrote it.

Knows Confluent's registry API through its client; it does not know what a schema means.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rayplat.core.errors import RayplatError, UnavailableError, UserError

_TIMEOUT_S = 10.0
_RETRIES = 3
_RETRY_WAIT_MS = 200
_FORGET_UNKNOWN_S = 30.0
_SCHEMA_NOT_FOUND = 40403
_DENIED = (401, 403)
_BUSY = (408, 429)


class RegistryAddress(Protocol):
    """Where a registry is and who asks: `SchemaRegistrySettings` of the settings is one."""

    @property
    def url(self) -> str:
        """Its address; empty: there is none."""
        ...

    @property
    def user(self) -> str:
        """The user's name; empty: nobody logs in."""
        ...

    @property
    def password(self) -> str:
        """The user's password."""
        ...

    @property
    def ca(self) -> str:
        """Path of the certificates that are trusted; empty: the usual ones."""
        ...


@dataclass(frozen=True, slots=True)
class SchemaReference:
    """A schema that another one is built on: the name by which it is used there, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as it is registered.

    Attributes:
        kind: `AVRO`, `PROTOBUF` or `JSON`.
        text: Avro: the schema as JSON; Protobuf: the file's descriptor as base64.
        references: what it is built on, each behind what it is built on itself.
    """

    kind: str
    text: str
    references: tuple[SchemaReference, ...] = ()


class SchemaLookup(Protocol):
    """Finds registered schemas."""

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema with this id; None if the registry says that there is none.

        Raises:
            UnavailableError: the registry does not answer: the records have to wait.
        """
        ...


class ConfluentLookup:
    """Asks a registry over HTTP, once for a schema.

    Args:
        address: where it is.
        serialized: whether to ask for descriptors (Protobuf) and not for the schema's own text.
        clock: seconds that only grow; an id that was unknown is asked for again after half a minute.
    """

    def __init__(
        self, address: RegistryAddress, *, serialized: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._format = "serialized" if serialized else None
        self._clock = clock
        self._known: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, float] = {}

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema with this id; None if the registry says that there is none.

        Raises:
            UnavailableError: the registry does not answer, or not to this user.
            UserError: what answers is no registry.
        """
        found = self._known.get(schema_id)
        if found is not None or self._clock() < self._unknown.get(schema_id, 0.0):
            return found
        found = self._ask(schema_id)
        if found is None:
            self._unknown[schema_id] = self._clock() + _FORGET_UNKNOWN_S
        else:
            self._known[schema_id] = found
        return found

    def _ask(self, schema_id: int) -> RegisteredSchema | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            # Questions are rare, and an idle connection would be left to the garbage collector.
            with self._connect() as client:
                schema = client.get_schema(schema_id, fmt=self._format)
                references = tuple(self._references(client, schema, set()))
            return RegisteredSchema(schema.schema_type or "AVRO", schema.schema_str or "", references)
        except SchemaRegistryError as error:
            if error.error_code == _SCHEMA_NOT_FOUND:
                return None
            raise self._refused(error.http_status_code, str(error)) from error
        except RayplatError:
            raise
        except Exception as error:  # the client has its own copy of httpx, whose errors are not httpx's
            raise UnavailableError(
                f"the schema registry at {self._address.url} does not answer: {error}",
                "start it, or correct schema_registry.url; nothing was skipped",
            ) from error

    def _references(self, client: Any, schema: Any, seen: set[str]) -> list[SchemaReference]:
        """What a schema is built on, the deepest first."""
        found: list[SchemaReference] = []
        for reference in schema.references or ():
            if reference.name in seen:
                continue
            seen.add(reference.name)
            version = client.get_version(reference.subject, reference.version, True, self._format)
            found += self._references(client, version.schema, seen)
            found.append(SchemaReference(reference.name, version.schema.schema_str or ""))
        return found

    def _connect(self) -> Any:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        options: dict[str, Any] = {
            "url": self._address.url,
            "timeout": _TIMEOUT_S,
            "max.retries": _RETRIES,
            "retries.wait.ms": _RETRY_WAIT_MS,
        }
        if self._address.user:
            options["basic.auth.user.info"] = f"{self._address.user}:{self._address.password}"
        if self._address.ca:
            options["ssl.ca.location"] = self._address.ca
        try:
            return SchemaRegistryClient(options)
        except (ValueError, OSError) as error:
            raise UserError(
                f"the schema registry's settings cannot be used: {error}",
                "correct schema_registry.url, .user and .ca",
            ) from error

    def _refused(self, status: int, reason: str) -> UnavailableError | UserError:
        place = f"the schema registry at {self._address.url}"
        if status in _DENIED:
            return UnavailableError(
                f"{place} lets {self._address.user or 'nobody'!r} not in: {reason}",
                "correct schema_registry.user and schema_registry.password",
            )
        if status >= 500 or status in _BUSY:
            return UnavailableError(
                f"{place} cannot answer: {reason}", "run again when it can; nothing was skipped"
            )
        return UserError(f"{place} does not answer like one: {reason}", "correct schema_registry.url")
