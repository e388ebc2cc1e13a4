"""Predictions column by column: what the log holds of them is what their records would have been."""

import base64
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import BugError
from rayplat.serve.log.rows import payload, records_of, rows_of
from rayplat.serve.predicted import Joined, Part, Predicted, joined
from rayplat.serve.predictor import Asked, Predictor
from rayplat.serve.ready import Ready
from rayplat.serve.request import Question

AT = datetime(2024, 3, 1, 12, tzinfo=UTC)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary(max_size=9)
)


class Network(torch.nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return x.nan_to_num()[:, 0] * self.factor


def lookup(instances, at):
    source = {"event_time": at - timedelta(hours=1), "offset": 7, "partition": 0}
    rows = [{"amount": one["amount"]} for one in instances]
    return Ready(rows, [{"price": source, "trend": None} for _ in instances], ("amount",))


def predictor(version=1, arm="champion", *, network=None, reads="amount"):
    made = network or Network(float(version))
    told = {"endpoint": "buys", "model": "buys", "version": version, "inputs": ["amount"]}
    return Predictor(**told, network=made, lookup=lookup, arm=arm, reads=reads)


def asked(*amounts, caller="shop", trace=None, key=None):
    instances = [{"amount": amount, "shop": 'o"dd €'} for amount in amounts]
    return Asked(Question(AT, instances), AT + timedelta(seconds=1), 0.0, caller, trace, key)


@given(
    st.lists(st.tuples(st.dictionaries(st.text(), VALUES), st.floats(0, 1)), min_size=1, max_size=4),
    st.sampled_from([None, "canary"]),
)
def test_a_payload_of_columns_holds_the_records(told, arm):
    count = len(told)
    whole = Predicted(
        {"endpoint": "e", "model": "m", "version": 2, "at": AT, "arm": arm},
        [f"prd_{i:032x}" for i in range(count)],
        [one for one, _ in told],
        [{"amount": float("nan"), "visits": i} for i in range(count)],
        [{"price": {"event_time": AT, "offset": i}, "trend": None} for i in range(count)],
        [p for _, p in told],
        {"asked_at": [AT] * count, "latency_s": [0.5] * count, "caller": [None] * count},
    )
    part = Part(whole, 0, count)
    assert records_of(payload(part)) == list(part)
    assert rows_of([payload(part)]).equals(rows_of([payload(list(part))]))
    assert len(payload(part)) < len(payload(list(part))) + 250


def test_answers_are_parts_of_one_call_and_their_log_names_who_asked():
    questions = [asked(0.5, None, trace="a" * 32), asked(float("inf"), caller=None, key="k"), asked(-1.5)]
    answers = predictor().answer(questions)
    records = joined([answer.records for answer in answers])
    assert isinstance(records, Part), "one call is one run"
    assert len(records) == 4
    found = records_of(payload(records))
    assert found == [record for answer in answers for record in answer.records]
    assert [r.caller for r in found] == ["shop", "shop", None, "shop"]
    assert [r.trace_id for r in found] == ["a" * 32, "a" * 32, None, None]
    assert [r.idempotency_key for r in found] == [None, None, "k", None]
    assert [orjson.loads(r.request)["amount"] for r in found] == [0.5, None, None, -1.5]
    assert [one["id"] for a in answers for one in a.predictions()] == [r.prediction_id for r in found]
    assert [one["probability"] for a in answers for one in a.predictions()] == [r.probability for r in found]
    assert answers[0].version == 1


def test_parts_that_do_not_lie_together_and_plain_records_are_joined_in_order():
    first, second = predictor().answer([asked(0.5, 1.0)]), predictor(2).answer([asked(2.0)])
    plain = list(predictor(3).answer([asked(3.0)])[0].records)
    parts = [second[0].records, plain, [], first[0].records]
    records = joined(parts)
    assert isinstance(records, Joined)
    assert [r.version for r in records] == [2, 3, 1, 1]
    assert (len(records), records[1], records[2:]) == (4, plain[0], list(first[0].records))
    assert records_of(payload(records)) == list(records)
    assert first[0].records[::-1] == list(first[0].records)[::-1]
    assert (first[0].records.begin, first[0].records.end) == (0, 2), "the answers are as they were"


def test_bytes_of_a_request_are_kept_as_they_were_sent():
    whole = Predicted(
        {"endpoint": "e", "model": "m", "version": 2, "at": AT, "arm": None},
        ["prd_1"],
        [{"raw": b"\x00\xff"}],
        [{}],
        [{}],
        [0.5],
        {"asked_at": [AT], "latency_s": [0.0]},
    )
    (found,) = records_of(payload(Part(whole, 0, 1)))
    assert orjson.loads(found.request) == {"raw": base64.b64encode(b"\x00\xff").decode()}
    with pytest.raises(TypeError):
        payload(Part(Predicted(**{**_fields(whole), "requests": [{"raw": object()}]}), 0, 1))


def _fields(whole):
    return {name: getattr(whole, name) for name in type(whole).__dataclass_fields__}


def test_a_version_says_beside_what_it_would_have_answered():
    champion, shadow = predictor(), predictor(2, "shadow")
    answered = [champion.answer([asked(0.25, 0.5, trace="b" * 32)]), champion.answer([asked(1.0)])]
    parts = [answer.records for answers in answered for answer in answers]
    said = shadow.beside(parts)
    assert said is not None
    records = list(Part(said, 0, 3))
    told = [r for q in ([asked(0.25, 0.5)], [asked(1.0)]) for a in shadow.answer(q) for r in a.records]
    assert [r.probability for r in records] == [r.probability for r in told]
    firsts = [r for part in parts for r in part]
    assert [r.beside for r in records] == [r.prediction_id for r in firsts]
    ours = ("prediction_id", "version", "arm", "probability", "beside")
    assert [{**asdict(r), **dict.fromkeys(ours)} for r in records] == [
        {**asdict(r), **dict.fromkeys(ours)} for r in firsts
    ]
    assert {(r.version, r.arm) for r in records} == {(2, "shadow")}
    assert len({r.prediction_id for r in records + firsts}) == 6
    assert records_of(payload(Part(said, 0, 3))) == records


@pytest.mark.parametrize("reads", [None, "price"])
def test_what_reads_something_else_does_not_take_the_features(reads):
    (answer,) = predictor().answer([asked(0.5)])
    assert predictor(2, reads=reads).beside([answer.records]) is None


def test_a_network_that_fails_beside_is_told():
    (answer,) = predictor().answer([asked(0.5)])
    with pytest.raises(BugError):
        predictor(2, network=lambda x: x[:3, 0]).beside([answer.records])


def test_a_version_under_another_arm_has_a_network_of_its_own():
    canary = predictor(2, "canary")
    shadow = canary.under("shadow")
    assert np.isclose(*(v.answer([asked(0.5)])[0].records[0].probability for v in (canary, shadow)), rtol=0)
    assert shadow.answer([asked(0.5)])[0].records[0].arm == "shadow"
    canary._network.factor.data.fill_(-9.0)
    assert shadow.answer([asked(0.5)])[0].records[0].probability > 0.5
