"""The verdict on a batch: which records are good rows, and what becomes of each other one.

Knows decoding, row checks and lateness in their order; it does not know files, commits or the source's
protocol. Every record gets exactly one verdict: good, quarantined, dead, late or ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.quality.rows import faults
from rayplat.data.streaming.formats.decoder import Decoder
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.lateness import greatest_event_time, late_reason, late_rows
from rayplat.data.streaming.payloads import Payloads
from rayplat.data.streaming.sides import (
    DEAD,
    LATE,
    QUARANTINE,
    SIDES,
    Place,
    dead_rows,
    quarantine_rows,
    raw_of,
)
from rayplat.data.streaming.sources.source import Records

OPERATION = "_op"
"""The column in which an envelope's decoder says `upsert` or `delete`."""
DELETED = "_deleted"
"""The column in which rows on their way to a merge say whether their key is to go."""
RAW = "_raw"
"""The column in which rows on their way to the driver keep the record as it came."""

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch after its verdicts.

    Attributes:
        good: the good rows with the system columns (and `_deleted`, where deletions can come).
        sides: what is newly put aside, by side table.
        counts: how many records belong to each side table, those included that it has already.
        indices: for each good row, the index of its record.
        seen: the greatest event time among the good rows.
    """

    records: Records
    good: pa.Table
    sides: Mapping[str, pa.Table]
    counts: Mapping[str, int]
    ignored: int
    indices: Sequence[int]
    seen: datetime | None

    @property
    def received(self) -> int:
        """How many records the batch has."""
        return len(self.records.offsets)

    @property
    def bytes(self) -> int:
        """How long all values together are; of a frame, what it takes in memory."""
        if self.records.frame is not None:
            return int(self.records.frame.estimated_size())
        values = self.records.values
        return values.nbytes if isinstance(values, Payloads) else sum(len(v or b"") for v in values)

    def with_raw(self) -> pa.Table:
        """The good rows with the records as they came, in the column `_raw`."""
        raw = [raw_of(self.records, int(i)) for i in self.indices]
        return self.good.append_column(RAW, pa.array(raw, pa.large_binary()))


def judge(
    records: Records,
    place: Place,
    table: Table,
    decoder: Decoder,
    *,
    wide: bool,
    held: Mapping[str, frozenset[int]],
    watermark: datetime | None,
) -> Judged:
    """Give every record of a batch its verdict.

    Args:
        held: by side table, offsets that it has already: their verdict stays, even where the contract
            was mended since.
        watermark: the table's watermark when the batch was begun.
    """
    decoded = _decoded(records, table, decoder)
    frame = _placed(decoded, records, place.partition, wide)
    kept = _keep(frame, decoded, records, held)
    reasons = _reasons(kept.frame, table)
    late = late_rows(kept.frame, table, watermark)
    if late is not None and table.late is not None and table.late.policy == QUARANTINE:
        reasons = reasons.set(late & reasons.is_null(), late_reason(table, watermark))
        late = None
    failed = reasons.is_not_null()
    aside = failed if late is None else failed | late
    good = kept.frame.filter(~aside) if aside.any() else kept.frame
    late_frame = kept.frame.filter(late & ~failed) if late is not None else kept.frame.clear()
    sides = {
        QUARANTINE: quarantine_rows(place, records, _by_index(reasons, kept.rows)),
        DEAD: dead_rows(place, records, kept.bad),
        LATE: _arrow(late_frame.drop(DELETED, strict=False)),
    }
    return Judged(
        records=records,
        good=_arrow(good),
        sides=sides,
        counts={side: sides[side].num_rows + kept.held[side] for side in SIDES},
        ignored=len(decoded.ignored),
        indices=kept.rows if not aside.any() else np.asarray(kept.rows)[(~aside).to_numpy()].tolist(),
        seen=greatest_event_time(good, table),
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What has no verdict from before: rows, their indices, bad records; and how many others have one."""

    frame: pl.DataFrame
    rows: Sequence[int]
    bad: Mapping[int, str]
    held: Mapping[str, int]


def _keep(
    frame: pl.DataFrame, decoded: Decoded, records: Records, held: Mapping[str, frozenset[int]]
) -> _Kept:
    every = _NOTHING.union(*held.values())
    if not every:
        return _Kept(frame, decoded.rows, decoded.bad, dict.fromkeys(SIDES, 0))
    # A round that died between its commits: these offsets have had their verdict.
    here = {offset: index for index, offset in enumerate(records.offsets) if offset in every}
    indices = set(here.values())
    mask = pl.Series([index not in indices for index in decoded.rows], dtype=pl.Boolean)
    return _Kept(
        frame=frame.filter(mask),
        rows=[index for index in decoded.rows if index not in indices],
        bad={index: reason for index, reason in decoded.bad.items() if index not in indices},
        held={side: len(here.keys() & held.get(side, _NOTHING)) for side in SIDES},
    )


def _decoded(records: Records, table: Table, decoder: Decoder) -> Decoded:
    """Rows and bad records, whether the source gives bytes or rows."""
    if records.frame is None:
        decoded = decoder.decode(records.values)
    else:
        decoded = Decoded(records.frame, range(records.frame.height), {})
    if not records.bad:
        return decoded
    index_of = {offset: index for index, offset in enumerate(records.offsets)}
    told = {index_of[offset]: reason for offset, reason in records.bad.items()}
    mask = pl.Series([index not in told for index in decoded.rows], dtype=pl.Boolean)
    rows = [index for index in decoded.rows if index not in told]
    ignored = [index for index in decoded.ignored if index not in told]
    return Decoded(decoded.frame.filter(mask), rows, {**decoded.bad, **told}, ignored)


def _placed(decoded: Decoded, records: Records, partition: str, wide: bool) -> pl.DataFrame:
    """The rows with the system columns; an envelope's operation becomes `_deleted`."""
    frame = decoded.frame
    whole = len(decoded.rows) == len(records.offsets)
    if wide:
        offsets = records.offsets if whole else [records.offsets[i] for i in decoded.rows]
        place = [
            pl.lit(partition, dtype=pl.String).alias(PARTITION),
            pl.Series(OFFSET, [str(offset) for offset in offsets], dtype=pl.String),
        ]
    else:
        numbers = np.asarray(records.offsets, dtype=np.int64)
        chosen = numbers if whole else numbers[np.asarray(decoded.rows, dtype=np.int64)]
        place = [
            pl.lit(int(partition), dtype=pl.Int32).alias(PARTITION),
            pl.Series(OFFSET, chosen, dtype=pl.Int64),
        ]
    if OPERATION in frame.columns:
        frame = frame.with_columns((pl.col(OPERATION) == "delete").alias(DELETED)).drop(OPERATION)
    return frame.with_columns(place)


def _reasons(frame: pl.DataFrame, table: Table) -> pl.Series:
    """Why each row is bad, null where it is good; a deletion has no values that could be bad."""
    reasons = faults(frame, table)
    if DELETED in frame.columns:
        reasons = reasons.set(frame[DELETED], None)
    return reasons


def _by_index(reasons: pl.Series, rows: Sequence[int]) -> dict[int, str]:
    """The reasons by the index of the record."""
    if reasons.null_count() == reasons.len():
        return {}
    failed = reasons.is_not_null().arg_true()
    return {int(rows[row]): text for row, text in zip(failed, reasons.gather(failed), strict=True)}


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
