"""Move the prediction log into its table, join the labels, and say what drifted or decayed.

ray job submit --working-dir . -- python jobs/monitor.py --project examples/flights
"""

from job import run_job

from rayplat.core.project.project import Project
from rayplat.monitoring.watch import watch
from rayplat.serve.prediction_log import PredictionLog
from rayplat.wiring import Platform


def monitor(platform: Platform, project: Project) -> object:
    PredictionLog(platform.settings).drain(platform.lake, platform.settings, platform.bus)
    return [watch(platform.lake, platform.registry, project, m) for m in project.monitors]


if __name__ == "__main__":
    run_job(monitor, str(__doc__))
