"""A command group whose commands are imported when they are called.

Knows the table of nouns: the file of each and the line that the help shows; it does not know what
a command does. The help of the whole reads the table alone, so that it stays quick.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

_PANELS = ("Platform", "Projects", "Data and features", "Models", "Serving", "Watching and answering")


@dataclass(frozen=True, slots=True)
class Noun:
    """A word after `rayplat`: where it is implemented and what it is for."""

    module: str
    help: str
    panel: int


NOUNS: dict[str, Noun] = {
    "up": Noun("rayplat.cli.up", "Start the platform on this machine, or find it running.", 0),
    "down": Noun("rayplat.cli.up", "Stop every process of the platform; state on disk is kept.", 0),
    "status": Noun("rayplat.cli.up", "What runs, what waits and why, and what it has cost.", 0),
    "logs": Noun("rayplat.cli.logs", "What the platform's processes have written.", 0),
    "exec": Noun("rayplat.cli.exec", "Run a command on the head or on a node.", 0),
    "doctor": Noun("rayplat.cli.doctor.command", "Check machine, settings, token, ports, disk, versions.", 0),
    "cluster": Noun("rayplat.cli.cluster", "The cluster file: show, render, check, policies.", 0),
    "config": Noun("rayplat.cli.config", "Settings and where each comes from.", 0),
    "submit": Noun("rayplat.cli.submit", "Run a job on the cluster, and follow its log.", 0),
    "jobs": Noun("rayplat.cli.jobs", "Submit, list, follow, stop and resume jobs on the cluster.", 0),
    "cost": Noun("rayplat.cli.cost", "What the cluster costs, whose it is, and what will come.", 0),
    "dev": Noun("rayplat.cli.dev", "A broker for development.", 0),
    "version": Noun("rayplat.cli.version", "Versions of rayplat and what it stands on.", 0),
    "run": Noun("rayplat.cli.run", "The whole loop of a project, from events to predictions.", 1),
    "project": Noun("rayplat.cli.project", "Check a project.", 1),
    "ingest": Noun("rayplat.cli.ingest", "Take in what the project's topics and references hold.", 2),
    "data": Noun("rayplat.cli.data", "Tables, their rows and their history.", 2),
    "features": Noun("rayplat.cli.features", "List, materialize and look up features.", 2),
    "train": Noun("rayplat.cli.train", "Build the training set, train, register.", 3),
    "tune": Noun("rayplat.cli.tune", "Search a model's space for its best values.", 3),
    "models": Noun("rayplat.cli.models", "Registered models and their versions.", 3),
    "serve": Noun("rayplat.cli.serve", "Deploy, list and delete endpoints.", 4),
    "predict": Noun("rayplat.cli.predict", "Ask an endpoint.", 4),
    "tokens": Noun("rayplat.cli.tokens", "Who may ask endpoints: tokens, their scopes and limits.", 4),
    "labels": Noun("rayplat.cli.labels", "Tell what was true of a prediction.", 4),
    "monitor": Noun(
        "rayplat.cli.monitor", "Performance by day, drift and decay of a project's endpoints.", 5
    ),
    "passport": Noun("rayplat.cli.passport", "Trace a prediction back to its source offsets.", 5),
    "audit": Noun("rayplat.cli.audit", "The log of who did what; verify that nobody edited it.", 5),
}


class LazyGroup(TyperGroup):
    """Shows every noun in the help, and imports the file of the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=noun.help, rich_help_panel=_PANELS[noun.panel])
            for name, noun in NOUNS.items()
        }

    def list_commands(self, ctx: Any) -> list[str]:
        """The nouns in the order of the table."""
        return list(NOUNS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported now."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_noun(name) if stub is not None and name in NOUNS else stub, rest


def load_noun(name: str) -> Any:
    """Import the file of a noun and return its command or group."""
    found = get_command(importlib.import_module(NOUNS[name].module).app)
    # A file may hold several commands without a noun, such as up, down and status.
    inner = getattr(found, "commands", {}).get(name)
    chosen = inner if inner is not None else found
    chosen.name = name
    return chosen
