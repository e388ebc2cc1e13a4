"""`rayplat features prove`: were the served features what could be known?

Knows which logs are read and how the outcome is shown; it does not know how a vector is proved.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import fields, listing
from rayplat.cli.parameters import ProjectAddress, parse_time
from rayplat.core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.features.parity.report import ParityReport
    from rayplat.features.parity.vectors import VectorLog
    from rayplat.wiring import Platform

_SAMPLE = 10_000


def prove(
    call: Call,
    project: ProjectAddress,
    *,
    view: Annotated[list[str] | None, typer.Option(help="Only this view; may be repeated.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Asked from this time on, ISO 8601.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="TIME", help="Asked before this time.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help=f"So many vectors of each log; {_SAMPLE:,} if not given.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every vector.")] = False,
    seed: Annotated[int, typer.Option(help="Draws the sample.")] = 0,
) -> None:
    """Make served features anew from the lakehouse and compare them bit by bit; a difference ends with 1."""
    from rayplat.features.parity.prove import prove as prove_log

    if sample is not None and all_:
        raise UserError("--sample and --all were both given", "give one of them")
    loaded = call.project(project)
    unknown = sorted(set(view or []) - {v.name for v in loaded.views})
    if unknown:
        known = ", ".join(v.name for v in loaded.views)
        raise NotFoundError(f"the project has no views {unknown}", f"there is: {known}")
    platform = call.platform()
    reports = {
        name: prove_log(
            platform.lake,
            loaded.views,
            log,
            only=view or (),
            start=None if start is None else parse_time(start),
            end=None if to is None else parse_time(to),
            sample=None if all_ else sample or _SAMPLE,
            seed=seed,
        )
        for name, log in _logs(platform, [endpoint.name for endpoint in loaded.endpoints]).items()
    }
    call.show(reports, lambda: _text(reports))
    if not all(report.proven for report in reports.values()):
        raise typer.Exit(1)


def _logs(platform: "Platform", endpoints: list[str]) -> "dict[str, VectorLog]":
    """The logs, by what people call them; what waits to be committed is committed first."""
    from rayplat.features.parity.log import open_feature_log
    from rayplat.features.parity.vectors import FeatureVectors, Predictions
    from rayplat.serve.prediction_log import PredictionLog

    open_feature_log(platform.settings, platform.lake).recover()
    PredictionLog(platform.settings).drain(platform.lake, platform.settings, platform.bus)
    return {
        "features": FeatureVectors(platform.lake),
        **{f"endpoint {name}": Predictions(platform.lake, name) for name in endpoints},
    }


def _text(reports: "dict[str, ParityReport]") -> "RenderableType":
    from rich.console import Group

    parts: list[RenderableType] = []
    for name, report in reports.items():
        counts = {
            "log": name,
            "vectors": report.vectors,
            "identical": report.identical,
            "lagging": report.lagging,
            "different": report.different,
        }
        parts.append(fields({**counts, **({"unproven": report.unproven} if report.unproven else {})}))
        for title, found in (("differences", report.findings), ("behind", report.stale)):
            rows = [
                {
                    "feature": f.feature,
                    "vectors": f.vectors,
                    "first at": f.at,
                    "entity": f.entity,
                    "served": f.served,
                    "made anew": f.recomputed,
                    "cause": f"{f.cause.kind}: {f.cause.text}",
                }
                for f in found
            ]
            if rows:
                parts.append(listing(rows, title=title))
    return Group(*parts)
