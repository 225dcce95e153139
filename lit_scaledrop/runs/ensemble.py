"""Deep ensembles (Lakshminarayanan et al., arXiv:1612.01474) as results of ``scaledrop fit``.

The M members are ordinary runs of the method ``Method.member`` with different seeds, shared with the deterministic
rows, so each is trained once. ``fit --model.method=deep_ensemble`` trains missing members, evaluates their checkpoints
as M networks in one ``Predictive``, and writes a result like any other run. ``scaledrop evaluate CHECKPOINT...`` with
the members' checkpoints gives the same metrics.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lit_scaledrop.evaluation.checkpoint import CheckpointError, load_trained
from lit_scaledrop.evaluation.evaluate import evaluate_network, evaluation_device, normalized_test_set
from lit_scaledrop.evaluation.on_chip import on_chip
from lit_scaledrop.methods.method import Method
from lit_scaledrop.results import provenance
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import Result
from lit_scaledrop.runs.plan import RunPlan
from lit_scaledrop.runs.record import RunRecord, keep_or_write
from lit_scaledrop.runs.run import TrainedNetwork, find_network


def member_seeds(seed: int, members: int) -> list[int]:
    """Seeds of an ensemble's members; ensembles of different seeds share none.

    Raises:
        ValueError: for a seed below 1.

    >>> member_seeds(1, 5), member_seeds(2, 5)
    ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    """
    if seed < 1:
        raise ValueError(f"an ensemble of {members} has the seeds (seed - 1) * {members} + 1 ...: seed must be above 0")
    return [(seed - 1) * members + index + 1 for index in range(members)]


def fit_ensemble(plan: RunPlan, fit: Callable[[RunPlan], object]) -> Path:
    """Train the missing members of an ensemble, evaluate it, and write its result.

    Raises:
        ValueError: for a start checkpoint, several devices, or a seed below 1.
    """
    started, commit = datetime.now(UTC), provenance.commit()
    members = train_members(plan, fit)
    models = [load_trained(member.checkpoint) for member in members]
    data = plan.build().data
    device = evaluation_device(plan.config["trainer"].get("accelerator"))
    networks = on_chip([model.network.to(device) for model in models], plan.evaluation, data, device)
    measured = models[0].test_metrics(plan.evaluation)
    metrics, how = evaluate_network(networks, normalized_test_set(data), plan.evaluation, measured, device)
    training = members_training([member.record for member in members])
    record = RunRecord.of(plan, data, started, commit, ensemble_method(plan))
    found = [Measurement(metrics | models[0].baseline(data))]
    return keep_or_write(record.result(data, training, how, found), plan.run)


def ensemble_method(plan: RunPlan) -> Method:
    """The method of a plan, which has several members.

    Raises:
        ValueError: if it has not.
    """
    if plan.method is None or plan.method.members < 2:
        raise ValueError(f"{plan.id} is no ensemble")
    return plan.method


def train_members(plan: RunPlan, fit: Callable[[RunPlan], object]) -> list[TrainedNetwork]:
    """Networks of an ensemble, those that are missing trained first; the arguments are those of `fit_ensemble`.

    Raises:
        ValueError: for a start checkpoint, several devices, or a seed below 1.
    """
    method, config = ensemble_method(plan), plan.config
    if config.get("start"):
        raise ValueError("the members of an ensemble start from their own random weights: remove --ckpt_path")
    if config["trainer"]["fast_dev_run"]:
        raise ValueError(f"fast_dev_run writes no networks to evaluate: try it with --model.method={method.member}")
    if str(config["trainer"]["devices"]) not in ("1", "auto", "[0]"):
        raise ValueError(
            "the members of an ensemble are trained on one device each: train them with "
            f"--model.method={method.member} on several devices first, or leave --trainer.devices out"
        )
    which = plan.evaluation.checkpoint
    networks = []
    for index, seed in enumerate(member_seeds(config["seed_everything"], method.members)):
        print(f"ensemble member {index + 1} of {method.members}: {method.member}, seed {seed}", flush=True)
        member = plan.replace({"model.method": method.member, "seed_everything": seed})
        fit(member)
        network = find_network(member.run, member.id, which)
        if network is None:
            folder = member.folder / "checkpoints"
            raise CheckpointError(f"the training of a member wrote no {which} checkpoint in {folder}")
        networks.append(network)
    return networks


def members_training(members: list[Result]) -> dict[str, Any]:
    """What the result of an ensemble says of its members' trainings: sums, means, and who they are."""
    all_of_them: list[dict[str, Any]] = [{**member.training} for member in members]
    first = all_of_them[0]
    score = next(name for name in first if name.startswith("val_"))
    return {
        **{key: first[key] for key in ("epochs", "precision", "compiled")},
        "seconds": round(sum(training["seconds"] for training in all_of_them), 1),
        "device": "; ".join(sorted({training["device"] for training in all_of_them})),
        "best_epoch": max(training["best_epoch"] for training in all_of_them),
        score: sum(training[score] for training in all_of_them) / len(members),
        "members": [
            {"id": m.id, "seed": m.seed, score: own[score]} for m, own in zip(members, all_of_them, strict=True)
        ],
    }
