"""A real SLURM on this machine's loopback: munged, slurmctld and slurmd in the foreground, in a folder of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
MpiDefault=none
ReturnToService=2
MaxArraySize=6
OverTimeLimit=0
KillWait=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why there can be no SLURM here; empty if there can."""
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    if missing := [command for command in COMMANDS if shutil.which(command, path=path) is None]:
        return f"no {missing[0]}: apt-get install slurm-wlm munge"
    return "" if os.getuid() == 0 else "slurmd starts jobs as root only"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start one; gives the environment in which its commands reach it."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ctld, slurmd = _free_ports(2)
    (folder / "slurm.conf").write_text(_CONF.format(host=host, folder=folder, ctld=ctld, slurmd=slurmd))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = ["--key-file=munge.key", "--socket=munge.socket", "--pid-file=munge.pid", "--log-file=munge.log"]
    munge = [option.replace("=", f"={folder}/") for option in [*munge, "--seed-file=munge.seed"]]
    daemons = [
        ["/usr/sbin/munged", "--foreground", "--force", "--num-threads=2", *munge],
        ["/usr/sbin/slurmctld", "-D", "-i"],
        ["/usr/sbin/slurmd", "-D", "-N", host],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        with open(folder / "daemons.log", "wb") as log:
            for daemon in daemons:
                started.append(subprocess.Popen(daemon, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
                time.sleep(0.5)
        _wait_until_idle(env, folder)
        yield env
    finally:
        _end_all_jobs(env)
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_all_jobs(env: dict[str, str]) -> None:
    subprocess.run(["scancel", "--me"], env=env, check=False, timeout=60)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = subprocess.run(["squeue", "-h"], env=env, capture_output=True, text=True, check=False)
        if left.returncode or not left.stdout.strip():
            return
        time.sleep(0.5)


def _wait_until_idle(env: dict[str, str], folder: Path) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        said = subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True, check=False)
        if said.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    pytest.skip(f"SLURM does not come up: {said}\n{(folder / 'daemons.log').read_text()}")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
