"""What makes the declaration of an endpoint hold together.

Knows the fields, their ranges and what excludes what; it does not know whether a cluster has the room.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from rayplat.core.project.faults import Faults, short
from rayplat.core.project.model import Endpoint
from rayplat.core.project.project import Project
from rayplat.core.project.serving import (
    DAYS,
    LOG_CLASSES,
    Answering,
    Autoscale,
    Hours,
    Logging,
    Multiplex,
    Traffic,
)

_Rule = tuple[str, Callable[[Any], bool], str]
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _enough(value: Any) -> bool:
    return _number(value) and value >= 0


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


_AUTOSCALE: tuple[_Rule, ...] = (
    ("least", _whole(0), "give a number of replicas, 0 or more"),
    ("most", _whole(1), "give a number of replicas, 1 or more"),
    ("cpus", _enough, "give 0 or more"),
    ("gpus", _enough, "give 0 or more"),
    ("ongoing", _positive, "give a number of requests, over 0"),
    ("latency_s", _or_none(_positive), "give seconds, over 0, or None"),
    ("calm_s", _enough, "give seconds, 0 or more"),
    ("idle_s", _enough, "give seconds, 0 or more"),
    ("standbys", _whole(0), "give a number of processes, 0 or more"),
)
_ANSWERING: tuple[_Rule, ...] = (
    ("batch", _whole(1), "give a number of requests, 1 or more"),
    ("at_once", _whole(1), "give a number of requests, 1 or more"),
    ("timeout_s", _positive, "give seconds, over 0"),
    ("waiting", _whole(0), "give a number of connections, 0 or more"),
    ("default", _or_none(_share), "give a probability from 0 to 1, or None"),
    ("model_s", _or_none(_positive), "give seconds, over 0, or None"),
    ("streams", _whole(1), "give a number of streams, 1 or more"),
    ("stream_s", _positive, "give seconds, over 0"),
)
_LOGGING: tuple[_Rule, ...] = (("sample", _share, "give a share from 0 to 1"),)
_TRAFFIC: tuple[_Rule, ...] = (
    ("canary", _share, "give a share from 0 to 1"),
    ("shadow", _share, "give a share from 0 to 1"),
)
_MULTIPLEX: tuple[_Rule, ...] = (
    ("kept", _whole(1), "give a number of models, 1 or more"),
    ("most_mib", _or_none(_positive), "give MiB, over 0, or None"),
)
_PARTS: tuple[tuple[str, type, str, tuple[_Rule, ...]], ...] = (
    ("autoscale", Autoscale, "an rp.Autoscale(…)", _AUTOSCALE),
    ("answering", Answering, "an rp.Answering(…)", _ANSWERING),
    ("logging", Logging, "an rp.Logging(…)", _LOGGING),
    ("traffic", Traffic, "an rp.Traffic(…)", _TRAFFIC),
)


def check_endpoint(endpoint: Endpoint, project: Project, faults: Faults) -> None:
    """Note every fault of an endpoint."""
    where, name = endpoint.where, f"endpoint {endpoint.name!r}"
    faults.name(where, "an endpoint", endpoint.name)
    models = [model for model in project.models if model.name == endpoint.model]
    faults.known(where, f"{name}: the model", endpoint.model, [model.name for model in project.models])
    if not _or_none(_whole(1))(endpoint.version):
        faults.add(
            where, f"{name}: version is {short(endpoint.version)}", "give a version of the model, or None"
        )
    stream: Any = endpoint.stream
    if stream is not None and not callable(stream):
        faults.add(where, f"{name}: stream is {short(stream)}", "give a function that yields parts")
    good = set()
    for part, kind, wanted, rules in _PARTS:
        value: Any = getattr(endpoint, part)
        subject = f"{name}: {part}"
        if faults.expect(where, subject, value, kind, wanted) and _check(
            endpoint, f"{subject}.", value, rules, faults
        ):
            good.add(part)
    if endpoint.multiplex is not None:
        _check_multiplex(endpoint, project, faults)
    if "autoscale" in good:
        _check_replicas(endpoint, faults)
    if "logging" in good and endpoint.logging.durable is not None:
        faults.known(where, f"{name}: logging.durable", endpoint.logging.durable, LOG_CLASSES)
    if "traffic" in good and endpoint.traffic.by is not None and models:
        columns = getattr(models[0].rows, "columns", None)
        if isinstance(columns, Mapping):
            faults.known(where, f"{name}: traffic.by, the column", endpoint.traffic.by, columns)


def _check(endpoint: Endpoint, subject: str, value: Any, rules: tuple[_Rule, ...], faults: Faults) -> bool:
    good = True
    for field, holds, mend in rules:
        given = getattr(value, field)
        if not holds(given):
            faults.add(endpoint.where, f"{subject}{field} is {short(given)}", mend)
            good = False
    return good


def _check_multiplex(endpoint: Endpoint, project: Project, faults: Faults) -> None:
    value: Any = endpoint.multiplex
    where, subject = endpoint.where, f"endpoint {endpoint.name!r}: multiplex"
    if not faults.expect(where, subject, value, Multiplex, "an rp.Multiplex(…)"):
        return
    _check(endpoint, f"{subject}.", value, _MULTIPLEX, faults)
    models, versions = value.models, value.versions
    if faults.expect(where, f"{subject}.models", models, tuple, "a tuple of names of models"):
        for name in models:
            faults.known(where, f"{subject}.models, the model", name, [one.name for one in project.models])
    if faults.expect(where, f"{subject}.versions", versions, tuple, "a tuple of numbers of versions"):
        for number in versions:
            if not _whole(1)(number):
                faults.add(where, f"{subject}.versions: {short(number)}", "give numbers of versions, from 1")


def _check_replicas(endpoint: Endpoint, faults: Faults) -> None:
    where, name, scale = endpoint.where, f"endpoint {endpoint.name!r}", endpoint.autoscale
    if scale.least > scale.most:
        faults.add(
            where, f"{name}: between {scale.least} and {scale.most} replicas", "0 <= least <= most, most >= 1"
        )
    if scale.gpus > 1 and scale.gpus != int(scale.gpus):
        faults.add(where, f"{name}: autoscale.gpus is {scale.gpus}", "give whole GPUs, or a share under 1")
    if not faults.expect(where, f"{name}: autoscale.schedule", scale.schedule, tuple, "a tuple of rp.Hours"):
        return
    for place, hours in enumerate(scale.schedule):
        _check_hours(endpoint, f"{name}: autoscale.schedule[{place}]", hours, faults)


def _check_hours(endpoint: Endpoint, subject: str, hours: Any, faults: Faults) -> None:
    where = endpoint.where
    if not faults.expect(where, subject, hours, Hours, "an rp.Hours(…)"):
        return
    times = [("begin", hours.begin), ("end", hours.end)]
    wrong = [(field, t) for field, t in times if not (isinstance(t, str) and _TIME.fullmatch(t))]
    for field, value in wrong:
        faults.add(where, f"{subject}.{field} is {short(value)}", "give a time of day such as '11:30'")
    if not wrong and hours.begin == hours.end:
        faults.add(where, f"{subject} begins and ends at {hours.begin!r}", "give an end that is another time")
    if not _whole(1)(hours.least) or hours.least > endpoint.autoscale.most:
        faults.add(
            where, f"{subject}.least is {short(hours.least)}", f"give 1 to `most`, {endpoint.autoscale.most}"
        )
    if not isinstance(hours.days, tuple) or not hours.days:
        faults.add(
            where, f"{subject}.days is {short(hours.days)}", f"give some of {', '.join(DAYS)}, as a tuple"
        )
    else:
        for day in hours.days:
            faults.known(where, f"{subject}: the day", day, DAYS)
    if not (isinstance(hours.zone, str) and _known_zone(hours.zone)):
        faults.add(
            where, f"{subject}.zone is {short(hours.zone)}", "give an IANA zone such as 'Europe/Berlin'"
        )


def _known_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True
