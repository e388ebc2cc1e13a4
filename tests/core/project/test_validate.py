from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rayplat as rp
from rayplat.core.errors import ProjectError
from rayplat.core.project.load import load_project
from rayplat.core.project.validate import validate
from rayplat.core.project.view import PythonFeature
from tests.core.project.projects import GOOD

_NUMBER = count()


def _faults(folder: Path, *changes: tuple[str, str]) -> list[str]:
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    file = folder / f"spoilt_{next(_NUMBER)}.py"
    file.write_text(text)
    try:
        load_project(str(file))
    except ProjectError as error:
        for fault in error.faults:
            assert fault.mend, fault
            assert fault.where is not None
            assert fault.where.file == str(file)
            assert 1 <= fault.where.line <= text.count("\n")
        return [f"{fault.what} -> {fault.mend}" for fault in error.faults]
    return []


def test_the_good_project_has_no_fault(tmp_path: Path) -> None:
    assert _faults(tmp_path) == []


_ONE = [
    ('rp.Project("shop"', 'rp.Project("My Shop"', "'My Shop' is no name for a project"),
    ('owner="ops@example.com"', 'owner=" "', "the owner is empty"),
    ('owner="ops@example.com"', "owner=None", "the owner is None"),
    ('"raw.returns"', '"returns"', "'returns' is no name for a table"),
    ('"raw.returns"', '"training.returns"', "the platform writes the namespace 'training'"),
    ('"raw.returns"', '"raw.orders"', "two tables named 'raw.orders'"),
    ('"amount": "float64"', '"amount": "flaot64"', "type 'flaot64' does not exist -> did you mean 'float64'"),
    ('"amount": "float64"', '"amount": 3', "column 'amount' is 3"),
    ('"amount": "float64"', '"amount": "float64", "_x": "bool"', "'_x' is no name for a column"),
    ('key="order_id"', 'key="orderid"', "key column 'orderid' does not exist -> did you mean 'order_id'"),
    ('key="order_id"', "key=()", "has no key"),
    ('key="order_id"', "key=3", "key is 3"),
    ('event_time="ordered_at"', 'event_time="orderd_at"', "event_time column 'orderd_at' does not exist"),
    ('event_time="ordered_at"', 'event_time="customer"', "is string, not timestamp"),
    ('source=rp.Kafka("orders")', 'known_at="amount"', "known_at column 'amount' is float64"),
    ('"order_id": "string", "ordered', '"order_id": rp.Column("string"), "ordered', "is nullable"),
    ('rp.Kafka("orders")', 'rp.Kafka("a topic")', "'a topic' is no name for a topic"),
    ('rp.Kafka("orders")', 'rp.Kafka("orders", partitions=0)', "0 partitions"),
    ('rp.Kafka("orders")', 'rp.Kafka("orders", replay=lambda x: x)', "cannot be called with no argument"),
    ('rp.Kafka("orders")', "rp.Reference(None)", "the function that reads it is None"),
    ('rp.Kafka("orders")', '"orders"', "source is 'orders'"),
    (
        'rp.in_range("amount", 0',
        'rp.in_range("amuont", 0',
        "column 'amuont' does not exist -> did you mean 'amount'",
    ),
    ('rp.not_null("customer")', 'rp.Check("amount", "r", pl.col("amount"))', "gives Float64, not a boolean"),
    ('rp.not_null("customer")', "3", "a check is 3"),
    ('"large", source', '"lar__ge", source', "two underscores"),
    (
        'pl.col("amount") > 100',
        'pl.col("amuont") > 100',
        "column 'amuont' does not exist -> did you mean 'amount'",
    ),
    ('pl.col("amount") > 100', 'pl.col("amount") + pl.col("ordered_at")', "fails: "),
    ('pl.col("amount") > 100', 'pl.col("customer")', "gives String, not a number"),
    ('pl.col("amount") > 100', 'pl.col("amount").filter(pl.col("amount") > 3)', "changes the number of rows"),
    ('pl.col("amount") > 100', 'pl.col("amount") - pl.col("amount").mean()', "another value when other rows"),
    ('pl.col("amount") > 100', 'pl.col("amount").shift(1)', "another value when other rows"),
    ('pl.col("amount") > 100', "pl.all()", "gives several columns"),
    ('pl.col("amount") > 100', '"amount"', "is 'amount', not a Polars expression"),
    ('pl.col("amount") > 100', 'rp.window("1h").sum("amount")', "in a view of the asking row"),
    ('{"large": pl.col("amount") > 100}', "{}", "view 'large' has no features"),
    ('rp.window("7d").mean("amount")', 'rp.window("7d").agg(pl.col("amount"))', "a value a row, not one"),
    ('rp.window("7d").mean("amount")', 'rp.window("7d").mean("amout")', "did you mean 'amount'"),
    ('rp.window("7d")', 'rp.window("7w")', "the window is '7w'"),
    ('rp.window("7d").mean("amount")', 'rp.window("7d").agg(pl.col("customer").last())', "gives String"),
    ('{"mean_7d":', '{"row": pl.col("amount"), "mean_7d":', "mixes window features"),
    (
        'entity="customer",\n    features',
        'entity="custmer",\n    features',
        "entity column 'custmer' does not exist",
    ),
    ("ttl=timedelta(days=30)", "ttl=timedelta(0)", "ttl is 0:00:00"),
    ("ttl=timedelta(days=30)", "ttl=30", "ttl is 30"),
    ("rows=orders", "rows=None", "rows is None"),
    ('pl.col("reason").is_not_null()', 'pl.col("reason")', "gives String, not a boolean"),
    ('pl.col("reason").is_not_null()', 'pl.col("reson").is_not_null()', "did you mean 'reason'"),
    ('on="order_id"', 'on="customer"', "in 'raw.returns' the column 'customer' does not exist"),
    ('on="order_id"', "on=()", "has no columns in `on`"),
    ('on="order_id"', "on=5", "on is 5"),
    ('    event_time="returned_at",\n', "", "source 'raw.returns' has no event_time"),
    ("[large, spending, last]", "[]", "has no features"),
    ("[large, spending, last]", "[large, large]", "two view of model 'returned's named 'large'"),
    ("[large, spending, last]", "[orders]", "a feature is Table("),
    ("[large, spending, last]", "3", "features is 3"),
    ('train_until="2024-06-01"', 'train_until="2024-07-01"', "train_until 2024-07-01 00:00 is not before"),
    ('train_until="2024-06-01"', 'train_until="June"', "train_until is 'June'"),
    ("lambda inputs: inputs", "lambda: 3", "network cannot be called with 1 argument"),
    ("def train(run):", "def train(run, more):", "training function cannot be called with 1 argument"),
    ("network=", "workers=(2, 1), network=", "workers is (2, 1)"),
    ("network=", "workers=(0, 1), network=", "workers is (0, 1)"),
    ("network=", "workers=2, network=", "workers is 2"),
    ("network=", "seed='x', network=", "seed is 'x'"),
    ('rp.Gate("roc_auc"', 'rp.Gate("roc_auk"', "metric 'roc_auk' does not exist -> did you mean 'roc_auc'"),
    ('"roc_auc", at_least=0.6', '"roc_auc"', "has no bound"),
    ('"roc_auc", at_least=0.6', '"roc_auc", at_least="0.6"', "at_least is '0.6'"),
    ('"roc_auc", at_least=0.6', '"roc_auc", beats="luck"', "baseline 'luck' does not exist"),
    (
        'model="returned", auto',
        'model="retruned", auto',
        "model 'retruned' does not exist -> did you mean 'returned'",
    ),
    ("rp.Autoscale(0, 2)", "rp.Autoscale(3, 2)", "between 3 and 2 replicas"),
    ("rp.Autoscale(0, 2)", "rp.Autoscale(1, 1, cpus=-1)", "cpus is -1"),
    ("rp.Autoscale(0, 2)", "2", "autoscale is 2"),
    *[
        ("rp.Autoscale(0, 2)", f"rp.Autoscale({spec})", told)
        for spec, told in [
            ("0, True", "most is True"),
            ("gpus=1.5", "gpus is 1.5"),
            ("ongoing=0", "ongoing is 0"),
            ("latency_s=0", "latency_s is 0"),
            ("calm_s=float('nan')", "calm_s is nan"),
            ("idle_s=-1", "idle_s is -1"),
            ("standbys=0.5", "standbys is 0.5"),
            ("schedule=3", "schedule is 3"),
            ("schedule=('lunch',)", "schedule[0] is 'lunch'"),
            ("schedule=(rp.Hours('11:3', '13:00', 1),)", "begin is '11:3'"),
            ("schedule=(rp.Hours('11:30', '25:00', 1),)", "end is '25:00'"),
            ("schedule=(rp.Hours('11:30', '11:30', 1),)", "begins and ends at '11:30'"),
            ("schedule=(rp.Hours('11:30', '13:00', 2),)", "least is 2 -> give 1 to `most`, 1"),
            ("schedule=(rp.Hours('11:30', '13:00', 1, days=()),)", "days is ()"),
            ("schedule=(rp.Hours('11:30', '13:00', 1, days=('tues',)),)", "did you mean 'tue'"),
            ("schedule=(rp.Hours('11:30', '13:00', 1, zone='Europe/Ulm'),)", "zone is 'Europe/Ulm'"),
        ]
    ],
    *[
        ("autoscale=rp.Autoscale(0, 2)", given, told)
        for given, told in [
            ("answering=3", "answering is 3"),
            ("answering=rp.Answering(batch=0)", "batch is 0"),
            ("answering=rp.Answering(at_once=0)", "at_once is 0"),
            ("answering=rp.Answering(timeout_s=0)", "timeout_s is 0"),
            ("answering=rp.Answering(default=2)", "default is 2"),
            ("logging=rp.Logging(durable='locall')", "did you mean 'local'"),
            ("logging=rp.Logging(sample=1.5)", "sample is 1.5"),
            ("traffic=rp.Traffic(canary=2)", "canary is 2"),
            ("traffic=rp.Traffic(canary=0.1, by='custmer')", "did you mean 'customer'"),
            ("version=0", "version is 0"),
        ]
    ],
    ('endpoint="returned"', 'endpoint="gone"', "endpoint 'gone' does not exist"),
    ('rp.Decay("roc_auc"', 'rp.Decay("acc"', "decay's metric 'acc' does not exist"),
    ("rp.Drift(0.2)", "rp.Drift(0)", "psi_over is 0"),
    ('live_until="2024-06-08"', 'live_until="2024-05-08"', "history_until 2024-06-01 00:00 is not before"),
    ('live_until="2024-06-08"', 'live_until="soon"', "live_until is 'soon'"),
    ('live_until="2024-06-08"', 'live_until="2024-06-08", tick=timedelta(0)', "tick is 0:00:00"),
    ("network=", "training=3, network=", "training is 3"),
    ("network=", "kind='xgbost', network=", "'xgbost' does not exist -> did you mean 'xgboost'"),
    *[
        ("network=", f"training=rp.Training({spec}), network=", told)
        for spec, told in [
            ("precision='bf61'", "'bf61' does not exist -> did you mean 'bf16'"),
            ("strategy='fsdp'", "the strategy 'fsdp' does not exist"),
            ("micro_batch=0", "micro_batch is 0"),
            ("clip_norm=float('nan')", "clip_norm is nan"),
            ("compile=1", "compile is 1"),
            ("cpus=0", "cpus is 0"),
            ("gpus=-1", "gpus is -1"),
            ("standbys=True", "standbys is True"),
            ("on_failure='stop'", "on_failure is 'stop'"),
            ("on_failure=rp.OnFailure(bad_loss='skipp')", "'skipp' does not exist -> did you mean 'skip'"),
            ("on_failure=rp.OnFailure(out_of_memory='x')", "'x' does not exist"),
            ("on_failure=rp.OnFailure(hung_after_s=0)", "hung_after_s is 0"),
            ("checkpoints=rp.Keep(last=0)", "checkpoints.last is 0 -> keep 1 or more"),
            ("checkpoints=rp.Keep(best=2)", "checkpoints.best is 2 without a metric"),
            ("checkpoints=7", "checkpoints is 7"),
            ("strategy='fsdp2', precision='fp16'", "fsdp2 with fp16 would need a scaler of shards"),
            ("prepare=len", "prepare is <built-in function len>"),
            ("prepare=rp.Prepare(7)", "prepare.rows is 7 -> give a function of a RowBatch"),
            ("prepare=rp.Prepare(len, tasks=0)", "prepare.tasks is 0"),
            ("prepare=rp.Prepare(len, ahead_mib=0)", "prepare.ahead_mib is 0"),
            ("strategy='deepspeed', micro_batch=8", "deepspeed takes the step itself"),
            (
                "strategy='deepspeed', on_failure=rp.OnFailure(bad_loss='skip')",
                "deepspeed takes the step itself",
            ),
        ]
    ],
]


@pytest.mark.parametrize(("old", "new", "wanted"), _ONE, ids=[f"{i}" for i in range(len(_ONE))])
def test_each_fault_is_told_with_its_mend(tmp_path: Path, old: str, new: str, wanted: str) -> None:
    found = _faults(tmp_path, (old, new))
    assert any(wanted in fault for fault in found), found


def test_a_types_difference_between_tables_is_told(tmp_path: Path) -> None:
    change = ('"order_id": "string", "returned_at"', '"order_id": "int64", "returned_at"')
    assert any("is string in 'raw.orders' and int64 in 'raw.returns'" in f for f in _faults(tmp_path, change))


def test_a_rows_table_without_event_time_is_told(tmp_path: Path) -> None:
    found = _faults(tmp_path, ('    event_time="ordered_at",\n', ""))
    assert any("rows table 'raw.orders' has no event_time" in f for f in found)
    assert any("over a window, and 'raw.orders' has no event_time" in f for f in found)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    changes = [(old, new) for old, new, _ in (_ONE[0], _ONE[5], _ONE[21], _ONE[25], _ONE[64], _ONE[68])]
    found = _faults(tmp_path, *changes)
    wanted = [_ONE[i][2] for i in (0, 5, 21, 25, 64, 68)]
    assert all(any(w in fault for fault in found) for w in wanted), found


def test_a_declaration_of_another_project_is_told() -> None:
    one, two = rp.Project("one", owner="x"), rp.Project("two", owner="x")
    table = one.table("raw.a", key="k", columns={"k": "string", "v": "float64"})
    two.feature_view("v", source=table, entity="k", features={"v": pl.col("v")})
    assert ["table of another project" in f.what for f in validate(two)] == [True]
    assert validate(one) == []


_JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=True),
    st.text(max_size=4),
    st.binary(max_size=2),
    st.lists(st.integers(), max_size=2),
    st.lists(st.lists(st.text(max_size=2), max_size=1), max_size=2),
    st.dictionaries(
        st.one_of(st.text(max_size=3), st.integers()), st.one_of(st.none(), st.text()), max_size=2
    ),
    st.sampled_from([object(), int, len, pl.col("k"), pl.lit(None), rp.Column("string"), rp.window("1h")]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_junk_anywhere_gives_faults_and_never_a_traceback(data: st.DataObject) -> None:
    spoilt = data.draw(st.sets(st.integers(0, 58), min_size=1, max_size=3))
    number = count()

    def use(good: Any) -> Any:
        return data.draw(_JUNK) if next(number) in spoilt else good

    project = rp.Project(use("shop"), owner=use("x"))
    table = project.table(
        use("raw.a"),
        key=use("k"),
        event_time=use("t"),
        known_at=use(None),
        columns=use(
            {"k": use("string"), "t": use(rp.Column("timestamp", nullable=False)), "v": use("float64")}
        ),
        source=use(rp.Kafka(use("topic"), partitions=use(2), replay=use(lambda: None))),
        checks=use([use(rp.not_null("v"))]),
    )
    view = project.feature_view(
        use("view"),
        source=use(table),
        entity=use("k"),
        features=use({"w": use(rp.window("1h", where=use(None)).mean("v"))}),
        ttl=use(None),
        defaults=use({"w": use(0.0)}),
        required=use(()),
        join_keys=use({"k": use("k")}),
        owner=use("x"),
        tags=use({"a": use("b")}),
    )
    project.on_demand_view(
        use("both"),
        views=use([use(view)]),
        source=use(table),
        features=use(
            {"f": use(pl.col("view__w") + pl.col("v")), "g": PythonFeature(use(len), ("v",), use("int64"))}
        ),
    )
    asked = project.request_view(use("asked"), source=use(table), features=use({"v": use(pl.col("v") > 1)}))
    project.model(
        use("model"),
        rows=use(table),
        label=use(rp.Label(use(table), use(pl.col("v") > 2), on=use("k"))),
        features=use([use(view), asked]),
        train_until=use("2024-01-01"),
        test_until=use("2024-02-01"),
        network=use(lambda n: n),
        workers=use((1, 2)),
        gates=use([use(rp.Gate("roc_auc", at_least=use(0.5)))]),
        seed=use(0),
    )(use(lambda run: run))
    hours = use(rp.Hours(use("11:30"), use("13:00"), use(1), days=use(("mon",)), zone=use("UTC")))
    project.endpoint(
        use("e"),
        model=use("model"),
        autoscale=use(rp.Autoscale(use(0), use(2), gpus=use(0.5), schedule=use((hours,)))),
        version=use(None),
        answering=use(rp.Answering(batch=use(3))),
        logging=use(rp.Logging(durable=use("local"), sample=use(0.5))),
        traffic=use(rp.Traffic(by=use("k"))),
        stream=use(lambda run: iter(())),
        multiplex=use(rp.Multiplex(use(("model",)), use((1,)), kept=use(2), most_mib=use(None))),
    )
    project.monitor(use("m"), endpoint=use("e"), drift=use(None), decay=use(None))
    project.replay(history_until=use("2024-01-01"), live_until=use("2024-02-01"))
    for fault in validate(project):
        assert fault.what
        assert fault.mend
