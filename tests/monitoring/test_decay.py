import pytest

from rayplat.core.project.model import Decay
from rayplat.monitoring.decay import LEAST_LABELLED, judge

PROMISED = {"roc_auc": 0.9, "log_loss": 0.3}


def test_a_metric_that_is_better_high_decays_when_it_falls():
    rule = Decay("roc_auc", drop_over=0.05)
    assert judge(rule, PROMISED, {"roc_auc": 0.84}, 500).decayed
    found = judge(rule, PROMISED, {"roc_auc": 0.86}, 500)
    assert not found.decayed
    assert found.drop == pytest.approx(0.04)


def test_a_metric_that_is_better_low_decays_when_it_rises():
    rule = Decay("log_loss", drop_over=0.05)
    assert judge(rule, PROMISED, {"log_loss": 0.4}, 500).decayed
    assert not judge(rule, PROMISED, {"log_loss": 0.1}, 500).decayed


@pytest.mark.parametrize(
    ("promised", "served", "labelled", "why"),
    [
        ({}, {"roc_auc": 0.1}, 500, "manifest"),
        (PROMISED, {"roc_auc": 0.1}, LEAST_LABELLED - 1, "only 99 outcomes"),
        (PROMISED, {"roc_auc": None}, 500, "one class"),
        (PROMISED, {}, 0, "only 0 outcomes"),
    ],
)
def test_what_cannot_be_said_is_no_decay_and_says_why(promised, served, labelled, why):
    found = judge(Decay(), promised, served, labelled)
    assert not found.decayed
    assert found.drop is None
    assert why in found.reason
