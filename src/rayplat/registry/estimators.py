"""Estimators in their libraries' own file formats, written and read without pickle.

Knows the format of each kind and how one answers as a network would; it does not know how they are trained.
The libraries are optional; they are imported where an estimator of theirs is met.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayplat.core.errors import IntegrityError, UserError
from rayplat.registry.artifact import read_artifact_file
from rayplat.registry.manifest import Manifest
from rayplat.registry.skops_file import numbered

FILES = {"sklearn": "model.skops", "xgboost": "model.ubj", "lightgbm": "model.txt"}
"""By kind, the file in the artifact."""
_PACKAGES = {"sklearn": "skops", "xgboost": "xgboost", "lightgbm": "lightgbm"}
_TRUSTED = ("sklearn.", "numpy.")
_EPS = 1e-12
"""Probabilities are held off 0 and 1 by this, so that their logits are finite."""

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Rows, NaN where missing -> the probability of the positive class of each."""


class _Format(Protocol):
    def write(self, estimator: Any) -> bytes:
        """The estimator as a file."""

    def read(self, content: bytes) -> Predict:
        """What the file predicts with."""


class _Sklearn:
    def write(self, estimator: Any) -> bytes:
        import skops.io

        content = numbered(bytes(skops.io.dumps(estimator)))
        self._check(content)
        return content

    def read(self, content: bytes) -> Predict:
        import skops.io

        estimator: Any = skops.io.loads(content, trusted=self._check(content))
        return lambda x: np.asarray(estimator.predict_proba(x)[:, 1], dtype=np.float64)

    def _check(self, content: bytes) -> list[str]:
        """The types that the file makes: of scikit-learn and numpy alone, for any other may run code."""
        import skops.io

        types = list(skops.io.get_untrusted_types(data=content))
        foreign = [name for name in types if not name.startswith(_TRUSTED)]
        if foreign:
            raise UserError(
                f"the estimator holds {', '.join(foreign[:3])}, which is not scikit-learn's",
                "build it of scikit-learn's own parts: whoever loads it would run other code",
            )
        return types


class _Xgboost:
    def write(self, estimator: Any) -> bytes:
        booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
        best = booster.attributes().get("best_iteration")
        if best is not None:
            booster = booster[: int(best) + 1]
        return bytes(booster.save_raw("ubj"))

    def read(self, content: bytes) -> Predict:
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1})
        return lambda x: np.asarray(booster.inplace_predict(x), dtype=np.float64)


class _Lightgbm:
    def write(self, estimator: Any) -> bytes:
        booster = getattr(estimator, "booster_", estimator)
        text: str = booster.model_to_string(num_iteration=booster.best_iteration)
        return text.encode()

    def read(self, content: bytes) -> Predict:
        import lightgbm

        booster = lightgbm.Booster(model_str=content.decode())
        return lambda x: np.asarray(booster.predict(x, num_threads=1), dtype=np.float64)


_FORMATS: dict[str, _Format] = {"sklearn": _Sklearn(), "xgboost": _Xgboost(), "lightgbm": _Lightgbm()}


def write_estimator(kind: str, estimator: Any) -> bytes:
    """A fitted estimator as its library's file.

    Raises:
        UserError: it is not of that library, not fitted, or holds parts that are not the library's.
    """
    require(kind)
    try:
        return _FORMATS[kind].write(estimator)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"a {type(estimator).__name__} cannot be written as {kind}: {error}",
            f"return a fitted estimator of {kind}",
        ) from error


def predictor_of(kind: str, content: bytes) -> Predict:
    """What a file predicts with."""
    require(kind)
    return _FORMATS[kind].read(content)


def require(kind: str) -> None:
    """Let a kind pass only where its library is installed.

    Raises:
        UserError: it is not; the extra that brings it is named.
    """
    from importlib.util import find_spec

    if find_spec(_PACKAGES[kind]) is None:
        raise UserError(
            f"models of kind {kind} need the package {_PACKAGES[kind]}", "pip install 'rayplat[trees]'"
        )


class EstimatorNetwork:
    """An estimator that is called as a network is: rows in, one logit a row out."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    def __call__(self, x: Any) -> Any:
        """Logits, float64 [rows], of a float32 tensor [rows, inputs]."""
        import torch

        p = np.clip(self._predict(x.numpy()), _EPS, 1 - _EPS)
        return torch.from_numpy(np.log(p) - np.log1p(-p))


def read_estimator(
    uri: str, manifest: Manifest, manifest_sha256: str | None = None
) -> EstimatorNetwork | None:
    """The estimator of an artifact, verified; None where the artifact holds a network's weights.

    Raises:
        IntegrityError: the file is damaged, or its library cannot read it.
        UserError: its library is not installed here.
    """
    for kind, name in FILES.items():
        if name in manifest.files:
            content = read_artifact_file(uri, name, manifest_sha256)
            try:
                return EstimatorNetwork(predictor_of(kind, content))
            except (ValueError, TypeError, KeyError) as error:
                raise IntegrityError(
                    f"{uri}/{name} cannot be understood: {error}", f"install the {kind} that wrote it"
                ) from error
    return None
