"""Views as they are declared: faults with places, views of views, lineage, and what asks."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.project.feature_types import feature_types
from rayplat.core.project.lineage import lineage, personal, personal_keys
from rayplat.core.project.project import Project
from rayplat.core.project.table import Table
from rayplat.core.project.validate import validate
from rayplat.core.project.view import DerivedView, PythonFeature, asking_columns, in_order, python


def _project() -> tuple[Project, Table, Table]:
    shop = rp.Project("shop", owner="ops@example.com")
    orders = shop.table(
        "raw.orders",
        key="order_id",
        event_time="at",
        columns={
            "order_id": "string",
            "at": "timestamp",
            "customer": rp.Column("int64", pii=True),
            "friend": "int64",
            "city": "string",
            "amount": "float64",
            "email": rp.Column("string", pii=True),
        },
    )
    cities = shop.table("raw.cities", key="name", columns={"name": "string", "size": "float64"})
    return shop, orders, cities


def _doubled(amount: pl.Series) -> pl.Series:
    return amount * 2


def _no_source() -> Any:
    made: dict[str, Any] = {}
    exec("def f(a):\n    return a", made)  # a function without a file
    return made["f"]


three = rp.window("3h")
_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"features": {"f": three.sum("city")}}, "feature 'f' is the sum of String values, not of numbers"),
    ({"features": {"f": three.stddev("at")}}, "is the stddev of Datetime"),
    ({"features": {"f": three.quantile("amount", 1.5)}}, "q is 1.5 -> give a rank from 0 to 1"),
    ({"features": {"f": three.quantile("amount", "half")}}, "q is 'half', not a rank from 0 to 1"),
    ({"features": {"f": rp.window("3h", every="4h").sum("amount")}}, "every is 4:00:00, longer than"),
    ({"features": {"f": rp.window("3h", every="soon").sum("amount")}}, "every is 'soon', not a length"),
    ({"features": {"f": rp.window("soon").sum("amount")}}, "the window is 'soon', not a length"),
    (
        {"features": {"f": three.filter(pl.col("amount")).sum("amount")}},
        "the filter gives Float64, not a boolean",
    ),
    ({"features": {"f": three.filter(pl.col("amuont") > 1).sum("amount")}}, "did you mean 'amount'"),
    (
        {"features": {"f": three.count("amuont")}},
        "the column 'amuont' does not exist -> did you mean 'amount'",
    ),
    ({"defaults": {"fast": 1}}, "defaults: the feature 'fast' does not exist -> did you mean 'last'"),
    ({"defaults": {"last": "none"}}, "the default of 'last' is 'none', and the feature is Float64"),
    ({"defaults": {"last": None}}, "the default of 'last' is None"),
    ({"defaults": {"city": 3}}, "the default of 'city' is 3, and the feature is String"),
    ({"defaults": [1]}, "defaults is [1], not a dict"),
    ({"required": "fast"}, "the required feature 'fast' does not exist -> did you mean 'last'"),
    ({"required": ["last"], "defaults": {"last": 0.0}}, "is required and has a default"),
    (
        {"join_keys": {"custmer": "friend"}},
        "the entity column 'custmer' does not exist -> did you mean 'customer'",
    ),
    ({"join_keys": {"customer": 3}}, "what asks for 'customer' is 3, not a column's name"),
    ({"join_keys": {"customer": "none__here"}}, "join_keys: the feature 'none__here' does not exist"),
    (
        {"join_keys": {"customer": "before__city"}},
        "'before__city' is string, and raw.orders.customer is int64",
    ),
    ({"join_keys": {"customer": "after__friend"}}, "is of a view that is declared after it"),
    ({"owner": 3}, "owner is 3, not an address"),
    ({"tags": {"team": 3}}, "the tag 'team': 3 is not text"),
    ({"tags": 3}, "tags is 3, not a dict of text to text"),
    (
        {"features": {"f": python(_doubled, inputs="amuont", type="float64")}},
        "the input 'amuont' does not exist",
    ),
    ({"features": {"f": python(_doubled, inputs="amount", type="real")}}, "the type 'real' does not exist"),
    ({"features": {"f": python(_doubled, inputs=(), type="float64")}}, "has no inputs"),
    (
        {"features": {"f": python(_doubled, inputs=("amount", "city"), type="float64")}},
        "cannot be called with 2",
    ),
    (
        {"features": {"f": python(_no_source(), inputs="amount", type="float64")}},
        "source code of its function",
    ),
    ({"features": {"f": pl.struct("amount", "city")}}, "which a feature cannot be"),
]


@pytest.mark.parametrize(("given", "wanted"), _FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_fault_of_a_view_is_told_with_its_place(given: dict[str, Any], wanted: str) -> None:
    shop, orders, _ = _project()
    shop.feature_view("before", source=orders, entity="customer", features={"city": pl.col("city")})
    good: dict[str, Any] = {"features": {"last": pl.col("amount"), "city": pl.col("city")}}
    shop.feature_view("spent", source=orders, entity="customer", **(good | given))
    shop.feature_view("after", source=orders, entity="customer", features={"friend": pl.col("friend")})
    found = [f"{fault.what} -> {fault.mend}" for fault in validate(shop)]
    assert len(found) == 1, found
    assert wanted in found[0]
    assert validate(shop)[0].where.file == __file__


def test_several_faults_of_one_view_are_told_at_once() -> None:
    shop, orders, _ = _project()
    shop.feature_view(
        "spent",
        source=orders,
        entity="customr",
        ttl=timedelta(0),
        owner=3,  # type: ignore[arg-type]
        required="none",
        features={"a": pl.col("nothing"), "b": pl.col("amount") > "x"},
    )
    told = " ".join(fault.what for fault in validate(shop))
    wanted = (
        "'customr'",
        "ttl is",
        "owner is 3",
        "required feature 'none'",
        "'nothing'",
        "feature 'b' fails",
    )
    assert all(part in told for part in wanted), told


def test_a_view_of_other_columns_asks_by_their_names_and_keeps_its_values_once() -> None:
    shop, orders, cities = _project()
    size = shop.feature_view("city", source=cities, entity="name", features={"size": pl.col("size")})
    here = shop.add_view(size.with_name("here").with_join_key_map({"name": "city"}))
    assert validate(shop) == []
    assert here in shop.views
    assert here.asks == ("city",)
    assert here.names == ("here__size",)
    assert here.kept_as == "city"
    assert here.where.file == __file__
    assert asking_columns([size, here]) == ("name", "city")
    again = shop.add_view(size.with_join_key_map({"name": "city"}))
    assert again.name == "city"
    assert any("two views named 'city'" in fault.what for fault in validate(shop))
    assert orders in shop.tables


def test_a_feature_of_another_view_may_name_the_entity() -> None:
    shop, orders, _ = _project()
    friend = shop.feature_view(
        "known", source=orders, entity="customer", features={"friend": pl.col("friend")}
    )
    spent = shop.feature_view("spent", source=orders, entity="customer", features={"last": pl.col("amount")})
    theirs = shop.add_view(spent.with_name("theirs").with_join_key_map({"customer": "known__friend"}))
    assert validate(shop) == []
    assert theirs.through == (friend,)
    assert in_order([theirs]) == (friend, theirs)
    assert asking_columns([theirs]) == ("customer",)


def test_a_view_over_a_view_speaks_of_its_features_by_their_short_names() -> None:
    shop, orders, _ = _project()
    spent = shop.feature_view(
        "spent",
        source=orders,
        entity="customer",
        features={"sum": three.sum("amount"), "n": three.count("amount")},
    )
    rates = shop.feature_view(
        "rates",
        source=spent,
        features={
            "mean": pl.col("sum") / pl.col("n"),
            "twice": python(_doubled, inputs="sum", type="float64"),
        },
    )
    assert isinstance(rates, DerivedView)
    assert validate(shop) == []
    assert asking_columns([rates]) == ("customer",)
    twice = rates.features["twice"]
    assert isinstance(twice, PythonFeature)
    assert twice.inputs == ("spent__sum",)
    mean = rates.features["mean"]
    assert isinstance(mean, pl.Expr)
    assert sorted(mean.meta.root_names()) == ["spent__n", "spent__sum"]
    with pytest.raises(UserError, match=r"has no entity, ttl of its own"):
        shop.feature_view("no", source=spent, entity="customer", ttl=timedelta(1), features={})  # type: ignore[call-overload]


def test_an_on_demand_view_reads_features_and_the_asking_row() -> None:
    shop, orders, _ = _project()
    spent = shop.feature_view(
        "spent", source=orders, entity="customer", features={"mean": three.mean("amount")}
    )
    ratio = {"ratio": pl.col("amount") / pl.col("spent__mean")}
    against = shop.on_demand_view("against", views=[spent], source=orders, features=ratio)
    assert validate(shop) == []
    assert against.inputs == ("amount",)
    assert asking_columns([against]) == ("customer", "amount")
    shop.on_demand_view("wrong", views=[spent], source=orders, features={"f": pl.col("spent__men")})
    shop.on_demand_view("empty", views=[], source=orders, features={"f": pl.col("amount")})
    shop.on_demand_view("junk", views=[orders], features={"f": pl.col("amount")})  # type: ignore[list-item]
    other = rp.Project("other", owner="x")
    other.on_demand_view("far", views=[spent], features={"f": pl.col("spent__mean")})
    told = [f"{fault.what} -> {fault.mend}" for fault in [*validate(shop), *validate(other)]]
    wanted = (
        "did you mean 'spent__mean'",
        "is made of no view",
        "not a feature view",
        "no view of the project",
    )
    assert [part in line for part, line in zip(wanted, told, strict=True)] == [True] * 4, told


def _model(shop: Project, rows: Table, features: list[Any]) -> list[str]:
    label = rp.Label(rows, pl.col("amount") > 1, on="order_id")
    times = {"train_until": "2024-01-01", "test_until": "2024-02-01"}
    shop.model("m", rows=rows, label=label, features=features, network=lambda n: n, **times)(lambda run: run)
    return [f"{fault.what} -> {fault.mend}" for fault in validate(shop)]


def test_a_model_takes_numbers_and_columns_of_its_rows() -> None:
    shop, orders, cities = _project()
    size = shop.feature_view("city", source=cities, entity="name", features={"size": pl.col("size")})
    here = shop.add_view(size.with_name("here").with_join_key_map({"name": "city"}))
    wrong = shop.add_view(size.with_name("wrong").with_join_key_map({"name": "customer"}))
    text = shop.feature_view("text", source=orders, entity="customer", features={"city": pl.col("city")})
    loose = size.with_name("loose")
    told = _model(shop, orders, [here, wrong, text, size, loose])
    assert len(told) == 4, told
    assert "view 'loose' is of another project" in told[1]
    assert "project.add_view" in told[1]
    assert "feature 'text__city' gives String, not a number" in told[0]
    assert "'customer' is int64 in 'raw.orders' and 'name' is string in 'raw.cities'" in told[2]
    assert "the entity column 'name' does not exist" in told[3]


def test_lineage_and_personal_data_go_through_views() -> None:
    shop, orders, _ = _project()
    seen = shop.feature_view(
        "seen",
        source=orders,
        entity="customer",
        features={"mails": three.nunique("email"), "big": three.filter(pl.col("amount") > 9).count("city")},
    )
    both = shop.on_demand_view(
        "both",
        views=[seen],
        source=orders,
        features={"rate": pl.col("seen__mails") / pl.col("amount"), "big": pl.col("seen__big") > 1},
    )
    assert lineage(seen)["seen__big"] == {("raw.orders", "amount"), ("raw.orders", "city")}
    assert lineage(both)["both__rate"] == {("raw.orders", "email"), ("raw.orders", "amount")}
    assert personal(seen) == ("seen__mails",)
    assert personal(both) == ("both__rate",)
    assert (personal_keys(seen), personal_keys(both)) == (("customer",), ())


def test_the_types_of_features_are_known() -> None:
    shop, orders, _ = _project()
    view = shop.feature_view(
        "v",
        source=orders,
        entity="customer",
        features={
            "sum": three.sum("amount"),
            "whole": three.sum("friend"),
            "count": three.count("city"),
            "mean": three.mean("friend"),
            "last": three.last("city"),
            "skew": three.agg(pl.col("amount").skew()),
        },
    )
    types = [pl.Float64, pl.Int64, pl.Int64, pl.Float64, pl.String, pl.Float64]
    assert list(feature_types(view).values()) == types
