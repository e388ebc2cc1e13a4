import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import BugError, UnavailableError, UserError
from rayplat.core.project.serving import Traffic
from rayplat.serve.arms.arms import Arms
from rayplat.serve.arms.shadow import Shadow
from rayplat.serve.arms.traffic import GOLDEN, RUN, SILVER, Dealer, assigned

from .versions import Log, Version, asked


def _versions(answers):
    return [record.version for answer in answers for record in answer.records]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_is_a_share_and_its_keys_stay_when_it_grows(share):
    keys = [f"user {i}".encode() for i in range(20_000)]
    within = {key for key in keys if assigned(share, key, b"canary")}
    assert len(within) / len(keys) == pytest.approx(share, abs=0.012)  # 3 sigma of 20,000 fair draws at most
    assert within <= {key for key in keys if assigned(min(1.0, share + 0.05), key, b"canary")}
    other = {key for key in keys if assigned(share, key, b"shadow")}
    assert len(within & other) / len(keys) == pytest.approx(share * share, abs=0.015), "purposes are apart"


@given(st.binary(max_size=40))
def test_nobody_is_within_nothing_and_everybody_within_all(key):
    assert not assigned(0.0, key, b"canary")
    assert assigned(1.0, key, b"canary")


def test_a_canary_answers_its_share_and_each_gets_the_answer_of_its_question():
    champion, canary = Version(1, "champion"), Version(2, "canary")
    arms = Arms(champion, Traffic(canary=0.25), canary=canary)
    answers = arms.answer([asked(f"shop {i}", "other") for i in range(2000)])
    versions = _versions(answers)
    assert versions[::2] == versions[1::2], "instances of one question are answered by one version"
    assert versions[::2].count(2) / 2000 == pytest.approx(0.25, abs=0.03)
    assert [r.request for a in answers for r in a.records][::2] == [
        str({"shop": f"shop {i}"}) for i in range(2000)
    ]
    assert {r.arm for a in answers for r in a.records if r.version == 2} == {"canary"}
    assert (arms.version, arms.endpoint) == (1, "buys")


def test_a_key_or_a_column_of_the_request_always_goes_to_the_same_arm():
    def arms(by=None):
        return Arms(Version(1), Traffic(canary=0.5, by=by), canary=Version(2))

    one, other = arms(), arms()
    for i in range(50):
        question = asked(key=f"key {i}")
        assert len({*_versions(one.answer([question])), *_versions(other.answer([question]))}) == 1
    one, other = arms("shop"), arms("shop")
    found = set()
    for i in range(50):
        versions = {
            *_versions(one.answer([asked(f"{i}")])),
            *_versions(other.answer([asked(f"{i}", key="k")])),
        }
        assert len(versions) == 1
        found |= versions
    assert found == {1, 2}


def test_a_canary_that_fails_costs_nobody_an_answer():
    canary = Version(2)
    canary.error = BugError("NaN", "train")
    arms = Arms(Version(1), Traffic(canary=0.5), canary=canary)
    assert set(_versions(arms.answer([asked() for _ in range(100)]))) == {1}
    assert canary.calls > 0
    canary.error = UserError("no such shop", "ask for another")
    with pytest.raises(UserError):
        arms.answer([asked() for _ in range(100)])


def _wait(check):
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_shadow_is_logged_beside_what_was_answered_and_never_told():
    champion, version, log = Version(1, "champion"), Version(3), Log()
    arms = Arms(champion, Traffic(shadow=1.0), shadow=Shadow(version, lambda: log))
    answers = arms.answer([asked("a", "b"), asked("c")])
    assert _versions(answers) == [1, 1, 1]
    arms.close()
    arms.close()
    assert [(r.version, r.arm, r.request) for r in log.records] == [
        (3, "shadow", str({"shop": shop})) for shop in "abc"
    ]
    assert [r.beside for r in log.records] == [r.prediction_id for a in answers for r in a.records]
    assert len({r.prediction_id for r in log.records}) == 3


def test_a_shadow_gets_its_share():
    version, log = Version(3), Log()
    arms = Arms(Version(1), Traffic(shadow=0.2), shadow=Shadow(version, lambda: log))
    arms.answer([asked(str(i)) for i in range(2000)])
    arms.close()
    assert len(log.records) / 2000 == pytest.approx(0.2, abs=0.03)


def test_a_shadow_that_is_slow_or_fails_is_left_out_and_keeps_nobody_waiting():
    version, log = Version(3), Log()
    version.takes_s = 0.2
    shadow = Shadow(version, lambda: log, most=2)
    arms = Arms(Version(1), Traffic(shadow=1.0), shadow=shadow)
    begin = time.perf_counter()
    for _ in range(50):
        assert _versions(arms.answer([asked()])) == [1]
    assert time.perf_counter() - begin < 0.2, "one call of the shadow takes as long"
    version.takes_s, version.error = 0.0, ValueError("no such layer")
    _wait(shadow._waiting.empty)
    version.error = None
    log.error = UnavailableError("the disk is full", "make room")
    arms.answer([asked()])
    _wait(shadow._waiting.empty)
    log.error = None
    arms.answer([asked()])
    arms.close()
    assert 1 <= len(log.records) <= 4


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("size", [1, 8, 40])
def test_what_has_no_key_is_dealt_in_runs_and_each_question_has_the_same_chance(share, size):
    dealer = Dealer(share, b"canary", begin=0.3)
    batches = [list(dealer.places([None] * size)) for _ in range(2000)]
    runs = 2000 * -(-size // RUN)
    assert sum(map(len, batches)) / (2000 * size) == pytest.approx(share, abs=16 / runs)
    whole = [set(range(begin, min(size, begin + RUN))) for begin in range(0, size, RUN)]
    for places in batches:
        assert all(run <= set(places) or not run & set(places) for run in whole)


def test_two_dealers_that_take_other_steps_deal_without_regard_to_each_other():
    one, other = Dealer(0.3, b"a", step=GOLDEN), Dealer(0.4, b"b", step=SILVER)
    drawn = [(bool(one.places([None])), bool(other.places([None]))) for _ in range(5000)]
    assert sum(a and b for a, b in drawn) / 5000 == pytest.approx(0.12, abs=0.01)


def test_keys_go_where_they_always_go_whatever_comes_with_them():
    keys = [f"k{i}".encode() for i in range(50)]
    alone = {key for key in keys if Dealer(0.5, b"canary").places([key])}
    mixed = [key for pair in zip(keys, [None] * 50, strict=True) for key in pair]
    found = {mixed[place] for place in Dealer(0.5, b"canary").places(mixed)}
    assert found - {None} == alone == {key for key in keys if assigned(0.5, key, b"canary")}


def test_requests_of_a_moment_are_asked_beside_together():
    version, log = Version(3), Log()
    shadow = Shadow(version, lambda: log)
    champion = Version(1)
    for i in range(40):
        question = [asked(str(i))]
        shadow.ask(question, champion.answer(question))
    shadow.close()
    assert [r.request for r in log.records] == [str({"shop": str(i)}) for i in range(40)]
