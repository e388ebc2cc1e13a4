"""rayplat: the AI infrastructure platform on Ray.

Knows only which public name lives where; it imports nothing until a name is asked for, so that
`import rayplat` stays cheap and never reaches ray, torch or mlflow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayplat.core.errors import RayplatError, UserError
    from rayplat.core.project.check import (
        Check,
        distribution,
        fresh,
        in_range,
        matches,
        not_null,
        one_of,
        references,
        unique,
        volume,
    )
    from rayplat.core.project.model import Decay, Drift, Gate, Label, Replay
    from rayplat.core.project.project import Project
    from rayplat.core.project.serving import Answering, Autoscale, Hours, Logging, Multiplex, Traffic
    from rayplat.core.project.source import (
        Avro,
        Database,
        Debezium,
        Files,
        Json,
        Kafka,
        Kinesis,
        Late,
        Protobuf,
        Raw,
        Reference,
    )
    from rayplat.core.project.space import Choice, Float, Int, Space
    from rayplat.core.project.table import Column, linear, zorder
    from rayplat.core.project.training import Keep, OnFailure, Prepare, Training
    from rayplat.core.project.view import python
    from rayplat.core.project.window import tumbling, window
    from rayplat.serve.stream_run import StreamRun
    from rayplat.train.estimators.run import EstimatorRun
    from rayplat.train.run import TrainRun

__version__ = "0.1.0"

_HOME_OF = {
    name: module
    for module, names in {
        "rayplat.core.errors": ("RayplatError", "UserError"),
        "rayplat.core.project.model": ("Decay", "Drift", "Gate", "Label", "Replay"),
        "rayplat.core.project.project": ("Project",),
        "rayplat.core.project.check": (
            "Check",
            "distribution",
            "fresh",
            "in_range",
            "matches",
            "not_null",
            "one_of",
            "references",
            "unique",
            "volume",
        ),
        "rayplat.core.project.source": (
            "Avro",
            "Database",
            "Debezium",
            "Files",
            "Json",
            "Kafka",
            "Kinesis",
            "Late",
            "Protobuf",
            "Raw",
            "Reference",
        ),
        "rayplat.core.project.serving": (
            "Answering",
            "Autoscale",
            "Hours",
            "Logging",
            "Multiplex",
            "Traffic",
        ),
        "rayplat.core.project.space": ("Choice", "Float", "Int", "Space"),
        "rayplat.core.project.table": ("Column", "linear", "zorder"),
        "rayplat.core.project.training": ("Keep", "OnFailure", "Prepare", "Training"),
        "rayplat.core.project.view": ("python",),
        "rayplat.core.project.window": ("tumbling", "window"),
        "rayplat.serve.stream_run": ("StreamRun",),
        "rayplat.train.estimators.run": ("EstimatorRun",),
        "rayplat.train.run": ("TrainRun",),
    }.items()
    for name in names
}

__all__ = [
    "Answering",
    "Autoscale",
    "Avro",
    "Check",
    "Choice",
    "Column",
    "Database",
    "Debezium",
    "Decay",
    "Drift",
    "EstimatorRun",
    "Files",
    "Float",
    "Gate",
    "Hours",
    "Int",
    "Json",
    "Kafka",
    "Keep",
    "Kinesis",
    "Label",
    "Late",
    "Logging",
    "Multiplex",
    "OnFailure",
    "Prepare",
    "Project",
    "Protobuf",
    "Raw",
    "RayplatError",
    "Reference",
    "Replay",
    "Space",
    "StreamRun",
    "Traffic",
    "TrainRun",
    "Training",
    "UserError",
    "distribution",
    "fresh",
    "in_range",
    "linear",
    "matches",
    "not_null",
    "one_of",
    "python",
    "references",
    "tumbling",
    "unique",
    "volume",
    "window",
    "zorder",
]


def __getattr__(name: str) -> Any:
    """Import the module that owns a public name when the name is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rayplat' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
