"""What every job script shares: arguments -> settings -> platform and project -> one call.

The history of jobs is told that the job runs and how it ended, however it was submitted.
"""

import argparse
import sys
from collections.abc import Callable

from rayplat.cluster.jobs.inside import reported
from rayplat.cluster.session import connect
from rayplat.core.errors import RayplatError
from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.settings_sources import load_settings
from rayplat.wiring import Platform, build_platform

Call = Callable[[Platform, Project], object]


def run_job(call: Call, description: str) -> None:
    """Run one call on the cluster this script was submitted to; exits with the error's code."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--project", required=True, help="examples/flights, or package.module")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    given = arguments.parse_args()
    try:
        settings = load_settings(dict(pair.split("=", 1) for pair in given.set))
        with reported(settings, sys.argv, given.project):
            connect(settings)
            print(call(build_platform(settings), load_project(given.project)))
    except RayplatError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
