"""``scaledrop chip``: ``new`` writes a chip file, ``check`` explains it, ``report`` simulates a trained network on it.

``effects`` measures a trained network as the probe ``hardware`` does: one non-ideality at a time, and after recovery.
"""

from collections.abc import Callable
from pathlib import Path

from hardware.calibration import Calibration
from hardware.chip_file import ChipFile, load_chip
from hardware.chip_lines import explain, template
from hardware.constants import PresetError
from hardware.mapping import exact_adc_bits
from hardware.mtj import DriveError
from lit_scaledrop.chip.chip_figure import JUNCTIONS, of_chips
from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.on_chip import effects, report
from lit_scaledrop.naming import lookup
from lit_scaledrop.results.text import plain
from lit_scaledrop.results.units import in_unit

#: drop probabilities that the answer of a chip is shown for
PROBABILITIES = (0.1, 0.2, 0.5)
#: as the probe `temperature` calibrates
CALIBRATION = Calibration(400, 10)


def main(argv: list[str]) -> int:
    """Run ``scaledrop chip``: ``new FILE``, ``check FILE`` or ``report FILE NETWORK``."""
    actions: dict[str, Callable[..., int]] = {"new": new, "check": check, "report": report, "effects": effects}
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: scaledrop chip new FILE | check FILE | report FILE NETWORK | effects NETWORK; each has a --help")
        return 0 if argv else 2
    lookup("action", argv[0], actions)
    without = ("checkpoint", "mtj", "sigma", "redraw", "chip", "within", "temperature_k", "chip_file")
    return int(call(actions[argv[0]], argv[1:], f"scaledrop chip {argv[0]}", without=without))


def check(chip: str, *, all_: bool = False) -> int:
    """Explain a chip file: each value with unit and source, and derived quantities.

    Args:
        chip: a chip file, or a packaged junction on the default chip, e.g. sot_80nm.
        all_: also show values that the file does not set.
    """
    from rich.console import Console
    from rich.table import Table

    described = load_chip(chip)
    console, lines = Console(markup=False, emoji=False), explain(described)
    shown = [line for line in lines if line.given or all_]
    print(f"{described.name}, identity {described.fingerprint}")
    drawn = Table()
    for column in ("value of", "is", "which is", "source"):
        drawn.add_column(column)
    for line in shown:
        drawn.add_row(*map(plain, (line.name, line.value, line.about, line.source)))
    if shown:
        console.print(drawn)
    if len(shown) < len(lines):
        print(f"{len(lines) - len(shown)} more values are those of the default chip: --all shows them")
    for fact in facts(described):
        print(fact)
    return 0


def new(file: Path, *, like: str = "sot_80nm") -> int:
    """Write a chip file template: every field with its default, commented out.

    Args:
        file: file to write; an existing file is not overwritten.
        like: a packaged junction, e.g. sot_80nm, or another chip file.

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


def facts(described: ChipFile) -> list[str]:
    """Quantities derived from a chip's values: drive, spread of p, cost of a bit, converters."""
    device, chip = described.device.build()[0], described.chip
    found = ["", f"spread of p when the drive is set for the nominal junction, over {JUNCTIONS:,} junctions:"]
    for p in PROBABILITIES:
        try:
            volt, drawn = float(device.voltage(p)), of_chips(described, p)
            cost = chip.random_bit(p)
        except DriveError as error:
            found.append(f"  p = {p}: {error}")
            continue
        found.append(
            f"  p = {p}: {volt:.4f} V gives {drawn.mean():.3f} ± {drawn.std():.3f}; a bit takes "
            f"{in_unit(cost.mean_pj(p))} and {cost.cycle_ns:g} ns"
        )
        left = of_chips(described, p, CALIBRATION)
        takes = f"{in_unit(CALIBRATION.energy_pj(device, p))} and {CALIBRATION.time_ns(device, p) / 1e3:g} us"
        found.append(
            f"    calibrated by {CALIBRATION.trials} draws a chip {left.mean():.3f} ± {left.std():.3f}, for {takes}"
        )
    rows, converter = chip.crossbar.rows, chip.converter
    exact = exact_adc_bits(rows)
    bits = chip.adc_bits or converter.at_least(exact)
    volt = chip.components.number("cell_read_voltage", "V")
    one = converter.at(bits, chip.column_resistance_kohm(rows), volt)
    found.append(
        f"converters: {converter.title} of {bits} bits, {in_unit(one.energy_pj)} and {one.time_ns:g} ns per "
        f"conversion; sums of {rows} rows need {exact} bits to be exact"
    )
    return found
