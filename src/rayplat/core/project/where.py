"""Where in the user's files a declaration was written.

Knows how to find the first frame outside rayplat; it does not know what is declared there.
"""

import sys
from pathlib import Path

from rayplat.core.errors import Where

_PACKAGE = str(Path(__file__).resolve().parents[2]) + "/"


def caller() -> Where:
    """The file and line of the nearest caller outside the rayplat package."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and not file.startswith("<"):
            break
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno)
