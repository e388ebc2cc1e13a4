"""Bring the online store up to the newest snapshots.

ray job submit --working-dir . -- python jobs/materialize.py --project examples/flights
"""

from job import run_job

from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView
from rayplat.features.materialize import materialize
from rayplat.wiring import Platform


def bring_up_to_date(platform: Platform, project: Project) -> object:
    views = [v for v in project.views if isinstance(v, FeatureView)]
    return materialize(platform.lake, platform.online, views, platform.bus)


if __name__ == "__main__":
    run_job(bring_up_to_date, str(__doc__))
