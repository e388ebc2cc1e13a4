"""Opening: the source that a declaration names, ready to be made in any process.

Knows which settings each source needs; it does not know how one is read. It stands above the sources
because the development broker, which may stand in for Kafka, reads its own topics through them.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.source import Database, Files, Kafka, Kinesis
from rayplat.core.project.table import Column, Table
from rayplat.core.settings import Settings, absolute_address
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.storage import file_systems
from rayplat.data.streaming.development.broker import resolve_bootstrap
from rayplat.data.streaming.sources.database import DatabaseSource
from rayplat.data.streaming.sources.file_journal import FileJournal, journal_name
from rayplat.data.streaming.sources.files import FilesSource
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.kinesis import KinesisSource
from rayplat.data.streaming.sources.kinesis_client import KinesisAddress
from rayplat.data.streaming.sources.source import Source


def opener(table: Table, settings: Settings) -> Callable[[], Source]:
    """What opens the source of a table; it pickles, and nothing is asked of the source yet.

    Raises:
        NotFoundError: the declaration names a database that the settings do not have.
        UnavailableError: no Kafka is set, and no development broker runs.
        UserError: the table is not fed by a stream.
    """
    declared = table.source
    if isinstance(declared, Kafka):
        return _kafka(declared, settings)
    if isinstance(declared, Kinesis):
        return _kinesis(declared, settings)
    if isinstance(declared, Files):
        return partial(_files, declared, table.name, dict(table.columns), settings, Path.cwd())
    if isinstance(declared, Database):
        return _database(declared, table, settings)
    raise UserError(
        f"table {table.name} is not fed by a stream",
        "declare source=rp.Kafka(topic), rp.Kinesis(stream), rp.Files(location) or rp.Database(url, …)",
    )


def _kafka(declared: Kafka, settings: Settings) -> Callable[[], Source]:
    return partial(
        KafkaSource,
        resolve_bootstrap(settings),
        declared.topic,
        settings.kafka.options,
        timeout_s=settings.ingest.poll_timeout_s,
    )


def _kinesis(declared: Kinesis, settings: Settings) -> Callable[[], Source]:
    address = KinesisAddress(
        region=declared.region or settings.kinesis.region,
        endpoint=declared.endpoint or settings.kinesis.endpoint,
        access_key=settings.kinesis.access_key,
        secret_key=settings.kinesis.secret_key,
        timeout_s=settings.ingest.poll_timeout_s,
    )
    return partial(
        KinesisSource,
        declared.stream,
        address.connect,
        accept_gaps=settings.kinesis.trimmed == "accept",
        timeout_s=settings.ingest.poll_timeout_s,
    )


def _database(declared: Database, table: Table, settings: Settings) -> Callable[[], Source]:
    named = settings.databases.get(declared.url)
    if named is None and "://" not in declared.url:
        raise NotFoundError(
            f"table {table.name} is fed by the database {declared.url!r}, which the settings do not have",
            f"set databases.{declared.url}; there is: {', '.join(sorted(settings.databases)) or 'none'}",
        )
    return partial(
        DatabaseSource,
        absolute_address(named or declared.url, Path.cwd()),
        declared.table,
        declared.watermark,
        key=table.key,
        columns=dict(table.columns),
        settle=declared.settle,
        called=declared.url if named else "",
    )


def _files(
    declared: Files, table_name: str, columns: dict[str, Column], settings: Settings, folder: Path
) -> Source:
    # Made where it is used: a journal holds a lakehouse, and with it connections.
    source = f"files:{declared.location}"
    return FilesSource(
        FileJournal(Lakehouse(settings), journal_name(table_name), source),
        absolute_address(declared.location, folder),
        declared.format,
        columns,
        systems=file_systems(settings),
        pattern=declared.pattern,
        settle=timedelta(seconds=settings.files.settle_s),
    )
