"""Lazy frames: planned data files as one Polars LazyFrame.

Knows how Polars finds columns by field id and how an Iceberg filter is said in Polars; it does not know
how the files were chosen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, BoundTerm
from pyiceberg.expressions.literals import Literal
from pyiceberg.expressions.visitors import BoundBooleanExpressionVisitor, visit

from rayplat.core.settings import S3Settings

_TIMES: dict[str, pl.DataType] = {
    "timestamptz": pl.Datetime("us", "UTC"),
    "timestamp": pl.Datetime("us"),
    "date": pl.Date(),
}


def lazy_frame(
    addresses: Sequence[str],
    schema: pa.Schema,
    row_filter: BooleanExpression,
    storage: Mapping[str, str] | None = None,
) -> pl.LazyFrame:
    """The rows of some files, in their order.

    Args:
        addresses: paths on a local disk, or `s3://` and other addresses that Polars knows.
        schema: the columns with their field ids: files that lack one give nulls, those that have it under
            another name or narrower are read as the schema says.
        row_filter: bound to the schema's names.
        storage: how Polars reaches a bucket (see `storage_options`).
    """
    empty = pl.from_arrow(schema.empty_table())
    if not isinstance(empty, pl.DataFrame) or not addresses:
        return pl.LazyFrame(empty)
    frame = pl.scan_parquet(
        list(addresses),
        schema=dict(empty.schema),
        glob=False,
        hive_partitioning=False,
        cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=dict(storage) if storage else None,
        # What scan_iceberg hands to the same reader; no public argument maps columns by field id.
        _column_mapping=("iceberg-column-mapping", schema, None),
    )
    return frame if row_filter == AlwaysTrue() else frame.filter(visit(row_filter, _InPolars()))


def storage_options(s3: S3Settings) -> dict[str, str]:
    """How Polars reaches S3 with the credentials of the settings; empty: the AWS default chain."""
    given = {
        "aws_endpoint_url": s3.endpoint,
        "aws_region": s3.region,
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
        "aws_allow_http": "true" if (s3.endpoint or "").startswith("http://") else "",
    }
    return {name: value for name, value in given.items() if value}


class _InPolars(BoundBooleanExpressionVisitor[pl.Expr]):
    """A bound Iceberg filter as a Polars expression that lets the same rows through as Arrow's.

    Arrow: a comparison with null is null, one with NaN is false, and null is in no set. Polars puts NaN
    above all numbers and says that null in a set is null.
    """

    def visit_in(self, term: BoundTerm, literals: set[Any]) -> pl.Expr:
        kind = _type(term)
        listed = pl.Series(sorted(literals))
        listed = listed if kind is None else listed.cast(kind)
        return _column(term).is_in(listed.implode()).fill_null(value=False)

    def visit_not_in(self, term: BoundTerm, literals: set[Any]) -> pl.Expr:
        return ~self.visit_in(term, literals)

    def visit_is_nan(self, term: BoundTerm) -> pl.Expr:
        return _column(term).is_nan()

    def visit_not_nan(self, term: BoundTerm) -> pl.Expr:
        return _column(term).is_not_nan()

    def visit_is_null(self, term: BoundTerm) -> pl.Expr:
        return _column(term).is_null()

    def visit_not_null(self, term: BoundTerm) -> pl.Expr:
        return _column(term).is_not_null()

    def visit_equal(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _column(term) == _value(term, literal)

    def visit_not_equal(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _column(term) != _value(term, literal)

    def visit_greater_than_or_equal(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _above(term, _column(term) >= _value(term, literal))

    def visit_greater_than(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _above(term, _column(term) > _value(term, literal))

    def visit_less_than(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _column(term) < _value(term, literal)

    def visit_less_than_or_equal(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _column(term) <= _value(term, literal)

    def visit_starts_with(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return _column(term).str.starts_with(literal.value)

    def visit_not_starts_with(self, term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
        return ~_column(term).str.starts_with(literal.value)

    def visit_true(self) -> pl.Expr:
        return pl.lit(value=True)

    def visit_false(self) -> pl.Expr:
        return pl.lit(value=False)

    def visit_not(self, child_result: pl.Expr) -> pl.Expr:
        return ~child_result

    def visit_and(self, left_result: pl.Expr, right_result: pl.Expr) -> pl.Expr:
        return left_result & right_result

    def visit_or(self, left_result: pl.Expr, right_result: pl.Expr) -> pl.Expr:
        return left_result | right_result


def _column(term: BoundTerm) -> pl.Expr:
    return pl.col(term.ref().field.name)


def _value(term: BoundTerm, literal: Literal[Any]) -> pl.Expr:
    kind = _type(term)
    value = pl.lit(literal.value)
    return value if kind is None else value.cast(kind)


def _type(term: BoundTerm) -> pl.DataType | None:
    """What Iceberg's literals, which are numbers since 1970 for times and dates, are to be cast to."""
    return _TIMES.get(str(term.ref().field.field_type))


def _above(term: BoundTerm, compared: pl.Expr) -> pl.Expr:
    is_float = str(term.ref().field.field_type) in ("float", "double")
    return compared & _column(term).is_not_nan() if is_float else compared
