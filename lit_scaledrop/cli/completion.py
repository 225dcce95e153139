"""``scaledrop completion bash``: a script that completes commands, flags and their values, without starting Python."""

import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Literal

from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.commands import COMMANDS, LIGHTNING, meant
from lit_scaledrop.cli.known import class_flags
from lit_scaledrop.deploy.open import model_names
from lit_scaledrop.evaluation.evaluate import data_sets
from lit_scaledrop.evaluation.probes import PROBES
from lit_scaledrop.networks import NETWORKS
from lit_scaledrop.sweep.file import packaged

Flags = Mapping[str, Iterable[str]]
ACTIONS = {"chip": ("new", "check", "report", "effects"), "data": ("list", "get"), "device": ("fit",)}
"""Commands behind a command."""
SCRIPTS = {
    "bash": """\
# bash completion of scaledrop, written by `scaledrop completion bash`; write it again after an update
_scaledrop() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]} words=
    # for bash, --flag=value is three words
    if [[ $cur == "=" ]]; then cur=; elif [[ $flag == "=" ]]; then flag=${COMP_WORDS[COMP_CWORD - 2]}; fi
    if ((COMP_CWORD == 1)); then
        words="COMMANDS"
    else
        case "${COMP_WORDS[1]} $flag" in
VALUES
        *)
            # behind a flag without names come files, which bash knows
            if [[ $cur == -* || $flag != -* ]]; then
                case ${COMP_WORDS[1]} in
FLAGS
                esac
            fi
            ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _scaledrop scaledrop
"""
}
"""Of each shell, with gaps in capitals."""


def main(argv: list[str]) -> int:
    """Run ``scaledrop completion`` with ``argv`` behind it."""
    return call(completion, argv, "scaledrop completion")


def completion(shell: Literal["bash"]) -> int:
    """Print a script that completes commands, flags and the names of networks, methods, data sets, sweeps, ...

    Install it once, and again after an update:
    scaledrop completion bash > ~/.local/share/bash-completion/completions/scaledrop
    (or any file, and `source FILE` in ~/.bashrc). In zsh: autoload bashcompinit && bashcompinit; source FILE.

    Args:
        shell: name of the shell.
    """
    values, flags = [], []
    for command in COMMANDS:
        known = flags_of(command)
        named = {flag: " ".join(names) for flag, names in sorted(known.items()) if names}
        values += [f'        "{command} {flag}") words="{names}" ;;' for flag, names in named.items()]
        flags.append(f'                {command}) words="{" ".join((*first_words(command), *sorted(known)))}" ;;')
    gaps = {"COMMANDS": " ".join(COMMANDS), "VALUES": "\n".join(values), "FLAGS": "\n".join(flags)}
    print(re.sub("COMMANDS|VALUES|FLAGS", lambda gap: gaps[gap[0]], SCRIPTS[shell]), end="")
    return 0


def flags_of(command: str) -> Flags:
    """Flags of a command, and of each the values that have names."""
    flags = dict(_in_help(command))
    for action in ACTIONS.get(command, ()):
        flags |= _in_help(command, action)
    if command == "predict":  # of a checkpoint on its test set
        flags |= _in_help("test")
    if command == "assess":
        flags |= _in_help("fit")
    if command in LIGHTNING or command == "assess":
        flags |= class_flags()
    named: Flags = {"evaluate": {"--data": data_sets()}, "assess": {"--probe": PROBES}}.get(command, {})
    return {**flags, **named}


def first_words(command: str) -> Iterable[str]:
    """What may stand right behind a command, and is no flag."""
    names = {
        "sweep": packaged,
        "report": _reports,
        "evaluate": model_names,
        "summary": NETWORKS.copy,
        "energy": NETWORKS.copy,
    }
    return names[command]() if command in names else ACTIONS.get(command, ())


def _reports() -> list[str]:
    if find_spec("pandas") is None:
        return []  # the core has no tables
    from lit_scaledrop.report.figures import FIGURES
    from lit_scaledrop.report.sweeps import SWEEPS
    from lit_scaledrop.report.tables import TABLES

    return [*TABLES, *FIGURES, *SWEEPS]


def _in_help(*words: str) -> dict[str, Iterable[str]]:
    """Flags of a help text, and what stands in braces behind them."""
    _, module, rest = meant(words[0], [*words[1:], "--help"])
    text, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"  # a flag a line
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit, ModuleNotFoundError):  # without extras
            importlib.import_module(module).main(rest)
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    flags: dict[str, Iterable[str]] = {}
    for line in re.findall(r"^  (-.+)$", text.getvalue(), re.MULTILINE):
        head = re.split(r"\s{2,}", line)[0]
        values = re.search(r"\{(\S+)\}", head)
        flags |= dict.fromkeys(re.findall(r"--[\w.-]*\w", head), values[1].split(",") if values else ())
    return flags
