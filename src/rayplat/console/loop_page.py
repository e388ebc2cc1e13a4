"""The page of a loop: one HTML file with everything that happened, that needs no network to be read.

Knows how the facts and plots of `loop_data` and `plots` come together; it does not compute either.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayplat.console import plots
from rayplat.console.loop_data import Tile, curves, evaluation, scores, table_rows
from rayplat.core.errors import UserError
from rayplat.core.project.model import METRICS, Monitor
from rayplat.delivery.parts import Parts
from rayplat.delivery.pipeline import LoopReport
from rayplat.monitoring.watch import WatchReport
from rayplat.train.trainer import TrainOutcome

if TYPE_CHECKING:
    from rayplat.governance.passport import Node

_MOST_FEATURES = 14  # the map shows the features that moved most


def write_page(parts: Parts, report: LoopReport, path: Path) -> Path:
    """Write the page.

    Args:
        parts: where runs, artifacts and tables are read.
        report: of a loop that went through.
        path: the file to write.

    Returns:
        The path.

    Raises:
        UserError: the loop did not get as far as a model and a report of its monitor.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if report.outcome is None or report.watched is None:
        raise UserError("there is nothing to show yet", "let the loop run to its end first")
    templates = Environment(
        loader=PackageLoader("rayplat.console"), autoescape=True, undefined=StrictUndefined
    )
    page = {
        **_head(parts, report, report.outcome, report.watched),
        **_learning(parts, report, report.outcome),
        **_service(report, report.outcome, report.watched),
        "passport": _root(report),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(templates.get_template("loop.html.j2").render(page=page))
    draft.replace(path)
    return path


def _root(report: LoopReport) -> "Node | None":
    return report.passport.root if report.passport else None


def _head(parts: Parts, report: LoopReport, outcome: TrainOutcome, watched: WatchReport) -> dict[str, Any]:
    rows = table_rows(parts.lake, report.project)
    predictions = sum(day.count for day in watched.days)
    return {
        "project": report.project.name,
        "description": report.project.description,
        "owner": report.project.owner,
        "tables": rows,
        "tiles": [
            Tile("rows in the tables", f"{sum(r.rows for r in rows):,}"),
            Tile("ROC AUC on the test period", f"{outcome.metrics['roc_auc']:.4f}"),
            Tile("predictions answered", f"{predictions:,}"),
            Tile("of them with a label by now", f"{sum(day.labelled for day in watched.days):,}"),
            Tile("features that drifted", f"{len(watched.drifted)} of {len(watched.overall)}"),
            Tile("version in service", str(watched.version or outcome.version)),
        ],
        "footer": "Wall time of the steps: "
        + ", ".join(f"{title.lower()} {seconds:.1f} s" for title, seconds in report.seconds.items()),
    }


def _learning(parts: Parts, report: LoopReport, outcome: TrainOutcome) -> dict[str, Any]:
    rows = evaluation(outcome)
    label = rows["label"].cast(float).to_numpy()
    named = {
        "this model": rows["probability"].cast(float).to_numpy(),
        "gradient boosting": rows["gradient_boosting"].cast(float).to_numpy(),
    }
    built = report.training_set
    counts = f"{built.rows_train:,} rows to learn from, {built.rows_test:,} to test on" if built else ""
    reason = report.promotion.verdict.reason if report.promotion else ""
    return {
        "model_sentence": f"{report.model.name} version {outcome.version}: {counts}. Gates: {reason}.",
        "metric_names": METRICS,
        "scores": scores(outcome),
        "loss_svg": plots.loss_curve(curves(parts, outcome)),
        "precision_recall_svg": plots.precision_recall(label, named),
        "calibration_svg": plots.calibration(label, named),
    }


def _service(report: LoopReport, outcome: TrainOutcome, watched: WatchReport) -> dict[str, Any]:
    monitor = _monitor(report, watched)
    metric = monitor.decay.metric
    days = [day.day for day in watched.days]
    names = [f"{day:%d %b}" for day in days]
    worst = sorted(watched.overall, key=lambda name: -watched.overall[name].psi)[:_MOST_FEATURES]
    psi = np.array(
        [[found.psi if (found := watched.drift[n].get(d)) else np.nan for d in days] for n in worst]
    ).reshape(len(worst), len(days))
    seen = [f for f in watched.freshness if f.p50_s is not None and f.p95_s is not None]
    return {
        "service_sentence": f"{watched.decay.metric}: {watched.decay.reason}. "
        f"{watched.unlabelled:,} predictions have no label yet.",
        "watched_metric": metric,
        "psi_over": monitor.drift.psi_over,
        "performance_svg": plots.by_day(
            names, [day.metrics.get(metric) for day in watched.days], outcome.metrics[metric], metric
        ),
        "drift_svg": plots.drift_map(names, worst, psi, monitor.drift.psi_over),
        "freshness_svg": plots.freshness(
            [f.view for f in seen], [f.p50_s or 0.0 for f in seen], [f.p95_s or 0.0 for f in seen]
        ),
    }


def _monitor(report: LoopReport, watched: WatchReport) -> Monitor:
    return next(m for m in report.project.monitors if m.name == watched.monitor)
