"""Serves and logs vectors until it is killed: `python -m tests.features.parity.logging_vectors DIR`.

It prints the number of a vector when its future is done.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.log import FeatureLog, vector_lines

AT = datetime(2013, 3, 1, tzinfo=UTC)


def lines(number: int) -> bytes:
    asked = pl.DataFrame({"entity": [f"e{number}"]})
    features = pl.DataFrame({"last__x": [float(number)]})
    return vector_lines(asked, features, AT, digests={"last": "d"}, standing={}, caller="test")


def main(folder: Path) -> None:
    log = FeatureLog(folder / "spools", Lakehouse(Settings(home=folder)), rows=20, seconds=60)
    print("ready", flush=True)
    number = 0
    while True:
        log.append(lines(number))
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
