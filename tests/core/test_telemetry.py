import json
import logging
from collections.abc import Iterator

import pytest

from rayplat.core.errors import BugError, UserError
from rayplat.core.settings import LogSettings
from rayplat.core.telemetry import configure_logging, counter, gauge, get_logger, histogram


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger("rayplat")
    before = (root.level, root.propagate, list(root.handlers))
    yield
    root.level, root.propagate, root.handlers = before[0], before[1], before[2]


def test_a_json_line_holds_the_fields_and_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json", level="INFO"))
    get_logger("data.ingest").info("committed", rows=10, url="postgresql://u:hunter2@h/db")
    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert captured.out == ""
    assert line["event"] == "committed"
    assert line["logger"] == "rayplat.data.ingest"
    assert (line["rows"], line["level"]) == (10, "info")
    assert line["url"] == "postgresql://u:***@h/db"
    assert line["timestamp"].endswith("Z")


def test_configuring_twice_prints_once_and_the_level_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))
    configure_logging(LogSettings(format="text", level="warning"))
    logger = get_logger("x")
    logger.info("quiet")
    logger.warning("loud", n=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("warning rayplat.x: loud n=1")


def test_an_exception_is_logged_with_its_trace_and_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(format="text"))
    address = f"redis://:{'2retnuh'[::-1]}@h/0"
    try:
        raise RuntimeError(f"cannot reach {address}")
    except RuntimeError:
        get_logger("x").exception("failed")
    text = capsys.readouterr().err
    assert "RuntimeError: cannot reach redis://:***@h/0" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("bad", [LogSettings(level="LOUD"), LogSettings(format="xml")])
def test_unknown_settings_are_refused(bad: LogSettings) -> None:
    with pytest.raises(UserError, match="use one of"):
        configure_logging(bad)


def test_the_same_name_is_the_same_metric() -> None:
    rows = counter("test_rows_total", "rows", ["table"])
    assert counter("rayplat_test_rows_total", "rows", ("table",)) is rows
    rows.labels(table="a").inc(3)
    seconds = histogram("test_seconds", "s", buckets=(0.1, 1))
    seconds.observe(0.5)
    gauge("test_bytes", "b").set(7)
    from prometheus_client import REGISTRY

    assert REGISTRY.get_sample_value("rayplat_test_rows_total", {"table": "a"}) == 3
    assert REGISTRY.get_sample_value("rayplat_test_seconds_bucket", {"le": "1.0"}) == 1
    assert REGISTRY.get_sample_value("rayplat_test_bytes") == 7


def test_a_metric_cannot_change_its_kind_or_labels() -> None:
    gauge("test_kind_bytes", "b")
    with pytest.raises(BugError, match="exists as Gauge"):
        histogram("test_kind_bytes", "b")
    with pytest.raises(BugError, match="exists as Gauge"):
        gauge("test_kind_bytes", "b", ["x"])


@pytest.mark.parametrize("name", ["latency_ms", "size_mb_total", "Bad", "wait_minutes", "a-b"])
def test_names_are_lower_case_and_in_base_units(name: str) -> None:
    with pytest.raises(BugError, match="no name for a metric"):
        counter(name, "x")
