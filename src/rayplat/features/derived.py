"""Request views and on-demand views: row transforms over asking rows and other views' features.

Knows how they are evaluated, by the same code in training and when served; it does not know where the
features of the other views come from.
"""

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View, reads, upstream
from rayplat.features.evaluate import evaluate
from rayplat.features.plan import plan


def derived_features(rows: pl.DataFrame, view: RequestView | DerivedView) -> pl.DataFrame:
    """Evaluate a view of the asking row.

    Args:
        rows: the asking rows: the columns that the view reads of them and, for an on-demand view, the
            features of the views that it is made of under their full names (`view__feature`).
        view: the view.

    Returns:
        the view's features under their full names, a row for each of `rows`, in their order.

    Raises:
        UserError: a column that the view reads is missing, a Python function fails or gives something else
            than it declares, or the definition cannot be trusted.
    """
    prepared = plan(view)
    wanted = list(dict.fromkeys(c for f in view.features.values() for c in sorted(reads(f))))
    missing = [c for c in wanted if c not in rows.columns]
    if missing:
        ours = [c for c in missing if c in view.inputs]
        raise UserError(
            f"the asking rows lack {missing}, which view {view.name!r} reads",
            f"they have: {', '.join(rows.columns)}"
            if ours
            else f"evaluate {', '.join(repr(v.name) for v in upstream(view))} first",
        )
    # The height is kept by a column of the rows: an expression of literals alone would give one row.
    held = (
        rows.select(wanted) if wanted else pl.DataFrame({"\0row": pl.repeat(True, rows.height, eager=True)})
    )
    return evaluate(held, (expr.alias(name) for name, expr in prepared.rows.items()))


def with_defaults(features: pl.DataFrame, view: View) -> pl.DataFrame:
    """The features of a view with its declared defaults in place of nulls (NaN is a value and stays)."""
    if not isinstance(view, FeatureView) or not view.defaults:
        return features
    filled = [
        pl.col(f"{view.name}__{feature}").fill_null(
            pl.lit(value, dtype=features.schema[f"{view.name}__{feature}"])
        )
        for feature, value in view.defaults.items()
    ]
    return features.with_columns(filled)
