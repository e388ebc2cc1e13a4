"""The record of a run beside its weights: how it was trained, on what, from which code.

Knows the files and what they hold; it does not know where an artifact is (`registry.artifact`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rayplat.core.errors import NotFoundError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.registry.artifact import read_artifact_file
from rayplat.train.code import code_diff
from rayplat.train.environment import environment_lock
from rayplat.train.goodput.report import GOODPUT, GoodputReport

RUN, LOCK, DIFF = "run.json", "environment.lock", "code.diff"


def record_files(
    project: Project,
    model: Model,
    report: GoodputReport,
    hardware: Mapping[str, str],
    params: Mapping[str, Any],
) -> dict[str, bytes]:
    """The files that explain a run, by name."""
    run = {
        "kind": model.kind,
        "seed": model.seed,
        "workers": list(model.workers),
        "worlds": list(report.worlds),
        "training": asdict(model.training),
        "hardware": dict(hardware),
        "params": dict(params),
    }
    return {
        RUN: json.dumps(run, sort_keys=True, indent=1, default=_named).encode() + b"\n",
        LOCK: environment_lock().encode(),
        DIFF: code_diff(project).encode(),
        GOODPUT: json.dumps(report.as_json(), sort_keys=True).encode() + b"\n",
    }


def _named(function: Any) -> str:
    """A function of the project, as its name: the code itself is pinned beside."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def read_record(uri: str, name: str, manifest_sha256: str | None = None) -> str:
    """The verified text of one of the files; empty where the artifact is of a time before there was one."""
    try:
        return read_artifact_file(uri, name, manifest_sha256).decode()
    except NotFoundError:
        return ""


def read_goodput(uri: str, manifest_sha256: str | None = None) -> GoodputReport | None:
    """What the run's time was spent on, or None where that was not kept."""
    text = read_record(uri, GOODPUT, manifest_sha256)
    return GoodputReport.of_json(json.loads(text)) if text else None


def parameters(run: str) -> dict[str, Any]:
    """The run's declaration as flat parameters, from `run.json`."""
    if not run:
        return {}
    plain = json.loads(run)
    flat: dict[str, Any] = {"kind": plain["kind"], "worlds": ",".join(map(str, plain["worlds"]))}
    for name, value in plain["training"].items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    flat |= {f"params.{name}": value for name, value in plain.get("params", {}).items()}
    return flat | {f"hardware.{name}": value for name, value in plain["hardware"].items()}


def goodput_metrics(report: GoodputReport) -> dict[str, float]:
    """The run's goodput as metrics of the tracked run."""
    shown = report.shown()
    found = {"goodput": float(shown["goodput"]), "goodput.workers_lost": float(report.losses)}
    return found | {f"goodput.{row['spent_on']}_s": float(row["seconds"]) for row in shown["by"]}
