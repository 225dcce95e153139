"""The summary at the top of the page: one sentence on the best-trained networks, and three charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lit_scaledrop.report.energies import PROPOSED
from lit_scaledrop.report.page.contents import Study
from lit_scaledrop.report.page.sections import heading
from lit_scaledrop.report.table import Section
from lit_scaledrop.results.store import load_results

_FULL = "FP"
_PICTURES = 3
_OF_TRAININGS = (
    ("accuracy", "Test accuracy (%), higher is better", ".2f"),
    ("nll", "NLL of the test images, lower is better", ".3f"),
    ("ece", "Calibration error ECE, lower is better", ".3f"),
)
"""Columns of Table III that are shown, with title and format."""
_OF_DETECTION = ("predictive_entropy", "OOD images by entropy, AUROC (%) over all suites, higher is better", ".2f")


@dataclass(frozen=True)
class Bar:
    """One method in a picture."""

    method: str
    bits: str
    value: str
    share: float
    """Of the longest bar."""
    ours: bool


@dataclass(frozen=True)
class Bars:
    """One picture."""

    title: str
    about: str
    """Name of the study that the numbers are in."""
    source: str
    """What that is called."""
    bars: list[Bar]

    @property
    def words(self) -> str:
        """The picture for readers who cannot see it."""
        return f"{self.title}: {', '.join(f'{bar.method} ({bar.bits} bits) {bar.value}' for bar in self.bars)}."


@dataclass(frozen=True)
class Summary:
    """Sentence and pictures of a page."""

    profile: str
    sentence: str
    pictures: list[Bars]


def best_first(results_dir: Path | str, profiles: Sequence[str]) -> list[str]:
    """Profiles by the longest training of Table III, the best-trained first; then by name."""
    epochs = {}
    for profile in profiles:
        runs, _ = load_results(results_dir, profile, "table3")
        epochs[profile] = max((run.training.get("epochs", 0) for run in runs if run.label == PROPOSED), default=0)
    return sorted(profiles, key=lambda profile: (-epochs[profile], profile))


def summary(found: Mapping[str, Sequence[Study]]) -> Summary | None:
    """Of the longest training of Table III that has the proposed method beside others; none where there is none."""
    candidates = []
    for profile, studies in found.items():
        by_name = {study.name: study for study in studies if study.report}
        if (trained := by_name.get("table3")) is None or trained.report is None:
            continue
        for section in trained.report.sections:
            measured = section.frame[section.frame.accuracy.notna()]
            for topology, rows in measured.groupby("topology", sort=False):
                if (rows.method == PROPOSED).any() and len(rows) > 1:
                    candidates.append((rows.epochs.max(), len(rows), profile, str(topology), section, rows, by_name))
    if not candidates:
        return None
    _, _, profile, topology, section, rows, by_name = max(candidates, key=lambda one: one[:2])
    pictures = [_bars(by_name["table3"], rows, *column) for column in _OF_TRAININGS]
    if (found_rows := _detection(by_name.get("table6"), topology)) is not None:
        pictures.insert(1, _bars(by_name["table6"], found_rows, *_OF_DETECTION))
    chosen = [picture for picture in pictures if len(picture.bars) > 1][:_PICTURES]
    return Summary(profile, _sentence(topology, section, rows), chosen)


def _detection(study: Study | None, topology: str) -> pd.DataFrame | None:
    """Rows of the last section of Table VI by score, which is the mean over all suites."""
    sections = study.report.sections if study and study.report else []
    scored = [section.frame for section in sections if _OF_DETECTION[0] in section.frame]
    return scored[-1][scored[-1].topology == topology] if scored else None


def _bars(study: Study, rows: pd.DataFrame, column: str, title: str, form: str) -> Bars:
    # a section by score has means as text, with their deviations behind
    rows = rows.assign(shown=pd.to_numeric(rows[column].astype(str).str.split().str[0], errors="coerce"))
    rows = rows[rows.shown.notna()]
    most = max(rows.shown.max(), 1e-9) if len(rows) else 1.0
    bars = [
        Bar(
            str(row["method"]),
            f"{row['bits_w']}/{row['bits_a']}",
            format(row["shown"], form),
            row["shown"] / most,
            row["method"] == PROPOSED,
        )
        for row in rows.to_dict("records")
    ]
    return Bars(title, study.name, heading(study).partition(":")[0], bars)


def _sentence(topology: str, section: Section, rows: pd.DataFrame) -> str:
    """Accuracy of the proposed method against full precision, and against the best Bayesian one of the same bits."""
    ours = rows[rows.method == PROPOSED].iloc[0]
    said = [
        f"{section.heading}: {topology} with {PROPOSED} ({ours.bits_w}/{ours.bits_a} bits) "
        f"reaches {ours.accuracy:.2f} % ({'one seed' if ours.n == 1 else f'mean of {ours.n:.0f} seeds'})",
        *_against(ours, rows[rows.method == _FULL], "full precision"),
    ]
    same = rows[rows.bayesian & (rows.method != PROPOSED) & (rows.bits_w == ours.bits_w) & (rows.bits_a == ours.bits_a)]
    best = same.sort_values("accuracy", ascending=False).head(1)
    said += _against(ours, best, f"{best.method.iloc[0]} at the same bits" if len(best) else "")
    return f"{', '.join(said)}."


def _against(ours: "pd.Series", other: pd.DataFrame, name: str) -> list[str]:
    if other.empty:
        return []
    points = float(ours.accuracy - other.accuracy.iloc[0])
    return [f"{abs(points):.2f} points {'above' if points >= 0 else 'below'} {name} ({other.accuracy.iloc[0]:.2f} %)"]
