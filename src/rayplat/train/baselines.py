"""Honest baselines on the same rows and inputs as the model.

Knows two rivals that cost nothing to beat or take seconds to train; it does not know the model.
"""

import numpy as np
from numpy.typing import NDArray

from rayplat.train.rows import Rows

BASE_RATE = "base_rate"
GRADIENT_BOOSTING = "gradient_boosting"


def base_rate(rows: Rows) -> NDArray[np.float64]:
    """The training rows' share of positives, for every test row."""
    return np.full(len(rows.y_test), float(rows.y_train.mean()))


def gradient_boosting(rows: Rows, seed: int) -> NDArray[np.float64]:
    """Probabilities of scikit-learn's histogram gradient boosting at its defaults.

    It handles missing values by itself; from 10,000 rows on it holds out a tenth of the training rows
    to stop early, drawn by `seed`.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=seed)
    model.fit(rows.x_train, rows.y_train)
    probabilities: NDArray[np.float64] = model.predict_proba(rows.x_test)[:, 1]
    return probabilities
