"""Declared sources: what holds together has no fault, and each thing that does not is told with its mend."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rayplat as rp
from rayplat.core.project.check_source import check_source
from rayplat.core.project.faults import Faults

COLUMNS = {"id": "int64", "at": "timestamp", "note": "string", "body": "binary"}


def faults_of(source: Any, **changed: Any) -> list[str]:
    project = rp.Project("shop", owner="ops@example.com")
    options = {"columns": COLUMNS, "key": "id", "event_time": "at", "source": source, **changed}
    faults = Faults()
    check_source(project.table("raw.t", **options), faults)
    for fault in faults.found:
        assert fault.mend
        assert fault.where is not None
    return [fault.what for fault in faults.found]


RAW = {"columns": {"body": rp.Column("binary", nullable=False), "note": "string"}, "key": "body"}
RAW |= {"event_time": None}


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        (None, {}),
        (rp.Kafka("orders"), {"late": rp.Late(timedelta(hours=1), "side")}),
        (rp.Kafka("orders", format=rp.Avro('{"type": "record"}')), {}),
        (rp.Kafka("orders", format=rp.Protobuf("shop.Order", "order.desc")), {}),
        (rp.Kafka("orders", format=rp.Raw("body")), RAW),
        (rp.Kafka("orders", envelope=rp.Debezium()), {"mode": "upsert"}),
        (
            rp.Kinesis("orders", region="eu-central-1", format=rp.Avro(), envelope=rp.Debezium()),
            {"mode": "upsert"},
        ),
        (rp.Files("s3://inbox/orders", "parquet", "**/*.parquet"), {"late": rp.Late(timedelta(0))}),
        (rp.Database("shop", "public.orders", "at"), {}),
        (rp.Database("shop", "orders", "not_declared", timedelta(0)), {}),
        (rp.Reference(lambda: None), {}),
    ],
)
def test_what_holds_together_has_no_fault(source: Any, changed: dict[str, Any]) -> None:
    assert faults_of(source, **changed) == []


@pytest.mark.parametrize(
    ("source", "changed", "wanted"),
    [
        (rp.Kinesis("a stream"), {}, "'a stream' is no name for a stream"),
        (rp.Kinesis("x" * 129), {}, "is no name for a stream"),
        (rp.Kinesis("s", region=3), {}, "region is 3"),  # type: ignore[arg-type]
        (rp.Kafka("a topic"), {}, "'a topic' is no name for a topic"),
        (rp.Kafka("t", format="json"), {}, "format is 'json'"),  # type: ignore[arg-type]
        (rp.Kafka("t", format=rp.Avro("{")), {}, "the Avro schema is not JSON"),
        (rp.Kafka("t", format=rp.Avro(3)), {}, "the Avro schema is 3"),  # type: ignore[arg-type]
        (rp.Kafka("t", format=rp.Protobuf("9x")), {}, "'9x' is no name of a message"),
        (rp.Kafka("t", format=rp.Protobuf(descriptor="a.desc")), {}, "several messages, and none is named"),
        (rp.Kafka("t", format=rp.Raw("boddy")), RAW, "the raw column 'boddy' does not exist"),
        (rp.Kafka("t", format=rp.Raw("id")), {}, "the raw column 'id' is int64"),
        (rp.Kafka("t", format=rp.Raw("body")), {}, "'id' may not be null"),
        (rp.Kafka("t", envelope=rp.Debezium()), {}, "takes changes and only appends"),
        (rp.Kafka("t", envelope="cdc"), {}, "envelope is 'cdc'"),  # type: ignore[arg-type]
        (rp.Kinesis("t", format=rp.Raw("body"), envelope=rp.Debezium()), {}, "in Raw are not read"),
        (rp.Kafka("t", format=rp.Protobuf(), envelope=rp.Debezium()), {}, "in Protobuf are not read"),
        (rp.Files(" "), {}, "the location is empty"),
        (rp.Files("in", pattern=""), {}, "the pattern is empty"),
        (rp.Files("in", "cvs"), {}, "the format of files 'cvs' does not exist"),
        (rp.Database("", "t", "at"), {}, "the database's url is empty"),
        (rp.Database("u", "t", ""), {}, "the database's watermark is empty"),
        (rp.Database("u", 3, "at"), {}, "the database's table is 3"),  # type: ignore[arg-type]
        (rp.Database("u", "t", "note"), {}, "the watermark 'note' is string"),
        (rp.Database("u", "t", "at", timedelta(seconds=-1)), {}, "settle is -1 day"),
        (rp.Database("u", "t", "at", 5), {}, "settle is 5"),  # type: ignore[arg-type]
        (rp.Kafka("t"), {"late": 3}, "late is 3"),
        (rp.Kafka("t"), {"late": rp.Late(timedelta(seconds=-1))}, "the lateness allowed is -1 day"),
        (rp.Kafka("t"), {"late": rp.Late(timedelta(1), "drop")}, "the policy for late rows 'drop' does not"),
        (rp.Kafka("t"), {"late": rp.Late(timedelta(1)), "event_time": None}, "has no event_time"),
        (None, {"late": rp.Late(timedelta(1))}, "is not fed by a stream"),
    ],
)
def test_each_fault_is_told(source: Any, changed: dict[str, Any], wanted: str) -> None:
    found = faults_of(source, **changed)
    assert any(wanted in fault for fault in found), found


_JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.text(max_size=3),
    st.binary(max_size=2),
    st.just(object()),
)


@given(data=st.data())
def test_junk_anywhere_gives_faults_and_never_a_traceback(data: st.DataObject) -> None:
    spoilt = data.draw(st.sets(st.integers(0, 6), min_size=1, max_size=3))
    number = count()

    def use(good: Any) -> Any:
        return data.draw(_JUNK) if next(number) in spoilt else good

    source = data.draw(
        st.sampled_from(
            [
                lambda: rp.Kinesis(use("s"), use(""), use(""), use(rp.Raw(use("body"))), use(rp.Debezium())),
                lambda: rp.Kafka(use("t"), format=use(rp.Avro(use("{}"))), envelope=use(None)),
                lambda: rp.Kafka(use("t"), format=use(rp.Protobuf(use("m"), use("d")))),
                lambda: rp.Files(use("in"), use("csv"), use("**")),
                lambda: rp.Database(use("u"), use("t"), use("at"), use(timedelta(0))),
            ]
        )
    )()
    late = use(rp.Late(use(timedelta(0)), use("side")))
    assert all(isinstance(what, str) for what in faults_of(source, late=late))
