"""What makes a declared source hold together: topics, streams, folders, databases and late rows.

Knows sources alone; the table they feed is checked beside it.
"""

import re
from typing import get_args

from rayplat.core.errors import Where
from rayplat.core.project.faults import Faults
from rayplat.core.project.source import Kafka, Reference, Stream
from rayplat.core.project.table import Table

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def check_source(table: Table, faults: Faults) -> None:
    """Note every fault of the table's source."""
    where, name, source = table.where, f"table {table.name!r}", table.source
    if source is None:
        return
    if isinstance(source, Reference):
        faults.takes(where, f"{name}: the function that reads it", source.read, 0)
    elif faults.expect(where, f"{name}: source", source, get_args(Stream), "rp.Kafka(…) or another source"):
        if isinstance(source, Kafka):
            _check_kafka(where, name, source, faults)
        if isinstance(source, Kafka) and source.replay is not None and table.event_time is None:
            faults.add(where, f"{name} is replayed and has no event_time", "name its event_time")


def _check_kafka(where: Where, name: str, source: Kafka, faults: Faults) -> None:
    if faults.expect(where, f"{name}: topic", source.topic, str, "text") and not _TOPIC.fullmatch(
        source.topic
    ):
        faults.add(where, f"{name}: {source.topic!r} is no name for a topic", "use letters, digits, . _ -")
    if (faults.expect(where, f"{name}: partitions", source.partitions, int, "a number of 1 or more")) and (
        source.partitions < 1
    ):
        faults.add(where, f"{name}: {source.partitions} partitions", "give 1 or more")
    if source.replay is not None:
        faults.takes(where, f"{name}: the replay function", source.replay, 0)
