"""Command-line flags that are shorthand for configuration files or for several flags.

A sweep's grid is a product, and the paper's tables are not: ``--row NETWORK/METHOD`` is a row of Table III, ``--row
NETWORK/DATA/METHOD`` one of Table V, ``--variation WHEN/SIGMA`` a condition of Table IV. ``--profile``, ``--dataset``,
``--fast`` and ``--no-fast`` stand for packaged YAML files.
"""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import datamodules
from lit_scaledrop.cli.own import OwnChoice, of_folder, take_own
from lit_scaledrop.cli.words import last_value, pieces, replace_flag, without
from lit_scaledrop.evaluation.evaluate import data_sets
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks import NETWORKS, SEGMENTATION_NETWORKS, TASKS
from lit_scaledrop.runs.budget import seconds_of


def expand_rows(words: Sequence[str]) -> list[str]:
    """Replace each ``--row NETWORK/METHOD`` or ``--row NETWORK/DATA/METHOD`` by what it stands for.

    Raises:
        ValueError: for a row that is none, or an unknown network, data set or method, with the nearest match.

    >>> expand_rows(["fit", "--row", "resnet20/proposed"])
    ['fit', '--model.network=resnet20', '--model.method=proposed']
    >>> expand_rows(["fit", "--row=segnet/covid_ct.2/fp"])
    ['fit', '--dataset', 'covid_ct.2', '--model.network=segnet', '--model.method=fp']
    """

    def flags_of(row: str) -> list[str]:
        if row.count("/") not in (1, 2):
            raise ValueError(
                "--row takes NETWORK/METHOD, e.g. resnet20/proposed, or NETWORK/DATA/METHOD, e.g. "
                f"unet/skin_lesion/proposed, not {row!r}"
            )
        network, *data, method = row.split("/")
        task = TASKS["segmentation" if data else "classification"]
        named = lookup("network", network, task.networks), lookup("method", method, task.methods)
        dataset = ["--dataset", *data] if data else []
        return [*dataset, f"--model.network={named[0]}", f"--model.method={named[1]}"]

    return replace_flag(words, "--row", flags_of)


def expand_variation(words: Sequence[str]) -> list[str]:
    """Replace each ``--variation`` by the flags that it stands for.

    ``none`` stands for nothing, ``eval/X`` for an evaluation with variation, ``train/X`` for a training with it,
    ``both/X`` for both; X is sigma, the standard deviation of p, or the name of a device.

    Raises:
        ValueError: for something else.

    >>> expand_variation(["fit", "--variation", "eval/0.05", "--seed_everything=1"])
    ['fit', '--evaluation.sigma=0.05', '--seed_everything=1']
    """

    def flags_of(variation: str) -> list[str]:
        when, _, source = variation.partition("/")
        if variation == "none":
            return []
        if when not in ("train", "eval", "both") or not source:
            raise ValueError(
                f"--variation takes none, or eval/X, train/X, both/X, X a sigma or a device, not {variation!r}"
            )
        is_sigma = _is_number(source)
        flags = []
        if when != "eval":
            flags.append("--trainer.callbacks+=lit_scaledrop.callbacks.MTJVariation")
            flags.append(f"--trainer.callbacks.{'sigma' if is_sigma else 'device'}={source}")
            flags.append("--trainer.callbacks.when=train")
        if when != "train":
            flags.append(f"--evaluation.{'sigma' if is_sigma else 'mtj'}={source}")
        return flags

    return replace_flag(words, "--variation", flags_of)


def expand_chip(words: Sequence[str], energy: bool = True) -> list[str]:
    """Replace ``--chip FILE`` by the flags that it stands for: an evaluation on that chip, and its energy logged.

    >>> expand_chip(["--chip", "lab.yaml"], energy=False)
    ['--evaluation.chip_file=lab.yaml']
    """

    def flags_of(file: str) -> list[str]:
        callback = "--trainer.callbacks"
        logged = [f"{callback}+=lit_scaledrop.callbacks.CrossbarEnergy", f"{callback}.chip={file}"]
        return [f"--evaluation.chip_file={file}", *(logged if energy else [])]

    return replace_flag(words, "--chip", flags_of)


def expand_data(words: Sequence[str]) -> list[str]:
    """Replace the short name of a data set, as ``scaledrop evaluate`` takes it, by that of its class.

    >>> expand_data(["--data", "cifar10", "--data.augment", "crop"])
    ['--data=datamodules.CIFAR10DataModule', '--data.augment', 'crop']
    """
    # functions may be registered, too
    sets = {name: kind for name, kind in data_sets().items() if isinstance(kind, type)}
    found = list(words)
    for place in reversed(range(len(found))):
        flag, equals, value = found[place].partition("=")
        if flag == "--data" and not equals:
            value = found[place + 1] if place + 1 < len(found) else ""
        if flag == "--data" and value in sets:
            name = sets[value].__name__
            home = "datamodules" if hasattr(datamodules, name) else sets[value].__module__
            found[place : place + (1 if equals else 2)] = [f"--data={home}.{name}"]
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def take_budget(words: Sequence[str]) -> tuple[list[str], float | None]:
    """Flags without ``--budget``, and its seconds.

    Raises:
        ValueError: for a budget that is no time, or beside a number of epochs or steps.

    >>> take_budget(["--profile", "gpu", "--budget", "9m"])
    (['--profile', 'gpu'], 540.0)
    """
    if (budget := last_value(words, "--budget")) is None:
        return list(words), None
    require_no_length(words)
    return without(words, "--budget"), seconds_of(budget)


def require_no_length(words: Sequence[str]) -> None:
    """Refuse a number of epochs or steps beside a budget.

    Raises:
        ValueError: for one.
    """
    if any(last_value(words, flag) is not None for flag in ("--trainer.max_epochs", "--trainer.max_steps")):
        raise ValueError(
            "--budget: the budget determines the length of the training: remove --trainer.max_epochs and "
            "--trainer.max_steps"
        )


PACKAGED = Path(str(resources.files("lit_scaledrop.configs")))
#: one switch for ``torch.compile`` and bf16, in every profile
SPEEDS = {"--fast": "fast.yaml", "--no-fast": "slow.yaml"}


def expand_configs(words: Sequence[str]) -> list[str]:
    """Let ``--profile NAME`` stand for its YAML file, and find the package's own files by their short name.

    Without any ``--config``, a command begins with ``classify.yaml``, or with ``segment.yaml`` where flags name a
    segmentation network; the profiles of the one are in ``profile/``, those of the other in ``segment/``. A profile may
    have additions for a network, for methods of full precision, and for a data set, ``profile/NAME.NETWORK.yaml``,
    ``profile/NAME.full_precision.yaml`` and ``segment/NAME.DATA.yaml``, which come right behind it where flags
    (``--model.network``, ``--model.method``, ``--dataset DATA`` or ``--dataset DATA.FOLD``) name them. A profile
    without additions (quick) has one stand-in for all data sets, which has no folds.

    ``--images DIR`` stands for a data module of own pictures, and without a profile for ``own_classes.yaml`` or
    ``own_masks.yaml``.

    ``--fast`` and ``--no-fast``, wherever they are written, stand for ``fast.yaml`` and ``slow.yaml`` right behind the
    profile (without one, behind the last ``--config``), so that every flag has a later word.

    Raises:
        ValueError: for an unknown profile, network, data set or method, with the nearest match, a data set that the
            profile has nothing for, and a value of ``--fast``.
    """
    words, speed = _take_speed(words)
    words, own = (words, None) if {"-h", "--help"} & set(words) else take_own(words)
    words = [*words[:1], *_own_defaults(words, own), *words[1:]] if own else words
    words, dataset = _take_dataset(expand_data(expand_chip(expand_variation(expand_rows(words)))))
    network = last_value(words, "--model.network")
    method = METHODS.get(last_value(words, "--model.method") or "")
    kinds = [network, "full_precision" if method and not method.binary else None]
    segmentation = network in SEGMENTATION_NETWORKS or any(
        Path(value or "").name == "segment.yaml" for _, value in pieces(words, "--config")
    )
    task = TASKS["segmentation" if segmentation else "classification"]
    if own and network in SEGMENTATION_NETWORKS and own.own.masks is None:
        raise ValueError(f"network {network!r} is for images with masks: add --masks DIR")
    if own and network in NETWORKS and own.own.masks is not None:
        raise ValueError(
            f"network {network!r} is for classification; with masks use {', '.join(SEGMENTATION_NETWORKS)}"
        )
    words = replace_flag(words, "--profile", lambda name: ["--config", _profile(name, task.profiles)])
    words = replace_flag(words, "--config", lambda value: _files(value, kinds, dataset))
    has_base = any(Path(word).name in (*(task.config for task in TASKS.values()), "config.yaml") for word in words)
    if words and not has_base and not {"-h", "--help"} & set(words):
        words[1:1] = ["--config", str(PACKAGED / task.config)]
    if own:
        words = _with_data(words, own)
    return _with_speed(words, speed)


def _own_defaults(words: list[str], own: OwnChoice) -> list[str]:
    """The settings that a command on own pictures begins with, unless a profile has them."""
    segmentation = own.own.masks is not None
    names = [TASKS["segmentation" if segmentation else "classification"].config]
    if last_value(words, "--profile") is None:
        names.append("own_masks.yaml" if segmentation else "own_classes.yaml")
    return [word for name in names for word in ("--config", str(PACKAGED / name))]


def _with_data(words: list[str], own: OwnChoice) -> list[str]:
    """The words with a study of the name of own pictures behind our files, and these as data behind all files."""
    study = [] if last_value(words, "--run.study") else [f"--run.study={own.own.name}"]
    files = [index for index, word in enumerate(words) if index and words[index - 1] == "--config"]
    ours = max(index for index in files if PACKAGED in Path(words[index]).parents) + 1
    last = files[-1] + 1
    # a file of the user may set arguments of the data module, and has to know it, or names data of its own
    return [*words[:ours], *own.data, *study, *words[ours:last], *own.data, *words[last:]]


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
                f"profile {path.stem!r} has settings for {', '.join(sorted(additions))}, not for {name!r}: remove "
                f"--dataset and name the class, e.g. --data=datamodules.PH2DataModule"
            )
        words += ["--config", str(additions[name]), *([f"--data.init_args.fold={fold}"] if fold else [])]
    return words


def _take_dataset(words: list[str]) -> tuple[list[str], str | None]:
    """The words without ``--dataset NAME``, and the last name."""
    if (dataset := last_value(words, "--dataset")) is None:
        return words, None
    if said := of_folder("--dataset", dataset, datamodules.SEGMENTATION_DATAMODULES):
        raise ValueError(said)
    lookup("data set", dataset.partition(".")[0], datamodules.SEGMENTATION_DATAMODULES)
    if last_value(words, "--profile") is None and last_value(words, "--config") is None:
        raise ValueError(f"--dataset {dataset} selects settings of a profile: add --profile quick, cpu, gpu or paper")
    return without(words, "--dataset"), dataset


def _take_speed(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words without ``--fast`` and ``--no-fast``, and the file that the last of them stands for."""
    for word in words:
        if word.startswith(("--fast=", "--no-fast=")):
            raise ValueError(f"--fast and --no-fast take no value, got {word!r}")
    chosen = [SPEEDS[word] for word in words if word in SPEEDS]
    return [word for word in words if word not in SPEEDS], chosen[-1] if chosen else None


def _with_speed(words: list[str], speed: str | None) -> list[str]:
    if not speed:
        return words
    folders = [PACKAGED / task.profiles for task in TASKS.values()]
    behind = [index for index, word in enumerate(words) if Path(word).parent in folders]
    behind = behind or [index + 1 for index, word in enumerate(words) if word == "--config"] or [0]
    return [*words[: behind[-1] + 1], "--config", str(PACKAGED / speed), *words[behind[-1] + 1 :]]


#: help on the words that stand for configuration files, of which the parser knows nothing
WORDS = (
    "Shorthand flags: --profile NAME, the settings of a profile (quick, cpu, gpu, paper, paper_sgd, long); --row "
    "NETWORK/METHOD, a row of Table III, or NETWORK/DATA/METHOD, one of Table V; --dataset NAME, the profile's "
    "settings for a data set of Table V; --variation none|eval/X|train/X|both/X, a condition of Table IV, with X the "
    "standard deviation of the drop probability or a device; --images DIR, your own images in one folder per class, or "
    "with --masks DIR images and masks (docs/your-own-data.md); --fast, torch.compile and bf16 in any profile; "
    "--no-fast, eager fp32. Other flags override them."
)
