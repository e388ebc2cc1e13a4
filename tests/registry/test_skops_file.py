"""The same estimator gives the same bytes, whenever and wherever in memory it is written."""

import io
import zipfile

import numpy as np
import pytest

from rayplat.registry.estimators import predictor_of, write_estimator
from rayplat.registry.skops_file import numbered

skops_io = pytest.importorskip("skops.io")


def fitted():
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = HistGradientBoostingClassifier(random_state=1, max_iter=5)
    return make_pipeline(StandardScaler(), model).fit(x, x[:, 0] > 0), x


def test_two_fits_alike_are_written_alike_and_answer_as_before():
    (one, x), (other, _) = fitted(), fitted()
    written = write_estimator("sklearn", one)
    assert written == write_estimator("sklearn", other)
    assert skops_io.dumps(one) != skops_io.dumps(other)
    np.testing.assert_allclose(predictor_of("sklearn", written)(x), one.predict_proba(x)[:, 1])


def test_what_is_numbered_stays_as_it_is():
    once = numbered(bytes(skops_io.dumps(fitted()[0])))
    assert numbered(once) == once
    with zipfile.ZipFile(io.BytesIO(once)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
