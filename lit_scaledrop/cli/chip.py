"""``scaledrop chip``: ``new`` writes a chip file, ``check`` explains it, ``report`` puts a trained network on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import datamodules
from hardware.chip_file import ChipFile, load_chip
from hardware.chip_lines import explain, template
from hardware.constants import PresetError
from hardware.drop_probability import DeviceProbability
from hardware.mapping import exact_adc_bits
from hardware.mtj import DriveError
from lit_scaledrop.chip.chip_figure import draw_chip
from lit_scaledrop.cli.command import call
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.evaluation.chip_report import report_chip
from lit_scaledrop.evaluation.evaluate import require_match
from lit_scaledrop.naming import count, lookup
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.progress import PartsProgress
from lit_scaledrop.results.glossary import TOPOLOGIES
from lit_scaledrop.results.result import write_atomic
from lit_scaledrop.results.units import in_unit

#: drop probabilities and simulated junctions that the answer of a chip is shown for
PROBABILITIES, JUNCTIONS = (0.1, 0.2, 0.5), 10_000


def main(argv: list[str]) -> int:
    """Run ``scaledrop chip``: ``new FILE``, ``check FILE`` or ``report FILE NETWORK``."""
    actions: dict[str, Callable[..., int]] = {"new": new, "check": check, "report": report}
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: scaledrop chip new FILE | check FILE | report FILE NETWORK --data NAME; each has a --help")
        return 0 if argv else 2
    lookup("action", argv[0], actions)
    without = ("checkpoint", "mtj", "sigma", "redraw", "chip", "within", "temperature_k", "chip_file")
    return int(call(actions[argv[0]], argv[1:], f"scaledrop chip {argv[0]}", without=without))


def check(chip: str, *, all_: bool = False) -> int:
    """Explain what a chip file says, with unit and source, and what follows from it.

    Args:
        chip: a chip file, or a junction of ours on our default chip, e.g. sot_80nm.
        all_: the values that the file leaves as they are, too.
    """
    from rich.console import Console
    from rich.table import Table

    described = load_chip(chip)
    console, lines = Console(), explain(described)
    shown = [line for line in lines if line.given or all_]
    print(f"{described.name}, identity {described.fingerprint}")
    drawn = Table()
    for column in ("value of", "is", "which is", "source"):
        drawn.add_column(column)
    for line in shown:
        drawn.add_row(line.name, line.value, line.about, line.source)
    if shown:
        console.print(drawn)
    if len(shown) < len(lines):
        print(f"{len(lines) - len(shown)} more values are the default chip's: --all shows them")
    for fact in facts(described):
        print(fact)
    return 0


def new(file: Path, *, like: str = "sot_80nm") -> int:
    """Write a chip file to start from: every field with its default, commented out.

    Args:
        file: to write; one that exists is left alone.
        like: a junction of ours, e.g. sot_80nm, or another chip file.

    Raises:
        PresetError: the file exists, or there is no such chip.
    """
    text = template(load_chip(like), like)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise PresetError(f"{file} exists already: name another file, or remove it") from None
    print(f"{file}: uncomment what differs on your chip, then `scaledrop chip check {file}`")
    return 0


def report(
    chip: str,
    network: str,
    *,
    data: str,
    evaluation: Evaluation,
    root: str | None = None,
    chips: int = 3,
    limit: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Path = Path("chip.png"),
) -> int:
    """One page on a chip with a trained network on it: p curve, spread, accuracy, calibration, energy.

    Args:
        chip: chip file, or a junction of ours on our default chip.
        network: checkpoint, packed file, or a model that comes with the package.
        data: name of a data set of images with classes.
        evaluation: how the posterior is asked.
        root: folder of the data; default: the environment variable DATA, or ./data.
        chips: finished chips.
        limit: most test images (default: all).
        device: where the network runs.
        out: picture, .png, .pdf or .svg (needs matplotlib); its numbers go beside it, .json.
    """
    load_chip(chip)  # what is wrong with it is said before a network is opened
    kind: Any = datamodules.DATAMODULES[lookup("data set", data, datamodules.DATAMODULES)]
    module, _ = open_trained(network)
    size = module.hparams.get("image_size")
    images: Any = kind(root=root, **({} if size is None else {"image_size": size}))
    require_match(network, module, images)
    images.setup("fit")
    images.setup("test")
    with PartsProgress(1) as progress:
        progress.begin(f"the network and {count(chips, 'chip')}")
        found = report_chip(module.network, images, chip, evaluation, chips, limit, device, progress.images)
    topology = module.hparams["network"]
    name = f"{TOPOLOGIES.get(topology, topology)}, {module.method.label}"
    energy = found.energy.report()
    for row in found.rows():
        print(f"{row[0]:<34}{row[1]:>9}{row[2]:>18}")
    print(f"energy {in_unit(energy.energy_pj)}, {energy.latency_ns / 1e3:.1f} us an image")
    about = found.record(images, name, evaluation.seed)
    footer = (
        f"{Path(chip).name} ({found.chip.fingerprint}); {images.name}{' (a stand-in)' if images.stand_in else ''} "
        f"{about['data']['fingerprint']}, {found.images} test images, T = {found.passes}, seed {evaluation.seed}; "
        f"{count(chips, 'finished chip')}; energy: passes one by one; commit {about['commit'][:7]}."
    )
    title = f"{name} on {Path(chip).stem}"
    figure = draw_chip(
        found.chip, found.rows(), found.digital.bins, [one.bins for one in found.on_chips], energy, title, footer
    )
    write_atomic(out.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
    print(f"one page: {out}, its numbers: {out.with_suffix('.json')}")
    return 0


def facts(described: ChipFile) -> list[str]:
    """What follows from a chip's values: drive, spread of p, cost of a bit, converters."""
    device, chip = described.device.build()[0], described.chip
    found = ["", "a junction whose drive is set for the nominal one, over 10,000 of them:"]
    for p in PROBABILITIES:
        try:
            volt = float(device.voltage(p))
            drawn = DeviceProbability(device, described.spread).probability(
                torch.full((JUNCTIONS,), p, dtype=torch.float64), torch.Generator().manual_seed(0)
            )
            cost = chip.random_bit(p)
        except DriveError as error:
            found.append(f"  p = {p}: {error}")
            continue
        found.append(
            f"  p = {p}: {volt:.4f} V gives {drawn.mean():.3f} +- {drawn.std():.3f}; a bit takes "
            f"{in_unit(cost.mean_pj(p))} and {cost.cycle_ns:g} ns"
        )
    rows, converter = chip.crossbar.rows, chip.converter
    exact = exact_adc_bits(rows)
    bits = chip.adc_bits or converter.at_least(exact)
    volt = chip.components.number("cell_read_voltage", "V")
    one = converter.at(bits, chip.column_resistance_kohm(rows), volt)
    found.append(
        f"converters: {converter.title} of {bits} bits, {in_unit(one.energy_pj)} and {one.time_ns:g} ns a conversion; "
        f"sums of {rows} rows need {exact} bits to be exact"
    )
    return found
