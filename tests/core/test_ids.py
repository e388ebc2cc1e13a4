import pytest

from rayplat.core.errors import UserError
from rayplat.core.ids import new_prediction_id, parse_prediction_id


def test_ids_are_distinct_sortable_by_time_and_parse() -> None:
    made = [new_prediction_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert made == sorted(made)
    assert parse_prediction_id(made[0]) == made[0]


@pytest.mark.parametrize(
    "bad", ["", "prd_", "prd_xyz", "x" * 36, "prd_" + "G" * 32, "0" * 32, "prd_" + "a" * 33]
)
def test_bad_ids_are_refused_with_what_was_seen(bad: str) -> None:
    with pytest.raises(UserError, match="is not a prediction id"):
        parse_prediction_id(bad)
