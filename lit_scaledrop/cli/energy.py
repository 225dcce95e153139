"""``scaledrop energy NETWORK``: energy, time and area of an image on a chip, by component and by layer.

Operation counts of the network are multiplied by component constants (``hardware/presets/components.yaml``; the paper's
own are lost in our copy), for T passes with masks that were really drawn. Converters decide the sum and their models
differ by orders of magnitude, so every result comes with the band over them.
"""

from collections.abc import Sequence

from hardware.adc import ADC_MODELS, AdcModel
from hardware.energy import Chip, EnergyReport, Entry, RealLayers
from hardware.mapping import Crossbar, MappedLayer
from hardware.passes import Execution
from hardware.presets import components, published
from hardware.workload import LayerShape
from lit_scaledrop.chip.energy import REAL_LAYERS, Band, Estimate, estimate_energy
from lit_scaledrop.chip.figure import draw_energy
from lit_scaledrop.cli.command import call
from lit_scaledrop.networks.tasks import task_of
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.units import UNITS, in_unit


def main(argv: list[str]) -> int:
    """Run ``scaledrop energy`` with ``argv`` behind it."""
    return call(energy, argv, "scaledrop energy")


def energy(
    network: str,
    *,
    geometry: Crossbar,
    method: str = "proposed",
    passes: int = 10,
    seed: int = 0,
    execution: Execution = "loop",
    adc: AdcModel = "isaac",
    adc_bits: int | None = None,
    real_layers: RealLayers = "digital",
    preset: str | None = None,
    width: float = 1.0,
    in_channels: int | None = None,
    image_size: int | None = None,
    classes: int | None = None,
    figure: str | None = None,
) -> int:
    """Energy, time and area of an image on a chip, by component and by layer, with the band over converters.

    Args:
        network: for classes or segmentation, e.g. vgg_small or unet.
        geometry: of the crossbars.
        method: key of its methods.
        passes: stochastic passes T.
        seed: of the masks.
        execution: passes alone, or prefixes once.
        adc: model of the converters.
        adc_bits: bits of the converters (default: what exact sums need).
        real_layers: first and last layer: digital, counted as if binary, or excluded.
        preset: YAML file whose constants replace ours.
        width: multiplier of the channels.
        in_channels: channels of the images (default: 1 for lenet5, else 3).
        image_size: side of the image (default: 32; 256 for segmentation).
        classes: outputs (default: 10; 2 for segmentation).
        figure: file of a stacked bar, e.g. energy.svg (needs matplotlib).
    """
    task = task_of(network)
    shape, chosen = task.image_shape(network), task.method(method)
    shape = (in_channels or shape[0], image_size or shape[1], image_size or shape[2])
    built = task.build(network, chosen, classes, shape[0], width, shape[1])
    plan = PosteriorPredictive(built, passes, seed).plans[0]
    chip = Chip(geometry, adc, adc_bits, real_layers=real_layers)
    estimate = estimate_energy(built, shape, plan, chip=chip, preset=components(preset), execution=execution)
    report, band, samples = estimate.report(), estimate.band(), plan.samples
    size = "x".join(map(str, shape))
    title = f"{network}, {chosen.label}, one {size} image, T = {samples}, {execution}"
    _print(title, report, estimate, band)
    if network in published() and width == 1 and samples == 10 and chosen.scale is not None:
        print(_against_paper(network, band, real_layers, adc))
    if figure:
        undated = {"Date": None} if figure.endswith(".svg") else None
        draw_energy(report, title).savefig(figure, metadata=undated)
        print(f"figure: {figure}")
    return 0


def _print(title: str, report: EnergyReport, estimate: Estimate, band: Band) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()

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
    models = Table(title="band over ADC models", title_justify="left")
    models.add_column("first and last layer")
    for adc in ADC_MODELS:
        models.add_column(adc, justify="right")
    for real in REAL_LAYERS:
        models.add_row(real, *[in_unit(band[real, adc].energy_pj) for adc in ADC_MODELS])
    console.print(models)


def _tiles(layer: LayerShape, chip: Chip) -> list[str]:
    if not layer.binary and chip.real_layers != "binary":
        return ["", ""]
    mapped = MappedLayer(layer, chip.crossbar)
    return [f"{mapped.tiles}", f"{100 * mapped.utilization:.0f} %"]


def _against_paper(network: str, band: Band, real: RealLayers, adc: AdcModel) -> str:
    """Whether the band holds the paper's number, and what the converters would have to take to meet it."""
    constant = published()[network]
    assert not isinstance(constant.value, dict)
    theirs_pj = constant.value * UNITS[constant.unit]
    lines = [f"the paper has {constant.value:g} {constant.unit} ({constant.source})"]
    for treatment in REAL_LAYERS:
        energies = [band[treatment, model].energy_pj for model in ADC_MODELS]
        holds = "in" if min(energies) <= theirs_pj <= max(energies) else "outside of"
        ends = f"{in_unit(min(energies))} to {in_unit(max(energies))}"
        lines.append(f"  {holds} the band {ends} with first and last layer {treatment}")
    report = band[real, adc]
    shares = sorted(report.by_component(), key=lambda entry: -entry.energy_pj)[:3]
    largest = ", ".join(f"{entry.component} {100 * entry.energy_pj / report.energy_pj:.0f} %" for entry in shares)
    lines.append(f"with {adc} and {real} ours is {report.energy_pj / theirs_pj:.2f} of it; largest: {largest}")
    converter = next(entry for entry in report.by_component() if entry.component == "ADC")
    others_pj = report.energy_pj - converter.energy_pj
    mean_pj, needed = (pj / converter.operations for pj in (converter.energy_pj, theirs_pj - others_pj))
    meets = f"{needed:.2f} pJ would meet the paper" if needed > 0 else "which already is more than the paper has"
    lines.append(f"a conversion takes {mean_pj:.2f} pJ, all else together {in_unit(others_pj)}; {meets}")
    return "\n".join(lines)
