"""Measures of an ingest: what a snapshot says of its round, and the same as metrics.

Knows names and units; it does not know how a round is made.
"""

from datetime import datetime

from rayplat.core.telemetry import counter, gauge, histogram
from rayplat.data.streaming.settle import Round

RECEIVED, ACCEPTED = "rayplat.received", "rayplat.accepted"
QUARANTINED, DEAD, LATE = "rayplat.quarantined", "rayplat.dead", "rayplat.late"
IGNORED, BYTES = "rayplat.ignored", "rayplat.bytes"


def told(round_: Round) -> dict[str, str]:
    """The properties of a round's snapshot: counts of records as decimal text, and their bytes."""
    return {
        RECEIVED: str(sum(batch.received for batch in round_.batches)),
        ACCEPTED: str(round_.rows),
        QUARANTINED: str(round_.counts["quarantine"]),
        DEAD: str(round_.counts["dead"]),
        LATE: str(round_.counts["late"]),
        IGNORED: str(sum(batch.ignored for batch in round_.batches)),
        BYTES: str(sum(batch.bytes for batch in round_.batches)),
    }


def count_round(
    table: str, properties: dict[str, str], watermark: datetime | None, now: datetime, commit_s: float
) -> None:
    """Count a committed round in Prometheus.

    Args:
        properties: what `told` has said of it.
        watermark: the table's watermark after it; `now`: the time, UTC.
        commit_s: how long settling and committing took, s.
    """
    for name, key, text in _COUNTERS:
        counter(name, text, ["table"]).labels(table).inc(int(properties.get(key, 0)))
    histogram("ingest_commit_seconds", "Time to settle and commit a round", ["table"]).labels(table).observe(
        commit_s
    )
    if watermark is not None:
        behind = max((now - watermark).total_seconds(), 0.0)
        gauge(
            "ingest_freshness_seconds", "Age of the newest event when it became queryable", ["table"]
        ).labels(table).set(behind)


def set_lag(table: str, lags: dict[str, int]) -> None:
    """Tell how many records each partition has that are not committed."""
    metric = gauge("ingest_lag_records", "Records not committed yet", ["table", "partition"])
    for partition, lag in lags.items():
        metric.labels(table, partition).set(lag)


_COUNTERS = (
    ("ingest_received_records_total", RECEIVED, "Records read and committed"),
    ("ingest_received_bytes_total", BYTES, "Bytes of the records read and committed"),
    ("ingest_accepted_rows_total", ACCEPTED, "Rows added to the table"),
    ("ingest_quarantined_records_total", QUARANTINED, "Records put into the quarantine"),
    ("ingest_dead_records_total", DEAD, "Records that could not be decoded"),
    ("ingest_late_records_total", LATE, "Rows put aside for being late"),
    ("ingest_ignored_records_total", IGNORED, "Records that say nothing new"),
)
