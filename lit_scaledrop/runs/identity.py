"""The identity of a run: a hash of everything in its resolved configuration that can change its numbers.

Excluded: paths, speed and placement, presentation, and values that equal their default, so that an argument added later
does not make every finished run look unfinished. Raise :data:`IDENTITY_VERSION` after changing a default or the meaning
of a setting. After changing what a network or an estimator computes, add it to :data:`NETWORK_REVISIONS` or
:data:`ESTIMATOR_REVISIONS`; all other results stay finished. A device is identified by its law and constants, not by
name or file.
"""

import functools
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from hardware.chip_file import find_junction, load_chip
from hardware.presets import components
from lit_scaledrop.layers.scale_dropout import ScaleOptions
from lit_scaledrop.methods.method import Method

IDENTITY_VERSION = 1

#: networks that are no longer what version 1 built, by name and by whether their weights are binary
NETWORK_REVISIONS = {
    ("resnet18", True): 2,  # no activation behind the stem, BatchNorm in front of the classifier
    ("resnet18", False): 2,  # BatchNorm in front of the classifier
    ("resnet20", False): 2,  # two convolutions under a skip
}
#: estimators whose gradient has changed
ESTIMATOR_REVISIONS = {"recu": 2}  # standardized to a variance of 8
#: arguments of modules and data modules that cannot change a result
NOT_SCIENCE = {
    "compile_network",
    "channels_last",
    "steps_per_call",
    "capture",
    "root",
    "num_workers",
    "eval_batch_size",
    "seed",
}
#: arguments that only change the method, which is hashed itself: saying the default is the same run
SCALE_ARGUMENTS = tuple(ScaleOptions.arguments().values())
#: options whose default is hashed all the same, as it was from the start; later ones are not
FIRST_SCALE_OPTIONS = ("p", "drop_value", "mask", "mask_per", "placement")
#: arguments that data modules pass on to their base and whose default is hashed all the same, as it was from the start;
#: later ones are not
BASE_ARGUMENTS = {"batch_size", "val_fraction", "split_seed", "crop_padding", "crop_scale", "checksums"}
#: executions of the posterior that give the numbers of the default one
SAME_NUMBERS = ("loop", "folded", "shared")
#: arguments of the model that the data says, each by its own name there: the data is hashed
FROM_DATA = ("num_classes", "in_channels", "image_size")
#: arguments of callbacks that came later: the default is left out
LATER_CALLBACK_ARGUMENTS = {"temperature_k": None}
#: trainer settings that can
TRAINER_SCIENCE = {
    "max_epochs", "max_steps", "min_epochs", "min_steps", "limit_train_batches", "limit_val_batches", "overfit_batches",
    "precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "callbacks", "fast_dev_run",
    "devices", "num_nodes", "sync_batchnorm", "check_val_every_n_epoch", "val_check_interval",
    "reload_dataloaders_every_n_epochs", "strategy", "plugins", "use_distributed_sampler",
}  # fmt: skip
#: trainer settings that cannot change the result of a finished training beyond rounding, or that are refused
TRAINER_NEUTRAL = (
    "accelerator", "deterministic", "benchmark",  # where and by which kernels, as torch.compile
    "max_time",  # what has stopped resumes
    "num_sanity_val_steps",  # with random streams of their own
    "limit_test_batches", "limit_predict_batches",  # a fit tests with an evaluation of its own
    "inference_mode", "detect_anomaly",
    "default_root_dir", "logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "profiler",
    "enable_autolog_hparams", "model_registry",
    "enable_checkpointing", "barebones",  # refused: see cli/checks.py
)  # fmt: skip
_TRAINER_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "devices": (1, "auto", "1"), "num_nodes": (1,), "accumulate_grad_batches": (1,), "overfit_batches": (0,),
    "check_val_every_n_epoch": (1,), "val_check_interval": (1.0,), "reload_dataloaders_every_n_epochs": (0,),
    "strategy": ("auto",), "use_distributed_sampler": (True,),
}  # fmt: skip
#: settings whose False says something
_ON = {"use_distributed_sampler"}


def run_identity(config: dict[str, Any], method: Method | None) -> str:
    """Twelve hexadecimal digits that name a run.

    Args:
        config: resolved configuration of ``fit``: ``model`` and ``data`` as ``{class_path, init_args}``, ``trainer``,
            ``evaluation``, ``seed_everything``, and ``start`` where it does not begin with fresh weights.
        method: the method of the model with its options resolved, if it has one.
    """
    text = json.dumps(science(config, method), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def science(config: dict[str, Any], method: Method | None) -> dict[str, Any]:
    """What :func:`run_identity` hashes."""
    evaluation = dict(config.get("evaluation") or {})
    if evaluation.get("execution") in SAME_NUMBERS:
        del evaluation["execution"]
    trainer = {
        name: value
        for name, value in (config.get("trainer") or {}).items()
        # "is": 0 batches are not the same as no limit, though 0 == False
        if name in TRAINER_SCIENCE and not (value is None or value == [])
        if value is not False or name in _ON
        if value not in _TRAINER_DEFAULTS.get(name, ())
    }
    if isinstance(trainer.get("callbacks"), list):
        trainer["callbacks"] = [_callback(callback) for callback in trainer["callbacks"]]
    start = {"start": config["start"]} if config.get("start") else {}
    return {
        **start,
        "version": IDENTITY_VERSION,
        "seed": config.get("seed_everything"),
        **_revisions(config["model"], method),
        "method": None if method is None else _definition(method),
        "model": _component(config["model"], FROM_DATA + (() if method is None else SCALE_ARGUMENTS)),
        "data": _component(config["data"]),
        "trainer": trainer,
        "evaluation": _plain(with_contents(evaluation), "lit_scaledrop.posterior.Evaluation"),
    }


def _callback(callback: dict[str, Any]) -> dict[str, Any]:
    if not callback.get("init_args"):
        return callback
    given = callback["init_args"].items()
    arguments = {name: value for name, value in given if LATER_CALLBACK_ARGUMENTS.get(name, ...) != value}
    if callback["class_path"].endswith(".MTJVariation"):
        arguments = with_contents(arguments)
    if callback["class_path"].endswith(".CrossbarEnergy"):
        arguments = with_contents({name: value for name, value in arguments.items() if value is not None})
    return {**callback, "init_args": arguments}


def with_contents(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with what a file, or a device, says in place of its name, whatever it is called and wherever it lies."""
    contents: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("mtj", "device"), lambda name: find_junction(name).fingerprint),
        "preset": lambda file: components(file).values(),
        **dict.fromkeys(("chip_file", "chip"), lambda file: load_chip(file).fingerprint),
    }
    named = {name: value for name, value in settings.items() if name in contents and isinstance(value, str)}
    return settings | {name: contents[name](value) for name, value in named.items()}


def _revisions(model: dict[str, Any], method: Method | None) -> dict[str, Any]:
    """What the run computes otherwise than version 1 did, if anything."""
    if method is None:
        return {}
    name = str((model.get("init_args") or {}).get("network"))
    network = NETWORK_REVISIONS.get((name, method.binary))
    changed = {"network": network, "estimator": ESTIMATOR_REVISIONS.get(method.estimator)}
    changed = {name: revision for name, revision in changed.items() if revision is not None}
    return {"revisions": changed} if changed else {}


def _component(component: dict[str, Any], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    path = component["class_path"]
    arguments = {k: v for k, v in (component.get("init_args") or {}).items() if k not in left_out}
    return {"class": path.rsplit(".", 1)[1], **_plain(arguments, path)}


def _plain(arguments: dict[str, Any], class_path: str) -> dict[str, Any]:
    defaults = _defaults(class_of(class_path))
    return {
        key: value
        for key, value in arguments.items()
        if key not in NOT_SCIENCE and value is not None and json.dumps(value, default=str) != defaults.get(key)
    }


def class_of(path: str) -> Any:
    """The class that a configuration names."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


@functools.cache
def _defaults(component: type) -> dict[str, str]:
    """Defaults of a class and of its bases, which may take its ``**kwargs``; in JSON, where a tuple is a list."""
    defaults: dict[str, str] = {}
    for member in inspect.getmro(component):
        if "__init__" in vars(member):
            left_out = BASE_ARGUMENTS if defaults else ()
            for key, parameter in inspect.signature(member).parameters.items():
                if key not in left_out:
                    defaults.setdefault(key, json.dumps(parameter.default, default=str))
    return defaults


def _definition(method: Method) -> dict[str, Any]:
    """The method without its names for people and without what it leaves unset."""
    known = {f.name: f.default for f in fields(method) if f.name not in ("label", "reference")}
    kept = {name: getattr(method, name) for name, default in known.items() if getattr(method, name) != default}
    if method.scale is not None:
        plain = ScaleOptions()
        options = asdict(method.scale).items()
        kept["scale"] = {k: v for k, v in options if k in FIRST_SCALE_OPTIONS or v != getattr(plain, k)}
    return kept
