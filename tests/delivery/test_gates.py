"""Gates: every branch of the judgement."""

import math

import pytest

from rayplat.core.project.model import Gate
from rayplat.delivery.gates import judge

METRICS = {"roc_auc": 0.75, "log_loss": 0.45}
BASELINES = {"base_rate": {"log_loss": 0.55, "roc_auc": 0.5}, "gradient_boosting": {"log_loss": 0.44}}


@pytest.mark.parametrize(
    ("gate", "passes", "says"),
    [
        (Gate("roc_auc", at_least=0.7), True, "holds its bound"),
        (Gate("roc_auc", at_least=0.75), True, "holds its bound"),
        (Gate("roc_auc", at_least=0.8), False, "0.7500 is under 0.8"),
        (Gate("log_loss", at_most=0.5), True, "holds its bound"),
        (Gate("log_loss", at_most=0.4), False, "0.4500 is over 0.4"),
        (Gate("log_loss", beats="base_rate"), True, "beats base_rate with 0.5500"),
        (Gate("log_loss", beats="gradient_boosting"), False, "does not beat gradient_boosting"),
        (Gate("roc_auc", beats="base_rate"), True, "beats base_rate with 0.5000"),
        (Gate("roc_auc", beats="gradient_boosting"), False, "of gradient_boosting was not measured"),
        (Gate("pr_auc", at_least=0.1), False, "pr_auc was not measured"),
    ],
)
def test_a_gate(gate: Gate, passes: bool, says: str) -> None:
    verdict = judge([gate], METRICS, BASELINES)
    assert verdict.passed is passes
    assert says in verdict.reason


def test_an_equal_baseline_is_not_beaten() -> None:
    assert judge([Gate("log_loss", beats="b")], {"log_loss": 0.5}, {"b": {"log_loss": 0.5}}).passed is False


def test_not_a_number_never_passes() -> None:
    assert judge([Gate("roc_auc", at_least=0.0)], {"roc_auc": math.nan}, {}).passed is False


def test_every_gate_must_pass_and_the_failed_ones_are_told() -> None:
    verdict = judge([Gate("roc_auc", at_least=0.7), Gate("log_loss", at_most=0.1)], METRICS, BASELINES)
    assert verdict.passed is False
    assert "log_loss" in verdict.reason
    assert "roc_auc" not in verdict.reason


def test_no_gate_passes() -> None:
    assert judge([], METRICS, BASELINES).passed is True
