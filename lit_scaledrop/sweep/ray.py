"""Ray as a launcher of sweeps: one task per point, restarted when its worker is lost."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lit_scaledrop.extras import extra
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.remote import Job
from lit_scaledrop.sweep.resources import Resources

_RETRIES = 10  # workers that a point may lose


class Ray:
    """A Ray cluster: the one at an address, or one on this machine, bound to loopback.

    Raises:
        ModuleNotFoundError: ray is missing.
        SweepError: nothing answers at the address.
    """

    name = "ray"
    look = 1.0

    def __init__(self, resources: Resources) -> None:
        self.ray = ray = extra("ray", "--launcher ray")
        self.resources = resources
        self.tasks: dict[str, Any] = {}
        try:
            if resources.address:
                ray.init(address=resources.address, log_to_driver=False)
            else:
                ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SweepError(f"no Ray cluster at {resources.address or 'this machine'}: {error}") from error

    def submit(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Hand over all; Ray runs as many at once as its nodes have room for."""
        ask = self.resources
        memory = {"memory": int(ask.memory * 2**30)} if ask.memory else {}
        options = {"num_cpus": ask.cpus, "num_gpus": ask.gpus, "max_retries": _RETRIES, "max_calls": 1, **memory}
        task = self.ray.remote(**options)(_run)
        for job in jobs:
            name = f"{len(self.tasks)}"
            self.tasks[name] = task.remote(replace(job, environment=dict(os.environ)))
            yield name

    def alive(self) -> set[str]:
        """Tasks that wait or run."""
        if not self.tasks:
            return set()
        _, open_ = self.ray.wait(list(self.tasks.values()), num_returns=len(self.tasks), timeout=0)
        left = {*open_}
        return {name for name, task in self.tasks.items() if task in left}

    def cancel(self, names: Sequence[str]) -> None:
        """Ask tasks to stop as Ctrl-C would."""
        for name in names:
            self.ray.cancel(self.tasks[name], force=False)

    def left(self, names: Sequence[str]) -> str:
        """Tasks end with the sweep."""
        self.ray.shutdown()
        return f"{len(names)} tasks are stopped."


def _run(job: Job) -> int:
    return job()
