import pytest

from rayplat.core.errors import BugError, UnavailableError
from rayplat.core.project.serving import Traffic
from rayplat.serve.arms.opening import Versions, open_arms

from .versions import Log, Version, asked


def _arms(opened, count=400):
    answers = opened.answering.answer([asked() for _ in range(count)])
    opened.close()
    return [r.arm for a in answers for r in a.records]


def test_one_version_is_asked_without_anything_between():
    champion = Version(2, "champion")
    opened = open_arms(Versions(champion), Traffic(), Log)
    assert opened.answering is champion
    opened.close()


def test_every_part_has_its_place():
    champion, canary, shadow, before = (
        Version(2, "champion"),
        Version(3, "canary"),
        Version(3),
        Version(1, "previous"),
    )
    champion.error = BugError("NaN", "train anew")
    log = Log()
    opened = open_arms(
        Versions(champion, canary, shadow, before),
        Traffic(canary=0.5, shadow=1.0),
        lambda: log,
        default_answer=0.5,
    )
    assert set(_arms(opened)) == {"canary", "previous"}
    assert {r.arm for r in log.records} == {"shadow"}
    assert len(log.records) == 400
    before.error = canary.error = champion.error
    opened = open_arms(
        Versions(champion, canary, previous=before), Traffic(canary=0.5), Log, default_answer=0.5
    )
    assert set(_arms(opened)) == {"default"}


def test_a_challenger_without_a_share_is_not_asked():
    challenger = Version(3, "canary")
    opened = open_arms(Versions(Version(2, "champion"), challenger, challenger), Traffic(), Log)
    assert set(_arms(opened)) == {"champion"}
    assert challenger.calls == 0


def test_a_version_that_takes_too_long_fails_the_request_where_nothing_stands_in():
    champion = Version(2, "champion")
    opened = open_arms(Versions(champion), Traffic(), Log, timeout_s=0.05)
    assert set(_arms(opened, 1)) == {"champion"}
    opened = open_arms(Versions(champion), Traffic(), Log, timeout_s=0.05)
    champion.takes_s = 0.3
    with pytest.raises(UnavailableError, match="in time"):
        opened.answering.answer([asked()])
    opened.close()


def test_a_canary_that_takes_too_long_is_answered_for_by_the_champion():
    canary = Version(3, "canary")
    canary.takes_s = 0.3
    opened = open_arms(Versions(Version(2, "champion"), canary), Traffic(canary=1.0), Log, timeout_s=0.05)
    assert set(_arms(opened, 3)) == {"champion"}
