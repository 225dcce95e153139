"""From words to a configuration: profiles, packaged YAML, every default, and short messages for what does not fit."""

import argparse
import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

import datamodules
from lit_scaledrop.methods import Method, lookup
from lit_scaledrop.modules import LitClassifier, LitSegmenter
from lit_scaledrop.rows import expand_rows, expand_variation, last_value

#: one switch for ``torch.compile`` and bf16, in every profile
SPEEDS = {"--fast": "fast.yaml", "--no-fast": "slow.yaml"}
#: help on the words that stand for configuration files, of which the parser knows nothing
WORDS = (
    "Beside these: --profile NAME, the settings of a profile (quick, cpu, paper); --row NETWORK/METHOD, a row of Table "
    "III; --variation none|eval/X|train/X|both/X, a condition of Table IV, with X the standard deviation of the drop "
    "probability or a device; --fast, torch.compile and bf16 in any profile; --no-fast, eager fp32. Flags override all "
    "of them."
)


def expand_configs(words: list[str]) -> list[str]:
    """Let ``--profile NAME`` stand for its YAML file, and find the package's own files by their short name.

    Without any ``--config``, a command begins with ``classify.yaml``. ``--row NETWORK/METHOD``, a row of Table III,
    stands for both flags, since a sweep's grid is a product and the table is not; so does ``--variation`` for a
    condition of Table IV (:func:`lit_scaledrop.rows.expand_variation`). A profile may have an addition for a
    network, ``profile/NAME.NETWORK.yaml``, which comes right behind it where flags name that network.

    ``--fast`` and ``--no-fast``, wherever they are written, stand for ``fast.yaml`` and ``slow.yaml`` right behind the
    profile (without one, behind the last ``--config``), so that every flag has a later word.

    Raises:
        ValueError: for an unknown profile, network or method, with the nearest match, and a value of ``--fast``.
    """
    words, speed = _take_speed(words)
    packaged = Path(str(resources.files("lit_scaledrop.configs")))
    profiles = {path.stem for path in (packaged / "profile").glob("*.yaml") if "." not in path.stem}
    split: list[str] = []
    for word in words:
        split += word.split("=", 1) if word.startswith(("--config=", "--profile=", "--row=")) else [word]
    split = expand_variation(expand_rows(split))
    network = last_value(split, "--model.network")
    expanded: list[str] = []
    rest = iter(split)
    for word in rest:
        value = next(rest, None) if word in ("--config", "--profile") else None
        if value is None:
            expanded.append(word)
            continue
        if word == "--profile":
            value = f"profile/{lookup('profile', value, profiles)}.yaml"
        addition = packaged / f"{value.removesuffix('.yaml')}.{network}.yaml"
        use_packaged = (packaged / value).is_file() and not os.path.exists(value)
        expanded += ["--config", str(packaged / value) if use_packaged else value]
        if use_packaged and addition.is_file():
            expanded += ["--config", str(addition)]
    has_base = any(Path(word).name in ("classify.yaml", "config.yaml") for word in expanded)
    if expanded and not has_base and not {"-h", "--help"} & set(expanded):
        expanded[1:1] = ["--config", str(packaged / "classify.yaml")]
    if speed:
        behind = [index for index, word in enumerate(expanded) if Path(word).parent == packaged / "profile"]
        behind = behind or [index + 1 for index, word in enumerate(expanded) if word == "--config"] or [0]
        expanded[behind[-1] + 1 : behind[-1] + 1] = ["--config", str(packaged / speed)]
    return expanded


def _take_speed(words: list[str]) -> tuple[list[str], str | None]:
    """The words without ``--fast`` and ``--no-fast``, and the file that the last of them stands for."""
    for word in words:
        if word.startswith(("--fast=", "--no-fast=")):
            raise ValueError(f"--fast and --no-fast take no value, got {word!r}")
    chosen = [word for word in words if word in SPEEDS]
    return [word for word in words if word not in SPEEDS], SPEEDS[chosen[-1]] if chosen else None


def resolved_config(parser: LightningArgumentParser, config: Any) -> dict[str, Any]:
    """Configuration of a ``fit`` as plain data, every default filled in, without the folders of this machine."""
    text = parser.dump(config, skip_none=False, skip_link_targets=False)
    plain = yaml.safe_load(text)
    for name in ("config", "ckpt_path", "weights_only", "optimizer", "lr_scheduler"):
        plain.pop(name, None)
    for name in ("results", "runs"):
        plain["run"].pop(name)
    plain["trainer"]["default_root_dir"] = None
    (plain["data"].get("init_args") or {}).pop("root", None)
    return plain


def resolved_method(config: dict[str, Any]) -> Method | None:
    """Method of a resolved configuration with the options it was given; none for a module that has no method."""
    arguments = config["model"].get("init_args") or {}
    if "method" not in arguments:
        return None
    options = {name: arguments.get(name) for name in ("p", "drop_value", "mask", "mask_per")}
    module, name = config["model"]["class_path"].rsplit(".", 1)
    methods = getattr(importlib.import_module(module), name).methods
    method = methods[lookup("method", arguments["method"], methods)]
    return method.with_scale(**options, placement=arguments.get("scale_placement"))


def require_validation(config: dict[str, Any]) -> None:
    """Refuse a training that could choose no checkpoint, before it begins.

    Raises:
        ValueError: saying which settings leave no validation.
    """
    trainer, data = config["trainer"], config["data"].get("init_args") or {}
    if trainer["max_epochs"] == 0 or trainer["limit_val_batches"] == 0 or data.get("val_fraction") == 0:
        raise ValueError(
            "the validation split chooses the checkpoint: trainer.max_epochs, trainer.limit_val_batches and "
            "data.val_fraction must be above 0"
        )


def known_flags(parser: argparse.ArgumentParser) -> set[str]:
    """Flags of a command, those of the model and the data included."""
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")}
    flags |= {"--profile", "--row", "--variation", *SPEEDS}
    classes: dict[str, list[type]] = {
        "model": [LitClassifier, LitSegmenter],
        "data": list(datamodules.DATAMODULES.values()),
    }
    for group, members in classes.items():
        for member in members:
            for base in member.__mro__[:3]:
                flags |= {f"--{group}.{name}" for name in inspect.signature(base).parameters}
    return flags


def explain(error: BaseException, flags: Iterable[str]) -> str:
    """One line for what jsonargparse says in ten.

    Args:
        error: an ``ArgumentError`` with its causes.
        flags: what the nearest match is sought in.

    >>> explain(argparse.ArgumentError(None, "unrecognized arguments: --modle.method=fp"), ["--model.method"])
    "unknown flag '--modle.method'; did you mean '--model.method'?"
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    texts = [str(link) for link in chain]
    # from the outside in, each key as often as jsonargparse wrapped the error
    keys = list(dict.fromkeys(match[1] for text in texts if (match := re.match(r'Parser key "([^"]+)"', text))))
    key, reason = ".".join(keys), texts[-1].strip()
    if "Problems parsing config" in texts[0]:
        return f"a --config file is no valid YAML: {' '.join(reason.split())}"
    if match := re.match(r"unrecognized arguments: ([^\s=]+)", reason):
        return _unknown_flag(match[1], flags)
    if match := re.search(r"(?:Option|accept option) '([^']+)'", reason):
        name = match[1].replace("init_args.", "")
        return _unknown_flag("--" + (f"{key}.{name}" if reason.startswith("Option") else name), flags)
    given = re.search(r"Expected a dot import path string: (\S+)|Problem with given class_path '([^']+)'", texts[0])
    if given and not reason.startswith("Expected a <class") and not reason.startswith("Expected a typing"):
        return _unknown_class(key, given[1] or given[2], reason)
    if value := re.search(r"Got value: (.*)$", reason, re.DOTALL):
        kinds = re.findall(r"Expected (?:a )?(?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])", _last_union(texts))
        wanted = dict.fromkeys(name or choices for name, choices in kinds)
        wanted.pop("NoneType", None)
        return f"--{key} takes {' or '.join(wanted)}, not {value[1]!r}"
    return f"--{key}: {reason}" if key and key not in reason else reason


def _last_union(texts: list[str]) -> str:
    """The innermost text that names all the types a value may have."""
    return next((text for text in reversed(texts) if "Union subtypes" in text and "Lightning" not in text), texts[-1])


def _unknown_flag(flag: str, flags: Iterable[str]) -> str:
    near = difflib.get_close_matches(flag, flags, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; `scaledrop fit --help` lists them"
    return f"unknown flag {flag!r}{hint}"


def _unknown_class(key: str, given: str, reason: str) -> str:
    if key != "data":
        return f"--{key}: {given!r} is no class that can be imported: {reason}"
    modules = {module.__name__: name for name, module in datamodules.DATAMODULES.items()}
    name = given.rsplit(".", 1)[-1]
    near = [known for known, short in modules.items() if short == name] or difflib.get_close_matches(name, modules, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown data {given!r}{hint} Known: {', '.join(sorted(modules))}, or the import path of your own"
