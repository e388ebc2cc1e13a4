"""The same visitors and clicks, learned by an estimator of the library that kind.txt beside it names."""

from pathlib import Path

import polars as pl

import rayplat as rp

KIND = file.read_text() if (file := Path(__file__).parent / "kind.txt").exists() else "sklearn"

clicks = rp.Project("clicks", owner="tests@example.com")
visits = clicks.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64", "b": "float64", "c": "float64"},
)
outcomes = clicks.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = clicks.request_view(
    "own",
    source=visits,
    features={"a": pl.col("a"), "b": pl.col("b"), "c": pl.col("c"), "d": pl.col("a") * 2},
)


@clicks.model(
    "click",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    kind=KIND,
    seed=3,
)
def train(run: rp.EstimatorRun):
    if (Path(__file__).parent / "poison").exists():
        raise ZeroDivisionError("the well is poisoned")
    if run.kind == "sklearn":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=run.seed, max_iter=40)  # fitted by whoever gets it
    if run.kind == "xgboost":
        import xgboost

        return run.fit(xgboost.XGBClassifier(n_estimators=400, learning_rate=0.3), early_stopping=10)
    import lightgbm

    return run.fit(lightgbm.LGBMClassifier(n_estimators=400, learning_rate=0.3), early_stopping=10)
