"""Write the figures of a finished loop into README.md.

    rayplat run examples/flights -o json > results.json && python docs/write_results.py results.json

Knows where the figures stand in the README; it measures nothing, every figure is read from the run.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: written by docs/write_results.py -->", "<!-- /results -->"
METRICS = ("roc_auc", "pr_auc", "log_loss", "calibration_error")


def table(run: dict[str, Any]) -> list[str]:
    """The metrics of the model beside those of its baselines, as Markdown."""
    rows = {"the model (two hidden layers)": run["metrics"], **run["baselines"]}
    asked = f"on {run['training_set']['rows_test']:,} flights of August"
    lines = [f"| {asked} | ROC AUC | PR AUC | log loss | calibration error |", "|---|---|---|---|---|"]
    for name, metrics in rows.items():
        values = " | ".join(f"{metrics[m]:.4f}" for m in METRICS)
        lines.append(f"| {name.replace('_', ' ')} | {values} |")
    return lines


def service(run: dict[str, Any]) -> list[str]:
    """What the endpoint did in its week, in a few sentences."""
    watched, decay = run["watched"], run["watched"]["decay"]
    days = watched["days"]
    asked = sum(day["count"] for day in days)
    labelled = sum(day["labelled"] for day in days)
    by_day = ", ".join(f"{day['metrics']['roc_auc']:.2f}" for day in days)
    held = sum(1 for day in days if day["labelled"])
    verdict = "decayed" if watched["decayed"] else "did not decay"
    steps = ", ".join(f"{title.lower()} {seconds:.0f} s" for title, seconds in run["seconds"].items())
    return [
        f"In service: {asked:,} predictions over {held} days, {labelled:,} of them with a label a day later.",
        f"ROC AUC over the week {decay['served']:.4f} (by day {by_day});",
        f"{len(watched['drifted'])} of {len(watched['overall'])} features drifted against the training rows;",
        f"the model {verdict} by its own rule.",
        "",
        f"The loop took {sum(run['seconds'].values()):.0f} s on {os.cpu_count()} cores: {steps}.",
    ]


def main(path: str) -> None:
    """Replace what stands between the two marks."""
    run = json.loads(Path(path).read_text())
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text("\n".join([head + BEGIN, *table(run), "", *service(run), END + tail]))


if __name__ == "__main__":
    main(sys.argv[1])
