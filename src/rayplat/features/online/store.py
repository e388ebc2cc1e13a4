"""What an online store is: heads and parts of entities by view, how far each view has come, transactions.

Knows the promises that every store keeps; it does not know what heads and parts mean (`row_values`,
`tiles`), nor how they are computed.

An entity of a view has one head, which every question reads, and parts: small records in the order of their
keys, of which a question reads few. All of them are bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import orjson

from rayplat.core.errors import ConflictError

T = TypeVar("T")

State = tuple[int, bytes, bytes]
"""Of a view in a store: which opened one, how often it was written, and its progress."""

Held = bytes | memoryview | None
"""A head as it is looked at."""

Part = tuple[bytes, bytes]
"""A part: its key, and its value."""

Range = tuple[bytes, bytes, bytes]
"""Parts of one entity: the entity, the lowest key, and the key that is no longer meant."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a view has come.

    Attributes:
        snapshot_id: the last snapshot of the source that was read to its end; None where there is none.
        offsets: the next offset to read, by partition; empty where the source is read whole.
        schema: the Arrow schema of the source rows, as an IPC message.
    """

    snapshot_id: int | None
    offsets: Mapping[str, int]
    schema: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one entity.

    Attributes:
        before: the head that the change was made from; None: there was none.
        head: the new head.
        puts: parts to be written; one of the same key is replaced.
        drops: ranges of keys, the lowest and the one that is no longer meant; removed before the puts.
    """

    before: bytes | None
    head: bytes
    puts: Sequence[Part] = ()
    drops: Sequence[tuple[bytes, bytes]] = ()


class Reader(Protocol):
    """Reads one moment: of one entity head and parts of one write, never of two."""

    def progress(self, view: str) -> Progress | None:
        """How far a view has come; None: it was never materialized."""

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        """The head of each entity; None where there is none."""

    def parts(self, view: str, wanted: Sequence[Range]) -> list[list[Part]]:
        """The parts of each range, in the order of their keys. Their heads must have been read before."""


class Glance(Protocol):
    """Reads one moment in the shortest way."""

    def state(self, view: str) -> State | None:
        """The state of a view: what was read before at an equal one is what would be read now. It holds for
        one process; None: the store tells none."""

    def standing(self, view: str) -> bytes | None:
        """The progress of a view as `encode_progress` writes it; None: it was never materialized."""

    def heads(self, view: str, entities: Sequence[bytes]) -> Sequence[Held]:
        """The head of each entity. It may be the store's own memory: nobody may hold it when the moment is
        over."""


class OnlineStore(Protocol):
    """Keeps heads and parts by view and entity. Safe to use from many threads and processes.

    A write carries the progress along: after a kill at any point either the progress has not moved, and the
    same write may come again, or all of it is there. Readers are never blocked by a writer. A store that
    is one file gives all that one `read` reads as of one moment and writes in one transaction; one of several
    nodes does so entity by entity, and moves the progress last.
    """

    def read(self, reading: Callable[[Reader], T]) -> T:
        """What `reading` gives over one moment; it may be called again when a writer came between."""

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        """The head of each entity; the shortest way to it."""

    def look(self, looking: "Callable[[Glance], T]") -> T:
        """What `looking` makes of one moment; it may be called again when a writer came between."""

    def write(
        self,
        view: str,
        changes: Mapping[bytes, Change],
        progress: Progress,
        *,
        expected: Progress | None,
        replace: bool = False,
    ) -> None:
        """Write entities and the progress of a view.

        Args:
            changes: by entity.
            expected: the progress that the changes were made from.
            replace: whether all that the view held before is removed; `before` is not looked at then.

        Raises:
            ConflictError: the stored progress is not `expected`, or an entity was changed since its
                change was made: another process writes the same view.
        """

    def delete_entity(self, view: str, entity: bytes) -> bool:
        """Remove all of an entity from a view; whether there was anything."""

    def drop(self, view: str) -> None:
        """Remove a view, its progress first."""

    def views(self) -> dict[str, Progress]:
        """The progress of every view that was ever materialized and not dropped."""

    def close(self) -> None:
        """Give back connections. The store can be used again afterwards."""


def encode_progress(progress: Progress) -> bytes:
    """Progress as bytes: equal progress, equal bytes."""
    told = {"snapshot": progress.snapshot_id, "offsets": dict(progress.offsets)}
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return len(text).to_bytes(4, "little") + text + progress.schema


def decode_progress(data: bytes) -> Progress:
    """What `encode_progress` wrote."""
    end = 4 + int.from_bytes(data[:4], "little")
    told = orjson.loads(data[4:end])
    return Progress(told["snapshot"], told["offsets"], bytes(data[end:]))


def check_progress(view: str, found: Progress | None, expected: Progress | None) -> None:
    """Refuse a write that was made from another progress.

    Raises:
        ConflictError: it was.
    """
    if found != expected:
        raise ConflictError(
            f"the online values of {view!r} stand at {_brief(found)}, not at {_brief(expected)}",
            "another process materializes the same view; run this one again",
        )


def changed_since(view: str, entity: bytes) -> ConflictError:
    """The error of an entity that another process has written."""
    return ConflictError(
        f"the online values of {entity.decode(errors='replace')} in {view!r} were changed meanwhile",
        "another process materializes the same view; run this one again",
    )


def _brief(progress: Progress | None) -> str:
    return (
        "the beginning" if progress is None else f"snapshot {progress.snapshot_id}, {dict(progress.offsets)}"
    )
