"""Resources of a point of a sweep on a cluster."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """Resources of one point on a cluster."""

    cpus: int = 4
    gpus: int = 0
    """GPUs; a point is one training, on one of them unless --trainer.devices says more."""
    memory: float | None = None
    """GiB of main memory; by default what the cluster gives."""
    time: float = 4 * 3600
    """Seconds until SLURM stops a job, which then goes on as another one."""
    array_parallelism: int = 256
    """Most jobs of SLURM at once."""
    partition: str | None = None
    """Of SLURM."""
    sbatch: Sequence[str] = ()
    """Further options of `sbatch`, `account=NAME`."""
    address: str | None = None
    """Of a Ray cluster; without one a cluster is started on this machine."""

    def __post_init__(self) -> None:
        if bad := [option for option in self.sbatch if not option.partition("=")[0].strip("-")]:
            raise ValueError(f"--sbatch takes NAME=VALUE, or NAME alone, not {bad[0]!r}")
        if self.gpus < 0 or not (self.memory is None or 0 < self.memory < math.inf):
            raise ValueError(f"--gpus is 0 or more, not {self.gpus}, and --memory above 0, not {self.memory}")

    @property
    def sbatch_options(self) -> Mapping[str, str | bool]:
        """The further options by name.

        >>> dict(Resources(sbatch=("account=lab", "--exclusive")).sbatch_options)
        {'account': 'lab', 'exclusive': True}
        """
        pairs = (option.lstrip("-").partition("=") for option in self.sbatch)
        return {name: value if equals else True for name, equals, value in pairs}
