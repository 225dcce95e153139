"""The commands ``fit``, ``validate``, ``test`` and ``predict``.

A ``fit`` has an identity, the hash of its resolved configuration. Finished runs are not repeated; a killed run resumes
in its folder; a completed one is evaluated and writes ``results/<profile>/<study>/<id>.json``.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_scaledrop.cli.doctor import require_packages
from lit_scaledrop.cli.flags import take_budget
from lit_scaledrop.cli.lightning import CheckpointCLI, process_rank
from lit_scaledrop.cli.planning import check, planner
from lit_scaledrop.cli.training import Training
from lit_scaledrop.evaluation.checkpoint import CheckpointError
from lit_scaledrop.naming import count
from lit_scaledrop.results.store import is_finished
from lit_scaledrop.runs.budget import epochs_within
from lit_scaledrop.runs.ensemble import fit_ensemble, train_members
from lit_scaledrop.runs.plan import RunPlan
from lit_scaledrop.runs.run import TrainedNetwork, begin_retraining, exclusive, find_network, require_writable


def plan_fit(flags: Sequence[str]) -> RunPlan:
    """What ``scaledrop fit`` with these flags would run: its arguments checked, its identity found, nothing built."""
    quiet()
    with _our_errors():
        return planner().plan(flags)


def planned_result(flags: Sequence[str]) -> Path:
    """Path of the result that ``scaledrop fit`` with these flags will write.

    Raises:
        ValueError: the run is not finished, and its model or data refuse their arguments.
    """
    plan = plan_fit(flags)
    if not plan.result.exists():  # whether it is sound, who runs the point will see
        check(plan)
    return plan.result


def main(argv: list[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    quiet()
    if argv[0] == "fit" and not any(word.startswith(("-h", "--help", "--print_config")) for word in argv):
        flags, seconds = take_budget(argv[1:])
        plan = plan_fit(flags)
        if seconds is not None:
            plan = plan.replace({"trainer.max_epochs": epochs_within(plan, seconds)})
        fit(plan)
    else:
        with _our_errors():
            CheckpointCLI(argv)
    return 0


def fit(plan: RunPlan, need_network: bool = False) -> bool:
    """Train, evaluate and record one run, unless that is done.

    Args:
        plan: see :func:`plan_fit`.
        need_network: whether a result is not enough: where its checkpoint is gone, the network is retrained and the
            result is kept.

    Returns:
        Whether this is the first of the processes that train the network, the one that continues when it is trained.
    """
    require_packages()
    with _our_errors():
        _fit(plan, need_network)
    return process_rank() == 0


def trained_networks(plan: RunPlan, which: Literal["best", "last"]) -> list[TrainedNetwork] | None:
    """The networks of a planned run, trained where they are missing: one, or the members of an ensemble.

    ``None`` in all processes of a training but the first.

    Args:
        plan: see :func:`plan_fit`.
        which: checkpoint with the best score on the validation split, or that of the last epoch.

    Raises:
        ValueError: the run cannot be trained as asked.
        CheckpointError: training left no checkpoint.
    """

    def train(one: RunPlan) -> bool:
        if process_rank() == 0 and find_network(one.run, one.id, which) is None:
            epochs = one.config["trainer"]["max_epochs"]
            length = f", {count(epochs, 'epoch')}" if epochs and epochs > 0 else ""
            where = one.folder / "checkpoints"
            print(f"no {which} checkpoint in {where}: trained first, as by `scaledrop fit`{length}", flush=True)
        return fit(one, need_network=True)

    if plan.method is not None and plan.method.members > 1:
        return train_members(plan, train)
    found = find_network(plan.run, plan.id, which)
    if found is None:
        if not train(plan):
            return None
        found = find_network(plan.run, plan.id, which)
    if found is None:
        raise CheckpointError(f"there is no {which} checkpoint in {plan.folder / 'checkpoints'} after training")
    return [found]


def _fit(plan: RunPlan, need_network: bool) -> None:
    def done(move_broken: bool) -> bool:
        finished = is_finished(plan.result, move_broken=move_broken)
        return finished and (
            not need_network or find_network(plan.run, plan.id, plan.evaluation.checkpoint) is not None
        )

    if done(move_broken=False):
        if process_rank() == 0:
            print(f"finished already: {plan.result}")
        return
    if process_rank() > 0:
        # the first process holds the lock for all
        Training(plan)
        return
    check(plan)
    for folder in (plan.result.parent, plan.folder):
        require_writable(folder)
    with exclusive(plan.folder):
        if done(move_broken=True):
            print(f"finished already: {plan.result}")
        elif plan.method is not None and plan.method.members > 1:
            fit_ensemble(plan, partial(fit, need_network=True))
        else:
            if plan.result.exists():
                begin_retraining(plan.folder)
            Training(plan)


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


def quiet() -> None:
    """Keep Lightning's adverts and hints that do not apply to in-memory data out of the console."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")  # Lightning's own, with torch 2.14
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    # test and validate need a checkpoint's weights, not the callbacks that its training had
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided.*")
