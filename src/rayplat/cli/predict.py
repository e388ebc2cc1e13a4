"""`rayplat predict`: ask an endpoint over HTTP.

Knows how a question is read from the command line; it does not know how it is answered.
"""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import listing
from rayplat.cli.parameters import At
from rayplat.core.errors import UserError

app = single()


@command(app)
def predict(
    call: Call,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name, or its URL.")],
    instances: Annotated[
        str,
        typer.Option("--json", help="An instance, a list of them, or '-' to read stdin.", show_default=False),
    ],
    at: At = None,
) -> None:
    """Ask for predictions; the answer has an id for each, which `rayplat passport` traces."""
    from rayplat.serve.client import predict as ask

    questions = parse_instances(sys.stdin.read() if instances == "-" else instances)
    answer = ask(endpoint if "://" in endpoint else _url(call, endpoint), questions, at)
    call.show(answer, lambda: listing(answer["predictions"]))


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
