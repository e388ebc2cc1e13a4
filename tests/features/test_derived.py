"""Views of the asking row: evaluated alike in training and when served."""

import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.project import Project
from rayplat.core.project.view import python
from rayplat.features.derived import derived_features, with_defaults
from rayplat.features.requests import request_columns
from tests.features.worlds import latest_view, project, source_table


def _half(x: pl.Series) -> pl.Series:
    return x / 2


def _made(shop: Project):
    table = source_table()
    base = shop.feature_view("last", source=table, entity="entity", features={"x": pl.col("x")})
    features = {
        "ratio": pl.col("x") / pl.col("last__x"),
        "half": python(_half, inputs="last__x", type="float64"),
        "one": pl.lit(1),
    }
    return base, shop.on_demand_view("od", views=[base], source=table, features=features)


def test_features_of_views_and_of_the_asking_row_meet():
    _, view = _made(project())
    rows = pl.DataFrame({"x": [1.0, 4.0, None], "last__x": [2.0, None, 3.0]})
    made = derived_features(rows, view)
    assert made.to_dict(as_series=False) == {
        "od__ratio": [0.5, None, None],
        "od__half": [1.0, None, 1.5],
        "od__one": [1, 1, 1],
    }


def test_a_row_alone_gets_what_it_gets_among_others():
    _, view = _made(project())
    rows = pl.DataFrame({"x": [1.0, 4.0, 9.0], "last__x": [2.0, 7.0, 3.0]})
    alone = pl.concat([derived_features(rows[i : i + 1], view) for i in range(3)])
    assert alone.equals(derived_features(rows, view))


def test_what_is_missing_is_told_with_what_mends_it():
    _, view = _made(project())
    with pytest.raises(UserError, match=r"lack \['x'\]") as caught:
        derived_features(pl.DataFrame({"last__x": [1.0]}), view)
    assert "they have: last__x" in caught.value.mend
    with pytest.raises(UserError, match=r"lack \['last__x'\]") as caught:
        derived_features(pl.DataFrame({"x": [1.0]}), view)
    assert caught.value.mend == "evaluate 'last' first"


def test_a_view_of_literals_gives_a_value_a_row():
    view = project().request_view("ask", source=source_table(), features={"one": pl.lit(1)})
    assert derived_features(pl.DataFrame({"x": [1.0, 2.0]}), view)["ask__one"].to_list() == [1, 1]


def test_defaults_stand_for_nulls_and_not_for_nan():
    view = project().feature_view(
        "v",
        source=source_table(),
        entity="entity",
        features={"x": pl.col("x"), "y": pl.col("x")},
        defaults={"x": 0},
    )
    found = with_defaults(pl.DataFrame({"v__x": [None, float("nan"), 1.0], "v__y": [None, 2.0, 3.0]}), view)
    assert str(found["v__x"].to_list()) == "[0.0, nan, 1.0]"
    assert found["v__y"].to_list() == [None, 2.0, 3.0]
    assert with_defaults(found, latest_view()) is found


def test_a_request_has_the_columns_of_all_views_and_of_those_they_are_made_of():
    shop = project()
    base, view = _made(shop)
    other = shop.add_view(base.with_name("other").with_join_key_map({"entity": "friend"}))
    assert request_columns([view, other]) == {"entity": "string", "x": "float64", "friend": "string"}
    assert request_columns([base]) == {"entity": "string"}
