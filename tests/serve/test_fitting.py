import pytest

from rayplat.serve.admission.limits import UNLIMITED, Limits
from rayplat.serve.fitting import check_fits
from rayplat.serve.request import RequestError


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (Limits(rate=5.0, burst=20.0), 20),
        (Limits(rate=5.0), 5),
        (Limits(rate=0.1), 1),
        (Limits(daily=7), 7),
        (Limits(rate=5.0, burst=20.0, daily=10), 10),
    ],
)
def test_more_than_a_limit_ever_lets_through_is_told_with_how_many_fit(limits, most):
    check_fits(limits, most)
    with pytest.raises(RequestError, match=f"at most {most}") as refused:
        check_fits(limits, most + 1)
    assert refused.value.status == 413


def test_without_limits_any_number_fits():
    check_fits(UNLIMITED, 10_000)
