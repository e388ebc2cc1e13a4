"""The address of a project as other nodes find it.

Knows what a job's working folder means for an address; it does not know what is in a project.
"""

from pathlib import Path


def address_for_workers(address: str) -> str:
    """A project's address as a worker finds it. Ray must be connected.

    A job with a working folder takes the folder along, and a relative address means the same there.
    Without one, a worker runs on this machine in another folder: the path is made absolute.
    """
    import ray

    if ray.get_runtime_context().runtime_env.get("working_dir"):
        return address
    return absolute(address)


def absolute(address: str) -> str:
    """The address without the folder that this process is in; as it is where nothing is found there."""
    path = Path(address).expanduser()
    dotted = Path(*address.split("."))
    for candidate in (path, path.with_name(f"{path.name}.py"), dotted, dotted.with_name(f"{dotted.name}.py")):
        if candidate.exists():
            return str(candidate.absolute())
    return address
