"""How an endpoint is to answer, as it is declared: replicas, batches, times, limits, the log and traffic.

Knows the declarations; what makes them hold together is checked beside (`check_endpoint`), and nothing here
knows how any of it is carried out.
"""

from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOG_CLASSES = ("local", "database", "replicated")


@dataclass(frozen=True, slots=True)
class Hours:
    """At least so many replicas at some hours: up before the lunch rush comes.

    Args:
        begin: the time of day of the zone, such as `"11:30"`.
        end: where the hours end; earlier than `begin`: on the next day.
        least: so many replicas at least.
        days: on which days the hours begin.
        zone: an IANA time zone, such as `"Europe/Berlin"`; its daylight saving is followed.
    """

    begin: str
    end: str
    least: int
    days: tuple[str, ...] = DAYS
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Autoscale:
    """Between how many replicas an endpoint scales, and what each asks for.

    Args:
        least: the fewest replicas; 0: none while nobody asks.
        most: the most.
        cpus: of a replica.
        gpus: of a replica; a part of one is a share.
        ongoing: so many requests at a time are right for one replica.
        latency_s: the objective: slower answers call for more replicas; None: there is none.
        calm_s: fewer replicas must have been enough for so long before one is taken away.
        idle_s: nobody must have asked for so long before the last one is.
        standbys: processes of a machine that stand by with the model loaded, each holding its memory.
        schedule: hours with more replicas at least.
    """

    least: int = 1
    most: int = 1
    cpus: float = 0.5
    gpus: float = 0.0
    ongoing: float = 8.0
    latency_s: float | None = None
    calm_s: float = 0.6
    idle_s: float = 60.0
    standbys: int = 0
    schedule: tuple[Hours, ...] = ()


@dataclass(frozen=True, slots=True)
class Answering:
    """How a replica answers.

    Args:
        batch: so many requests are answered together at most; how many are, follows from how many wait.
        at_once: so many may be on their way at a replica; Ray Serve lets no more in.
        timeout_s: so long a request may wait for a replica where there is none.
        waiting: so many connections may wait so on a machine; those beyond are told to come again.
        default: the probability that is answered where every version fails; None: the request fails.
        model_s: a version that takes longer for what it is asked together has failed; None: it may take as
            long as it likes.
        streams: so many answers in parts a replica gives at a time; those beyond are told to come again.
        stream_s: so long an answer in parts may take.
    """

    batch: int = 64
    at_once: int = 64
    timeout_s: float = 30.0
    waiting: int = 1000
    default: float | None = None
    model_s: float | None = None
    streams: int = 16
    stream_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Logging:
    """What of an endpoint's predictions is logged, and how durably.

    Args:
        durable: `local`, `database` or `replicated`; None: as the platform's `serve.log` says.
        sample: the share of predictions that is logged. Those that are not have no passport and cannot be
            compared with their labels.
    """

    durable: str | None = None
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Multiplex:
    """What an endpoint answers with beside its own model, loaded as it is asked for.

    Args:
        models: of the project; the champion of each answers under the model's name.
        versions: of the endpoint's own model; each answers under its number.
        kept: so many of them a replica has loaded at a time; the least recently used one is let go.
        most_mib: so large the artifacts of those are together at most; None: however large they are.
    """

    models: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    kept: int = 4
    most_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """How requests are shared between the versions of a model.

    Args:
        canary: the share that the challenger answers.
        shadow: the share that the challenger is asked too, without being heard.
        by: a column of the request; requests with the same value go to the same version.
    """

    canary: float = 0.0
    shadow: float = 0.0
    by: str | None = None
