"""Figure of an energy report: one stacked bar per layer."""

from typing import TYPE_CHECKING, Any

from hardware.breakdown import EnergyReport
from lit_scaledrop.results.units import UNITS, in_unit, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_energy(report: EnergyReport, title: str) -> "Figure":
    """Stacked bars, one a layer, a colour for each component; needs matplotlib and leaves its global state alone."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    layers = [entry.layer for entry in report.by_layer() if entry.energy_pj]
    ranked = sorted(report.by_component(), key=lambda entry: -entry.energy_pj)
    # tab10 without its grey, which is that of the rest, has nine colours
    large = [entry.component for entry in ranked[:9] if entry.energy_pj >= 0.005 * report.energy_pj]
    small = [entry.component for entry in ranked if entry.component not in large and entry.energy_pj]
    unit = unit_of(report.energy_pj)
    energy: dict[tuple[str, str], float] = {}
    for entry in report.entries:
        key = (entry.layer, entry.component if entry.component in large else "other")
        energy[key] = energy.get(key, 0.0) + entry.energy_pj / UNITS[unit]
    figure = Figure(figsize=(7.5, 1.6 + 0.32 * len(layers)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(layers)
    palette: Any = [color for place, color in enumerate(mpl.colormaps["tab10"].colors) if place != 7]  # type: ignore[attr-defined]
    for index, component in enumerate([*large, *(["other"] if small else [])]):
        widths = [energy.get((layer, component), 0.0) for layer in layers]
        color = "0.6" if component == "other" else palette[index]
        total = sum(widths)
        axes.barh(layers, widths, left=left, color=color, label=f"{component} ({total:.3g} {unit})", height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel(f"energy an image ({unit}), total {in_unit(report.energy_pj)}")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
