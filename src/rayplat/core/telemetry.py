"""Structured logs and metrics: how every part of rayplat says what it does.

Knows the form of a log line and of a metric's name; it does not know what is logged or measured.
Logs go to stderr, so that the standard output stays a command's answer; passwords in addresses
are masked. structlog and prometheus-client are imported when the first logger or metric is made.
"""

import logging
import re
import sys
import threading
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rayplat.core.errors import BugError, UserError
from rayplat.core.secrets import masked
from rayplat.core.settings import LogSettings

if TYPE_CHECKING:
    import structlog
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.metrics import MetricWrapperBase

    M = TypeVar("M", bound=MetricWrapperBase)
    EventDict = MutableMapping[str, Any]

PREFIX = "rayplat_"
_ROOT = "rayplat"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("auto", "text", "json")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NOT_BASE_UNITS = re.compile(
    r"_(ms|us|ns|millis\w*|micros\w*|minutes?|hours?|days?|kb|kib|mb|mib|gb|gib|percent)(_total)?$"
)

_form = {"json": False}
_metrics: "dict[str, tuple[type[Any], tuple[str, ...], Any]]" = {}
_lock = threading.Lock()


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever sys.stderr is now; a redirected stderr would else be written to when closed."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise BugError(f"the log's stream is always sys.stderr, not {value!r}")


def configure_logging(settings: LogSettings) -> None:
    """Set level and form of all rayplat logs of this process; may be called again.

    Raises:
        UserError: an unknown level or format.
    """
    level, form = settings.level.upper(), settings.format.lower()
    if level not in _LEVELS:
        raise UserError(f"log.level is {settings.level!r}", f"use one of {', '.join(_LEVELS)}")
    if form not in _FORMATS:
        raise UserError(f"log.format is {settings.format!r}", f"use one of {', '.join(_FORMATS)}")
    _form["json"] = form == "json" or (form == "auto" and not sys.stderr.isatty())
    root = logging.getLogger(_ROOT)
    root.setLevel(level)
    root.propagate = False
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())


def get_logger(name: str) -> "structlog.stdlib.BoundLogger":
    """A structured logger: `get_logger("data.ingest").info("committed", rows=10, table="raw.x")`.

    Before `configure_logging`, warnings and errors are printed and the rest is not.
    """
    import structlog

    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name if name.split(".", maxsplit=1)[0] == _ROOT else f"{_ROOT}.{name}"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _mask_secrets,
            _render,
        ],
        cache_logger_on_first_use=False,
    )
    return logger


def _mask_secrets(_logger: Any, _method: str, event: "EventDict") -> "EventDict":
    return {key: masked(key, value) for key, value in event.items()}


def _render(logger: Any, method: str, event: "EventDict") -> tuple[tuple[str], dict[str, bool]]:
    # The trace is in the line already, masked; the standard logger would add it again as it was.
    return (_line(logger, method, event),), {"exc_info": False}


def _line(logger: Any, method: str, event: "EventDict") -> str:
    import structlog

    if _form["json"]:
        return str(structlog.processors.JSONRenderer(default=str)(logger, method, event))
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('logger')}: {event.pop('event')}"
    trace = event.pop("exception", None)
    fields = "".join(f" {key}={value}" for key, value in event.items())
    return f"{head}{fields}" + (f"\n{trace}" if trace else "")


def counter(name: str, help: str, labels: Sequence[str] = ()) -> "Counter":  # noqa: A002  # as in the client
    """A count that only rises. `name` ends in its base unit: `rows_total`, `bytes_total`.

    The prefix `rayplat_` is added where it is missing; the same name gives the same metric.

    Raises:
        BugError: a bad name, a unit that is not a base unit, or the name is taken by another metric.
    """
    from prometheus_client import Counter

    return _metric(Counter, name, help, labels)


def gauge(name: str, help: str, labels: Sequence[str] = ()) -> "Gauge":  # noqa: A002  # as in the client
    """A value that rises and falls; names, and what is raised, as in `counter`."""
    from prometheus_client import Gauge

    return _metric(Gauge, name, help, labels)


def histogram(
    name: str,
    help: str,  # noqa: A002  # as in the client
    labels: Sequence[str] = (),
    buckets: Sequence[float] | None = None,
) -> "Histogram":
    """A distribution, such as `request_seconds`; names, and what is raised, as in `counter`.

    Args:
        buckets: upper bounds in the base unit; prometheus-client's own where not given.
    """
    from prometheus_client import Histogram

    return _metric(Histogram, name, help, labels, **({"buckets": tuple(buckets)} if buckets else {}))


def _metric(kind: "type[M]", name: str, text: str, labels: Sequence[str], **more: Any) -> "M":
    full = name if name.startswith(PREFIX) else PREFIX + name
    if not _NAME.fullmatch(full) or _NOT_BASE_UNITS.search(full):
        raise BugError(
            f"{full!r} is no name for a metric", "lower case, and base units: seconds, bytes, ratio"
        )
    with _lock:
        if full not in _metrics:
            _metrics[full] = (kind, tuple(labels), kind(full, text, tuple(labels), **more))
        known, known_labels, metric = _metrics[full]
    if known is not kind or known_labels != tuple(labels):
        raise BugError(
            f"the metric {full!r} exists as {known.__name__} with labels {known_labels}", "use another name"
        )
    return metric  # type: ignore[no-any-return]  # the dict holds what `kind` made
