"""Deploy every endpoint of the project with its model's champion.

ray job submit --working-dir . -- python jobs/serve.py --project examples/flights
"""

from job import run_job

from rayplat.core.project.project import Project
from rayplat.serve.app import deploy
from rayplat.wiring import Platform


def serve(platform: Platform, project: Project) -> object:
    return [deploy(platform.settings, project, e, platform.registry, platform.bus) for e in project.endpoints]


if __name__ == "__main__":
    run_job(serve, str(__doc__))
