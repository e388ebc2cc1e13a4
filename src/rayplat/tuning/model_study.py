"""The study of a project's model, from its training set to a registered candidate.

Knows which parts a study is made of by its options; it does not know how a sitting goes (`study`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.events import AliasMoved, EventBus
from rayplat.core.project.model import HIGHER_IS_BETTER, Model
from rayplat.core.project.project import Project
from rayplat.core.project.space import Space
from rayplat.core.settings import Settings
from rayplat.features.training_set import TrainingSet
from rayplat.registry.store import Registry
from rayplat.train.rows import RowSource
from rayplat.train.trainer import TrainOutcome, train_model
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, KeptStudy, KeptTrial, Objective, read_study
from rayplat.tuning.model_search import GpSearch, TpeSearch
from rayplat.tuning.model_trial import ModelTrial, check_metrics, for_trials
from rayplat.tuning.pareto import front
from rayplat.tuning.pool import RayPool
from rayplat.tuning.population import Population
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import GridSearch, RandomSearch, Search
from rayplat.tuning.states import KeptStates
from rayplat.tuning.stopping import AshaStopping, MedianStop, Stopper
from rayplat.tuning.study import Noted, Outcome, Sitting

if TYPE_CHECKING:
    from rayplat.tuning.group_trial import Elastic

CANDIDATE = "candidate"
SEARCHES = ("auto", "tpe", "gp", "random", "grid", "pbt")
STOPPERS = ("none", "asha", "asha-stopping", "median")
_GP_TRIALS = 100
"""Beyond so many trials a Gaussian process takes longer to propose than what it saves is worth."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a study is done.

    Attributes:
        metrics: the objectives, of `METRICS` and `train_seconds`.
        search: one of `SEARCHES`; see `search_of` for what `auto` is.
        stopper: one of `STOPPERS`; only where there is one objective, and for networks.
        population, interval: members of population-based training (`pbt`), and epochs of a generation.
        workers: how many train at a time, over all trials.
        elastic: trials of a network take in workers that have nothing to do, up to the model's own most.
        usd_per_worker_second: what each costs.
        warm: learn from earlier studies of the same model.
    """

    caps: Caps
    metrics: tuple[str, ...] = ("log_loss",)
    search: str = "auto"
    stopper: str = "none"
    workers: int = 2
    usd_per_worker_second: float | Callable[[], float] = 0.0
    seed: int = 0
    points: int = 5
    population: int = 8
    interval: int = 1
    warm: bool = False
    elastic: bool = True

    def __post_init__(self) -> None:
        check_metrics(self.metrics)
        if self.search not in SEARCHES or self.stopper not in STOPPERS:
            raise UserError(
                f"search {self.search!r}, stopper {self.stopper!r}",
                f"give one of {', '.join(SEARCHES)} and one of {', '.join(STOPPERS)}",
            )
        compares = "pbt" if self.search == "pbt" else self.stopper
        if compares != "none" and len(self.metrics) > 1:
            raise UserError(
                f"{compares!r} compares one objective, not {len(self.metrics)}",
                "name one metric, or let every trial run to its end",
            )
        if self.search == "pbt" and self.stopper != "none":
            raise UserError(
                f"population-based training beside the stopper {self.stopper!r}",
                "leave the stopper out: a population replaces its worst members itself",
            )
        if self.workers < 1:
            raise UserError(f"a study with {self.workers} workers", "give at least 1")
        if self.caps.dollars is not None and self.price() <= 0:
            raise UserError("a cap in money needs the price of a worker", "give its price by the hour")

    def price(self) -> float:
        """What a worker costs by the second, now."""
        given = self.usd_per_worker_second
        return given() if callable(given) else given


def search_of(space: Space, options: Options) -> Callable[[int], Search]:
    """Makes the search, given how many trials there are already.

    `auto` is a Gaussian process where it learns from every trial (none is stopped, one objective, no
    dimension is conditional) and they are few, else TPE.
    """
    if options.search in {"auto", "gp"}:
        few = options.caps.trials is not None and options.caps.trials <= _GP_TRIALS
        whole = options.stopper == "none" and len(options.metrics) == 1
        plain = not any(d.when for d in space.dimensions.values())
        if options.search == "gp" or (few and whole and plain):
            return lambda told: GpSearch(space, len(options.metrics), options.seed, told)
    if options.search == "random":
        return lambda told: RandomSearch(space, options.seed)
    if options.search == "grid":
        return lambda told: GridSearch(space, options.points)
    return lambda told: TpeSearch(space, len(options.metrics), options.seed, told)


def stopper_of(name: str) -> Stopper | None:
    """A stopper by its name."""
    made: dict[str, Stopper | None] = {
        "none": None,
        "asha": Asha(),
        "asha-stopping": AshaStopping(),
        "median": MedianStop(),
    }
    return made[name]


def kept_states(settings: Settings, model: str, study: str) -> KeptStates:
    """Where the trials of a study keep what they need to go on."""
    return KeptStates(f"{settings.warehouse.rstrip('/')}/trials/{model}/{study}")


def _parts(space: Space, options: Options) -> tuple[Stopper | None, Callable[[int], Search]]:
    """What stops trials and what proposes them; a population is both."""
    if options.search != "pbt":
        return stopper_of(options.stopper), search_of(space, options)
    population = Population(space, options.seed, size=options.population, interval=options.interval)
    return population, lambda told: population


def _gpus(model: Model, workers: int) -> float:
    """Of each worker: what the model asks for, or one where there are enough of them."""
    import ray

    if model.training.gpus is not None:
        return model.training.gpus
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return 1.0 if resources.get("GPU", 0.0) >= workers else 0.0


def elastic_of(model: Model, options: Options, gpus: float) -> "Elastic | None":
    """What makes trials groups; None where the model has one worker at most, or they are not to be.

    Raises:
        UserError: the study has fewer workers than one trial needs.
    """
    least, most = model.workers
    if model.kind != "torch" or most == 1 or not options.elastic:
        return None
    if least > options.workers:
        raise UserError(
            f"a study with {options.workers} workers of a model that needs {least}",
            "give as many workers, or train each trial on one: --no-elastic",
        )
    from rayplat.tuning.group_trial import Elastic

    return Elastic.open(options.workers, model.training.cpus, gpus, model.workers)


def tune_model(  # noqa: PLR0917  # the parts of a platform, in the order of its layers
    settings: Settings,
    project: Project,
    model: Model,
    training_set: TrainingSet,
    study: str,
    options: Options,
    noted: Noted,
) -> Outcome:
    """Hold a sitting over the study of a model; a study of that name goes on. Ray must be connected.

    The training rows are read once and lie once in each node's shared memory.

    Raises:
        UserError: the model declares no space.
        ConflictError: another driver has taken the study over.
    """
    import ray

    if model.space is None:
        raise UserError(
            f"model {model.name!r} declares no space", "declare one: space=rp.Space(lr=rp.Float(…))"
        )
    order = ("at", *(k for k in model.rows.key if k != "at"))
    source = RowSource(
        settings, training_set.table, training_set.snapshot_id, tuple(model.feature_names), order
    )
    shared = ray.put(for_trials(source.read()))
    gpus = _gpus(model, options.workers)
    elastic = elastic_of(model, options, gpus)
    address = project.address or project.where.file
    tried = ModelTrial(address, model.name, shared, options.metrics, elastic)
    stopper, search = _parts(model.space, options)
    if stopper is not None and model.kind != "torch":
        raise UserError(
            f"model {model.name!r} is of the kind {model.kind!r}, whose trials report nothing on their way",
            "leave the stopper out, and search by auto, tpe, gp, random or grid",
        )
    objectives = [Objective(m, m in HIGHER_IS_BETTER) for m in options.metrics]
    journal = Journal(settings.database, study, model.name, objectives, model.space)
    at_a_time = options.workers // model.workers[0] if elastic else options.workers
    cpus, steps = model.training.cpus, stopper is not None
    pool = RayPool(tried, workers=at_a_time, cpus=cpus, gpus=gpus, steps=steps, lender=elastic)
    try:
        return Sitting(
            journal,
            search,
            pool,
            options.caps,
            stopper=stopper,
            dollars_per_second=lambda: options.price() * options.workers,
            warm=options.warm,
            noted=noted,
            states=kept_states(settings, model.name, study) if stopper is not None or elastic else None,
        ).run()
    finally:
        pool.close()
        if elastic is not None:
            elastic.close()
        journal.close()


def best_of(settings: Settings, study: str) -> tuple[KeptStudy, KeptTrial]:
    """The study and its best trial; of several objectives, the best by the first.

    Raises:
        NotFoundError: no such study, or none of its trials is complete.
    """
    kept = read_study(settings.database, study)
    best = front(kept)
    if not best:
        raise NotFoundError(f"no trial of study {study!r} is complete", "run it on with higher caps")
    return kept, best[0]


def register_candidate(  # noqa: PLR0917  # as `tune_model`
    settings: Settings,
    project: Project,
    model: Model,
    training_set: TrainingSet,
    registry: Registry,
    bus: EventBus,
    study: str,
    noted: Noted,
) -> TrainOutcome:
    """Train the best values on all training rows, and point the alias `candidate` at that version.

    Doing it twice trains once. What trials kept to go on is removed: the study is done.
    """
    _, best = best_of(settings, study)
    outcome = train_model(settings, project, model, training_set, registry, bus, noted, best.params)
    kept_states(settings, model.name, study).forget()
    current = registry.by_alias(model.name, CANDIDATE)
    if current is None or current.version != outcome.version:
        reason = f"trial {best.number} of study {study}"
        previous = registry.set_alias(model.name, CANDIDATE, outcome.version, settings.user, reason)
        bus.emit(
            AliasMoved(
                model=model.name,
                alias=CANDIDATE,
                version=outcome.version,
                previous=previous,
                actor=settings.user,
                reason=reason,
            )
        )
    return outcome
