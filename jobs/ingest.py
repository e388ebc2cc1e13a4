"""Take in what the topics and reference tables have.

ray job submit --working-dir . -- python jobs/ingest.py --project examples/flights
"""

from job import run_job

from rayplat.core.project.project import Project
from rayplat.data.streaming.ingest import ingest_project
from rayplat.wiring import Platform


def ingest(platform: Platform, project: Project) -> object:
    return ingest_project(platform.lake, project, platform.settings, platform.bus)


if __name__ == "__main__":
    run_job(ingest, str(__doc__))
