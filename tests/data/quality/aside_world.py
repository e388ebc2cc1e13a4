"""A small world of set-aside records: a table, its side tables, and a stand-in for an ingest's rounds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

import rayplat as rp
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.quality.rows import split
from rayplat.data.quality.side_tables import side_name
from rayplat.data.streaming.formats.json_records import decode as decode_json

SOURCE = "kafka:orders"
NAME = "raw.orders"
_SIDE = [
    ("source", pa.string()),
    ("partition", pa.string()),
    ("offset", pa.string()),
    ("reason", pa.string()),
    ("raw", pa.binary()),
    ("quarantined_at", pa.timestamp("us", "UTC")),
]
SIDES = {
    "quarantine": pa.schema(_SIDE),
    "dead": pa.schema([*_SIDE, ("key", pa.binary()), ("headers", pa.string())]),
}


def orders(most: float = 100, *, strict: bool = True, checks: Sequence[Any] = ()) -> Table:
    """The declaration; `strict` has an amount that may not be null."""
    amount = rp.Column("float64", nullable=not strict)
    return rp.Project("shop", owner="a@example.com").table(
        NAME,
        columns={"id": "string", "amount": amount},
        key="id",
        source=rp.Kafka("orders"),
        checks=[rp.in_range("amount", 0, most), *checks],
    )


def order(number: int, amount: float | None = 5) -> bytes:
    return json.dumps({"id": f"o{number}", "amount": amount}).encode()


def decode(values: Sequence[bytes | None]) -> Any:
    return decode_json(values, orders().columns)


@dataclass
class Ingest:
    """Does one round as the ingest does: side tables first, then the table with the counts."""

    lake: Lakehouse
    table: Table

    def round(
        self,
        records: Mapping[int, Sequence[bytes]],
        *,
        die: bool = False,
        told: Mapping[str, int] | None = None,
    ) -> None:
        """Take in records; `die` stops before the table's own commit, `told` lies in the counts."""
        good = self.lake.ensure(replace(self.table, late=None))
        committer = FencedCommitter(self.lake, NAME, SOURCE)
        before = committer.committed()
        rows: list[pl.DataFrame] = []
        aside: dict[str, list[dict[str, Any]]] = {"quarantine": [], "dead": []}
        for partition, values in records.items():
            start = before.get(str(partition), 0)
            decoded = decode_json(values, self.table.columns)
            frame = decoded.frame.with_columns(
                pl.lit(partition, pl.Int32).alias("_partition"),
                pl.Series("_offset", [start + r for r in decoded.rows], dtype=pl.Int64),
            )
            fine, bad = split(frame, self.table)
            rows.append(fine)
            places = {start + i: reason for i, reason in decoded.bad.items()}
            aside["dead"] += [self._side(partition, o, r, values[o - start]) for o, r in places.items()]
            aside["quarantine"] += [
                self._side(partition, row["_offset"], row["reason"], values[row["_offset"] - start])
                for row in bad.iter_rows(named=True)
            ]
        for kind, found in aside.items():
            if found:
                side = self.lake.ensure_schema(side_name(kind, NAME), SIDES[kind])
                lacking = {name: None for name in SIDES[kind].names if name not in found[0]}
                side.append(pa.Table.from_pylist([{**row, **lacking} for row in found], SIDES[kind]))
        if die:
            return
        fine = pl.concat(rows)
        counts = {
            "received": sum(len(v) for v in records.values()),
            "accepted": fine.height,
            "quarantined": len(aside["quarantine"]),
            "dead": len(aside["dead"]),
            "late": 0,
            "ignored": 0,
            **(told or {}),
        }
        files = good.write_files(fine.to_arrow(compat_level=pl.CompatLevel.oldest()))
        moved = {str(p): before.get(str(p), 0) + len(v) for p, v in records.items()}
        committer.commit(files, before, moved, {f"rayplat.{k}": str(v) for k, v in counts.items()})

    def _side(self, partition: int, offset: int, reason: str, raw: bytes) -> dict[str, Any]:
        return {
            "source": SOURCE,
            "partition": str(partition),
            "offset": str(offset),
            "reason": reason,
            "raw": raw,
            "quarantined_at": datetime.now(UTC),
        }


def stored(lake: Lakehouse) -> list[tuple[str, int, int]]:
    rows = lake.table(NAME).read(["id", "_partition", "_offset"]).to_pylist()
    return sorted((r["id"], r["_partition"], r["_offset"]) for r in rows)
