"""Deep ensembles (Lakshminarayanan et al., arXiv:1612.01474) as results of ``scaledrop fit``.

The M members are ordinary runs of the method ``Method.member`` with seeds of their own: those of the deterministic
rows, so each is trained once, wherever it is needed first. ``fit --model.method=deep_ensemble`` trains those that are
missing, evaluates their checkpoints as M networks in one ``Predictive``, and writes a result like any other run. With
the members' checkpoints at hand, ``scaledrop evaluate CHECKPOINT...`` finds the same metrics.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_scaledrop.evaluation.checkpoint import CheckpointError, load_trained
from lit_scaledrop.evaluation.evaluate import evaluate_network, evaluation_device, normalized_test_set
from lit_scaledrop.results import provenance
from lit_scaledrop.results.result import Result
from lit_scaledrop.runs.record import RunRecord, keep_or_write
from lit_scaledrop.runs.run import TrainedNetwork, find_network

if TYPE_CHECKING:
    from lit_scaledrop.cli.lightning import ScaleDropCLI


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


def member_words(words: list[str], method: str, seed: int) -> list[str]:
    """Command line of a member from that of the ensemble.

    >>> member_words(["--model.method=deep_ensemble", "--seed_everything", "2", "--model.lr=0.1"], "fp", 7)
    ['--model.lr=0.1', '--model.method=fp', '--seed_everything=7']
    >>> member_words(["--row=unet/skin_lesion/deep_ensemble"], "fp", 1)
    ['--dataset=skin_lesion', '--model.network=unet', '--model.method=fp', '--seed_everything=1']
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, _ = word.partition("=")
        if flag in ("--model.method", "--seed_everything"):
            if not equals:
                next(rest, None)
        elif flag == "--row":
            row = word.partition("=")[2] if equals else next(rest)
            network, *data, _ = row.split("/")
            kept += [*(f"--dataset={name}" for name in data), f"--model.network={network}"]
        else:
            kept.append(word)
    return [*kept, f"--model.method={method}", f"--seed_everything={seed}"]


def fit_ensemble(
    plan: "ScaleDropCLI", fit: Callable[[list[str]], object], replan: Callable[[list[str]], "ScaleDropCLI"]
) -> Path:
    """Train the missing members of an ensemble, evaluate it, and write its result.

    Args:
        plan: what ``fit`` would run, with a method of several members.
        fit: trains one run from its command line, or finds it finished with its network.
        replan: plans one run from its command line.

    Raises:
        ValueError: for a start checkpoint, several devices, or a seed below 1.
    """
    method, config = plan.method, plan.resolved
    assert method is not None
    record = RunRecord(plan.run_id, plan.run, config, method, plan.words, datetime.now(UTC), provenance.commit())
    members = train_members(plan, fit, replan)
    models = [load_trained(member.checkpoint) for member in members]
    data = plan.build().data
    metrics, how = evaluate_network(
        [model.network for model in models],
        normalized_test_set(data),
        plan.evaluation,
        models[0].test_metrics(plan.evaluation),
        evaluation_device(config["trainer"].get("accelerator")),
    )
    training = members_training([member.record for member in members])
    return keep_or_write(record.result(data, training, how, metrics | models[0].baseline(data)), plan.run)


def train_members(
    plan: "ScaleDropCLI", fit: Callable[[list[str]], object], replan: Callable[[list[str]], "ScaleDropCLI"]
) -> list[TrainedNetwork]:
    """Networks of an ensemble, those that are missing trained first; the arguments are those of `fit_ensemble`.

    Raises:
        ValueError: for a start checkpoint, several devices, or a seed below 1.
    """
    method, config = plan.method, plan.resolved
    assert method is not None
    if config.get("start"):
        raise ValueError("the members of an ensemble begin with their own fresh weights: leave --ckpt_path out")
    if config["trainer"]["fast_dev_run"]:
        raise ValueError(f"fast_dev_run leaves no networks to evaluate: try it with --model.method={method.member}")
    if str(config["trainer"]["devices"]) not in ("1", "auto", "[0]"):
        raise ValueError(
            "the members of an ensemble are trained on one device each: train them with "
            f"--model.method={method.member} on several devices first, or leave --trainer.devices out"
        )
    which = plan.config["fit"]["evaluation"]["checkpoint"]
    networks = []
    for index, seed in enumerate(member_seeds(config["seed_everything"], method.members)):
        words = member_words(plan.words[1:], method.member, seed)
        print(f"ensemble member {index + 1} of {method.members}: {method.member}, seed {seed}", flush=True)
        fit(words)
        member = replan(words)
        network = find_network(member.run, member.run_id, which)
        if network is None:
            folder = member.run_dir / "checkpoints"
            raise CheckpointError(f"the training of a member left no {which} checkpoint in {folder}")
        networks.append(network)
    return networks


def members_training(members: list[Result]) -> dict[str, Any]:
    """What the result of an ensemble says of its members' trainings: sums, means, and who they are."""
    first, all_of_them = members[0].training, [member.training for member in members]
    score = next(name for name in first if name.startswith("val_"))
    return {
        **{key: first[key] for key in ("epochs", "precision", "compiled")},
        "seconds": round(sum(training["seconds"] for training in all_of_them), 1),
        "device": "; ".join(sorted({training["device"] for training in all_of_them})),
        "best_epoch": max(training["best_epoch"] for training in all_of_them),
        score: sum(training[score] for training in all_of_them) / len(members),
        "members": [{"id": m.id, "seed": m.seed, score: m.training[score]} for m in members],
    }
