"""The commands ``fit``, ``validate``, ``test`` and ``predict``.

A ``fit`` has an identity, the hash of its resolved configuration. Finished runs are not run again; a killed one goes on
in its folder; one that ends is evaluated and leaves ``results/<profile>/<study>/<id>.json``.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_scaledrop.cli.doctor import require_packages
from lit_scaledrop.cli.lightning import ScaleDropCLI, process_rank
from lit_scaledrop.evaluation.checkpoint import CheckpointError
from lit_scaledrop.results.result import is_finished
from lit_scaledrop.runs.budget import epochs_within, take_budget
from lit_scaledrop.runs.ensemble import fit_ensemble, train_members
from lit_scaledrop.runs.run import TrainedNetwork, begin_anew, exclusive, find_network, require_writable


def plan_fit(argv: list[str]) -> ScaleDropCLI:
    """What ``scaledrop fit`` with ``argv`` behind it would run: its arguments checked, its identity found."""
    quiet()
    return ScaleDropCLI(["fit", *argv], plan_only=True)


def planned_result(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop fit`` with ``argv`` behind it will write; nothing is built or run."""
    cli = plan_fit(argv)
    return cli.run.result_path(cli.run_id)


def main(argv: list[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    quiet()
    if argv[0] == "fit" and not any(word.startswith(("-h", "--help", "--print_config")) for word in argv):
        fit(within_budget(argv[1:]))
    else:
        with _our_errors():
            ScaleDropCLI(argv)
    return 0


def within_budget(argv: list[str]) -> list[str]:
    """Flags of ``fit`` with as many epochs as a ``--budget`` among them allows, in its place."""
    rest, seconds = take_budget(argv)
    return rest if seconds is None else [*rest, f"--trainer.max_epochs={epochs_within(plan_fit(rest), seconds)}"]


def fit(argv: list[str], need_network: bool = False) -> bool:
    """Train, evaluate and record one run, unless that is done.

    Args:
        argv: what follows ``scaledrop fit``.
        need_network: whether a result is not enough: where its checkpoint is gone, the network is trained anew and the
            result is kept.

    Returns:
        Whether this is the first of the processes that train the network, the one that goes on when it is trained.
    """
    quiet()
    with _our_errors():
        _fit(["fit", *argv], need_network)
    return process_rank() == 0


def trained_networks(plan: ScaleDropCLI, which: Literal["best", "last"]) -> list[TrainedNetwork] | None:
    """The networks of a planned run, trained where they are missing: one, or the members of an ensemble.

    ``None`` in all processes of a training but the first.

    Args:
        plan: see :func:`plan_fit`.
        which: checkpoint with the best score on the validation split, or that of the last epoch.

    Raises:
        ValueError: the run cannot be trained as asked.
        CheckpointError: training left no checkpoint.
    """
    if plan.method is not None and plan.method.members > 1:
        return train_members(plan, partial(fit, need_network=True), plan_fit)
    found = find_network(plan.run, plan.run_id, which)
    if found is None:
        if not fit(plan.words[1:], need_network=True):
            return None
        found = find_network(plan.run, plan.run_id, which)
    if found is None:
        raise CheckpointError(f"there is no {which} checkpoint in {plan.run_dir / 'checkpoints'} after training")
    return [found]


def _fit(argv: list[str], need_network: bool) -> None:
    require_packages()
    plan = ScaleDropCLI(argv, plan_only=True)
    path = plan.run.result_path(plan.run_id)

    def done(move_broken: bool) -> bool:
        which = plan.config["fit"]["evaluation"]["checkpoint"]
        finished = is_finished(path, move_broken=move_broken)
        return finished and (not need_network or find_network(plan.run, plan.run_id, which) is not None)

    if done(move_broken=False):
        if process_rank() == 0:
            print(f"finished already: {path}")
        return
    if process_rank() > 0:
        # the first process holds the lock for all
        ScaleDropCLI(argv)
        return
    for folder in (path.parent, plan.run_dir):
        require_writable(folder)
    with exclusive(plan.run_dir):
        if done(move_broken=True):
            print(f"finished already: {path}")
        elif plan.method is not None and plan.method.members > 1:
            fit_ensemble(plan, partial(fit, need_network=True), plan_fit)
        else:
            if path.exists():
                begin_anew(plan.run_dir)
            ScaleDropCLI(argv)


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
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")  # Lightning's own, with torch 2.14
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    # test and validate need a checkpoint's weights, not the callbacks that its training had
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided.*")
