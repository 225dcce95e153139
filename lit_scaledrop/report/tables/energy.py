"""Table VIII: energy per image of methods and executions on a chip, next to published systems and the paper's."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from lit_scaledrop.report.energies import (
    ENERGY,
    EXECUTIONS,
    PROPOSED,
    SCALES,
    TREATMENTS,
    UNITS_NJ,
    adc_of,
    band,
    chip_of,
    component_name,
    energies,
    on_chip,
    own_nj,
    paper_nj,
    parts,
    readable,
    whose,
)
from lit_scaledrop.report.groups import KEY, ORDER, by_row, commits_of, ids_of, one_profile
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, named, number, text
from lit_scaledrop.report.tables.energy_words import against_paper, one_converter_for_both, ratios
from lit_scaledrop.results.result import Result

Frames = dict[tuple[Any, ...], tuple[Result, pd.DataFrame]]
_METHODS = (PROPOSED, "Proposed, affine", "SpinDrop", "Spatial-SpinDrop", "MC-Dropout (IR-Net)", "Tiny-Deep Ensemble")
_NOTES = [
    "Ours is a model: operation counts of the topology at full width, for an image of MNIST's (LeNet-5, padded to "
    "32 x 32) or CIFAR-10's size, times cited component energies (`hardware/presets/components.yaml`; the paper's "
    "own are missing in our copy), with {whose} where none is named. Passes one by one and with the prefix once are "
    "expectations over all masks; shared prefixes are those of the masks of seed 0.",
    "One by one: every pass separately. Prefix once: layers before the first random one run once. Shared: every "
    "common prefix of passes runs once. With shared prefixes, a skip that waits for other passes is counted in both "
    "the prefix buffer and the skip buffer: ResNet-20 is overestimated by up to 3.2 uJ.",
    "Folded: scale and BatchNorm in front of a sign are thresholds, one for a kept and one for a dropped scale. "
    "Multiplied: a 32-bit product for each output whose scale is kept. Methods without a scale only have thresholds.",
    "The paper does not say how it counts the full-precision first and last layer. Published systems are as listed "
    "in the paper. Bounds and outliers among the converters are shown next to the range, not in it.",
]


def table8(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Published systems and ours; methods and their ratios; the paper's energy; components; other sources."""
    one_profile(results)
    notes: list[str] = []
    shown = {key: runs[0] for key, runs in by_row(sorted(results, key=_place), notes).items()}
    frames: Frames = {key: (run, energies(run)) for key, run in shown.items()}
    sections = [_systems(frames, paper), _ratios(frames, paper)]
    for topology in dict.fromkeys(key[0] for key in frames):
        of_topology = {key: found for key, found in frames.items() if key[0] == topology}
        sections.append(_methods(topology, of_topology))
        for key, (run, frame) in of_topology.items():
            if key[1] == PROPOSED:
                theirs = paper_nj(paper, topology, run)
                if not pd.isna(theirs):
                    sections.append(_bands(topology, run, frame, theirs))
                sections += [_components(topology, run, frame), _sources(topology, run, frame)]
    sections[-1].caption.extend(_caption([run for run, _ in frames.values()]))
    counted = [run for run, _ in frames.values()]
    named = [_NOTES[0].format(whose=whose(map(adc_of, counted))), *_NOTES[1:]]
    if any(chip_of(run) != chip_of(counted[0]) for run in counted):
        each = "; ".join(f"{key[0]}, {key[1]}: {whose([adc_of(run)])}" for key, (run, _) in frames.items())
        named.append(f"Counted on several chips, and ratios are of rows of one chip. {each}.")
    both = one_converter_for_both(frames, paper)
    return Report("Table VIII: energy per image", sections, [*notes, *both, *named], _export(frames, paper))


def _place(run: Result) -> tuple[int, int]:
    # LeNet-5 first, as in the paper
    return -ORDER.get(run.topology, 9), _METHODS.index(run.label) if run.label in _METHODS else len(_METHODS)


def _scales(frame: pd.DataFrame) -> list[str]:
    """Folded and multiplied where they differ."""
    differ = any(
        own_nj(frame, execution, "folded", "digital") != own_nj(frame, execution, "multiplied", "digital")
        for execution in EXECUTIONS
    )
    return list(SCALES) if differ else ["folded"]


def _energy(name: str, header: str) -> Column:
    return number(name, header, readable)


def _treatment(how: str, real: str) -> str:
    return f"{EXECUTIONS[how]}, {TREATMENTS[real]}"


def _systems(frames: Frames, paper: pd.DataFrame) -> Section:
    rows: list[dict[Any, Any]] = [
        {**row, "shown": f"{row['energy']:.{3 if row['energy'] < 0.1 else 2}f} {row['unit']}"}
        for row in paper.to_dict("records")
    ]
    for key, (run, frame) in frames.items():
        cited = band(run, frame, float("nan"), "loop", "folded", "digital")
        row: dict[str, Any] = {"work": f"ours: {key[1]}", "technology": "SOT-MRAM, modelled", "topology": key[0]}
        row |= {"bits": key[2], "band": cited.ends, RESULT_IDS: run.id}
        row |= {how: own_nj(frame, how, "folded", "digital") for how in EXECUTIONS}
        rows.append(row | {"shown": readable(row["loop"])})
    frame = pd.DataFrame(rows)
    columns = named(
        text("work"),
        text("technology"),
        text("topology"),
        number("bits", "bits", ".0f"),
        number("shown", "energy an image", str, source="source"),
        number("band", "over cited converters", str),
        *(_energy(how, EXECUTIONS[how]) for how in ("prefix", "shared")),
    )
    return Section("Beside published systems", frame, columns, ["Ours: first and last layer digital, scales folded."])


def _methods(topology: str, frames: Frames) -> Section:
    rows = []
    for key, (run, frame) in frames.items():
        scales = _scales(frame)
        for scale in scales:
            row: dict[str, Any] = {"method": key[1], "scale": SCALES[scale] if len(scales) > 1 else "-"}
            for how, real in itertools.product(EXECUTIONS, TREATMENTS):
                row[f"{how}_{real}"] = own_nj(frame, how, scale, real)
            here = frame[
                frame.own & (frame.execution == "loop") & (frame.scale == scale) & (frame.real_layers == "digital")
            ]
            own = here.iloc[0]
            rows.append(row | {"tops": own.tops_per_watt, "std": own.energy_std_nj, RESULT_IDS: run.id})
    columns = named(
        text("method"),
        text("scale", "scales"),
        *(_energy(f"{how}_{real}", _treatment(how, real)) for how in EXECUTIONS for real in TREATMENTS),
        number("std", "deviation over masks", lambda std: readable(std) if std else "0"),
        number("tops", "TOPS/W", ".3g"),
    )
    below = "First and last layer digital, as if binary, or left out; deviation and TOPS/W: one by one, digital."
    frame = pd.DataFrame(rows).assign(topology=topology)
    return Section(f"{topology}: energy of an image by method and execution", frame, columns, [below])


def _ratios(frames: Frames, paper: pd.DataFrame) -> Section:
    frame, sentences = ratios(frames, paper)
    shown = itertools.product(EXECUTIONS, ("digital", "excluded"))
    columns = named(
        text("topology"),
        text("method"),
        text("scale", "Proposed's scales"),
        *(number(f"{how}_{real}", _treatment(how, real), ".2f") for how, real in shown),
        number("paper", "paper", ".1f"),
    )
    return Section("How many times Proposed's energy", frame, columns, sentences)


def _bands(topology: str, run: Result, frame: pd.DataFrame, theirs: float) -> Section:
    rows = []
    for how, scale, real in itertools.product(EXECUTIONS, SCALES, TREATMENTS):
        found = band(run, frame, theirs, how, scale, real)
        row: dict[str, Any] = {"passes": EXECUTIONS[how], "scale": SCALES[scale], "real": TREATMENTS[real]}
        row |= {"low": found.low, "high": found.high, "times": found.times(theirs), "needed": found.needed_pj}
        rows.append(row | found.marks)
    table = pd.DataFrame(rows).assign(topology=topology, method=PROPOSED, **{RESULT_IDS: run.id})
    columns = named(
        text("passes"),
        text("scale", "scales"),
        text("real", "first and last layer"),
        _energy("low", "cited converters, least"),
        _energy("high", "most"),
        number("times", "the paper's is ... times that", str),
        *(_energy(name, name) for name in found.marks),
        number("needed", "conversion that would match", lambda needed: f"{needed:.2f} pJ", none="none"),
    )
    heading = f"{topology}, Proposed: the paper's {readable(theirs)}"
    return Section(heading, table, columns, [against_paper(run, frame, theirs)])


def _components(topology: str, run: Result, frame: pd.DataFrame) -> Section:
    """Rows: components; columns: executions and scales, first and last layer digital."""
    table = pd.DataFrame(index=pd.Index([], name="component"))
    columns = [text("component")]
    for how, scale in itertools.product(EXECUTIONS, _scales(frame)):
        name = f"{how}_{scale}"
        found = parts(frame, how, scale, "digital")[ENERGY]
        table = table.join(found.rename(name), how="outer")
        header = f"{EXECUTIONS[how]}, {SCALES[scale]}"
        columns.append(number(name, header, partial(_with_share, total_nj=found.sum())))
    table = table.sort_values("loop_folded", ascending=False, kind="stable").reset_index()
    table = table.assign(component=table.component.map(component_name), topology=topology, **{RESULT_IDS: run.id})
    return Section(f"{topology}, Proposed: by component, first and last layer digital", table, named(*columns), [])


def _with_share(energy_nj: float, total_nj: float) -> str:
    return f"{readable(energy_nj)} ({100 * energy_nj / total_nj:.1f} %)"


def _sources(topology: str, run: Result, frame: pd.DataFrame) -> Section:
    """What other sources change, one at a time."""
    here = frame[(frame.scale == "folded") & frame.condition.notna()].set_index("condition")[ENERGY]
    own = own_nj(frame, "loop", "folded", "digital")
    ends = [readable(here[name]) for name in ("lowest", "highest")]
    found = here.drop(["lowest", "highest"])
    change = 100 * (found / own - 1)
    table = pd.DataFrame({"source": found.index, "energy": found.values, "change": change.values})
    table = table.sort_values("change", key=abs, ascending=False, kind="stable").assign(topology=topology)
    columns = named(
        text("source", "in question: other source"),
        _energy("energy", "energy an image"),
        number("change", "change", lambda change: f"{change:+.1f} %"),
    )
    below = (
        f"One by one, folded, digital, {whose([adc_of(run)])}: {readable(own)}. With the lowest, or the "
        f"highest, source of each at once {ends[0]} to {ends[1]}. What the sources say: `scaledrop energy "
        f"{run.network} --tornado{on_chip(run)}`."
    )
    heading = f"{topology}, Proposed: other sources, one at a time"
    return Section(heading, table.assign(**{RESULT_IDS: run.id}), columns, [below])


def _caption(runs: list[Result]) -> list[str]:
    first = runs[0]
    fewer = {run.label: run.config["passes"] for run in runs if run.config["passes"] != first.config["passes"]}
    others = "".join(f"; {method} makes {passes}, one a member" for method, passes in fewer.items())
    return [
        "Counted on the layers at full width; nothing is trained, so profile and data do not matter.",
        f"T = {first.config['passes']} passes an image, the paper's{others}. Commit: {commits_of(runs)}. Make it "
        f"again: `scaledrop cost --table table8 --profile {first.profile}{on_chip(first)}`, then `scaledrop report "
        f"{first.study} --profile {first.profile}`.",
    ]


def _export(frames: Frames, paper: pd.DataFrame) -> pd.DataFrame:
    """One line a published system, and one a number of ours."""
    theirs = paper.assign(energy_nj=paper.energy * paper.unit.map(UNITS_NJ)).drop(columns=["energy", "unit"])
    exports = [theirs.assign(component="total")]
    for key, (run, frame) in frames.items():
        about = dict(zip(KEY, key, strict=True)) | {"work": "ours", "technology": "SOT-MRAM, modelled"}
        about |= {"profile": run.profile, "passes": run.config["passes"], RESULT_IDS: ids_of([run])}
        exports.append(frame.rename(columns={ENERGY: "energy_nj"}).assign(**about))
    names = ["work", "technology", *KEY, "bits", "profile", "passes", "execution", "scale", "real_layers", "adc"]
    names += ["component", "condition", "operations", "energy_nj", "energy_std_nj", "tops_per_watt", "source"]
    data = pd.concat(exports, ignore_index=True).reindex(columns=names)
    return data.astype({"bits": "Int64", "passes": "Int64"})
