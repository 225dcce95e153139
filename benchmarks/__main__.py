"""Run the benchmarks and write ``benchmarks/results/<name>.md``."""

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

from benchmarks.measure import machine

NAMES = {
    "posterior": "T passes: loop, folded, shared, exact",
    "peers": "The same posterior with torch-uncertainty",
    "training": "Training and data",
    "scaling": "Cost against T, L, batch and width",
    "schemes": "Error against the exact distribution",
    "corruptions": "Generating CIFAR-10-C",
}


def main(words: list[str]) -> int:
    """Run what is named on the command line, by default everything."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--small", action="store_true", help="tiny networks and batches: do they run?")
    parser.add_argument("--batch", type=int, help="images (default: 100, small: 2)")
    parser.add_argument("--width", type=float, help="width of the networks (default: 1, small: 1/8)")
    parser.add_argument("--repeats", type=int, help="interleaved rounds (default: 3, small: 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch (default: all cores)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder (default: %(default)s)")
    options = parser.parse_args(words)
    options.batch = options.batch or (2 if options.small else 100)
    options.width = options.width or (0.125 if options.small else 1.0)
    options.repeats = options.repeats or (1 if options.small else 3)
    torch.set_num_threads(options.threads)
    unknown = set(options.names) - NAMES.keys()
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    where = machine(words)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or NAMES:
        text = f"# {NAMES[name]}\n\n{importlib.import_module(f'benchmarks.{name}').run(options)}\n\n{where}\n"
        path = options.out / f"{name}.md"
        path.write_text(text)
        print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
