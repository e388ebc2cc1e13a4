"""The whole loop: take in, train, promote, serve, watch and trace.

ray job submit --working-dir . -- python jobs/run.py --project examples/flights
"""

from job import run_job

from rayplat.core.progress import Silent
from rayplat.core.project.project import Project
from rayplat.delivery.pipeline import run_loop
from rayplat.wiring import Platform


def loop(platform: Platform, project: Project) -> object:
    return run_loop(platform, project, Silent()).seconds


if __name__ == "__main__":
    run_job(loop, str(__doc__))
