import pytest

from rayplat.console.cost_page import Section, write_cost_page
from rayplat.console.cost_plots import ahead, stacked, waterfall


def test_bars_name_the_dearest_put_the_rest_together_and_idle_apart() -> None:
    amounts = {f"team{n}": [float(n), 1.0] for n in range(10)} | {"(idle)": [5.0, 5.0]}
    svg = stacked(["Mon", "Tue"], amounts)
    assert "team9" in svg
    assert "3 others" in svg
    assert "team0<" not in svg
    assert ">idle<" in svg
    assert svg == stacked(["Mon", "Tue"], amounts), "the same page for the same numbers"


@pytest.mark.parametrize("end", [(100.0, 90.0, 80.0, 120.0), (None, 90.0, None, None)])
def test_the_month_shows_budgets_and_a_trend_only_where_there_is_one(
    end: tuple[float | None, float, None, None],
) -> None:
    svg = ahead([5.0, 6.0], 2, 31, end, {"team vision": 110.0})
    assert "team vision" in svg
    assert ("by trend" in svg) is (end[0] is not None)


def test_savings_lead_from_the_alternative_to_what_was_paid() -> None:
    svg = waterfall(100.0, {"elasticity": 50.0, "spot": 20.0}, 30.0)
    for text in ("always at peak, on demand", "elasticity", "spot", "-$50", "$30"):
        assert text in svg
    assert "<svg" in waterfall(0.0, {"spot": 0.0}, 0.0)


def test_a_page_escapes_names_and_has_rows(tmp_path) -> None:  # type: ignore[no-untyped-def]
    section = Section("By team", ("a <b>",), "<svg></svg>", ("team", "cost"), (("<script>", "$1.00"),))
    text = write_cost_page(tmp_path / "deep" / "p.html", "Cost", "list prices", [section]).read_text()
    assert "<svg></svg>" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
