from dataclasses import dataclass

from rayplat.serve.sampled import SampledLog, kept
from tests.serve.front.served import MemoryLog


@dataclass
class Record:
    prediction_id: str


def test_a_share_is_logged_and_everybody_decides_alike():
    log = MemoryLog()
    sampled = SampledLog(log, 0.25)
    records = [Record(f"p-{i}") for i in range(4000)]
    for start in range(0, 4000, 40):
        assert sampled.submit(records[start : start + 40]).result(1) is None
    assert len(log.records) == sum(kept(one.prediction_id, 0.25) for one in records)
    assert 800 < len(log.records) < 1200  # 1000 +- 7 standard deviations


def test_of_a_share_of_nothing_nothing_is_logged_and_every_answer_goes_out():
    log = MemoryLog()
    assert SampledLog(log, 0.0).submit([Record("a")]).done()
    assert log.records == []
