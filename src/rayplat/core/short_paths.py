"""Short paths: where sockets stand whose own folder has a name too long for them.

Knows the temporary folder and how a long path becomes a short one; it does not know who listens there.
"""

import hashlib
import os
import tempfile
from pathlib import Path


def short_path(of: Path, kind: str = "") -> Path:
    """A short path in the temporary folder, the same for the same path: a Unix socket's has few characters.

    Args:
        of: the path that it stands for.
        kind: tells what is there from others that stand for the same path.
    """
    digest = hashlib.sha256(os.fsencode(of)).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"rayplat-{kind}{digest}"
