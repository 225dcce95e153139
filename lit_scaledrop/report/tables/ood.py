"""Table VI: detection of OOD inputs by the paper's rate and by the usual threshold-free measures."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from lit_scaledrop.report.groups import (
    ATOM_NOTE,
    KEY,
    by_data,
    by_row,
    caption,
    epochs_heading,
    identity,
    rule_sentence,
    with_paper,
)
from lit_scaledrop.report.measures import Measure, Shown, head, over_runs, percent
from lit_scaledrop.report.table import BITS, RESULT_IDS, RUNS, Column, Report, Section, named, spread, text
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.glossary import SCORES, SUITE_KINDS, SUITES
from lit_scaledrop.results.result import Result

PAPER_SUITES = ("gaussian", "uniform", "test_gaussian", "test_uniform", "svhn", "stl10")
LACKING = "not measured"
"""In place of what results lack that were made before it came."""
_HEAD = [*KEY, "n", "seeds", RESULT_IDS]
# test images are not separated from themselves, so with them alone there is no AUROC
_SECOND_RULE = "detection rate (%) by the second rule, which accepts 95 % of the validation images"
_SHOWN = {
    "detection rate (%) by the OOD rule": percent("ood/rate"),
    _SECOND_RULE: Measure("ood/rate", where={"rule": "validation"}, optional=True),
    "AUROC (%) of the predictive entropy against the test images": Measure(
        "ood/auroc/predictive_entropy", optional=True
    ),
    "FPR95 (%) of the predictive entropy: test images flagged with 95 % of the suite": Measure(
        "ood/fpr95/predictive_entropy", optional=True
    ),
}


def table6(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table VI, one line a topology and method, one column a suite; a section for each measure."""
    notes: list[str] = []
    sections, exports = [], []
    for group in by_data(results):
        shown = by_row(group, notes)
        used = [run for runs in shown.values() for run in runs]
        suites = _suites(used)
        numbers = f"Mean ± sample standard deviation over n seeds. {rule_sentence(used)} {_sources(used)}"
        below = caption(used, numbers)
        for what, measure in _SHOWN.items():
            of_rate = measure.metric == "ood/rate"
            columns = {name: _named([name]) for name in suites if name != "clean" or of_rate}
            values = over_runs(shown.values(), {"value": measure}, ["suite"])
            if what == _SECOND_RULE and values.empty:  # of results made before it came
                continue
            # the paper has the detection rate by its own rule only
            sections.append(
                _section(shown, paper if of_rate and what != _SECOND_RULE else paper[:0], what, columns, values)
            )
        present = _present(used)
        kinds = {f"{kind}: ": [name for name in present if name in of] for kind, of in SUITE_KINDS.items()}
        averages = {kind: suites for kind, suites in kinds.items() if suites} | {"": present}
        sections += [_by_score(shown, paper[:0], kind, suites) for kind, suites in averages.items()]
        sections[-1] = replace(sections[-1], caption=below)
        exports.append(_export(shown))
        notes += _absent(used)
    notes = [
        *dict.fromkeys(notes),
        "The paper's numbers of this table are missing in our copy; its rows are listed.",
        f"The paper's six suites are {_named(PAPER_SUITES)}; the others are OpenOOD's for CIFAR-10, near "
        f"({_named(SUITE_KINDS['near'])}) and far ({_named(SUITE_KINDS['far'])}). OOD inputs are the positive class.",
        ATOM_NOTE,
        "A detection rate has to be compared with the false-alarm rate on test images in the first column.",
    ]  # fmt: skip
    return Report("Table VI: out-of-distribution detection", sections, notes, pd.concat(exports, ignore_index=True))


def _suites(runs: Sequence[Result]) -> list[str]:
    """Parts that were measured or found absent, in the order of the table."""
    found = {name for run in runs for name in (*run.evaluation["parts"], *run.evaluation["absent"])}
    return [name for name in SUITES if name in found] + sorted(found - set(SUITES))


def _present(runs: Sequence[Result]) -> list[str]:
    """Suites that every run was measured on."""
    return [n for n in _suites(runs) if n != "clean" and all(n in run.evaluation["parts"] for run in runs)]


def _named(suites: Sequence[str]) -> str:
    return ", ".join(SUITES.get(name, name) for name in suites)


def _by_score(shown: Shown, paper: pd.DataFrame, kind: str, suites: Sequence[str]) -> Section:
    """Mean AUROC over suites, a column a score; no column of a score that no run was measured by."""
    means = {score: Measure(f"ood/auroc/{score}", where={"suite": tuple(suites)}, optional=True) for score in SCORES}
    by_score = over_runs(shown.values(), means)
    # with no suite there are no numbers, and all columns stand empty
    scores = [score for score in SCORES if by_score[score].notna().any() or not suites]
    values = pd.concat({s: by_score[[s, f"{s}_std"]].set_axis(["value", "value_std"], axis=1) for s in scores})
    what = f"AUROC (%) by score, mean over {kind}{_named(suites) or 'no suite'}"
    return _section(shown, paper, what, {s: s.replace("_", " ") for s in scores}, values.swaplevel())


def _section(
    shown: Shown,
    paper: pd.DataFrame,
    what: str,
    titles: dict[str, str],
    values: pd.DataFrame,
) -> Section:
    """A line a row of runs, a column a key of `titles`; `values` has an index of row and key."""
    lines = []
    for row, (key, runs) in enumerate(shown.items()):
        absent = {name for run in runs for name in run.evaluation["absent"]}
        cells = {
            name: spread(values["value"][row, name], values["value_std"][row, name])
            for name in titles
            if (row, name) in values.index
        }
        asked = [name for name in titles if name in SCORES or any(name in run.evaluation["parts"] for run in runs)]
        if len(values):
            cells |= {name: LACKING for name in asked if not cells.get(name)}
        lines.append(
            dict(zip(KEY, key, strict=True)) | head(runs) | cells | dict.fromkeys(absent & set(titles), "absent")
        )
    frame = with_paper(pd.DataFrame(lines).reindex(columns=[*_HEAD, *titles]), paper, list(KEY))
    cells_of = [Column(title, text(name).cell, name=name) for name, title in titles.items()]
    heading = f"{epochs_heading(next(iter(shown.values()))[0])}: {what}"
    return Section(heading, frame, named(text("topology"), text("method"), BITS, *cells_of, RUNS), [])


def _export(shown: Shown) -> pd.DataFrame:
    """One line a row of runs, suite and metric."""
    exports = []
    for key, runs in shown.items():
        found = measurements(runs)
        found["metric"] = (
            found.rule.astype(object).add("/").fillna("") + found.metric
        )  # the second rule's by a name of its own
        found = found.groupby(["suite", "metric"]).value.agg(["mean", "std"]).reset_index()
        suites, first = runs[0].evaluation["suites"], runs[0]
        found["source"] = [suites.get(name, {}).get("source", "") for name in found.suite]
        found["images"] = [suites.get(name, {}).get("images", first.evaluation["images"]) for name in found.suite]
        found = found.assign(**identity(first), **dict(zip(KEY, key, strict=True)), **head(runs))
        exports.append(found.sort_values("suite", key=lambda suite: suite + "/" + found.metric, kind="stable"))
    names = [*identity(first), *KEY, "n", "seeds", "epochs", "suite", "source", "metric", "images", "mean", "std"]
    return pd.concat(exports, ignore_index=True)[names]


def _sources(runs: Sequence[Result]) -> str:
    found: dict[str, str] = {}
    for run in runs:
        for name, about in run.evaluation["suites"].items():
            found[name] = f"{about['title']} ({about['source']}, {about['images']} images)"
    return f"Suites: {'; '.join(found[name] for name in _suites(runs) if name in found) or 'none'}."


def _absent(runs: Sequence[Result]) -> list[str]:
    reasons = {name: reason for run in runs for name, reason in run.evaluation["absent"].items()}
    listed = [f"{SUITES.get(name, name)}: {reasons[name]}" for name in _suites(runs) if name in reasons]
    return [f"Absent: {'; '.join(listed)}."] if listed else []
