"""The outbox: predictions that were answered and are not in the lakehouse yet, as rows of the database.

Knows what is recorded of a prediction and how its rows are written, found and deleted; it does not know
who answers, nor how the rows reach the lakehouse.

The ids of the rows are given in the order of the commits, without reuse. That is what lets a single
number, the next id, say which rows the lakehouse has:
- SQLite: one writer at a time, and AUTOINCREMENT never gives an id again, even when its row is deleted.
- Postgres: a sequence alone would not do (a transaction that took 7 may commit after one that took 8, and
  a reader between the two would skip 7 for ever); so writers take an advisory lock first and hold it
  until their commit is visible. An aborted writer leaves a gap, which is harmless.
The catalog, with the number that counts, is in the same database: both are lost or restored together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import orjson
import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings

_LOCK = 0x7261_7901
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METADATA = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # AUTOINCREMENT is only for INTEGER

OUTBOX = sa.Table(
    "prediction_outbox",
    _METADATA,
    sa.Column("id", _BIG, primary_key=True, autoincrement=True),
    sa.Column("prediction_id", sa.String(40), nullable=False, index=True),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("asked_at_us", sa.BigInteger, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("features", sa.Text, nullable=False),
    sa.Column("provenance", sa.Text, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("latency_s", sa.Double, nullable=False),
    sa.Column("told", sa.Text),  # the fields of a record that may be absent, as a JSON object
    sqlite_autoincrement=True,
)


CHAMPION, CANARY, SHADOW, PREVIOUS, DEFAULT = "champion", "canary", "shadow", "previous", "default"
"""The arms: the version that is to answer; the one that answers a share; the one whose answers are only
logged; and what stands in for the champion: the version before it, or a declared answer."""

STAND_INS = frozenset({PREVIOUS, DEFAULT})


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One prediction as it was answered.

    Attributes:
        at: the time that the features are of (UTC).
        asked_at: when the request came in (UTC).
        request: the instance, as a JSON object.
        features: feature name -> value, as a JSON object.
        provenance: view name -> the source event behind its value, or null; as a JSON object.
        probability: of the positive class.
        latency_s: from the request's arrival until the log was written to, s.
        output: what was answered, as JSON, where it is more than a probability.
        caller: who asked.
        arm: who has answered, see `CHAMPION` and the others; None: there is one version only.
        beside: of a shadow's prediction, the id of the one that was answered.
        trace_id: of the W3C trace context that the request came with, 32 hex digits.
        idempotency_key: that the request came with.
    """

    prediction_id: str
    endpoint: str
    model: str
    version: int
    at: datetime
    asked_at: datetime
    request: str
    features: str
    provenance: str
    probability: float
    latency_s: float
    output: str | None = None
    caller: str | None = None
    arm: str | None = None
    trace_id: str | None = None
    idempotency_key: str | None = None
    beside: str | None = None


class Outbox:
    """The rows that wait for the lakehouse. Safe for many processes and threads at once.

    Args:
        settings: names the database.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        engine = open_tables(self.settings.database, _METADATA, _LOCK)
        _ensure_told(engine)
        return engine

    def insert(self, records: Sequence[PredictionRecord]) -> None:
        """Write `records` in one transaction; they are durable when this returns.

        Raises:
            UnavailableError: the database did not take them; none was written.
        """
        rows = [_row(record) for record in records]
        if rows:
            with writing(self._engine, _LOCK) as connection:
                connection.execute(OUTBOX.insert(), rows)

    def read(self, start: int, limit: int) -> tuple[list[int], list[PredictionRecord]]:
        """The ids and records of at most `limit` rows from id `start` on, in the order of the ids."""
        query = OUTBOX.select().where(OUTBOX.c.id >= start).order_by(OUTBOX.c.id).limit(limit)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [row.id for row in rows], [_record(row) for row in rows]

    def delete_below(self, end: int) -> int:
        """Delete the rows whose id is under `end`; how many there were."""
        with writing(self._engine, _LOCK) as connection:
            return connection.execute(OUTBOX.delete().where(OUTBOX.c.id < end)).rowcount

    def last_id(self) -> int:
        """The highest id that a row ever had, drained rows included; 0 before the first."""
        if self._engine.dialect.name == "sqlite":
            query = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'prediction_outbox'")
        else:
            query = sa.text("SELECT last_value FROM prediction_outbox_id_seq WHERE is_called")
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar() or 0)

    def find(self, prediction_id: str) -> PredictionRecord | None:
        """The record of one prediction, if it still waits here."""
        with reading(self._engine) as connection:
            row = connection.execute(OUTBOX.select().where(OUTBOX.c.prediction_id == prediction_id)).first()
        return None if row is None else _record(row)

    def count(self) -> int:
        """How many rows wait."""
        with reading(self._engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(OUTBOX)).scalar_one())

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]


_TOLD = ("output", "caller", "arm", "trace_id", "idempotency_key", "beside")


def _ensure_told(engine: sa.Engine) -> None:
    """Add the column `told` to a table that was made without it."""
    if any(column["name"] == "told" for column in sa.inspect(engine).get_columns(OUTBOX.name)):
        return
    with writing(engine, _LOCK) as connection:
        names = [column["name"] for column in sa.inspect(connection).get_columns(OUTBOX.name)]
        if "told" not in names:
            connection.execute(sa.text(f"ALTER TABLE {OUTBOX.name} ADD COLUMN told TEXT"))


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 (exact: a float of seconds would not be)."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _row(record: PredictionRecord) -> dict[str, Any]:
    return {
        "prediction_id": record.prediction_id,
        "endpoint": record.endpoint,
        "model": record.model,
        "version": record.version,
        "at_us": microseconds(record.at),
        "asked_at_us": microseconds(record.asked_at),
        "request": record.request,
        "features": record.features,
        "provenance": record.provenance,
        "probability": record.probability,
        "latency_s": record.latency_s,
        "told": _told(record),
    }


def _told(record: PredictionRecord) -> str | None:
    found = {name: value for name in _TOLD if (value := getattr(record, name)) is not None}
    return orjson.dumps(found).decode() if found else None


def _record(row: Any) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=row.prediction_id,
        endpoint=row.endpoint,
        model=row.model,
        version=row.version,
        at=_EPOCH + timedelta(microseconds=row.at_us),
        asked_at=_EPOCH + timedelta(microseconds=row.asked_at_us),
        request=row.request,
        features=row.features,
        provenance=row.provenance,
        probability=row.probability,
        latency_s=row.latency_s,
        **(orjson.loads(row.told) if row.told else {}),
    )
