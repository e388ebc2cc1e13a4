"""`rayplat version`: what is installed.

Knows which packages matter for a report; it imports none of them.
"""

import platform
from importlib.metadata import PackageNotFoundError, version

from rayplat import __version__
from rayplat.cli.command import Call, command, single
from rayplat.cli.output import fields

PACKAGES = ("ray", "torch", "polars", "pyarrow", "pyiceberg", "mlflow", "confluent-kafka")

app = single()


@command(app)
def version_(call: Call) -> None:
    """Print the versions of rayplat, Python and the packages it stands on."""
    found = {"rayplat": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    call.show(found, lambda: fields(found))
