"""``scaledrop energy NETWORK``: energy, latency and area of a network on a chip, by component and by layer.

Operation counts of the network are multiplied by component constants (``hardware/presets/components.yaml``; the paper's
own are missing in our copy). Converters dominate the total and their sources differ, so every result is shown with the
range over converters; ``--tornado`` shows the effect of other sources of each constant.
"""

from collections.abc import Sequence
from typing import Any

from hardware.breakdown import EnergyReport, Entry
from hardware.chip import Chip, RealLayers
from hardware.draws import module_bit
from hardware.mapping import MappedLayer
from hardware.passes import Execution
from hardware.pipeline import stages, throughput
from hardware.presets import components, published
from hardware.workload import LayerShape
from lit_scaledrop.chip.energy import REAL_LAYERS, Band, Estimate, estimate_energy
from lit_scaledrop.chip.figure import draw_energy
from lit_scaledrop.chip.options import ChipOptions
from lit_scaledrop.cli.command import call
from lit_scaledrop.networks.tasks import task_of
from lit_scaledrop.results.units import UNITS, in_unit


def main(argv: list[str]) -> int:
    """Run ``scaledrop energy`` with ``argv`` behind it."""
    return call(energy, argv, "scaledrop energy", known={"adc": components().converters})


def energy(
    network: str,
    *,
    options: ChipOptions,
    method: str = "proposed",
    passes: int = 10,
    seed: int = 0,
    execution: Execution = "loop",
    width: float = 1.0,
    in_channels: int | None = None,
    image_size: int | None = None,
    classes: int | None = None,
    tornado: bool = False,
    figure: str | None = None,
) -> int:
    """Estimate energy, latency and area of a network on a chip, by component and layer, over all converters.

    Args:
        network: a topology for classification or segmentation, e.g. vgg_small or unet.
        options: the chip.
        method: a method of this topology.
        passes: stochastic passes T.
        seed: seed of the masks drawn for shared execution; the others are expectations over all masks.
        execution: passes one by one (loop), with the deterministic prefix computed once (prefix), or with all common
            prefixes computed once (shared).
        width: multiplier of the channels.
        in_channels: channels of the images (default: 1 for lenet5, else 3).
        image_size: side of the image (default: 32; 256 for segmentation).
        classes: outputs (default: 10; 2 for segmentation).
        tornado: show the effect of other sources of the constants, one at a time.
        figure: file of a stacked bar, e.g. energy.svg (needs matplotlib).
    """
    task = task_of(network)
    shape, chosen = task.image_shape(network), task.method(method)
    shape = (in_channels or shape[0], image_size or shape[1], image_size or shape[2])
    built = task.build(network, chosen, classes, shape[0], width, image_size=shape[1])
    estimate = estimate_energy(built, shape, passes, options.build(), execution, seed=seed)
    report, band, samples = estimate.report(), estimate.band(), estimate.passes
    size = "x".join(map(str, shape))
    title = f"{network}, {chosen.label}, one {size} image, T = {samples}, {execution}, {estimate.chip.scale}"
    _print(title, report, estimate, band)
    print("\n".join(_sentences(estimate, report, execution)))
    if tornado:
        _print_tornado(estimate, report)
    if network in published() and width == 1 and samples == 10 and chosen.scale is not None:
        print("\n".join(_against_paper(network, estimate, band)))
    if figure:
        undated = {"Date": None} if figure.endswith(".svg") else None
        draw_energy(report, title).savefig(figure, metadata=undated)
        print(f"figure: {figure}")
    return 0


def _print(title: str, report: EnergyReport, estimate: Estimate, band: Band) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)

    def table(kind: str, rows: Sequence[tuple[str, Entry, Sequence[str]]], extra: Sequence[str] = ()) -> Table:
        drawn = Table(title=f"{title}: by {kind}", title_justify="left")
        drawn.add_column(kind)
        for column in (*extra, "energy", "share", "latency us", "area mm2"):
            drawn.add_column(column, justify="right")
        for name, entry, more in rows:
            share = entry.energy_pj / report.energy_pj if report.energy_pj else 0.0
            numbers = [f"{entry.latency_ns / 1e3:,.2f}", f"{entry.area_um2 / 1e6:.4f}"]
            drawn.add_row(name, *more, in_unit(entry.energy_pj), f"{100 * share:.1f} %", *numbers)
        return drawn

    operations = sum(entry.operations for entry in report.entries)
    total = Entry("", "total", operations, report.energy_pj, report.latency_ns, report.area_um2)
    parts = [(e.component, e, [f"{e.operations:,.0f}"]) for e in report.by_component()]
    console.print(table("component", [*parts, ("total", total, [""])], ["operations"]))
    tiles = {layer.name: _tiles(layer, estimate.chip) for layer in estimate.layers}
    places = [(e.layer, e, tiles.get(e.layer, ["", ""])) for e in report.by_layer()]
    console.print(table("layer", [*places, ("total", total, ["", ""])], ["tiles", "used"]))
    known = estimate.chip.components.converters
    names = list(dict.fromkeys(adc for _, adc in band))
    models = Table(title="by converter", title_justify="left")
    models.add_column("first and last layer")
    for adc in names:
        role = known[adc].role
        models.add_column(known[adc].title + ("" if role == "converter" else f", {role}"), justify="right")
    for real in REAL_LAYERS:
        models.add_row(real, *[in_unit(band[real, adc].energy_pj) for adc in names])
    console.print(models)
    if lacking := [name for name in known if name not in names]:
        print(f"without the bits that this chip asks for: {', '.join(lacking)}")


def _tiles(layer: LayerShape, chip: Chip) -> list[str]:
    if not layer.binary and chip.real_layers != "binary":
        return ["", ""]
    mapped = MappedLayer(layer, chip.crossbar)
    return [f"{mapped.tiles}", f"{100 * mapped.utilization:.0f} %"]


def _sentences(estimate: Estimate, report: EnergyReport, execution: Execution) -> list[str]:
    """Energy with its spread over masks, operations a watt, and what a random bit takes."""
    if execution == "shared":
        spread = "with the masks that were drawn"
    else:
        spread = f"expectation over masks, standard deviation over plans {in_unit(report.deviation_pj)}"
    rate = estimate.tera_operations_a_watt(report)
    lines = [f"{in_unit(report.energy_pj)} an image ({spread}); {rate:.3g} TOPS/W over the requested passes"]
    pipeline = stages(estimate.layers, estimate.uses, report) if execution != "shared" else []
    if pipeline:
        flow = throughput(pipeline, estimate.passes)
        lines.append(
            f"pipelined layers: the first image after {flow.first_ns / 1e3:.3g} us, then "
            f"{flow.images_per_second:,.0f} images per second, limited by {flow.slowest}"
        )
    asked = sorted({use.probability for use in estimate.uses if use.draws})
    if asked:
        ours = module_bit(estimate.chip.components)
        lines.append(f"a random bit: the paper's module {ours.kept_pj:.3g} pJ in {ours.cycle_ns:g} ns")
    if asked and estimate.chip.junction is not None:
        bits = [(p, estimate.chip.random_bit(p)) for p in asked]
        each = ", ".join(f"{bit.mean_pj(p):.3g} pJ at p = {p:g}" for p, bit in bits)
        lines[-1] += f"; this junction, which is used here, {each} in {bits[0][1].cycle_ns:g} ns"
    return lines


def _print_tornado(estimate: Estimate, report: EnergyReport) -> None:
    print("other sources, one at a time:")
    alternatives = estimate.tornado()
    for one in alternatives:
        change = 100 * (one.energy_pj / report.energy_pj - 1)
        print(f"  {one.question}, {one.source}: {in_unit(one.energy_pj)} ({change:+.1f} %); {one.says}")
    low, high = estimate.extremes(alternatives)
    print(f"with the lowest, or the highest, source of all at once: {in_unit(low)} to {in_unit(high)}")


def _against_paper(network: str, estimate: Estimate, band: Band) -> list[str]:
    """How the paper's number stands to those of cited converters, and what a conversion would take to meet it."""
    constant, known = published()[network], estimate.chip.components.converters
    assert not isinstance(constant.value, dict)
    theirs_pj = constant.value * UNITS[constant.unit]
    lines = [f"the paper has {constant.value:g} {constant.unit} ({constant.source})"]
    for real in REAL_LAYERS:
        inside = [band[real, adc].energy_pj for adc in known if (real, adc) in band and known[adc].role == "converter"]
        marks = [
            f"{adc} ({known[adc].role}) {in_unit(report.energy_pj)}"
            for adc in known
            if known[adc].role != "converter" and (report := band.get((real, adc)))
        ]
        needed = estimate.conversion_for(theirs_pj, own := band_of(band, real, estimate))
        lines.append(
            f"  first and last layer {real}: the cited converters give {in_unit(min(inside))} to "
            f"{in_unit(max(inside))}, the "
            f"paper's is {theirs_pj / max(inside):.2g} to {theirs_pj / min(inside):.2g} times that"
            f"{'; beside them ' + ', '.join(marks) if marks else ''}"
        )
        meets = "no converter would: everything else takes more" if needed is None else f"{needed:.2f} pJ would match"
        lines.append(f"    a conversion takes {_mean_conversion(own):.2f} pJ; {meets}")
    return lines


def band_of(band: Band, real: RealLayers, estimate: Estimate) -> EnergyReport:
    """The report with the chip's own converters."""
    return band.get((real, estimate.chip.adc)) or estimate.report(real_layers=real)


def _mean_conversion(report: EnergyReport) -> float:
    adc: Any = next(entry for entry in report.by_component() if entry.component == "ADC")
    return adc.energy_pj / adc.operations
