"""The project: a named collection of declarations that is validated as a whole.

Knows what was declared and where; it does not know how anything is carried out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from rayplat.core.errors import UserError
from rayplat.core.project.check import Check, TableCheck
from rayplat.core.project.model import (
    Decay,
    Drift,
    Endpoint,
    Gate,
    Label,
    Model,
    Monitor,
    Replay,
    no_network,
)
from rayplat.core.project.serving import Answering, Autoscale, Logging, Multiplex, Traffic
from rayplat.core.project.short_forms import (
    as_names,
    as_tuple,
    as_utc,
    columns_of,
    features_of,
    given_or,
    iterated,
    row_checks,
)
from rayplat.core.project.source import Late, Source
from rayplat.core.project.space import Space
from rayplat.core.project.table import Clustering, Column, Table
from rayplat.core.project.training import Training
from rayplat.core.project.view import (
    DerivedView,
    FeatureView,
    PythonFeature,
    RequestView,
    View,
    over_other_names,
)
from rayplat.core.project.where import caller
from rayplat.core.project.window import WindowAggregate

if TYPE_CHECKING:
    import polars as pl

TrainFunction = Callable[[Any], Any]


def _refuse_beside_a_view(**given: Any) -> None:
    beside = sorted(name for name, value in given.items() if value is not None and value != ())
    if beside:
        raise UserError(
            f"a feature view over another view has no {', '.join(beside)} of its own",
            "declare them on that view: this one is computed from its features",
        )


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
        keys = as_names(key)
        must = {n for n in (*iterated(keys), event_time, known_at) if isinstance(n, str)}
        table = Table(
            name=name,
            columns=columns_of(columns, must),
            key=keys,
            event_time=event_time,
            known_at=known_at,
            source=source,
            checks=row_checks(checks),
            description=description,
            where=caller(),
            table_checks=tuple(c for c in iterated(as_tuple(checks)) if isinstance(c, TableCheck)),
            partition_by=as_names(partition_by),
            sort_by=as_names(sort_by),
            cluster_by=cluster_by,
            retention=retention,
            mode=mode,
            late=late,
            layout=layout,
        )
        self.tables.append(table)
        return table

    @overload
    def feature_view(
        self,
        name: str,
        *,
        source: Table,
        entity: str | Sequence[str],
        features: "Mapping[str, pl.Expr | PythonFeature | WindowAggregate]",
        ttl: timedelta | None = None,
        defaults: Mapping[str, Any] | None = None,
        required: str | Sequence[str] = (),
        join_keys: Mapping[str, str] | None = None,
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> FeatureView: ...

    @overload
    def feature_view(
        self,
        name: str,
        *,
        source: FeatureView | DerivedView,
        features: "Mapping[str, pl.Expr | PythonFeature]",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> DerivedView: ...

    def feature_view(
        self,
        name: str,
        *,
        source: Table | FeatureView | DerivedView,
        entity: str | Sequence[str] | None = None,
        features: "Mapping[str, Any]",
        ttl: timedelta | None = None,
        defaults: Mapping[str, Any] | None = None,
        required: str | Sequence[str] = (),
        join_keys: Mapping[str, str] | None = None,
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> FeatureView | DerivedView:
        """Declare features of an entity, from the rows of `source` that are known at the time asked.

        What each argument means is told by `FeatureView`. Where `source` is another view, the features are
        row transforms over its features, which go by their short names; entity and ttl are that view's.

        Raises:
            UserError: a view as a source, with arguments that belong to the view itself.
        """
        if isinstance(source, FeatureView | DerivedView):
            _refuse_beside_a_view(
                entity=entity, ttl=ttl, defaults=defaults, required=required, keys=join_keys
            )
            full = {feature: f"{source.name}__{feature}" for feature in source.features}
            renamed = features_of(features, lambda definition: over_other_names(definition, full))
            view = DerivedView(
                name,
                (source,),
                None,
                renamed,
                description,
                caller(),
                given_or(owner, self.owner),
                given_or(tags, {}),
            )
            self.views.append(view)
            return view
        return self.add_view(
            FeatureView(
                name=name,
                source=source,
                entity=() if entity is None else as_names(entity),
                features=features_of(features),
                ttl=ttl,
                description=description,
                where=caller(),
                owner=given_or(owner, self.owner),
                tags=given_or(tags, {}),
                defaults=given_or(defaults, {}),
                required=as_names(required),
                join_keys=given_or(join_keys, {}),
            )
        )

    def add_view(self, view: FeatureView) -> FeatureView:
        """Take a view that is made of another one: `add_view(weather.with_name("weather_at_dest")…)`.

        Returns:
            the view of the project, for the list of a model's features.
        """
        keys = view.join_keys.values() if isinstance(view.join_keys, Mapping) else ()
        asked = {key for key in keys if isinstance(key, str)}
        known = [v for v in self.views if isinstance(v.features, Mapping) and asked & set(v.names)]
        where = view.where if not view.base else caller()
        taken = replace(view, through=tuple(known), where=where)
        self.views.append(taken)
        return taken

    def request_view(
        self,
        name: str,
        *,
        source: Table,
        features: "Mapping[str, pl.Expr | PythonFeature]",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> RequestView:
        """Declare features of the asking row itself; `source` is the table whose rows ask."""
        view = RequestView(
            name,
            source,
            features_of(features),
            description,
            caller(),
            given_or(owner, self.owner),
            given_or(tags, {}),
        )
        self.views.append(view)
        return view

    def on_demand_view(
        self,
        name: str,
        *,
        views: Sequence[View],
        features: "Mapping[str, pl.Expr | PythonFeature]",
        source: Table | None = None,
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> DerivedView:
        """Declare features made of other views' features and of the asking row; see `DerivedView`."""
        view = DerivedView(
            name=name,
            views=(views,) if isinstance(views, View) else as_tuple(views),
            source=source,
            features=features_of(features),
            description=description,
            where=caller(),
            owner=given_or(owner, self.owner),
            tags=given_or(tags, {}),
        )
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
        network: Callable[[int], Any] | None = None,
        workers: tuple[int, int] = (1, 2),
        gates: Sequence[Gate] = (),
        seed: int = 0,
        suspect_auc: float = 0.98,
        training: Training | None = None,
        kind: str = "torch",
        space: Space | None = None,
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
                    features=as_tuple(features),
                    train_until=as_utc(train_until),
                    test_until=as_utc(test_until),
                    network=no_network if network is None and kind != "torch" else network,  # type: ignore[arg-type]  # validated
                    train=train,
                    workers=workers,
                    gates=as_tuple(gates),
                    seed=seed,
                    description=description,
                    where=where,
                    suspect_auc=suspect_auc,
                    training=Training() if training is None else training,
                    kind=kind,
                    space=space,
                )
            )
            return train

        return declare

    def endpoint(
        self,
        name: str,
        *,
        model: str,
        autoscale: Autoscale | None = None,
        version: int | None = None,
        answering: Answering | None = None,
        logging: Logging | None = None,
        traffic: Traffic | None = None,
        stream: Callable[[Any], Any] | None = None,
        multiplex: Multiplex | None = None,
    ) -> Endpoint:
        """Declare an HTTP endpoint.

        Args:
            model: the name of the model whose champion answers.
            autoscale: how many replicas.
            version: answers instead of the champion; None: the champion, whichever that is.
            answering: batches, times and limits.
            logging: what is logged, and how durably.
            traffic: which share of requests goes to a challenger.
            stream: a generator function that is called with an `rp.StreamRun` and yields the parts of an
                answer, JSON values, for callers who take it so.
            multiplex: further models and versions that it answers with, loaded as they are asked for.
        """
        endpoint = Endpoint(
            name,
            model,
            Autoscale() if autoscale is None else autoscale,
            caller(),
            version,
            Answering() if answering is None else answering,
            Logging() if logging is None else logging,
            Traffic() if traffic is None else traffic,
            stream,
            multiplex,
        )
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
        replay = Replay(as_utc(history_until), as_utc(live_until), tick)
        self.replays.append(replay)
        return replay
