"""`rayplat config`: each setting with its value and where it came from.

Knows how settings are shown; the sources are known in `core.settings_sources`.
"""

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import table
from rayplat.core.settings_sources import explain

app = group("Settings and where each comes from.")


@command(app, "show")
def show_settings(call: Call) -> None:
    """Print every setting, its value (passwords masked) and the source that decided it."""
    found = explain(call.flags)
    call.show(
        found, lambda: table(["setting", "value", "source"], [(e.key, e.value, e.source) for e in found])
    )
