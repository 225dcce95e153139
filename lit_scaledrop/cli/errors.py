"""Errors of a command line, in one line that says what to do."""

import os
import re
from collections.abc import Iterable, Sequence

from lit_scaledrop.cli.own import of_folder
from lit_scaledrop.cli.words import pieces
from lit_scaledrop.evaluation.evaluate import data_sets
from lit_scaledrop.naming import nearest
from lit_scaledrop.networks.own import imported, is_own
from lit_scaledrop.results.reading import read_text
from lit_scaledrop.results.yaml_text import load_yaml


def explain(error: BaseException, flags: Iterable[str]) -> str:
    """A one-line version of an error of jsonargparse.

    >>> import argparse
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
    if match := re.match(r"unrecognized arguments: ([^\s=]+)", reason):
        return _unknown_flag(match[1], flags)
    if match := re.match(r"the following arguments are required: (.+)", reason):
        names = ", ".join("--" + name.partition(".")[2] for name in match[1].split(", ") if "." in name)
        return f"{names} must be given, directly or by --profile quick, cpu, gpu or paper" if names else reason
    if match := re.search(r"(?:Option|accept option) '([^']+)'", reason):
        name = match[1].replace("init_args.", "")
        return _unknown_flag("--" + (f"{key}.{name}" if reason.startswith("Option") else name), flags)
    given = re.search(r"Expected a dot import path string: (\S+)|Problem with given class_path '([^']+)'", texts[0])
    if given and not re.match("Expected a (?!dot import path)", reason):
        return _unknown_class(key, given[1] or given[2], reason)
    if value := re.search(r"Got value: (.*)$", reason, re.DOTALL):
        types = r"Expected (?:a )?(?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\]|tuple with (\d+) elements)"
        kinds = re.findall(types, _last_union(texts))
        wanted = dict.fromkeys(name or choices or f"[{count} values]" for name, choices, count in kinds)
        wanted.pop("NoneType", None)
        return f"--{key} takes {' or '.join(wanted)}, not {value[1]!r}"
    return f"--{key}: {reason}" if key and key not in reason else reason


def odd_config(words: Sequence[str]) -> str:
    """What is wrong with the first ``--config`` file that holds no settings, in words; empty if all do."""
    for _, file in pieces(words, "--config"):
        if file and os.path.isfile(file):
            try:
                if not isinstance(load_yaml(read_text(file)), dict):
                    return f"--config {file} holds no settings"
            except (OSError, ValueError) as error:
                return f"--config {file} is no valid YAML: {' '.join(str(error).split())}"
    return ""


def _last_union(texts: list[str]) -> str:
    """The innermost text that names all the types a value may have."""
    return next((text for text in reversed(texts) if "Union subtypes" in text and "Lightning" not in text), texts[-1])


def _unknown_flag(flag: str, flags: Iterable[str]) -> str:
    return f"unknown flag {flag!r}{nearest(flag, flags, '; `scaledrop fit --help` lists them')}"


def _unknown_class(key: str, given: str, reason: str) -> str:
    if key != "data":
        return f"--{key}: {given!r} cannot be imported as a class: {reason}"
    if said := of_folder("--data", given):
        return said
    if is_own(given) and not given.startswith("datamodules."):
        try:
            imported("data", given)
        except ValueError as error:
            return str(error)
    sets = data_sets()
    modules = sorted(module.__name__ for module in sets.values() if isinstance(module, type))
    hint = nearest(given.rsplit(".", 1)[-1], [*modules, *sets], ".")
    return f"unknown data {given!r}{hint} Known: {', '.join(modules)}, or the import path of your own"
