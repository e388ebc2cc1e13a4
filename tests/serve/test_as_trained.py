"""An old version keeps the features that it was trained with when the project has gone on."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.features.definition import digest_as_asked
from rayplat.features.versions import FeatureVersions
from rayplat.registry.manifest import CodePin, FeaturePin, Manifest, TrainingPin
from rayplat.serve.as_trained import applied, as_trained


def _half(amount: pl.Series) -> pl.Series:
    return amount / 2


def _project(window: str = "3h", *, swapped: bool = False, version: str = "1") -> Project:
    shop = rp.Project("shop", owner="ops@example.com")
    orders = shop.table(
        "raw.orders",
        key="id",
        event_time="at",
        columns={"id": "string", "at": "timestamp", "who": "string", "amount": "float64"},
    )
    mean = {"mean": rp.window(window).mean("amount")}
    spent = shop.feature_view("spent", source=orders, entity="who", features=mean)
    asked = shop.request_view(
        "asked",
        source=orders,
        features={"half": rp.python(_half, inputs="amount", type="float64", version=version)},
    )
    shop.model(
        "m",
        rows=orders,
        label=rp.Label(orders, pl.col("amount") > 1, on="id"),
        features=[asked, spent] if swapped else [spent, asked],
        train_until="2024-01-01",
        test_until="2024-02-01",
        network=lambda inputs: inputs,
    )(lambda run: run)
    return shop


def _manifest(model: Model) -> Manifest:
    return Manifest(
        model=model.name,
        run_key="k",
        features=tuple(
            FeaturePin(view=v.name, digest=digest_as_asked(v), names=v.names) for v in model.features
        ),
        inputs=model.feature_names,
        training=TrainingPin(table="training.m", snapshot_id=1, digest="d", sources={}),
        code=CodePin(git_commit="c", dirty=False, project="shop", project_sha256="e"),
        environment={},
        metrics={},
        baselines={},
        created_at=datetime(2024, 3, 1, tzinfo=UTC),
        profile={},
    )


def _never(digest: str) -> None:
    raise AssertionError(digest)


def test_an_unchanged_model_is_itself_and_nobody_is_asked():
    model = _project().models[0]
    assert as_trained(model, _manifest(model), _never) is model


def test_views_in_another_order_are_brought_back_into_theirs():
    old, new = _project().models[0], _project(swapped=True).models[0]
    found = as_trained(new, _manifest(old), _never)
    assert found.feature_names == old.feature_names != new.feature_names


def test_a_changed_view_is_the_one_that_was_applied(tmp_path):
    versions = FeatureVersions(Settings(home=tmp_path))
    old, new = _project(), _project("5h")
    versions.apply(old, "me")
    versions.apply(new, "me")
    manifest = _manifest(old.models[0])
    found = as_trained(new.models[0], manifest, applied(versions))
    assert [digest_as_asked(v) for v in found.features] == [pin.digest for pin in manifest.features]
    assert found.features[1] is new.models[0].features[1]
    gone = replace(new.models[0], features=new.models[0].features[1:])
    assert as_trained(gone, manifest, applied(versions)).feature_names == manifest.inputs


def test_a_definition_that_was_never_applied_is_refused(tmp_path):
    versions = FeatureVersions(Settings(home=tmp_path))
    with pytest.raises(UserError, match="view 'spent' of 'm' is not what its version was trained with"):
        as_trained(_project("5h").models[0], _manifest(_project().models[0]), applied(versions))


def test_a_python_feature_of_former_code_is_refused(tmp_path):
    versions = FeatureVersions(Settings(home=tmp_path))
    old, new = _project(), _project(version="2")
    versions.apply(old, "me")
    with pytest.raises(UserError, match="'half' of view 'asked' is a Python function; its code is not kept"):
        as_trained(new.models[0], _manifest(old.models[0]), applied(versions))
