"""How much each dimension mattered in a study: the share of the values' spread that it explains.

Knows trials and their first objective; it does not know how the shares are drawn.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rayplat.tuning.journal import COMPLETE, KeptStudy, KeptTrial

_LEAST = 8


def encoded(trials: Sequence[KeptTrial], names: Sequence[str]) -> np.ndarray[Any, Any]:
    """The values as numbers [trials, names]: choices by their first use, NaN where one is not there."""
    columns = []
    for name in names:
        values = [t.params.get(name) for t in trials]
        plain = all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values)
        order: dict[Any, int] = {}
        for value in values:
            if value is not None:
                order.setdefault(value, len(order))
        columns.append(
            [
                math.nan if v is None else float(v) if plain and v is not None else float(order[v])
                for v in values
            ]
        )
    return np.asarray(columns, dtype=float).T.reshape(len(trials), len(names))


def importances(study: KeptStudy) -> dict[str, float]:
    """By dimension its share, the largest first, adding up to 1; empty where too few trials are complete.

    The impurity decrease of a random forest fitted to the trials (Breiman, "Random forests", 2001).
    """
    trials = [t for t in study.trials if t.state == COMPLETE and math.isfinite(t.values[0])]
    names = sorted({name for t in trials for name in t.params})
    values = np.asarray([t.values[0] for t in trials])
    if len(trials) < _LEAST or not names or values.min() == values.max():
        return {}
    from sklearn.ensemble import RandomForestRegressor

    x = encoded(trials, names)
    forest = RandomForestRegressor(n_estimators=64, min_samples_leaf=2, random_state=0)
    # The forest orders by rank alone, so a value below all others stands for "not there".
    forest.fit(np.nan_to_num(x, nan=np.nanmin(x) - 1.0), values)
    shares = dict(zip(names, (float(s) for s in forest.feature_importances_), strict=True))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
