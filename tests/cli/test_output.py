import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rayplat.cli.output import Format, cell, fields, listing, show_error, table, to_json
from rayplat.core.errors import Fault, ProjectError, UnavailableError, Where


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    at: datetime
    share: float


_ROW = _Row("a[b]", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), 1 / 3)


def _text(shown: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(shown)
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (_ROW, {"name": "a[b]", "at": "2024-01-02T03:04:05+00:00", "share": 1 / 3}),
        ({"x": (1, None, True)}, {"x": [1, None, True]}),
        ({3: float("nan"), 4: float("inf")}, {"3": None, "4": None}),
        (timedelta(minutes=2), 120.0),
        (Path("/x"), "/x"),
        (Format.JSON, "json"),
        (np.float64(2.5), 2.5),
        (np.int64(2), 2),
        (b"\xffab", "\ufffdab"),
        ({1}, [1]),
    ],
)
def test_json_is_plain(value: Any, wanted: Any) -> None:
    assert json.loads(to_json(value)) == wanted


def test_text_shows_values_as_they_are() -> None:
    text = _text(listing([_ROW], title="rows"))
    assert "a[b]" in text
    assert "2024-01-02 03:04:05" in text
    assert "0.3333" in text
    assert "things: none" in _text(table(["x"], [], "things"))
    assert "k  -" in _text(fields({"k": None}))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, "-"), ([], "-"), ({"a": 1.5}, "a=1.5"), ((1, 2), "1, 2"), (0, "0"), (False, "False")],
)
def test_cells(value: Any, wanted: str) -> None:
    assert cell(value) == wanted


def test_an_error_says_what_and_mend(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(Format.TEXT, UnavailableError("Kafka [x] does not answer", "start it"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: Kafka [x] does not answer\n  mend: start it\n"
    faults = [Fault(Where("p.py", 3), "a", "b"), Fault(None, "c", "d")]
    show_error(Format.TEXT, ProjectError("p", faults))
    assert "  p.py:3: a\n    mend: b\n  (project): c\n    mend: d\n" in capsys.readouterr().err
