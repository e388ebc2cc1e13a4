"""A row's values do not depend on the rows beside it, down to the last bit."""

import numpy as np
import polars as pl
import pytest

from rayplat.features.evaluate import evaluate

ROWS = pl.DataFrame({"x": np.random.default_rng(7).uniform(1, 5000, 300), "s": ["a", "b", None] * 100})
EXPRS = [
    (pl.col("x") / 1000).alias("parts"),
    (pl.col("x").cast(pl.Int64) / 7).alias("whole"),
    (pl.col("x").clip(0, 50) / 3).alias("clipped"),
    (pl.col("s") == "a").alias("is_a"),
    pl.lit(1.5).alias("same"),
]


def test_one_row_gives_what_all_rows_give():
    whole = evaluate(ROWS, EXPRS)
    for i in range(ROWS.height):
        row = ROWS.slice(i, 1)
        alone = [row, pl.concat([row, row]), pl.concat([ROWS.slice(3, 1), row], rechunk=False)]
        for frame in alone:
            assert evaluate(frame, EXPRS).row(-1) == whole.row(i)


@pytest.mark.parametrize("height", [0, 1, 2, 300])
def test_a_row_for_each_row(height):
    found = evaluate(ROWS.head(height), EXPRS)
    assert found.shape == (height, 5)
    assert found.columns == ["parts", "whole", "clipped", "is_a", "same"]


def test_rows_in_chunks_of_one_give_what_whole_rows_give():
    chunks = pl.concat([ROWS.slice(i, 1) for i in range(100)], rechunk=False)
    assert evaluate(chunks, EXPRS).equals(evaluate(ROWS, EXPRS).head(100))
