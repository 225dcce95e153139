"""Words of a command line that stand for configuration files and for several flags.

A sweep's grid is a product, and the paper's tables are not: ``--row NETWORK/METHOD`` is a row of Table III, ``--row
NETWORK/DATA/METHOD`` one of Table V, ``--variation WHEN/SIGMA`` a condition of Table IV. ``--profile``, ``--dataset``,
``--fast`` and ``--no-fast`` stand for packaged YAML files.
"""

import argparse
import inspect
import itertools
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import datamodules
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks import SEGMENTATION_NETWORKS, TASKS
from lit_scaledrop.runs.budget import seconds_of


def expand_rows(words: list[str]) -> list[str]:
    """Replace each ``--row NETWORK/METHOD`` or ``--row NETWORK/DATA/METHOD`` (two words) by what it stands for.

    Raises:
        ValueError: for a row that is none, or an unknown network, data set or method, with the nearest match.

    >>> expand_rows(["fit", "--row", "resnet20/proposed"])
    ['fit', '--model.network=resnet20', '--model.method=proposed']
    >>> expand_rows(["fit", "--row", "segnet/covid_ct.2/fp"])
    ['fit', '--dataset', 'covid_ct.2', '--model.network=segnet', '--model.method=fp']
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word == "--row" else None
        if value is None:
            expanded.append(word)
            continue
        if value.count("/") not in (1, 2):
            raise ValueError(
                "--row takes NETWORK/METHOD, e.g. resnet20/proposed, or NETWORK/DATA/METHOD, e.g. "
                f"unet/skin_lesion/proposed, not {value!r}"
            )
        network, *data, method = value.split("/")
        task = TASKS["segmentation" if data else "classification"]
        expanded += [word for name in data for word in ("--dataset", name)]
        expanded.append(f"--model.network={lookup('network', network, task.networks)}")
        expanded.append(f"--model.method={lookup('method', method, task.methods)}")
    return expanded


def expand_variation(words: list[str]) -> list[str]:
    """Replace each ``--variation`` (one word or two) by the flags that it stands for.

    ``none`` stands for nothing, ``eval/X`` for an evaluation with variation, ``train/X`` for a training with it,
    ``both/X`` for both; X is sigma, the standard deviation of p, or the name of a device.

    Raises:
        ValueError: for something else.

    >>> expand_variation(["fit", "--variation", "eval/0.05", "--seed_everything=1"])
    ['fit', '--evaluation.sigma=0.05', '--seed_everything=1']
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != "--variation":
            expanded.append(word)
            continue
        value = value if equals else next(rest, "")
        when, _, source = value.partition("/")
        if value == "none":
            continue
        if when not in ("train", "eval", "both") or not source:
            raise ValueError(
                f"--variation takes none, or eval/X, train/X, both/X, X a sigma or a device, not {value!r}"
            )
        is_sigma = _is_number(source)
        if when != "eval":
            name = "sigma" if is_sigma else "device"
            ours = {name: source, "when": "train"}
            expanded.append("--trainer.callbacks+=lit_scaledrop.callbacks.MTJVariation")
            expanded += [f"--trainer.callbacks.{key}={given}" for key, given in ours.items()]
        if when != "train":
            expanded.append(f"--evaluation.{'sigma' if is_sigma else 'mtj'}={source}")
    return expanded


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def last_value(words: Sequence[str], flag: str) -> str | None:
    """Value of the last ``flag=value`` or ``flag value``; ``None`` if there is none.

    >>> last_value(["--a=1", "--b", "2", "--a", "3"], "--a")
    '3'
    """
    found = None
    for word, after in itertools.zip_longest(words, words[1:]):
        if word == flag:
            found = after
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def without(words: Sequence[str], *groups: str) -> list[str]:
    """The words but for some flags and the flags of some groups, with their values.

    >>> without(["--row", "resnet20/fp", "--evaluation.samples", "5", "--evaluation.quantile=0.2"], "--evaluation")
    ['--row', 'resnet20/fp']
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, _ = word.partition("=")
        if not any(flag == group or flag.startswith(f"{group}.") for group in groups):
            kept.append(word)
        elif not equals:
            next(rest, None)
    return kept


def take_budget(words: Sequence[str]) -> tuple[list[str], float | None]:
    """Flags without ``--budget``, and its seconds.

    Raises:
        ValueError: for a budget that is no time, or beside a number of epochs or steps.

    >>> take_budget(["--profile", "gpu", "--budget", "9m"])
    (['--profile', 'gpu'], 540.0)
    """
    budget = last_value(words, "--budget")
    if budget is None and "--budget" not in words:
        return list(words), None
    require_no_length(words)
    return without(words, "--budget"), seconds_of(budget or "")


def require_no_length(words: Sequence[str]) -> None:
    """Refuse a number of epochs or steps beside a budget.

    Raises:
        ValueError: for one.
    """
    if any(last_value(words, flag) is not None for flag in ("--trainer.max_epochs", "--trainer.max_steps")):
        raise ValueError(
            "--budget: the budget decides how long the training is: leave --trainer.max_epochs and "
            "--trainer.max_steps out"
        )


PACKAGED = Path(str(resources.files("lit_scaledrop.configs")))
#: one switch for ``torch.compile`` and bf16, in every profile
SPEEDS = {"--fast": "fast.yaml", "--no-fast": "slow.yaml"}
_WITH_VALUE = ("--config", "--profile", "--row", "--dataset")


def expand_configs(words: list[str]) -> list[str]:
    """Let ``--profile NAME`` stand for its YAML file, and find the package's own files by their short name.

    Without any ``--config``, a command begins with ``classify.yaml``, or with ``segment.yaml`` where flags name a
    segmentation network; the profiles of the one are in ``profile/``, those of the other in ``segment/``.
    ``--row NETWORK/METHOD``, a row of Table III, stands for both flags, since a sweep's grid is a product and the table
    is not; so do ``--row NETWORK/DATA/METHOD`` and ``--variation`` (:mod:`lit_scaledrop.cli.flags`). A profile may have
    additions for a network, for methods of full precision, and for a data set, ``profile/NAME.NETWORK.yaml``,
    ``profile/NAME.full_precision.yaml`` and ``segment/NAME.DATA.yaml``, which come right behind it where flags
    (``--model.network``, ``--model.method``, ``--dataset DATA`` or ``--dataset DATA.FOLD``) name them. A
    profile without additions (quick) has one stand-in for all data sets, which has no folds.

    ``--fast`` and ``--no-fast``, wherever they are written, stand for ``fast.yaml`` and ``slow.yaml`` right behind the
    profile (without one, behind the last ``--config``), so that every flag has a later word.

    Raises:
        ValueError: for an unknown profile, network, data set or method, with the nearest match, a data set that the
            profile has nothing for, and a value of ``--fast``.
    """
    words, speed = _take_speed(words)
    split: list[str] = []
    for word in words:
        split += word.split("=", 1) if word.startswith(tuple(f"{flag}=" for flag in _WITH_VALUE)) else [word]
    split, dataset = _take_dataset(expand_variation(expand_rows(split)))
    network = last_value(split, "--model.network")
    method = METHODS.get(last_value(split, "--model.method") or "")
    kinds = [network, "full_precision" if method and not method.binary else None]
    segmentation = network in SEGMENTATION_NETWORKS or any(Path(word).name == "segment.yaml" for word in split)
    task = TASKS["segmentation" if segmentation else "classification"]
    expanded: list[str] = []
    rest = iter(split)
    for word in rest:
        value = next(rest, None) if word in ("--config", "--profile") else None
        if value is None:
            expanded.append(word)
        else:
            value = _profile(value, task.profiles) if word == "--profile" else value
            expanded += _files(value, kinds, dataset)
    has_base = any(Path(word).name in (*(task.config for task in TASKS.values()), "config.yaml") for word in expanded)
    if expanded and not has_base and not {"-h", "--help"} & set(expanded):
        expanded[1:1] = ["--config", str(PACKAGED / task.config)]
    return _with_speed(expanded, speed)


def _profile(name: str, folder: str) -> str:
    known = {path.stem for path in (PACKAGED / folder).glob("*.yaml") if "." not in path.stem}
    return f"{folder}/{lookup('profile', name, known)}.yaml"


def _files(value: str, kinds: list[str | None], dataset: str | None) -> list[str]:
    """A configuration file, the package's own by its short name and then with its additions."""
    if os.path.exists(value) or not (PACKAGED / value).is_file():
        return ["--config", value]
    path = PACKAGED / value
    additions = {addition.name.split(".")[1]: addition for addition in path.parent.glob(f"{path.stem}.*.yaml")}
    words = ["--config", str(path)]
    words += [word for kind in kinds if kind in additions for word in ("--config", str(additions[kind]))]
    if path.parent.name == "segment" and dataset is not None and additions:
        name, _, fold = dataset.partition(".")
        if name not in additions:
            raise ValueError(
                f"profile {path.stem!r} has settings for {', '.join(sorted(additions))}, not for {name!r}: leave "
                "--dataset out and name the class, e.g. --data=datamodules.PH2DataModule"
            )
        words += ["--config", str(additions[name]), *([f"--data.init_args.fold={fold}"] if fold else [])]
    return words


def _take_dataset(words: list[str]) -> tuple[list[str], str | None]:
    """The words without ``--dataset NAME``, and the last name."""
    from datamodules import SEGMENTATION_DATAMODULES

    if (dataset := last_value(words, "--dataset")) is None:
        return words, None
    lookup("data set", dataset.partition(".")[0], SEGMENTATION_DATAMODULES)
    if not any(word in ("--profile", "--config") for word in words):
        raise ValueError(f"--dataset {dataset} is what a profile has for it: add --profile quick, cpu, gpu or paper")
    return without(words, "--dataset"), dataset


def _take_speed(words: list[str]) -> tuple[list[str], str | None]:
    """The words without ``--fast`` and ``--no-fast``, and the file that the last of them stands for."""
    for word in words:
        if word.startswith(("--fast=", "--no-fast=")):
            raise ValueError(f"--fast and --no-fast take no value, got {word!r}")
    chosen = [word for word in words if word in SPEEDS]
    return [word for word in words if word not in SPEEDS], SPEEDS[chosen[-1]] if chosen else None


def _with_speed(words: list[str], speed: str | None) -> list[str]:
    if not speed:
        return words
    folders = [PACKAGED / task.profiles for task in TASKS.values()]
    behind = [index for index, word in enumerate(words) if Path(word).parent in folders]
    behind = behind or [index + 1 for index, word in enumerate(words) if word == "--config"] or [0]
    return [*words[: behind[-1] + 1], "--config", str(PACKAGED / speed), *words[behind[-1] + 1 :]]


#: help on the words that stand for configuration files, of which the parser knows nothing
WORDS = (
    "Beside these: --profile NAME, the settings of a profile (quick, cpu, gpu, paper, paper_sgd, long); --row "
    "NETWORK/METHOD, a row of Table III, or NETWORK/DATA/METHOD, one of Table V; --dataset NAME, what a profile has "
    "for a data set of Table V; --variation none|eval/X|train/X|both/X, a condition of Table IV, with X the standard "
    "deviation of the drop probability or a device; --fast, torch.compile and bf16 in any profile; --no-fast, eager "
    "fp32. Flags override all of them."
)


def known_flags(parser: argparse.ArgumentParser) -> set[str]:
    """Flags of a command, those of the model and the data included."""
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")}
    flags |= {"--profile", "--row", "--dataset", "--variation", *SPEEDS}
    classes: dict[str, list[type]] = {
        "model": [LitClassifier, LitSegmenter],
        "data": list(datamodules.DATAMODULES.values()),
    }
    for group, members in classes.items():
        for member in members:
            for base in member.__mro__[:3]:
                flags |= {f"--{group}.{name}" for name in inspect.signature(base).parameters}
    return flags
