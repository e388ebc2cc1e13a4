"""Where a table's rows come from, and in which form: topics, streams, folders, databases, functions.

Knows what is declared of a source; it does not know how one is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Json:
    """Each record is one JSON object in UTF-8."""


@dataclass(frozen=True, slots=True)
class Avro:
    """Each record is Avro in the schema registry's framing (a zero byte, the schema's id, the datum).

    Args:
        schema: the reader's schema as JSON text; empty: the writer's schema from the registry. With a
            schema and no registry, records are bare datums of exactly this schema.
    """

    schema: str = ""


@dataclass(frozen=True, slots=True)
class Protobuf:
    """Each record is a Protobuf message in the schema registry's framing, or bare.

    Args:
        message: the full name of the message, such as `shop.Order`; empty: the framing's indexes say it.
        descriptor: path of a compiled descriptor set (`protoc --descriptor_set_out --include_imports`),
            relative to the project's folder; empty: the schema comes from the registry.
    """

    message: str = ""
    descriptor: str = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """Each record is kept as it is in one column.

    Args:
        column: a declared `binary` column, or a `string` column for records in UTF-8.
    """

    column: str = "value"


Format = Json | Avro | Protobuf | Raw
"""How the bytes of a record become a row."""


@dataclass(frozen=True, slots=True)
class Debezium:
    """Records are change-data-capture envelopes: `op` (c, r, u, d), `before`, `after`, `source`.

    The table must be declared with `mode="upsert"`: creations and updates replace the row of their key,
    deletions take it out, tombstones (no value) say nothing new. Within a key the order is the source's.
    """


@dataclass(frozen=True, slots=True)
class Kafka:
    """A table is fed by a Kafka topic, one row a record.

    Args:
        topic: the topic's name.
        partitions: how many partitions the development broker gives the topic.
        replay: for the laptop: a function that returns an Arrow table with the table's declared
            columns. Its rows are told to the development broker in the order in which the world
            would have told them: by `known_at` (or the event time), always in the same order.
        format: how a record's bytes become a row.
        envelope: what is wrapped around the row, if anything.
    """

    topic: str
    partitions: int = 2
    replay: "Callable[[], pa.Table] | None" = None
    format: Format = field(default_factory=Json)
    envelope: Debezium | None = None


@dataclass(frozen=True, slots=True)
class Kinesis:
    """A table is fed by a Kinesis data stream, one row a record.

    Args:
        stream: the stream's name.
        region: the AWS region; empty: that of the environment.
        endpoint: another address of the service, such as a local one; empty: AWS.
    """

    stream: str
    region: str = ""
    endpoint: str = ""
    format: Format = field(default_factory=Json)
    envelope: Debezium | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """A table is fed by files that arrive in a folder or bucket; each is noticed once.

    Args:
        location: `file://`, `s3://` or `gs://` folder, or a path relative to the working folder; looked
            at recursively. Names that begin with `.` or `_`, or end in `.tmp` or `.crc`, are not files yet.
        format: `ndjson`, `csv` (with a header) or `parquet`; a name ending in `.gz` is decompressed.
        pattern: a glob that a file's path below `location` must match.
    """

    location: str
    format: str = "ndjson"
    pattern: str = "**"


FILE_FORMATS = ("ndjson", "csv", "parquet")
"""What `Files.format` may be."""


@dataclass(frozen=True, slots=True)
class Database:
    """A table is fed by a table of a database, read on by a column that only grows.

    Args:
        url: SQLAlchemy address, or the name of one in the settings (`databases.<name>`), which is where
            passwords belong.
        table: the table's (or view's) name, `schema.name` or `name`.
        watermark: the column by which new and changed rows are found: a timestamp or an integer.
        settle: how old, by the database's clock, a watermark must be before it is read: transactions
            that commit later with an earlier value would be missed otherwise. Not used for integers.
    """

    url: str
    table: str
    watermark: str
    settle: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Reference:
    """A table is small reference data, read whole by a function that returns an Arrow table.

    It is written again only when its content changes (by digest).
    """

    read: "Callable[[], pa.Table]"


Stream = Kafka | Kinesis | Files | Database
"""A source that is read on from where the last read ended."""

Source = Stream | Reference
"""Anything that feeds a table."""


@dataclass(frozen=True, slots=True)
class Late:
    """What becomes of a row whose event time is behind the watermark by more than is allowed.

    The watermark of a table is the greatest event time that its committed snapshots have seen.

    Args:
        allowed: how far behind the watermark a row may be and still be in time.
        policy: `accept` (into the table, and counted), `quarantine`, or `side` (into `late.<ns>_<name>`).
    """

    allowed: timedelta
    policy: str = "accept"


LATE_POLICIES = ("accept", "quarantine", "side")
"""What `Late.policy` may be."""
