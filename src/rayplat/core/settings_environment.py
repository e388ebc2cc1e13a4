"""The process's environment, for what children and SDKs need of it.

Knows how to read it whole, how to hand settings to a child, and how to set what an SDK reads only
from there; it does not know what a variable means to Ray or to the settings.
"""

import json
import os
from collections.abc import Mapping

from pydantic import BaseModel

from rayplat.core.settings import Settings


def process_environment() -> dict[str, str]:
    """A copy of this process's environment, for a child's."""
    return dict(os.environ)


def set_for_sdk(variables: Mapping[str, str]) -> None:
    """Set variables that an SDK reads only from its own process's environment."""
    os.environ.update(variables)


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as RAYPLAT_* variables, so that a job on the cluster has the platform's own.

    Only what differs from the defaults is named, and the home always, as an absolute path.
    """
    variables: dict[str, str] = {}
    plain = settings.model_dump(mode="json")
    default = Settings(home=settings.home).model_dump(mode="json")
    for key, value in plain.items():
        if isinstance(getattr(settings, key), BaseModel):
            for inner, inner_value in value.items():
                if inner_value != default[key][inner]:
                    text = json.dumps(inner_value) if isinstance(inner_value, dict) else str(inner_value)
                    variables[f"RAYPLAT_{key}__{inner}".upper()] = text
        elif value != default[key] or key == "home":
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            variables[f"RAYPLAT_{key}".upper()] = text
    return variables
