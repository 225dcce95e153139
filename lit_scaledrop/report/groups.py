"""Groups results into tables and rows, with intervals and the notes that a reader needs."""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any, Literal

import pandas as pd

from lit_scaledrop.naming import count
from lit_scaledrop.results.glossary import DATA_NAMES, SWEEP_FILES, TOPOLOGIES
from lit_scaledrop.results.result import Result


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    r"""Mean and Student's 95 % interval of it, $\bar x \pm t_{n-1} s / \sqrt n$; values are two at least.

    Folds of a cross-validation share training images, so over them it is somewhat narrow; differences on the same
    folds, in place of ``values``, make the paired interval.

    Raises:
        ValueError: fewer than two values: one says nothing of a spread.

    >>> [round(number, 3) for number in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy.stats import t  # takes a second to load

    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least two values, got {n}")
    middle = mean(values)
    low, high = t.interval(0.95, n - 1, middle, stdev(values) / math.sqrt(n))
    return middle, float(low), float(high)


ORDER = {name: place for place, name in enumerate(TOPOLOGIES.values())}
KEY = ["topology", "method", "bits_w", "bits_a", "bayesian"]
"""What makes a row."""


def by_data(results: Sequence[Result]) -> list[list[Result]]:
    """Results that may stand in one table: the same data, as many epochs, as many images of each part of a probe.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    one_profile(results)
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in sorted(results, key=lambda r: r.id):
        data = result.data
        key = (data["name"], data["fingerprint"], data["train"], data["val"], data["test"])
        limit = result.evaluation.get("limit") or 0
        groups.setdefault((*key, result.training["epochs"], limit), []).append(result)
    return [groups[key] for key in sorted(groups)]


def one_profile(results: Sequence[Result]) -> None:
    """Refuse results that may not stand in one table.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    profiles = {(result.profile, result.study) for result in results}
    if len(profiles) != 1:
        raise ValueError(f"a table shows one profile and study, got {sorted(profiles)}")


def seed_of(run: Result) -> tuple[int, int]:
    """What tells the runs of one row apart: seed, and fold of a cross-validation."""
    return run.seed, (run.config.get("data") or {}).get("init_args", {}).get("fold") or 0


def by_row(
    results: Sequence[Result],
    notes: list[str],
    setting: Callable[[Result], str] | None = None,
    split: Callable[[Result], tuple[str, ...]] = lambda _: (),
) -> dict[tuple[Any, ...], list[Result]]:
    """The runs of each row, one setting each and one run a seed and fold; `notes` gets what is left out.

    Args:
        results: of one group.
        notes: to be added to.
        setting: what must be the same in all runs of a row; by default what the run recorded as its setting.
        split: what else makes a row, behind `KEY`.
    """
    rows: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        topology = result.topology
        key = (topology, result.label, result.bits_w, result.bits_a, result.bayesian, *split(result))
        rows.setdefault(key, []).append(result)
    return {key: _one_setting(key, runs, notes, setting or _setting) for key, runs in rows.items()}


def with_paper(ours: pd.DataFrame, paper: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Our rows beside the paper's by `key`: the paper's first, in its order, then those that it lacks."""
    ours = ours.sort_values(
        KEY, key=lambda column: column.map(ORDER).fillna(9) if column.name == "topology" else column, kind="stable"
    )
    paper = paper.fillna(dict.fromkeys(key, ""))
    frame = paper.merge(ours, on=key, how="left")
    extra = ours[~ours.set_index(key).index.isin(paper.set_index(key).index)]
    return pd.concat([frame, extra], ignore_index=True) if len(extra) else frame


def seeds_of(runs: Sequence[Result]) -> str:
    """Seeds of a row's runs."""
    return " ".join(str(run.seed) for run in runs)


def ids_of(runs: Sequence[Result]) -> str:
    """Ids of a row's runs, for the column `RESULT_IDS`."""
    return " ".join(run.id for run in runs)


def epochs_heading(result: Result) -> str:
    """Name of the data, number of epochs, and a probe's limit: the head of a section."""
    epochs, limit = result.training["epochs"], result.evaluation.get("limit")
    few = f", at most {limit} images per part" if limit else ""
    return f"{data_name(result)}, {count(epochs, 'epoch')}{few}"


def data_name(result: Result) -> str:
    """Display name of the data, e.g. `CIFAR-10` or `digits`."""
    return DATA_NAMES.get(result.data["name"], result.data["name"])


def distinction(result: Result) -> str:
    """What tells the files of one group of results from those of another."""
    limit = result.evaluation.get("limit")
    words = [result.data["name"], f"{result.training['epochs']}epochs", result.data["fingerprint"][:6]]
    return "-".join([*words, *([f"{limit}images"] if limit else [])])


def is_papers_data(result: Result) -> bool:
    """Whether a difference to the paper means something."""
    return not result.data["stand_in"] and result.data["name"] == "cifar10"


def identity(result: Result) -> dict[str, Any]:
    """Columns of a CSV that say where its numbers belong."""
    # what is counted has no data
    data = {name: result.data.get(name, "") for name in ("name", "fingerprint")}
    return {"profile": result.profile, "data": data["name"], "fingerprint": data["fingerprint"]}


def caption(runs: Sequence[Result], numbers: str, passes: str = "") -> list[str]:
    """Profile, data, schedule, device, commit, and the commands that make the numbers again."""
    first, data = runs[0], runs[0].data
    name = data_name(first)
    seeds = all_seeds(runs)
    kind = f"{name}, a stand-in: not comparable with the paper's data" if data["stand_in"] else name
    checkpoints = " or ".join(sorted({run.evaluation["checkpoint"] for run in runs}))
    flags = f" -- {shlex.join(words)}" if (words := flags_of(runs)) else ""
    points = f"--runs {len(runs)}" if first.study.startswith("search-") else f"--seeds {seeds}"
    sweep = f"scaledrop sweep sweeps/{first.study}.yaml --profile {first.profile} {points}{flags}"
    report = f"scaledrop report {first.study} --profile {first.profile}"
    again = f"Reproduce with: `{sweep}`, then `{report}`; the" if first.study in SWEEP_FILES else "The"
    return [
        f"Profile {first.profile}. Data: {kind}; {_source(runs)}; fingerprint {data['fingerprint']}; "
        f"{_images(runs, 'train')} training, {_images(runs, 'val')} validation and {_images(runs, 'test')} test "
        "images.",
        f"Epochs: {first.training['epochs']}; {checkpoints} checkpoint; T = {passes or passes_of(runs)}; "
        f"seeds {seeds}. {numbers}",
        *([f"Width, as a multiple of the paper's channels: {widths}."] if (widths := widths_of(runs)) else []),
        f"Device: {'; '.join(sorted({run.training['device'] for run in runs}))}. Commit: {commits_of(runs)}.",
        f"{again} exact command of each run is in its JSON file.",
    ]


def _source(runs: Sequence[Result]) -> str:
    """Source of the data, with all parts of a cross-validation that are tested on."""
    sources = [run.data["source"] for run in runs]
    parts = sorted({int(part) for source in sources for part in re.findall(r"part (\d+) of", source)})
    several = f"parts {', '.join(map(str, parts))} of"
    return re.sub(r"part \d+ of", several, sources[0]) if len(parts) > 1 else str(sources[0])


def _images(runs: Sequence[Result], split: Literal["train", "val", "test"]) -> str:
    counts = [run.data[split] for run in runs]
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


def all_seeds(runs: Sequence[Result]) -> str:
    """Seeds of all rows, each once."""
    return " ".join(map(str, sorted({run.seed for run in runs})))


def passes_of(runs: Sequence[Result]) -> str:
    """Passes T with the methods that made as many, e.g. `1 (FP), 20 (Proposed)`."""
    labels: dict[int, set[str]] = {}
    for run in runs:
        labels.setdefault(run.evaluation["samples"], set()).add(run.label)
    return ", ".join(f"{passes} ({', '.join(sorted(names))})" for passes, names in sorted(labels.items()))


def commits_of(runs: Sequence[Result]) -> str:
    """Commits that the numbers were made at."""
    return ", ".join(sorted({code_of(run, 10) for run in runs}))


def code_of(run: Result, digits: int = 40) -> str:
    """The commit of a run, marked where the tree had changes; outside git, as an installed package is, its version."""
    source = run.provenance
    if source["commit"] == "unknown":
        return f"unknown, version {source['versions'].get('lit-scaledrop', 'unknown')}"
    return source["commit"][:digits] + " (dirty)" * source["dirty"]


def widths_of(runs: Sequence[Result]) -> str:
    """Networks that are narrower or wider than the paper's, e.g. `VGG-small 0.25`; empty if there are none."""
    widths = {
        (run.topology, run.config["model"]["init_args"].get("width", 1.0)) for run in runs if "model" in run.config
    }
    numbers = {(name, width) for name, width in widths if isinstance(width, int | float)}  # of a module of yours, words
    return ", ".join(f"{topology} {width:g}" for topology, width in sorted(numbers) if width != 1)


def flags_of(runs: Sequence[Result]) -> list[str]:
    """Flags that every run was given beside what its sweep file says: the words behind the seed, the last parameter."""
    given = [_behind_seed(shlex.split(run.provenance["command"])) for run in runs]
    return [word for word in given[0] if all(word in words for words in given)]


def _behind_seed(words: list[str]) -> list[str]:
    places = [place for place, word in enumerate(words) if word.startswith("--seed_everything=")]
    behind = words[places[-1] + 1 :] if places else []
    return [word for word in behind if not word.startswith(("--run.results=", "--run.runs="))]


ATOM_NOTE = (
    "The rule's quantile 0.1 over all masks (exact) lies on an atom wherever the smallest drop probability is 0.1: "
    "it is interpolated between two values, and T passes select one of them by chance."
)
"""What a table says of the rule of eq. 26; docs/metrics.md has more."""


def rule_sentence(runs: Sequence[Result]) -> str:
    """The OOD rule, and on how many test images it was measured; empty for trainings, which record neither."""
    first = runs[0].evaluation
    if "threshold" not in first:
        return ""
    rules = {
        f"below {run.evaluation['threshold']:g} at the {run.evaluation['quantile']:g}-quantile "
        f"({run.evaluation['interpolation']}) over the passes"
        for run in runs
    }
    limit = f", at most {first['limit']} a part" if first.get("limit") else ""
    measured = f"{first['images']} {first.get('split', 'test')} images{limit}, on one device"
    return f"OOD rule: {' or '.join(sorted(rules))}. Measured on {measured}."


def _one_setting(
    key: tuple[Any, ...], runs: list[Result], notes: list[str], setting: Callable[[Result], str]
) -> list[Result]:
    """The newest setting's runs, one per seed and fold, in their order; a note names what is left out."""
    newest = setting(max(runs, key=_age))
    by_seed = {seed_of(run): run for run in sorted(runs, key=_age) if setting(run) == newest}
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
