"""A small project that holds together, as text, for tests that spoil one thing in it."""

GOOD = """\
from datetime import timedelta

import polars as pl

import rayplat as rp

shop = rp.Project("shop", owner="ops@example.com")
orders = shop.table(
    "raw.orders",
    key="order_id",
    event_time="ordered_at",
    columns={"order_id": "string", "ordered_at": "timestamp", "customer": "string", "amount": "float64"},
    source=rp.Kafka("orders"),
    checks=[rp.in_range("amount", 0, 1000), rp.not_null("customer")],
)
returns = shop.table(
    "raw.returns",
    key="order_id",
    event_time="returned_at",
    columns={"order_id": "string", "returned_at": "timestamp", "reason": "string"},
)
large = shop.request_view("large", source=orders, features={"large": pl.col("amount") > 100})
spending = shop.feature_view(
    "spending",
    source=orders,
    entity="customer",
    features={"mean_7d": rp.window("7d").mean("amount")},
)
last = shop.feature_view(
    "last", source=orders, entity="customer", ttl=timedelta(days=30), features={"amount": pl.col("amount")}
)


@shop.model(
    "returned",
    rows=orders,
    label=rp.Label(returns, pl.col("reason").is_not_null(), on="order_id"),
    features=[large, spending, last],
    train_until="2024-06-01",
    test_until="2024-07-01",
    network=lambda inputs: inputs,
    gates=[rp.Gate("roc_auc", at_least=0.6)],
)
def train(run):
    return run


shop.endpoint("returned", model="returned", autoscale=rp.Autoscale(0, 2))
shop.monitor("returned", endpoint="returned", drift=rp.Drift(0.2), decay=rp.Decay("roc_auc", 0.1))
shop.replay(history_until="2024-06-01", live_until="2024-06-08")
"""
