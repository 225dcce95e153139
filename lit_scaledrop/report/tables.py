"""Tables of the paper as functions of the results folder: `TABLES` names them, `build` makes one.

A table is made for one profile. Within it, runs on other data (fingerprint or sizes) or of another length
(epochs) get a *section* of their own, so no column ever mixes them. On stand-in data the accuracy column is
headed by the stand-in's name, and there is no difference to the paper, since that would mean nothing.

A row's mean and standard deviation (n - 1 in the denominator; left out for n = 1) are taken over seeds of one
*setting*, which `provenance.setting` names (a hash of the configuration without its seed). Of several
settings in a row, or several runs of one seed where that key is missing, the newest is shown and a note says
so. A number missing from our copy of the paper is an empty cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from lit_scaledrop.report.results import Result

TOPOLOGIES = {"resnet18": "ResNet-18", "resnet20": "ResNet-20", "vgg_small": "VGG-small", "lenet5": "LeNet-5"}
"""The paper's name of a network by its key in `NETWORKS`, in the paper's order."""
DATA_NAMES = {"cifar10": "CIFAR-10"}
_ORDER = {name: place for place, name in enumerate(TOPOLOGIES.values())}
_KEY = ["topology", "method", "bits_w", "bits_a", "bayesian"]
_OURS = ["n", "seeds", "accuracy", "std", "nll", "ece", "ood_rate", "epochs", "seconds"]


@dataclass(frozen=True)
class Section:
    """Rows that may stand in one table: one profile, one data set, one number of epochs."""

    data: str
    """Display name of the data, e.g. `CIFAR-10` or `digits`."""
    comparable: bool
    """Whether this is the paper's data, so that a difference means something."""
    frame: pd.DataFrame
    """One row per method: topology, method, bits_w, bits_a, bayesian; ours: n, seeds, accuracy and std
    (percent), nll (nats), ece and ood_rate (fractions), epochs, seconds (of training); paper (percent) and
    its source; difference (points); profile, data, fingerprint."""
    caption: list[str]
    """Sentences that say what the numbers are and how to make them again."""

    def columns(self) -> dict[str, str]:
        """Headers by column of `frame`, in the order of display.

        >>> Section("digits", False, pd.DataFrame(), []).columns()["accuracy"]
        'digits accuracy (ours, %)'
        """
        columns = {"topology": "topology", "method": "method", "bits": "W/A", "bayesian": "Bayesian"}
        columns |= {"accuracy": f"{self.data} accuracy (ours, %)", "paper": "CIFAR-10 accuracy (paper, %)"}
        if self.comparable:
            columns["difference"] = "difference (points)"
        return columns | {
            "nll": "NLL",
            "ece": "ECE",
            "ood_rate": "OOD rate",
            "epochs": "epochs",
            "seconds": "training time",
        }


@dataclass(frozen=True)
class Report:
    """A finished table: sections with their notes."""

    title: str
    sections: list[Section]
    notes: list[str]
    """What a reader has to know about single rows."""


@dataclass(frozen=True)
class Table:
    """How one table of the paper is made. A further table is one entry of `TABLES`."""

    paper: str
    """File with the published numbers in `lit_scaledrop/report/paper/`."""
    make: Callable[[Sequence[Result], pd.DataFrame], Report]
    """Results of one profile and the published numbers -> the report."""


def table3(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table III: accuracy by topology and method, beside the published values.

    Args:
        results: runs of one profile and study, any data, any number of epochs.
        paper: columns topology, method, bits_w, bits_a, bayesian, accuracy_percent, source.

    Raises:
        ValueError: no results, results of several profiles or studies, or a result without accuracy.
    """
    profiles = {(result.profile, result.study) for result in results}
    if len(profiles) != 1:
        raise ValueError(f"a table shows one profile and study, got {sorted(profiles)}")
    if unscored := sorted(result.id for result in results if "cls/acc" not in result.metrics):
        raise ValueError(f"no metric cls/acc in the results {', '.join(unscored)}; evaluate them again or delete them")
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in sorted(results, key=lambda r: r.id):
        data = result.data
        key = (data["name"], data["fingerprint"], data["train"], data["val"], data["test"])
        groups.setdefault((*key, result.training["epochs"]), []).append(result)
    notes: list[str] = []
    sections = [_section(groups[key], paper, notes) for key in sorted(groups)]
    return Report("Table III: accuracy by topology and method", sections, notes)


TABLES: dict[str, Table] = {
    "table3": Table("table3.csv", table3),
}


def build(name: str, results: Sequence[Result]) -> Report:
    """Make the table `name` of `TABLES` from results.

    Raises:
        KeyError: there is no such table.
        ValueError: the results do not fit the table; the message says why.
    """
    return TABLES[name].make(results, published(TABLES[name].paper))


def published(name: str) -> pd.DataFrame:
    """The published numbers in `paper/<name>`; a cell lost in our copy of the paper is NaN.

    >>> published("table3.csv").query("method == 'IR-Net'").accuracy_percent.tolist()
    [91.5, 86.5, 90.4]
    """
    with (files("lit_scaledrop.report") / "paper" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file).assign(bayesian=lambda frame: frame.bayesian == "yes")


def _section(results: list[Result], paper: pd.DataFrame, notes: list[str]) -> Section:
    data = results[0].data
    rows: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        topology = TOPOLOGIES.get(result.network, result.network)
        key = (topology, result.label, result.bits_w, result.bits_a, result.bayesian)
        rows.setdefault(key, []).append(result)
    shown = {key: _one_setting(key, runs, notes) for key, runs in rows.items()}
    ours = pd.DataFrame([(*key, *_summary(runs)) for key, runs in shown.items()], columns=_KEY + _OURS)
    # places the rows that the paper lacks; the merge keeps the paper's order of the others
    ours = ours.sort_values(
        _KEY, key=lambda column: column.map(_ORDER).fillna(9) if column.name == "topology" else column
    )
    frame = paper.rename(columns={"accuracy_percent": "paper"}).merge(ours, on=_KEY, how="left")
    extra = ours[~ours.set_index(_KEY).index.isin(paper.set_index(_KEY).index)]
    frame = pd.concat([frame, extra], ignore_index=True) if len(extra) else frame
    frame["difference"] = frame.accuracy - frame.paper
    frame = frame.assign(profile=results[0].profile, data=data["name"], fingerprint=data["fingerprint"])
    name = DATA_NAMES.get(data["name"], data["name"])
    comparable = not data["stand_in"] and data["name"] == "cifar10"
    used = [run for runs in shown.values() for run in runs]
    return Section(name, comparable, frame, _caption(used, name))


def _summary(runs: list[Result]) -> tuple[Any, ...]:
    metrics = pd.DataFrame([run.metrics for run in runs])
    accuracy = 100 * metrics["cls/acc"]
    means = [metrics[k].mean() if k in metrics else float("nan") for k in ("cls/nll", "cal/ece", "ood/rate")]
    seeds = " ".join(str(run.seed) for run in runs)
    seconds = sum(run.training["seconds"] for run in runs) / len(runs)
    return (len(runs), seeds, accuracy.mean(), accuracy.std(), *means, runs[0].training["epochs"], seconds)


def _one_setting(key: tuple[Any, ...], runs: list[Result], notes: list[str]) -> list[Result]:
    """The newest setting's runs, one per seed, ordered by seed; a note names what is left out."""
    newest = max(runs, key=_age)
    by_seed: dict[int, Result] = {}
    for run in sorted(runs, key=_age):
        if _setting(run) == _setting(newest):
            by_seed[run.seed] = run
    shown = [by_seed[seed] for seed in sorted(by_seed)]
    left_out = sorted(run.id for run in runs if run not in shown)
    if left_out:
        notes.append(
            f"{key[0]}, {key[1]}: the newest setting is shown ({', '.join(run.id for run in shown)}); "
            f"left out are {len(left_out)} older runs of other settings ({', '.join(left_out)})."
        )
    return shown


def _age(run: Result) -> tuple[str, str]:
    return run.provenance["finished"], run.id


def _setting(run: Result) -> str:
    """The hash of the configuration without its seed, as the run recorded it."""
    return str(run.provenance.get("setting", ""))


def _caption(runs: list[Result], name: str) -> list[str]:
    first, data = runs[0], runs[0].data
    passes: dict[int, set[str]] = {}
    for run in runs:
        passes.setdefault(run.evaluation["samples"], set()).add(run.label)
    seeds = " ".join(map(str, sorted({run.seed for run in runs})))
    commits = {run.provenance["commit"][:10] + " (dirty)" * run.provenance["dirty"] for run in runs}
    kind = f"{name}, a stand-in that says nothing about CIFAR-10" if data["stand_in"] else name
    samples = ", ".join(f"{t} ({', '.join(sorted(labels))})" for t, labels in sorted(passes.items()))
    checkpoints = " or ".join(sorted({run.evaluation["checkpoint"] for run in runs}))
    sweep = f"scaledrop sweep sweeps/{first.study}.yaml --profile {first.profile} --seeds {seeds}"
    report = f"scaledrop report {first.study} --profile {first.profile}"
    return [
        f"Profile {first.profile}. Data: {kind}; {data['source']}; fingerprint {data['fingerprint']}; "
        f"{data['train']} training, {data['val']} validation and {data['test']} test images.",
        f"Epochs: {first.training['epochs']}; {checkpoints} checkpoint; T = {samples}; seeds {seeds}. "
        "Ours: mean ± sample standard deviation over n seeds on the test images; the rest are means.",
        f"Device: {'; '.join(sorted({run.training['device'] for run in runs}))}. Commit: {', '.join(sorted(commits))}.",
        f"Make it again: `{sweep}`, then `{report}`; the exact command of each run is in its JSON file.",
    ]
