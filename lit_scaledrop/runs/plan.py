"""A planned training as a value: settings, method, evaluation, identity and folder. Nothing is built yet."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_scaledrop.evaluation.checkpoint import start_digest
from lit_scaledrop.layers.scale_dropout import ScaleOptions
from lit_scaledrop.methods.method import Method
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.provenance import portable
from lit_scaledrop.results.yaml_text import load_yaml
from lit_scaledrop.runs.identity import FROM_DATA, class_of, run_identity
from lit_scaledrop.runs.run import Run

#: settings that say where something lies or that are no part of a run
_NOT_OF_THE_RUN = ("config", "ckpt_path", "weights_only", "optimizer", "lr_scheduler")


@dataclass(frozen=True)
class RunPlan:
    """One training as it was asked for. Made once, from a configuration; variants are ``plan.replace(...)``."""

    words: tuple[str, ...]
    """command line behind ``scaledrop`` that stands for it"""
    settings: Namespace
    """parsed configuration of ``fit``, the folders of this machine included"""
    evaluation: Evaluation
    """how the trained network will be evaluated"""
    parser: LightningArgumentParser = field(repr=False, compare=False)
    """what the settings were parsed with, and builds from them"""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings as plain data, every default filled in, without the folders of this machine."""
        # not validated: what was parsed is valid
        text = self.parser.dump(self.settings, skip_none=False, skip_link_targets=False, skip_validation=True)
        plain = load_yaml(text)
        for name in _NOT_OF_THE_RUN:
            plain.pop(name, None)
        for name in ("results", "runs"):
            plain["run"].pop(name)
        plain["trainer"]["default_root_dir"] = None
        (plain["data"].get("init_args") or {}).pop("root", None)
        if self.settings["ckpt_path"]:
            plain["start"] = start_digest(Path(self.settings["ckpt_path"]))
        return plain

    @cached_property
    def method(self) -> Method | None:
        """Method of the network with the options that it was given; none for a module that has no method."""
        return method_of(self.config)

    @cached_property
    def id(self) -> str:
        """Identity: twelve hexadecimal digits, see :mod:`lit_scaledrop.runs.identity`."""
        return run_identity(self.config, self.method)

    @cached_property
    def run(self) -> Run:
        """Where it belongs."""
        return Run(**self.settings["run"].as_dict())

    @property
    def folder(self) -> Path:
        """Folder of its checkpoints and logs."""
        return self.run.run_dir(self.id)

    @property
    def result(self) -> Path:
        """File of its result."""
        return self.run.result_path(self.id)

    def replace(self, settings: dict[str, Any]) -> "RunPlan":
        """The same training but for some settings, named like their flags, e.g. ``{"model.method": "fp"}``.

        Raises:
            ValueError: for a setting that there is not.
        """
        changed = self.settings.clone()
        for flag, value in settings.items():
            group, _, name = flag.partition(".")
            key = f"{group}.init_args.{name}" if group in ("model", "data") else flag
            if key not in changed:
                raise ValueError(f"a training has no setting {flag!r}")
            changed[key] = value
        words = (*self.words, *(f"--{flag}={value}" for flag, value in settings.items()))
        return replace(self, words=words, settings=self.parser.parse_object(changed))

    def build(self) -> Any:
        """Model, data and trainer's settings, as a namespace of what was built; the plan itself keeps none.

        Raises:
            ValueError: what a class says of its arguments.
        """
        with plain_refusals():
            return self.parser.instantiate_classes(self.settings)

    def recorded(self, data: Any) -> dict[str, Any]:
        """The configuration with what the data has told the model in place of its defaults, and without folders."""
        model = self.config["model"]
        arguments = model.get("init_args") or {}
        told = {name: getattr(data, name) for name in FROM_DATA if name in arguments}
        return portable({**self.config, "model": {**model, "init_args": {**arguments, **told}}})


def method_of(config: Mapping[str, Any]) -> Method | None:
    """Method of a resolved configuration with the options that it was given; none for a module that has no method."""
    arguments = config["model"].get("init_args") or {}
    if "method" not in arguments:
        return None
    methods = getattr(class_of(config["model"]["class_path"]), "methods", None)
    if methods is None:
        return None
    method = methods[lookup("method", arguments["method"], methods)]
    return method.with_scale(**ScaleOptions.given(arguments))


@contextmanager
def plain_refusals() -> Iterator[None]:
    """Let a class's own ``ValueError`` through, which jsonargparse wraps in what it tried itself."""
    try:
        yield
    except ValueError as error:
        cause: BaseException = error
        while str(cause).startswith("Does not validate") and cause.__cause__:
            cause = cause.__cause__
        raise ValueError(str(cause)) from error
