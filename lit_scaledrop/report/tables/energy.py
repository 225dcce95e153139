"""Table VIII: energy of an image beside published systems, as a band over models of the converters, with its shares."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.energies import (
    ADC,
    ADCS,
    CONSTANTS,
    EXECUTIONS,
    OWN,
    TREATMENTS,
    UNITS_NJ,
    carrier,
    component_name,
    energies,
    paper_nj,
    parts,
    readable,
    totals,
)
from lit_scaledrop.report.groups import (
    KEY,
    TOPOLOGIES,
    by_row,
    caption,
    data_name,
    ids_of,
    one_profile,
    seeds_of,
)
from lit_scaledrop.report.measures import Shown, over_runs, percent
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, mean_column, text
from lit_scaledrop.results.result import Result

_NOTES = [
    "Ours is a model: operation counts of the topology at full width, for an image of MNIST's (LeNet-5, padded to "
    "32 x 32) or CIFAR-10's size, times cited component energies (`hardware/presets/components.yaml`; the paper's own "
    "are lost in our copy), with the masks of the passes that give the accuracy. It does not depend on weights, nor on "
    "the width and data of the network whose accuracy stands beside it.",
    "The paper does not say what it took the full-precision first and last layer for; so three bands stand here. "
    "Published systems are as the paper lists them; their accuracies are not in our copy.",
]


def table8(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table VIII: published systems and ours; bands; components; what carries the difference to the paper.

    Args:
        results: of the probe `table8`, one profile.
        paper: columns work, technology, topology, bits, energy, unit, source.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    one_profile(results)
    notes: list[str] = []
    order = list(paper[paper.work.str.startswith(OWN)].topology)
    shown = by_row(sorted(results, key=lambda run: _place(run, order)), notes)
    frames = {key: energies(runs[0]) for key, runs in shown.items()}
    sections = [_systems(shown, frames, paper)]
    for key, runs in shown.items():
        theirs = paper_nj(paper, key[0], runs[0])
        name = f"{key[0]}, {key[1]}, T = {runs[0].evaluation['samples']}"
        sections += [
            _of(runs, f"{name}: energy of an image by ADC model", *_bands(frames[key], theirs), []),
            _of(runs, f"{name}: by component", *_components(frames[key]), _below(runs, frames[key], theirs)),
        ]
    return Report("Table VIII: energy of an image", sections, [*notes, *_NOTES], _export(shown, frames, paper))


def _of(runs: list[Result], heading: str, frame: pd.DataFrame, columns: dict[str, Column], below: list[str]) -> Section:
    """A section with the energies of one network."""
    topology = TOPOLOGIES.get(runs[0].network, runs[0].network)
    marks = {"topology": topology, "method": runs[0].label, RESULT_IDS: ids_of(runs)}
    return Section(heading, frame.assign(**marks), columns, below)


def _place(run: Result, order: list[str]) -> tuple[int, str, str]:
    topology = TOPOLOGIES.get(run.network, run.network)
    return order.index(topology) if topology in order else len(order), topology, run.label


def _accuracies(shown: Shown) -> list[dict[Any, Any]]:
    return over_runs(shown.values(), {"accuracy": percent("cls/acc", suite="clean")}).to_dict("records")


def _systems(
    shown: dict[tuple[Any, ...], list[Result]], frames: dict[tuple[Any, ...], pd.DataFrame], paper: pd.DataFrame
) -> Section:
    rows = [
        {**row, "shown": f"{row['energy']:.{3 if row['energy'] < 0.1 else 2}f} {row['unit']}"}
        for row in paper.to_dict("records")
    ]
    for (key, runs), accuracy in zip(shown.items(), _accuracies(shown), strict=True):
        for real, name in TREATMENTS.items():
            band = totals(frames[key], "loop", real)
            rows.append(
                {
                    "work": f"ours, first and last layer {name}",
                    "technology": "SOT-MRAM, modelled",
                    "topology": key[0],
                    "bits": key[2],
                    "shown": readable(band[ADC]),
                    "band": f"{readable(band.min())} to {readable(band.max())}",
                    **accuracy,
                    "data": data_name(runs[0]) + " (stand-in)" * runs[0].data["stand_in"],
                    RESULT_IDS: ids_of(runs),
                }
            )
    frame = pd.DataFrame(rows).reindex(
        columns=[
            "work",
            "technology",
            "topology",
            "bits",
            "shown",
            "band",
            "accuracy",
            "accuracy_std",
            "data",
            "source",
            RESULT_IDS,
        ]
    )
    columns = {
        "work": text("work"),
        "technology": text("technology"),
        "topology": text("topology"),
        "bits": Column("bits", lambda row: f"{row['bits']:.0f}"),
        "shown": Column("energy an image", lambda row: row["shown"], source="source"),
        "band": Column("band over ADC models", lambda row: "" if pd.isna(row["band"]) else row["band"]),
        "accuracy": mean_column("accuracy", "accuracy (ours, %)"),
        "data": text("data", "on"),
    }
    passes = sorted({runs[0].evaluation["samples"] for runs in shown.values()})
    below = (
        f"Ours with {ADCS[ADC]}'s converters; T = {', '.join(map(str, passes))} passes an image, the paper's T = 10."
    )
    return Section("Beside published systems", frame, columns, [below])


def _bands(frame: pd.DataFrame, theirs: float) -> tuple[pd.DataFrame, dict[str, Column]]:
    rows = []
    for execution, how in EXECUTIONS.items():
        for real, name in TREATMENTS.items():
            band = totals(frame, execution, real)
            row: dict[str, Any] = {"real": name, "passes": how}
            row |= {adc: band[adc] for adc in ADCS}
            # the paper runs its passes one by one
            if execution == "loop" and not pd.isna(theirs):
                row["paper"] = theirs
                row["holds"] = "yes" if band.min() <= theirs <= band.max() else "no"
                row["ratio"] = band[ADC] / theirs
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=["real", "passes", *ADCS, "paper", "holds", "ratio"])
    columns = {"real": text("real", "first and last layer"), "passes": text("passes")}
    for adc, name in ADCS.items():
        columns[adc] = Column(name, lambda row, adc=adc: readable(row[adc]))  # type: ignore[misc]
    columns["paper"] = Column("paper", lambda row: readable(row["paper"]))
    columns["holds"] = Column("paper in the band", lambda row: "" if pd.isna(row["holds"]) else row["holds"])
    columns["ratio"] = Column(
        f"{ADCS[ADC]} / paper", lambda row: "" if pd.isna(row["ratio"]) else f"{row['ratio']:.2f}"
    )
    return table, columns


def _components(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Column]]:
    """Rows: components; columns: each treatment with our converter, then the other converters."""
    columns: dict[str, Column] = {"component": text("component")}
    table = pd.DataFrame({"component": list(CONSTANTS)})
    chosen = [(real, ADC) for real in TREATMENTS] + [("digital", adc) for adc in ADCS if adc != ADC]
    for real, adc in chosen:
        name, found = f"{real}_{adc}", parts(frame, real, adc).energy_nj
        table[name] = table.component.map(found)
        table[f"{name}_share"] = 100 * table[name] / found.sum()
        columns[name] = Column(f"{TREATMENTS[real]}, {ADCS[adc]}", lambda row, name=name: _with_share(row, name))  # type: ignore[misc]
    kept = table[table.filter(regex="_share$").notna().any(axis=1)]
    kept = kept.sort_values(f"digital_{ADC}", ascending=False, kind="stable")
    return kept.assign(component=kept.component.map(component_name)), columns


def _with_share(row: dict[Any, Any], name: str) -> str:
    return "" if pd.isna(row[name]) else f"{readable(row[name])} ({row[f'{name}_share']:.1f} %)"


def _below(runs: list[Result], frame: pd.DataFrame, theirs: float) -> list[str]:
    lines = [carrier(frame, real, theirs) for real in TREATMENTS] if not pd.isna(theirs) else []
    numbers = (
        "Accuracy: mean ± sample standard deviation over n seeds; energies are those of the masks of the first seed."
    )
    return [*lines, *caption(runs, numbers)]


def _export(
    shown: dict[tuple[Any, ...], list[Result]], frames: dict[tuple[Any, ...], pd.DataFrame], paper: pd.DataFrame
) -> pd.DataFrame:
    """One line a published system, and one a treatment, model and component of ours."""
    theirs = paper.assign(energy_nj=paper.energy * paper.unit.map(UNITS_NJ)).drop(columns=["energy", "unit"])
    exports = [theirs.assign(component="total")]
    for (key, frame), accuracy in zip(frames.items(), _accuracies(shown), strict=True):
        runs = shown[key]
        first = runs[0]
        about = dict(zip(KEY, key, strict=True)) | {"work": "ours", "technology": "SOT-MRAM, modelled", "n": len(runs)}
        about |= {"seeds": seeds_of(runs), "profile": first.profile, "data": first.data["name"]}
        about |= {"fingerprint": first.data["fingerprint"], "epochs": first.training["epochs"]}
        about |= {"accuracy_percent": accuracy["accuracy"], "accuracy_std": accuracy["accuracy_std"]}
        about |= {"passes": first.evaluation["samples"]}
        exports.append(frame.assign(**about))
    names = ["work", "technology", *KEY, "bits", "n", "seeds", "profile", "data", "fingerprint", "epochs", "passes"]
    names += ["accuracy_percent", "accuracy_std", "execution", "real_layers", "adc", "component", "operations"]
    data = pd.concat(exports, ignore_index=True).reindex(columns=[*names, "energy_nj", "source"])
    return data.astype({"n": "Int64", "bits": "Int64", "epochs": "Int64", "passes": "Int64"})
