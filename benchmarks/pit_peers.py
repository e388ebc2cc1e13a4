"""What others do about the same files and asking rows: pandas, Polars and DuckDB, each at its best.

Knows their shortest correct ways to the same rows, in the asking order; it does not know what is measured.
`latest` needs no more than the as-of join that they have. `latest_known` adds late rows and equal times: of
the rows known by then the greatest by (event time, known time, offset), which a running maximum in the order
of visibility gives, before the same join.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

VALUES = ["x0", "n0"]


def pandas_latest(
    paths: Sequence[str], asking: Any, values: Sequence[str] = VALUES, *, in_order: bool = False
) -> pl.DataFrame:
    """`in_order`: the asking rows rise by time, so that nothing has to be sorted, here and below."""
    import pandas as pd

    names = list(values)
    where = paths[0] if len(paths) == 1 else list(paths)
    events = pd.read_parquet(where, columns=["key", "event_time", *names])
    asked = asking if in_order else asking.sort_values("at", kind="stable")
    found = pd.merge_asof(asked, events, left_on="at", right_on="event_time", by="key")
    if not in_order:
        found = found.set_index(asked.index).sort_index()
    # A missing integer made the column one of floats.
    return pl.from_pandas(found[names]).with_columns(pl.col(n).cast(pl.Int64) for n in names if n[0] == "n")


def polars_latest(
    paths: Sequence[str], asking: pl.DataFrame, values: Sequence[str] = VALUES, *, in_order: bool = False
) -> pl.DataFrame:
    asked = asking.lazy().set_sorted("at") if in_order else asking.lazy().with_row_index("n").sort("at")
    found = asked.join_asof(
        pl.scan_parquet(list(paths)).set_sorted("event_time"),
        left_on="at",
        right_on="event_time",
        by="key",
        check_sortedness=False,
    )
    return (found if in_order else found.sort("n")).select(values).collect()


def duckdb_latest(paths: Sequence[str], asking: Any, values: Sequence[str] = VALUES) -> pl.DataFrame:
    import duckdb

    with duckdb.connect() as base:
        base.register("asked", asking)
        found = base.sql(
            f"select {', '.join(values)} from asked a asof left join read_parquet($1) e "
            "on a.key = e.key and a.at >= e.event_time order by n",
            params=[list(paths)],
        )
        return found.pl()


def polars_latest_known(paths: Sequence[str], asking: pl.DataFrame, ttl: timedelta | None) -> pl.DataFrame:
    ranked = (
        pl.scan_parquet(list(paths))
        .filter(pl.col("key").is_not_null())
        .sort("event_time", "known_at", "_offset")
        .with_row_index("rank")
        .with_columns(pl.max_horizontal("event_time", "known_at").alias("visible"))
        .collect()
    )
    rising = ranked.select("key", "visible", "rank").sort("visible", "rank")
    rising = rising.with_columns(pl.col("rank").cum_max().over("key"))
    asked = asking.with_row_index("n").sort("at")
    found = asked.join_asof(rising, left_on="at", right_on="visible", by="key", check_sortedness=False)
    rank = found.sort("n").get_column("rank")
    taken = ranked.select("event_time", *VALUES).select(pl.all().gather(rank))
    if ttl is not None:
        young = asking.get_column("at") - taken.get_column("event_time") <= ttl
        taken = taken.with_columns(pl.when(young).then(pl.col(name)).alias(name) for name in VALUES)
    return taken.select(VALUES)


def duckdb_latest_known(paths: Sequence[str], asking: Any, ttl: timedelta | None) -> pl.DataFrame:
    import duckdb

    micros = 2**62 if ttl is None else ttl // timedelta(microseconds=1)
    with duckdb.connect() as base:
        base.register("asked", asking)
        found = base.sql(
            """
            with rising as (
                select key, greatest(event_time, known_at) as visible,
                    max({'event': event_time, 'known': known_at, 'log': _offset, 'x0': x0, 'n0': n0}) over (
                        partition by key order by greatest(event_time, known_at)
                    ) as best
                from read_parquet($1) where key is not null
            ), one as (
                select distinct on (key, visible) key, visible, best from rising
            )
            select
                case when epoch_us(a.at) - epoch_us(best.event) <= $2 then best.x0 end as x0,
                case when epoch_us(a.at) - epoch_us(best.event) <= $2 then best.n0 end as n0
            from asked a asof left join one e on a.key = e.key and a.at >= e.visible order by n
            """,
            params=[list(paths), micros],
        )
        return found.pl()
