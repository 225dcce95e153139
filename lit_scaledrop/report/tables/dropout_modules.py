"""Table VII: dropout modules of every topology and method, with and without re-use, and layer by layer."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.energies import on_chip
from lit_scaledrop.report.groups import KEY, ORDER, by_row, commits_of, ids_of, one_profile
from lit_scaledrop.report.table import BITS, RESULT_IDS, Column, Report, Section, named, number, text
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.result import Result

_REUSE = {
    "reused": "Topology-wise, modules re-used: one set, as large as the largest layer needs, serves layer after layer",
    "separate": "Topology-wise, modules not re-used: every layer has its own",
}
_OWN = ("modules", "area_um2", "power_mw")
"""What depends on re-use; what a pass draws does not."""
_PASS = ("draws", "energy_pj", "latency_ns")
_SCHEMES = (
    "scale_dropout",
    "scale_dropout_element",
    "spinbayes",
    "spatial_spindrop",
    "spindrop",
    "spindrop_kernel",
    "mc_dropout",
    "block_dropout",
    "dropconnect",
)
_COUNTED = {
    "spindrop": "us: one module per neuron",
    "spindrop_kernel": "its authors: K K C_in",
    "scale_dropout": "the paper",
}
"""Whose count a row is; of the other methods it is ours: the bits that a layer draws at once."""
_MAPPINGS = ("unrolled", "K x K split")
"""The paper's two ways to lay a convolution on crossbars, for which it has a row of Proposed each."""
_NOTES = [
    "The paper's table has two rows of Proposed for each topology, in our reading one per mapping; Scale-Dropout "
    "needs one module with either. For the other methods we count what does not depend on the mapping.",
    "SpinDrop in two conventions. Ours: one module per neuron, as our layers draw one bit for each. Its "
    "authors': by the "
    "abstract of Spatial-SpinDrop (arXiv:2306.10185), which needs nine times fewer, K K C_in for each "
    "layer, re-used from output pixel to output pixel; bits per pass are then a lower bound, drawn once for all "
    "pixels.",
    "Power is that of all modules while they draw; energy and latency are those of the draws of one pass, layer after "
    "layer, and the same with and without re-use.",
    "Every random bit is assumed to come from such a module, also those of MC-Dropout and MC-DropConnect, which are "
    "full-precision networks. MC-Dropout draws only for the features in front of the classifier, in U-Net and SegNet "
    "after the central blocks.",
    "SpinBayes draws two bits per layer, the index of one of four weight arrays: the other three crossbars of each "
    "layer "
    "are not counted here.",
    "Our copy of the paper's table has one number: one module takes 0.0225 mW, and one is enough for a network. The "
    "meaning of layer-wise and topology-wise is our reading.",
]


def table7(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table VII: modules, area and power by topology and method; draws, energy and latency of a pass."""
    one_profile(results)
    notes: list[str] = []
    ordered = sorted(results, key=_place)
    shown = {key: runs[0] for key, runs in by_row(ordered, notes).items()}
    below = _caption(list(shown.values()))
    sections, exports = [], []
    for reuse, heading in _REUSE.items():
        ours = _rows(shown, reuse)
        # the paper's module is re-used
        theirs = paper if reuse == "reused" else paper[:0]
        frame = ours.merge(theirs.rename(columns={name: f"paper_{name}" for name in _OWN}), on=KEY, how="left")
        sections.append(Section(heading, frame, _columns(reuse == "reused"), below if reuse == "separate" else []))
        exports.append(frame.assign(scope="topology", reuse="yes" if reuse == "reused" else "no"))
    for topology in dict.fromkeys(key[0] for key in shown):
        section, export = _layers(topology, {key: run for key, run in shown.items() if key[0] == topology})
        sections.append(section)
        exports.append(export)
    data = pd.concat(exports, ignore_index=True)
    names = [*KEY, "mapping", "counted", "scope", "layer", "reuse", *_OWN, *_PASS, *(f"paper_{name}" for name in _OWN)]
    return Report("Table VII: dropout modules", sections, [*notes, *_NOTES], data.reindex(columns=names))


def _place(run: Result) -> tuple[int, int]:
    scheme = run.config["scheme"]
    return ORDER.get(run.topology, 9), _SCHEMES.index(scheme) if scheme in _SCHEMES else len(_SCHEMES)


def _rows(shown: dict[tuple[Any, ...], Result], reuse: str) -> pd.DataFrame:
    """A line a network: what depends on re-use, and what a pass draws."""
    found = measurements(shown.values())
    whole = found[found.layer.isna() & (found.condition.isna() | (found.condition == reuse))]
    values = whole.pivot(index="run", columns="metric", values="value")[[*_OWN, *_PASS]]
    heads = []
    for key, run in shown.items():
        scheme = run.config["scheme"]
        head = dict(zip(KEY, key, strict=True)) | {"counted": _COUNTED.get(scheme, "us"), RESULT_IDS: run.id}
        heads += [head | {"mapping": name} for name in (_MAPPINGS if scheme == "scale_dropout" else ("either",))]
    return pd.DataFrame(heads).join(values, on=RESULT_IDS)


def _columns(with_the_papers: bool) -> dict[str, Column]:
    papers = [
        number("paper_modules", "modules (paper)", ",.0f", source="source"),
        number("paper_power_mw", "power (paper, mW)", ".4f"),
    ]
    return named(
        text("topology"),
        text("method"),
        text("mapping"),
        text("counted", "counted by"),
        BITS,
        number("modules", "modules", ",.0f"),
        number("area_um2", "area (um2)", ",.0f"),
        number("power_mw", "power (mW)", short),
        *(papers if with_the_papers else []),
        number("draws", "bits a pass", ",.0f"),
        number("energy_pj", "energy a pass (pJ)", short),
        number("latency_ns", "latency a pass (ns)", ".0f"),
    )


def short(value: float) -> str:
    """Four digits, or all of a whole number that has more.

    >>> short(0.0225), short(11.52), short(53084.16)
    ('0.0225', '11.52', '53,084')
    """
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def _layers(topology: str, shown: dict[tuple[Any, ...], Result]) -> tuple[Section, pd.DataFrame]:
    """Modules of each layer, a column a method; the export has area, power and energy as well."""
    found = measurements(shown.values())
    exports = []
    for key, run in shown.items():
        of_run = found[(found.run == run.id) & found.layer.notna()]
        values = of_run.pivot(index="layer", columns="metric", values="value")[[*_OWN, *_PASS]]
        lines = values.loc[run.config["layers"]].reset_index().assign(**dict(zip(KEY, key, strict=True)), scope="layer")
        exports.append(lines.assign(label=run.label))
    export = pd.concat(exports, ignore_index=True)
    methods = list(dict.fromkeys(export.label))
    frame = (
        export.pivot(index="layer", columns="label", values="modules").loc[export.layer.unique(), methods].reset_index()
    )
    frame = frame.assign(topology=topology, **{RESULT_IDS: ids_of(list(shown.values()))})
    columns = {"layer": text("layer")} | {name: number(name, name, ",.0f") for name in methods}
    heading = f"Layer-wise: modules of each layer of {topology}, as many as it draws bits in a pass"
    return Section(heading, frame, columns, []), export


def _caption(runs: list[Result]) -> list[str]:
    constants: dict[str, str] = {}
    for run in runs:
        for name, constant in run.config["constants"].items():
            about = f"{constant['value']:g} {constant['unit']} ({constant['status']}: {constant['source']})"
            constants[f"{name} {about}"] = about
    sizes: dict[int, dict[str, None]] = {}
    for run in runs:
        sizes.setdefault(run.config.get("image_shape", (3, 32, 32))[1], {})[run.topology] = None
    topologies = "; ".join(f"{', '.join(names)}: images of {size} x {size} pixels" for size, names in sizes.items())
    first, chips = runs[0], sorted({run.config["chip"] for run in runs if "chip" in run.config})
    of_junction = [f"Energy, power and time on chip {', '.join(chips)} are its junction's."] if chips else []
    return [
        f"Counted on the layers at full width ({topologies}); nothing is trained, so "
        "profile and data do not matter. Modules are the random bits that a method's layers draw at once.",
        f"Constants, for one module: {'; '.join(constants)}. Area and power of a layer are its modules times these.",
        *of_junction,
        f"Commit: {commits_of(runs)}. Reproduce with: `scaledrop cost --profile {first.profile}{on_chip(first)}`, then "
        f"`scaledrop report {first.study} --profile {first.profile}`.",
    ]
