"""Rows scored and written where they are: what one task of a scoring does.

Knows how a batch of rows becomes data files of predictions; it does not know where batches come from, nor
when the files become a snapshot. A version is loaded once a process.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.load import load_project
from rayplat.core.project.model import Model
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, in_order
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.features.derived import derived_features
from rayplat.serve.assembly import matrix
from rayplat.serve.bulk.scoring import AT, PROBABILITY, SCORING, VERSION, Scoring
from rayplat.serve.evaluation import probabilities
from rayplat.serve.loaded import Loaded, load_version

TIME = "_time"
"""The column of the time that features are as of, where it is the same for all rows."""
FILES = "files"
"""The one column of what a task gives: its data files."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores batches; pickles.

    Args:
        settings: where the registry and the definitions are.
        scoring: what is scored.
        writer: of the table of predictions.
    """

    settings: Settings
    scoring: Scoring
    writer: FileWriter

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score rows and write them; the descriptions of the files, as a table for `files_of`.

        Args:
            rows: the keys, the time, and features or the columns that views of the row itself read.

        Raises:
            UserError: a column is missing or of the wrong kind, or a row has no time.
        """
        files = self.writer.write(self.scored(rows))
        return pa.table({FILES: pa.array([repr(_values(file)) for file in files], pa.string())})

    def scored(self, rows: pa.Table) -> pa.Table:
        """The predictions of rows, in their order, with the columns of the table of predictions."""
        loaded = _loaded(self.settings, self.scoring)
        frame = pl.DataFrame(rows)
        if not joins(loaded.model):
            frame = with_row_features(frame, loaded.model)
        found = probabilities(loaded.network, matrix(frame, loaded.manifest.inputs), self.scoring.model)
        count = len(found)
        time = rows.column(self.scoring.time or TIME)
        if time.null_count:
            raise UserError(
                f"{time.null_count} rows have no time in column {self.scoring.time!r}",
                "leave them out by --where, or score all rows as of one time by --at",
            )
        return pa.table(
            {
                **{name: rows.column(name) for name in self.scoring.keys},
                AT: time.cast(pa.timestamp("us", "UTC")),
                PROBABILITY: pa.array(found),
                VERSION: pa.array(np.full(count, self.scoring.version, np.int32)),
                SCORING: pa.repeat(pa.scalar(self.scoring.key[:24]), count),
            }
        )


def files_of(made: pa.Table) -> Iterator[DataFile]:
    """The data files that a table of `Scorer` describes."""
    for described in made.column(FILES).to_pylist():
        yield DataFile(*ast.literal_eval(described))


def _values(file: DataFile) -> tuple[Any, ...]:
    """The fields of a file: numbers, texts, bytes and mappings of them, which are Python literals."""
    described = dict(file.described)
    return file.path, file.rows, file.bytes, file.sha256, file.spec_id, described


def joins(model: Model) -> bool:
    """Whether features come from other rows than the asking one."""
    return any(isinstance(view, FeatureView) for view in in_order(model.features))


def with_row_features(rows: pl.DataFrame, model: Model) -> pl.DataFrame:
    """The rows with the features of a model whose views all read the row itself."""
    for view in in_order(model.features):
        if isinstance(view, RequestView | DerivedView):
            rows = rows.hstack(derived_features(rows, view))
    return rows


_LOADED: dict[tuple[str, str, str], Loaded] = {}
_MOST_LOADED = 4


def _loaded(settings: Settings, scoring: Scoring) -> Loaded:
    """The version, loaded once a process."""
    import torch

    key = (scoring.project, scoring.model, scoring.manifest_sha256)
    found = _LOADED.get(key)
    if found is None:
        torch.set_num_threads(1)  # tasks are side by side already
        project = load_project(scoring.project)
        found = load_version(settings, project, scoring.model, scoring.artifact_uri, scoring.manifest_sha256)
        while len(_LOADED) >= _MOST_LOADED:
            _LOADED.pop(next(iter(_LOADED)))
        _LOADED[key] = found
    return found
