"""Where predictions wait on a machine, and how all of them are shipped.

Knows the folders under the home and which of them hold what; it does not know how a file is written, nor how
it is shipped. A machine ships whatever it finds, also what was written under another class before the
settings were changed.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.copies import folders
from rayplat.serve.log.local import find
from rayplat.serve.log.shipping import Of, Shipped, ship
from rayplat.serve.outbox import PredictionRecord


def _nothing(_point: str) -> None:
    return None


def local_folder(settings: Settings) -> Path:
    """The slots of class `local`."""
    return settings.home / "prediction_log"


def replicated_folder(settings: Settings, node: str) -> Path:
    """The slots of class `replicated` of a node."""
    return settings.home / "replicated_log" / _name(node)


def copies_folder(settings: Settings, node: str) -> Path:
    """The copies that a node keeps of other nodes' slots."""
    return settings.home / "prediction_copies" / _name(node)


def on_kafka(settings: Settings) -> bool:
    """Whether predictions of class `replicated` wait in a topic."""
    return settings.serve.log == "replicated" and bool(settings.kafka.bootstrap)


def ship_all(
    settings: Settings,
    lake: Lakehouse,
    bus: EventBus,
    *,
    wait: bool = True,
    reached: Callable[[str], None] = _nothing,
) -> Shipped:
    """Move all that waits on this machine, or in the topic, into the table; see `shipping.ship`.

    Raises:
        ConflictError, IntegrityError, UnavailableError: as `ship` and `topic.ship_topic`.
    """
    rows, snapshots = 0, list[int]()
    for folder, of in _folders(settings):
        try:
            one = ship(folder, lake, bus, wait=wait, of=of, reached=reached)
        except ConflictError:
            if of == "any":
                raise
            continue  # the other machine that has these bytes ships them
        rows, snapshots = rows + one.rows, [*snapshots, *one.snapshots]
    if on_kafka(settings):
        one = _shipped_topic(settings, lake, bus)
        rows, snapshots = rows + one.rows, [*snapshots, *one.snapshots]
    return Shipped(rows, tuple(snapshots))


def find_waiting(settings: Settings, prediction_id: str) -> PredictionRecord | None:
    """The record of a prediction that waits in a file of this machine."""
    for folder, _ in _folders(settings):
        found = find(folder, prediction_id)
        if found is not None:
            return found
    return None


def _shipped_topic(settings: Settings, lake: Lakehouse, bus: EventBus) -> Shipped:
    # The client of Kafka is loaded by who needs it only.
    from rayplat.serve.log.topic import open_topic, ship_topic

    with open_topic(settings) as topic:
        try:
            return ship_topic(topic, lake, bus)
        except NotFoundError:
            return Shipped(0, ())  # nothing was ever written


def _folders(settings: Settings) -> Iterator[tuple[Path, Of]]:
    yield local_folder(settings), "any"
    for own in sorted((settings.home / "replicated_log").glob("*")):
        yield own, "one"
    for node in sorted((settings.home / "prediction_copies").glob("*")):
        for copies in folders(node):
            yield copies, "copies"


def _name(node: str) -> str:
    """A node as the name of a folder, whatever it is called."""
    return hashlib.sha256(node.encode()).hexdigest()[:16]
