"""The project: a named collection of declarations that is validated as a whole.

Knows what was declared and where; it does not know how anything is carried out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.project.check import Check, TableCheck
from rayplat.core.project.model import (
    Autoscale,
    Decay,
    Drift,
    Endpoint,
    Gate,
    Label,
    Model,
    Monitor,
    Replay,
)
from rayplat.core.project.source import Late, Source
from rayplat.core.project.table import Clustering, Column, Table
from rayplat.core.project.view import FeatureView, RequestView, View, WindowAggregate
from rayplat.core.project.where import caller

if TYPE_CHECKING:
    import polars as pl

TrainFunction = Callable[[Any], None]


# The functions here give a value of a wrong type back as it is: the validation then reports it with its
# place, together with everything else, where an exception would hide the faults that come after it.
def _tuple(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return tuple(value)


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _tuple(value)


def _iterated(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _row_checks(checks: Any) -> Any:
    given = _tuple(checks)
    return tuple(c for c in given if not isinstance(c, TableCheck)) if isinstance(given, tuple) else given


def _columns(columns: Any, must: set[str]) -> Any:
    if not isinstance(columns, Mapping):
        return columns
    return {c: Column(t, nullable=c not in must) if isinstance(t, str) else t for c, t in columns.items()}


def _features(features: Any) -> Any:
    return dict(features) if isinstance(features, Mapping) else features


def _utc(value: Any) -> Any:
    """A time from a datetime or ISO text; a time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Project:
    """Everything that a team declares: tables, feature views, models, endpoints and monitors.

    Declaring does not raise on a wrong value: `rayplat.core.project.load.load_project` validates the
    whole and lists every fault with its place.

    Args:
        name: the project's name: lower case, digits and underscores.
        owner: who answers for it: an address that people can write to.
    """

    def __init__(self, name: str, *, owner: str, description: str = "") -> None:
        self.name = name
        self.owner = owner
        self.description = description
        self.where = caller()
        self.address = ""
        self.tables: list[Table] = []
        self.views: list[View] = []
        self.models: list[Model] = []
        self.endpoints: list[Endpoint] = []
        self.monitors: list[Monitor] = []
        self.replays: list[Replay] = []

    def table(
        self,
        name: str,
        *,
        columns: Mapping[str, Column | str],
        key: str | Sequence[str],
        event_time: str | None = None,
        known_at: str | None = None,
        source: Source | None = None,
        checks: Sequence[Check | TableCheck] = (),
        partition_by: str | Sequence[str] = (),
        sort_by: str | Sequence[str] = (),
        cluster_by: Clustering | None = None,
        retention: timedelta | None = None,
        mode: str = "append",
        late: Late | None = None,
        layout: str = "compact",
        description: str = "",
    ) -> Table:
        """Declare a table; what each argument means is told by `Table`.

        A column given as text (`"float64"`) is a nullable column of that type. `checks` takes promises
        of rows (`rp.in_range`) and of the table (`rp.unique`) alike.
        """
        keys = _names(key)
        must = {n for n in (*_iterated(keys), event_time, known_at) if isinstance(n, str)}
        table = Table(
            name=name,
            columns=_columns(columns, must),
            key=keys,
            event_time=event_time,
            known_at=known_at,
            source=source,
            checks=_row_checks(checks),
            description=description,
            where=caller(),
            table_checks=tuple(c for c in _iterated(_tuple(checks)) if isinstance(c, TableCheck)),
            partition_by=_names(partition_by),
            sort_by=_names(sort_by),
            cluster_by=cluster_by,
            retention=retention,
            mode=mode,
            late=late,
            layout=layout,
        )
        self.tables.append(table)
        return table

    def feature_view(
        self,
        name: str,
        *,
        source: Table,
        entity: str | Sequence[str],
        features: "Mapping[str, pl.Expr | WindowAggregate]",
        ttl: timedelta | None = None,
        description: str = "",
    ) -> FeatureView:
        """Declare features of an entity, from the rows of `source` that are known at the time asked."""
        view = FeatureView(name, source, _names(entity), _features(features), ttl, description, caller())
        self.views.append(view)
        return view

    def request_view(
        self, name: str, *, source: Table, features: "Mapping[str, pl.Expr]", description: str = ""
    ) -> RequestView:
        """Declare features of the asking row itself; `source` is the table whose rows ask."""
        view = RequestView(name, source, _features(features), description, caller())
        self.views.append(view)
        return view

    def model(
        self,
        name: str,
        *,
        rows: Table,
        label: Label,
        features: Sequence[View],
        train_until: datetime | str,
        test_until: datetime | str,
        network: Callable[[int], Any],
        workers: tuple[int, int] = (1, 2),
        gates: Sequence[Gate] = (),
        seed: int = 0,
        description: str = "",
    ) -> Callable[[TrainFunction], TrainFunction]:
        """Declare a binary classifier; decorates its training function."""
        where = caller()

        def declare(train: TrainFunction) -> TrainFunction:
            self.models.append(
                Model(
                    name=name,
                    rows=rows,
                    label=label,
                    features=_tuple(features),
                    train_until=_utc(train_until),
                    test_until=_utc(test_until),
                    network=network,
                    train=train,
                    workers=workers,
                    gates=_tuple(gates),
                    seed=seed,
                    description=description,
                    where=where,
                )
            )
            return train

        return declare

    def endpoint(self, name: str, *, model: str, autoscale: Autoscale | None = None) -> Endpoint:
        """Declare an HTTP endpoint that answers with the champion of `model`."""
        endpoint = Endpoint(name, model, autoscale or Autoscale(), caller())
        self.endpoints.append(endpoint)
        return endpoint

    def monitor(
        self, name: str, *, endpoint: str, drift: Drift | None = None, decay: Decay | None = None
    ) -> Monitor:
        """Declare what is watched of an endpoint."""
        monitor = Monitor(name, endpoint, drift or Drift(), decay or Decay(), caller())
        self.monitors.append(monitor)
        return monitor

    def replay(
        self,
        *,
        history_until: datetime | str,
        live_until: datetime | str,
        tick: timedelta = timedelta(hours=1),
    ) -> Replay:
        """Declare how the recorded world is told again on a laptop."""
        replay = Replay(_utc(history_until), _utc(live_until), tick)
        self.replays.append(replay)
        return replay
