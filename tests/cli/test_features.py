"""`rayplat features`: what is declared, what was applied, who uses it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.core.project.projects import GOOD

Run = Callable[..., Ran]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.py"
    text = GOOD.replace('"customer": "string"', '"customer": rp.Column("string", pii=True)')
    spent = 'spending = shop.feature_view(\n    "spending",'
    assert spent in text
    text = text.replace(spent, f'{spent}\n    owner="team@example.com",\n    tags={{"tier": "gold"}},')
    file.write_text(text)
    return file


def test_views_are_listed(rayplat: Run, shop: Path) -> None:
    found = rayplat("features", "list", str(shop), "--output", "json").data
    assert [(row["view"], row["kind"]) for row in found] == [
        ("large", "request"),
        ("spending", "window"),
        ("last", "row"),
    ]
    assert (found[1]["owner"], found[1]["tags"]) == ("team@example.com", {"tier": "gold"})
    assert "spending" in rayplat("features", "list", str(shop)).out


def _kinds(ran: Ran) -> list[tuple[str, int]]:
    assert ran.code == 0, ran.err
    return [(row["kind"], row["version"]) for row in ran.data]


def test_definitions_are_applied_shown_and_changed(rayplat: Run, shop: Path) -> None:
    def told(verb: str) -> list[tuple[str, int]]:
        return _kinds(rayplat("features", verb, str(shop), "--output", "json"))

    assert told("diff") == told("apply") == [("new", 1)] * 3
    assert told("apply") == [("same", 1)] * 3
    ran = rayplat("features", "show", str(shop), "spending", "--output", "json")
    assert ran.code == 0, ran.err
    found = ran.data
    assert found["features"] == {"mean_7d": {"type": "Float64", "made_of": ["raw.orders.amount"]}}
    assert (found["personal"], found["personal_keys"]) == ([], ["customer"])
    assert (found["version"], found["versions"][0]["version"]) == (1, 1)
    assert (found["models"], found["endpoints"], found["used_by"]) == (["returned"], ["returned"], [])
    assert found["freshness"]["materialized"] is False
    assert found["asks"] == ["customer"]
    text = rayplat("features", "show", str(shop), "spending").out
    assert "team@example.com" in text
    assert "raw.orders.amount" in text

    shop.write_text(shop.read_text().replace('rp.window("7d")', 'rp.window("8d")'))
    assert told("diff") == [("same", 1), ("changed", 2), ("same", 1)]
    assert "window 7 days, 0:00:00 -> 8 days, 0:00:00" in rayplat("features", "diff", str(shop)).out
    assert told("apply") == [("same", 1), ("changed", 2), ("same", 1)]


def test_an_unknown_view_is_told(rayplat: Run, shop: Path) -> None:
    ran = rayplat("features", "show", str(shop), "spendings")
    assert ran.code != 0
    assert "the project has no view 'spendings'" in ran.err
