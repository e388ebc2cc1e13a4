"""`rayplat predict`: ask an endpoint over HTTP, or score a whole table.

Knows how a question is read from the command line; it does not know how it is answered.
"""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import fields, listing, vars_of
from rayplat.cli.parameters import chosen_model, parse_time
from rayplat.cli.versions import resolve
from rayplat.core.errors import UserError

if TYPE_CHECKING:
    from rayplat.core.project.project import Project
    from rayplat.registry.model import RegisteredVersion
    from rayplat.registry.store import Registry

app = single()

_TABLE = "Table"


@command(app)
def predict(
    call: Call,
    what: Annotated[
        str, typer.Argument(metavar="ENDPOINT|TABLE", help="An endpoint's name or URL; or a table.")
    ],
    *,
    instances: Annotated[
        str | None,
        typer.Option("--json", help="Ask the endpoint: an instance, a list of them, or '-' to read stdin."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Features as of this time, ISO 8601; else an endpoint answers as of now, and the rows of a "
            "table as of their own event times.",
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Score the table by a model of this project.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME[@ALIAS|/VERSION]", help="By this version; else the champion.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only these rows, such as \"origin = 'JFK'\".", rich_help_panel=_TABLE)
    ] = None,
    snapshot: Annotated[
        int | None, typer.Option(help="The table's rows as of this snapshot.", rich_help_panel=_TABLE)
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(help="The table of the predictions; else predictions.MODEL.", rich_help_panel=_TABLE),
    ] = None,
) -> None:
    """Ask an endpoint, or score every row of a table by the same model and features.

    `rayplat predict ENDPOINT --json INSTANCES` answers with an id for each, which `rayplat passport` traces.
    `rayplat predict TABLE --project PROJECT` writes a table of predictions; the same again is found done.
    """
    if instances is not None:
        if project or model or where or snapshot or into:
            raise UserError("--json asks an endpoint, the other options score a table", "give one of them")
        _ask(call, what, instances, at)
        return
    if project is None:
        raise UserError(
            "neither --json nor --project is given",
            "ask an endpoint with --json INSTANCES, or score a table with --project PROJECT",
        )
    _score(call, call.project(project), what, model, at, where=where, snapshot=snapshot, into=into)


def _ask(call: Call, endpoint: str, instances: str, at: str | None) -> None:
    from rayplat.serve.client import predict as ask

    questions = parse_instances(sys.stdin.read() if instances == "-" else instances)
    answer = ask(endpoint if "://" in endpoint else _url(call, endpoint), questions, at)
    call.show(answer, lambda: listing(answer["predictions"]))


def _score(
    call: Call,
    project: "Project",
    table: str,
    model: str | None,
    at: str | None,
    *,
    where: str | None,
    snapshot: int | None,
    into: str | None,
) -> None:
    from rayplat.serve.bulk.plan import Rows
    from rayplat.serve.bulk.score import BulkScoring
    from rayplat.serve.bulk.tasks import HERE_ROWS

    platform = call.platform()
    if platform.lake.table(table).count(snapshot) > HERE_ROWS:
        platform = call.connected()
    version = _version(platform.registry, project, model)
    rows = Rows(table, snapshot, where, None if at is None else parse_time(at))
    bulk = BulkScoring(platform.settings, platform.lake, platform.bus)
    made = bulk.score(project, version, rows, into)
    call.show(made, lambda: fields(vars_of(made)))


def _version(registry: "Registry", project: "Project", model: str | None) -> "RegisteredVersion":
    """The version that is named, or the champion of the model that is named, or of the only model."""
    if model is not None and ("@" in model or "/" in model):
        chosen_model(project, model.partition("@")[0].partition("/")[0])
        return resolve(registry, model)
    return resolve(registry, f"{chosen_model(project, model).name}@champion")


def parse_instances(text: str) -> list[Mapping[str, Any]]:
    """The instances in a JSON text: one object, a list of objects, or {"instances": [...]}.

    Raises:
        UserError: the text is not JSON, or holds something else.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--json is not JSON: {error}", """write --json '{"origin": "JFK"}'""") from None
    if isinstance(found, dict):
        found = found.get("instances", [found])
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise UserError("--json holds no instances", "give an object, or a list of objects")
    return found


def _url(call: Call, endpoint: str) -> str:
    from rayplat.serve.app import endpoint_url

    return endpoint_url(call.connected().settings, endpoint)
