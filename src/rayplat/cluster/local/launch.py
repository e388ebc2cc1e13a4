"""Starting the local cluster: one node, or a head with simulated nodes; always under a supervisor.

Knows what the cluster file's local part asks for; it does not know Ray's command line (`head`).
"""

from rayplat.cluster.head import Head, Simulation, free_port, head_cpus, ray_folder, start_head
from rayplat.cluster.local.autoscaler import autoscaling_config, head_environment, new_node_id, write_config
from rayplat.cluster.local.components import find_components, write_components
from rayplat.cluster.local.supervisor import ensure_supervisor
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.settings import Settings


def launch(settings: Settings, spec: ClusterSpec) -> Head:
    """Start the local cluster and its supervisor.

    Raises:
        UnavailableError: Ray did not start.
    """
    port = free_port()
    simulation = _simulation(settings, spec, port) if spec.local.simulate else None
    head = start_head(settings, spec, port, simulation)
    # Written down before the supervisor runs: what dies while it starts is started again all the same.
    write_components(settings, find_components(settings, head))
    ensure_supervisor(settings)
    return head


def _simulation(settings: Settings, spec: ClusterSpec, port: int) -> Simulation:
    head_id = new_node_id()
    folder = ray_folder(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    config = autoscaling_config(
        spec,
        gcs_address=f"{settings.ray.bind}:{port}",
        head_id=head_id,
        head_cpus=head_cpus(settings, spec),
        head_gpus=spec.local.gpus,
        folder=folder / "nodes",
    )
    write_config(config, folder / "autoscaler.yaml")
    arguments = (f"--autoscaling-config={folder / 'autoscaler.yaml'}",)
    return Simulation(arguments, head_environment(spec, head_id))
