"""``scaledrop`` and ``python -m lit_scaledrop``: a table from command to function; help imports nothing heavy."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from importlib.machinery import ModuleSpec, PathFinder

from lit_scaledrop.cli.commands import COMMANDS, meant
from lit_scaledrop.cli.memory import keep_freed_memory


def usage() -> str:
    """Help text."""
    lines = ["usage: scaledrop COMMAND [...]", "", "commands:"]
    lines += [f"  {name:<12}{text}" for name, text in COMMANDS.items()]
    lines += [
        "",
        "`scaledrop COMMAND --help` shows its options. Examples:",
        "  scaledrop fit --profile quick --model.method=proposed",
        "  scaledrop fit --profile paper --fast                   torch.compile and bf16; --no-fast: neither",
        "  scaledrop fit --images DIR                             your own pictures, a folder a class",
        "  scaledrop sweep table3 --profile quick",
        "  scaledrop report table3 --profile quick",
        "  scaledrop assess --probe table6 --profile quick --row resnet20/proposed",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    _require_streams()
    _find_own_classes()
    command = argv[0] if argv else "help"
    try:
        if command in ("-h", "--help", "help"):
            print(usage())
        elif command == "--version":
            from lit_scaledrop import __version__

            print(__version__)
        elif command not in COMMANDS:
            from lit_scaledrop.naming import nearest

            print(f"scaledrop: unknown command {command!r}{nearest(command, COMMANDS)}\n\n{usage()}", file=sys.stderr)
            return 2
        else:
            command, module, words = meant(command, argv[1:])
            keep_freed_memory()
            return importlib.import_module(module).main(words)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\nscaledrop: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `| head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (argparse.ArgumentError, ValueError, OSError, RuntimeError, ImportError) as error:
        return _tell(error, command)
    except MemoryError:
        return _tell(MemoryError("out of memory: this needs more than the machine, or its limit, gives"), command)


def _require_streams() -> None:
    """Output goes nowhere where it is closed, and what its encoding lacks is shown as question marks.

    A file that is opened later would otherwise get the number of a closed stream, and what others print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (for all of the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class _Ours:
    """Finds our other packages beside this one: an editable install would be asked behind all of ``sys.path``."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        """Of the two only."""
        return PathFinder.find_spec(name, [_ROOT]) if name in ("datamodules", "hardware") else None


_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _find_own_classes() -> None:
    """Import from the current folder, behind what is installed: a project has folders of the same names as ours."""
    here = os.getcwd()
    if here != _ROOT:
        sys.path[:] = [*(place for place in sys.path if place not in ("", here)), here]
        if _Ours not in sys.meta_path:
            sys.meta_path.insert(0, _Ours)


def _tell(error: Exception, command: str) -> int:
    """Say why a command ends, in one line; returns the exit code."""
    if os.environ.get("SCALEDROP_TRACEBACK"):
        traceback.print_exception(error)
    if file_name := os.environ.get("SCALEDROP_ERROR_FILE"):  # a sweep asks why
        with contextlib.suppress(OSError), open(file_name, "w", encoding="utf-8") as file:
            file.write(str(error))
    if code := getattr(error, "exit_code", 0):  # no fault: see callbacks/limits.py
        print(f"scaledrop {command}: {error}", file=sys.stderr)
        return int(code)
    from lit_scaledrop.extras import needed
    from lit_scaledrop.results.text import plain

    absent: BaseException | None = error
    while absent and not isinstance(absent, ModuleNotFoundError):
        absent = absent.__cause__  # jsonargparse's errors have it as theirs
    lacks = needed(absent.name or "") if isinstance(absent, ModuleNotFoundError) else ""
    said = f"{absent}: this needs {lacks}" if lacks and lacks not in str(absent) else str(absent if lacks else error)
    misused = bool(lacks) or isinstance(error, argparse.ArgumentError)
    hint = "" if misused else "\n(SCALEDROP_TRACEBACK=1 shows where)"
    print(f"scaledrop {command}: error: {plain(said)}{hint}", file=sys.stderr)
    return 2 if misused else 1


if __name__ == "__main__":
    sys.exit(main())
