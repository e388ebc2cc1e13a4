"""Build the training set, train and evaluate every model of the project, and promote what passes.

ray job submit --working-dir . -- python jobs/train.py --project examples/flights
"""

from job import run_job

from rayplat.core.project.project import Project
from rayplat.delivery.promotion import promote
from rayplat.features.training_set import build_training_set
from rayplat.train.trainer import train_model
from rayplat.wiring import Platform


def train(platform: Platform, project: Project) -> object:
    done = []
    for model in project.models:
        built = build_training_set(platform.lake, model, platform.bus)
        outcome = train_model(
            platform.settings, project, model, built, platform.registry, platform.bus, print
        )
        done.append(promote(platform, model, outcome, platform.settings.user))
    return done


if __name__ == "__main__":
    run_job(train, str(__doc__))
