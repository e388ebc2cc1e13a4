"""`rayplat labels`: what was true, told later by prediction id or by a key of the request.

Knows how a label is told and counted; it does not know where labels are kept.
"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields
from rayplat.cli.parameters import At, parse_time
from rayplat.core.errors import UserError

app = group("Tell what was true of a prediction.")

EndpointName = Annotated[str, typer.Argument(metavar="ENDPOINT", show_default=False)]


@command(app)
def tell(
    call: Call,
    endpoint: EndpointName,
    label: Annotated[str, typer.Argument(metavar="true|false", show_default=False)],
    *,
    prediction_id: Annotated[str | None, typer.Option("--id", help="Of one prediction.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Of all whose request holds this; may be repeated."),
    ] = None,
    at: At = None,
) -> None:
    """Write a label; of several for one prediction the one with the latest time counts."""
    from rayplat.serve.log.labels import Told
    from rayplat.serve.log.labels import tell as write

    if label not in ("true", "false"):
        raise UserError(f"{label[:40]!r} is no label", "write true or false")
    platform = call.platform()
    told = Told(
        endpoint=endpoint,
        label=label == "true",
        at=parse_time(at) if at else datetime.now(UTC),
        told_by=platform.settings.user,
        prediction_id=prediction_id,
        key=parse_key(key) if key else None,
    )
    found = {"endpoint": endpoint, "label": told.label, "snapshot_id": write(platform.lake, [told])}
    call.show(found, lambda: fields(found))


@command(app)
def count(call: Call, endpoint: EndpointName) -> None:
    """Count an endpoint's predictions in the lakehouse that have a label."""
    from rayplat.serve.log.labels import labelled

    labels = labelled(call.platform().lake, endpoint)
    found = {"endpoint": endpoint, "labelled": len(labels), "true": sum(labels.values())}
    call.show(found, lambda: fields(found))


def parse_key(pairs: list[str]) -> dict[str, str | int | bool]:
    """`column=value` texts: whole numbers and true/false as such, in quotes always text.

    Raises:
        UserError: a pair is not `column=value`.
    """
    found: dict[str, str | int | bool] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"{pair[:80]!r} is not COLUMN=VALUE", "write for example flight_id=7")
        found[name] = _value(text)
    return found


def _value(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    if text.removeprefix("-").isdecimal() and text.isascii():
        return int(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
