"""The findings of Table VIII in words: the paper's ratios and energies against ours, and the converter they imply."""

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lit_scaledrop.report.energies import (
    ENERGY,
    EXECUTIONS,
    PROPOSED,
    SCALES,
    TREATMENTS,
    band,
    chip_of,
    own_nj,
    paper_nj,
    parts,
    readable,
    role_of,
    totals,
)
from lit_scaledrop.results.result import Result

Found = Mapping[tuple[Any, ...], tuple[Result, pd.DataFrame]]
PAPERS = {"SpinDrop": "(SpinDrop)", "Spatial-SpinDrop": "(Spatial-SpinDrop)"}
"""Rows of the paper that its ratios are taken from, by method."""
TOLERANCE = 0.1
"""Share by which a ratio of ours may differ and still reproduce the paper's, and two conversions be one."""


def ratios(frames: Found, paper: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Energies of the other methods over Proposed's on the same chip, and whether they are the paper's."""
    rows = []
    for (topology, method, *_), (run, frame) in frames.items():
        proposed = ((key, *found) for key, found in frames.items() if key[:2] == (topology, PROPOSED))
        base = [found for _, other, found in proposed if chip_of(other) == chip_of(run)]
        if method == PROPOSED or not base:
            continue
        for scale in SCALES:
            row: dict[str, Any] = {"topology": topology, "method": method, "scale": SCALES[scale]}
            for how, real in itertools.product(EXECUTIONS, TREATMENTS):
                row[f"{how}_{real}"] = own_nj(frame, how, scale, real) / own_nj(base[0], how, scale, real)
            rows.append(row | {"paper": _papers(paper, topology, method), "result_ids": run.id})
    table = pd.DataFrame(rows)
    sentences = [_reproduced(table[table.method == method], method) for method in PAPERS] if rows else []
    return table, [sentence for sentence in sentences if sentence]


def _papers(paper: pd.DataFrame, topology: str, method: str) -> float:
    """The paper's energy of a method over its own, NaN where it has none."""
    here = paper[paper.topology == topology]
    theirs = here[here.work.str.endswith(PAPERS.get(method, "(none)"))]
    own = here[here.work.str.startswith("Scale-Dropout")]
    return float(theirs.energy.iloc[0] / own.energy.iloc[0]) if len(theirs) and len(own) else float("nan")


def _reproduced(rows: pd.DataFrame, method: str) -> str:
    theirs = rows.paper.dropna()
    if theirs.empty:
        return ""
    ours = rows.loc[theirs.index, [f"{how}_{real}" for how, real in itertools.product(EXECUTIONS, TREATMENTS)]]
    low, high, factor = float(ours.min().min()), float(ours.max().max()), float(theirs.iloc[0])
    near = (ours / factor - 1).abs() <= TOLERANCE
    where = [f"{EXECUTIONS[name.split('_')[0]]}, {TREATMENTS[name.split('_')[1]]}" for name in near.columns[near.any()]]
    verdict = f"reproduced only where passes are {'; '.join(where)}" if where else "not reproduced"
    loop = ours[[f"loop_{real}" for real in TREATMENTS]]
    return (
        f"{method}: the paper's {factor:.1f} times Proposed is {verdict}. Ours is {low:.2f} to {high:.2f} over "
        f"executions, scales and treatments of the first and last layer, {loop.min().min():.2f} to "
        f"{loop.max().max():.2f} with passes one by one."
    )


def against_paper(run: Result, frame: pd.DataFrame, theirs: float) -> str:
    """How the paper's energy stands to those of cited converters, by treatment of the first and last layer."""
    lines = []
    for real, name in TREATMENTS.items():
        found = band(run, frame, theirs, "loop", "folded", real)
        marks = ", ".join(f"{mark}: {readable(energy)}" for mark, energy in found.marks.items())
        lines.append(
            f"First and last layer {name}: cited converters give {found.ends}, the "
            f"paper's {readable(theirs)} is {found.times(theirs)} times that (in addition {marks})."
        )
    return "Passes one by one, scales folded. " + " ".join(lines)


def one_converter_for_both(frames: Found, paper: pd.DataFrame) -> list[str]:
    """The conversion that would meet the paper's energies of both topologies, if there is one."""
    both = {
        key[0]: (run, frame, theirs)
        for key, (run, frame) in frames.items()
        if key[1] == PROPOSED and not pd.isna(theirs := paper_nj(paper, key[0], run))
    }
    if len(both) != 2 or len({str(chip_of(run)) for run, _, _ in both.values()}) > 1:
        return []
    rows = []
    for how, scale, real in itertools.product(EXECUTIONS, SCALES, TREATMENTS):
        pj = [band(run, frame, theirs, how, scale, real).needed_pj for run, frame, theirs in both.values()]
        rows.append((how, scale, real, *pj))
    table = pd.DataFrame(rows, columns=["how", "scale", "real", "one", "two"])
    # the paper runs its passes one by one; what they share is ours
    table, shared = table[table.how != "shared"], table[table.how == "shared"]
    ends = [
        f"{name} {table[key].min():.2f} to {table[key].max():.2f} pJ"
        for name, key in zip(both, ("one", "two"), strict=True)
    ]
    known = table.dropna()
    off = (known[["one", "two"]].max(axis=1) / known[["one", "two"]].min(axis=1)).sort_values()
    best = known.loc[off.index[0]]
    place = f"passes {EXECUTIONS[best.how]}, scales {SCALES[best.scale]}, first and last layer {TREATMENTS[best.real]}"
    verdict = "A single converter matches both" if off.iloc[0] <= 1 + TOLERANCE else "No single converter matches both"
    dearest, role = max(_dearest(run, frame) for run, frame, _ in both.values())
    return [
        "The conversion energy that would match the paper, with passes one by one or the prefix once: "
        f"{', '.join(ends)} (none where everything else takes more). {verdict}: nearest are {best.one:.2f} and "
        f"{best.two:.2f} pJ ({place}). With shared prefixes it would be {shared.one.min():.1f} to "
        f"{shared.one.max():.1f} and {shared.two.min():.1f} to {shared.two.max():.1f} pJ; the largest of these "
        f"sources{', an outlier,' if role == 'outlier' else ''} takes {dearest:.1f} pJ."
    ]


def _dearest(run: Result, frame: pd.DataFrame) -> tuple[float, str]:
    """Energy of a conversion of the dearest converter of a source, pJ, and what that is beside the others."""
    found, components = totals(frame, "loop", "folded", "excluded"), parts(frame, "loop", "folded", "excluded")
    dearest = str(found[[adc for adc in found.index if role_of(run, adc) != "yours"]].idxmax())
    others = own_nj(frame, "loop", "folded", "excluded") - components[ENERGY]["adc"]
    return float(1e3 * (found[dearest] - others) / components.operations["adc"]), role_of(run, dearest)
