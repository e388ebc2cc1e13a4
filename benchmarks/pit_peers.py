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


def pandas_latest(paths: Sequence[str], asking: Any) -> pl.DataFrame:
    import pandas as pd

    events = pd.read_parquet(paths[0] if len(paths) == 1 else list(paths))
    asked = asking.sort_values("at", kind="stable")
    found = pd.merge_asof(asked, events, left_on="at", right_on="event_time", by="key").set_index(asked.index)
    # A missing integer made the column one of floats.
    return pl.from_pandas(found.sort_index()[VALUES]).with_columns(pl.col("n0").cast(pl.Int64))


def polars_latest(paths: Sequence[str], asking: pl.DataFrame) -> pl.DataFrame:
    asked = asking.lazy().with_row_index("n").sort("at")
    found = asked.join_asof(
        pl.scan_parquet(list(paths)).set_sorted("event_time"),
        left_on="at",
        right_on="event_time",
        by="key",
        check_sortedness=False,
    )
    return found.sort("n").select(VALUES).collect()


def duckdb_latest(paths: Sequence[str], asking: Any) -> pl.DataFrame:
    import duckdb

    with duckdb.connect() as base:
        base.register("asked", asking)
        found = base.sql(
            "select x0, n0 from asked a asof left join read_parquet($1) e "
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
