"""What a run is: its configuration as plain data, its method, its place."""

import importlib
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from lit_scaledrop.methods.classification import Method
from lit_scaledrop.naming import lookup


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
