"""A parsed command line as plain data with every default, and short messages for what does not fit."""

import argparse
import difflib
import importlib
import inspect
import math
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
    "Beside these: --profile NAME, the settings of a profile (quick, cpu, gpu, paper, paper_sgd, long); --row "
    "NETWORK/METHOD, a row of Table III, or NETWORK/DATA/METHOD, one of Table V; --dataset NAME, what a profile has "
    "for a data set of Table V; --variation none|eval/X|train/X|both/X, a condition of Table IV, with X the standard "
    "deviation of the drop probability or a device; --fast, torch.compile and bf16 in any profile; --no-fast, eager "
    "fp32. Flags override all of them."
)

#: LightningCLI's ways to change the optimizer, which a LitNetwork builds itself, and what does so here
INSTEAD = {
    "optimizer": "--model.optimizer=sgd|adam, --model.lr and --model.momentum",
    "lr_scheduler": "--model.schedule=cosine|constant and --model.warmup_epochs",
}
_ABOVE_ZERO = (
    "max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch",
    "val_check_interval",
)  # fmt: skip


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


def require_model_optimizer(config: Any) -> None:
    """Refuse an optimizer or schedule beside the model's own, as LightningCLI takes it.

    Args:
        config: of a command, parsed.

    Raises:
        ValueError: saying what to use instead.
    """
    for name, instead in INSTEAD.items():
        if config.get(name):
            raise ValueError(f"--{name} is not used here, the model has its own: take {instead}")


def require_trainer(trainer: dict[str, Any]) -> None:
    """Refuse what a run cannot do without: its checkpoint.

    Raises:
        ValueError: naming the setting.
    """
    for name, without in (("enable_checkpointing", False), ("barebones", True)):
        if trainer[name] is without:
            raise ValueError(
                f"trainer.{name}={str(without).lower()} leaves no checkpoint to evaluate: leave it out; "
                "--trainer.fast_dev_run=1 is a trial that writes nothing"
            )


def require_validation(config: dict[str, Any]) -> None:
    """Refuse a training that could choose no checkpoint, before it begins.

    What depends on the size of the data is refused before the first step, see
    :class:`lit_scaledrop.callbacks.ValidationComes`.

    Raises:
        ValueError: saying which settings leave no validation.
    """
    trainer, data = config["trainer"], config["data"].get("init_args") or {}
    zero = [f"trainer.{name}" for name in _ABOVE_ZERO if trainer[name] == 0 and trainer[name] is not False]
    zero += ["data.val_fraction"] if data.get("val_fraction") == 0 else []
    if zero:
        raise ValueError(f"the validation split chooses the checkpoint: {' and '.join(zero)} must be above 0")
    if trainer["fast_dev_run"]:
        return  # has its own length
    epochs, steps, batches = trainer["max_epochs"], trainer["max_steps"], trainer["limit_train_batches"]
    every, interval = trainer["check_val_every_n_epoch"], trainer["val_check_interval"]
    if every and epochs and 0 < epochs < every:
        raise ValueError(no_validation(f"trainer.check_val_every_n_epoch={every} and trainer.max_epochs={epochs}"))
    if type(interval) is not int:
        return
    known = [f"trainer.limit_train_batches={batches}"] if type(batches) is int else []
    longest = batches if known else math.inf
    if every is None:
        known += [f"trainer.max_epochs={epochs}"] if epochs and epochs > 0 else []
        known += [f"trainer.max_steps={steps}"] if steps > 0 else []
        longest = min(
            longest * epochs if epochs and epochs > 0 else math.inf,
            steps * trainer["accumulate_grad_batches"] if steps > 0 else math.inf,
        )
    if interval > longest:
        raise ValueError(no_validation(f"trainer.val_check_interval={interval} and {', '.join(known)}"))


def no_validation(why: str) -> str:
    """What to say of a training that ends before its first validation; ``why`` names the settings."""
    return (
        f"no validation would choose a checkpoint with {why}: lower trainer.check_val_every_n_epoch or "
        "trainer.val_check_interval, or train longer"
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
