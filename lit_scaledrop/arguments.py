"""A parsed command line as plain data with every default, and short messages for what does not fit."""

import argparse
import difflib
import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

import datamodules
from lit_scaledrop.config_files import SPEEDS
from lit_scaledrop.methods import Method, lookup
from lit_scaledrop.modules import LitClassifier, LitSegmenter

#: help on the words that stand for configuration files, of which the parser knows nothing
WORDS = (
    "Beside these: --profile NAME, the settings of a profile (quick, cpu, gpu, paper); --row NETWORK/METHOD, a row of "
    "Table III, or NETWORK/DATA/METHOD, one of Table V; --dataset NAME, what a profile has for a data set of Table V; "
    "--variation none|eval/X|train/X|both/X, a condition of Table IV, with X the standard deviation of the drop "
    "probability or a device; --fast, torch.compile and bf16 in any profile; --no-fast, eager fp32. Flags override all "
    "of them."
)


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
    known_sets = {**datamodules.DATAMODULES, **datamodules.SEGMENTATION_DATAMODULES}
    modules = {module.__name__: name for name, module in known_sets.items()}
    name = given.rsplit(".", 1)[-1]
    near = [known for known, short in modules.items() if short == name] or difflib.get_close_matches(name, modules, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown data {given!r}{hint} Known: {', '.join(sorted(modules))}, or the import path of your own"
