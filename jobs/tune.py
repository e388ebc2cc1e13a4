"""Tune every model of the project that declares a space, and register the best of each as its candidate.

ray job submit --working-dir . -- python jobs/tune.py --project PROJECT

Networks are tuned with early stopping; submitted again it goes on where it was.
"""

from job import run_job

from rayplat.core.errors import UserError
from rayplat.core.project.project import Project
from rayplat.features.training_set import build_training_set
from rayplat.tuning.caps import Caps
from rayplat.tuning.model_study import Options, register_candidate, tune_model
from rayplat.wiring import Platform

TRIALS = 50


def tune(platform: Platform, project: Project) -> object:
    done = []
    spaced = [model for model in project.models if model.space is not None]
    if not spaced:
        raise UserError(
            f"no model of {project.name} declares what is to be tuned", "give one `space=rp.Space(...)`"
        )
    for model in spaced:
        options = Options(Caps(trials=TRIALS), stopper="asha" if model.kind == "torch" else "none")
        built = build_training_set(platform.lake, model, platform.bus)
        tune_model(platform.settings, project, model, built, model.name, options, print)
        done.append(
            register_candidate(
                platform.settings, project, model, built, platform.registry, platform.bus, model.name, print
            )
        )
    return done


if __name__ == "__main__":
    run_job(tune, str(__doc__))
