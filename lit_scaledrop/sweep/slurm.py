"""SLURM as a launcher of sweeps: job arrays through submitit, one index per point; followed by `squeue`."""

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lit_scaledrop.extras import extra
from lit_scaledrop.sweep.child import stop_all
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.remote import Job
from lit_scaledrop.sweep.resources import Resources

_TIMES_UP = 1000  # times that a job may use up its time; each adds an epoch at least
_WARNING = 120  # seconds before the end in which a training stops: SIGINT, 20 s, SIGTERM, 10 s, SIGKILL


class SlurmJob(Job):
    """A job that submitit requeues, when its time is up or it is preempted, and that then goes on."""

    def checkpoint(self) -> Any:
        """Stop the training, whose last checkpoint is there, and ask for the same job again."""
        from submitit.helpers import DelayedSubmission

        if hasattr(self, "runner"):
            stop_all(self.runner.children, self.runner.grace)
        return DelayedSubmission(replace(self))


class Slurm:
    """A SLURM, whose commands are in the PATH.

    Raises:
        ModuleNotFoundError: submitit is missing.
        SweepError: its commands are missing.
    """

    name = "slurm"
    look = 5.0

    def __init__(self, resources: Resources) -> None:
        self._submitit = extra("submitit", "--launcher slurm")
        for command in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
            if shutil.which(command) is None:
                raise SweepError(
                    f"--launcher slurm: there is no {command} in the PATH; start the sweep on a login node"
                )
        self.resources = resources
        self._alive: set[str] = set()

    def submit(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Submit arrays of as many jobs as SLURM allows in one, whose logs lie beside those of the points.

        Several arrays share out how many jobs may run at once; each runs one at least.

        Raises:
            SweepError: what `sbatch` says.
        """
        if not jobs:
            return
        most = _largest_array()
        arrays = [jobs[start : start + most] for start in range(0, len(jobs), most)]
        executor = self._submitit.SlurmExecutor(jobs[0].point.log.parents[1] / "slurm", max_num_timeout=_TIMES_UP)
        ask = self.resources
        asked = {
            "job_name": f"scaledrop-{jobs[0].group}",
            "time": math.ceil(ask.time / 60),
            "cpus_per_task": ask.cpus,
            "gpus_per_node": ask.gpus or None,
            "mem": f"{math.ceil(1024 * ask.memory)}M" if ask.memory else None,
            "partition": ask.partition,
            "array_parallelism": max(1, ask.array_parallelism // len(arrays)),
            "signal_delay_s": _WARNING,
            "additional_parameters": {"requeue": True, **ask.sbatch_options},
        }
        executor.update_parameters(**{name: value for name, value in asked.items() if value is not None})
        for array in arrays:
            try:
                made = executor.submit_array([SlurmJob(**vars(job)) for job in array])
            except self._submitit.core.utils.FailedJobError as error:
                raise SweepError(f"sbatch refuses the jobs: {str(error).strip()}") from error
            names = [job.job_id for job in made]
            self._alive |= {*names}
            yield from names

    def alive(self) -> set[str]:
        """Jobs of this user that wait or run; those known before while SLURM gives no answer."""
        command = ["squeue", "--noheader", "--array", "--me", "--format=%i"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self._alive = {*done.stdout.split()}
        else:
            print(f"squeue: {done.stderr.strip()}; looking again", file=sys.stderr, flush=True)
        return self._alive

    def cancel(self, names: Sequence[str]) -> None:
        """`scancel`."""
        subprocess.run(["scancel", *names], check=False)

    def left(self, names: Sequence[str]) -> str:
        """Jobs go on without the sweep."""
        arrays = " ".join(dict.fromkeys(name.partition("_")[0] for name in names))
        return f"{len(names)} jobs continue. The same command follows them; to cancel them:\n    scancel {arrays}"


def _largest_array() -> int:
    said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", said)
    return max(1, int(found[1])) if found else 1000
