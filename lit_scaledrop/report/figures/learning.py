r"""`scaledrop report curves`: error against epochs on logarithmic axes, of finished and unfinished runs.

A line is the validation error of one training of classes on one data set. Where that is CIFAR-10, marks are the test
error of ResNet-20 with Proposed after each finished training of Table III, of all profiles, and the paper's. The dashed
line is the power law through two of these, our 15 epochs (66.08 %) and the paper's 300 (86.04 %):

$$ \text{error} = 33.9\,\% \cdot (15 / E)^{0.296} $$
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pandas as pd

from lit_scaledrop.report.energies import PROPOSED
from lit_scaledrop.report.figures.style import FAINT, FORMS, INK, images, label_ends, panels, style, styles, write_files
from lit_scaledrop.report.groups import DATA_NAMES, TOPOLOGIES
from lit_scaledrop.report.table import published
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.run_logs import LoggedRun, curve, logged_points, logged_runs
from lit_scaledrop.results.store import load_results, write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORK, METHOD = "resnet20", PROPOSED
"""Whose test errors and law are drawn."""
LAW_EPOCHS, LAW_ERROR, LAW_EXPONENT = 15, 33.9, 0.296
PAPER_EPOCHS = 300
_TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 600)
_TITLE = "Error against epochs"


def law(epochs: int) -> float:
    """Error in percent after a training of so many epochs, by the power law of the module.

    >>> round(law(15), 1), round(law(300), 1)
    (33.9, 14.0)
    """
    return LAW_ERROR * (LAW_EPOCHS / epochs) ** LAW_EXPONENT


@dataclass(frozen=True)
class Curve:
    """Validation error of one training."""

    id: str
    study: str
    network: str
    method: str
    """label, or the key of a method that no result names"""
    seed: int
    data: tuple[str, int | None]
    """name and, if it is cut, the number of training images"""
    length: int
    """epochs of the whole training"""
    running: bool
    epochs: tuple[int, ...]
    errors: tuple[float, ...]
    """percent, after each of `epochs`"""

    @property
    def name(self) -> str:
        """What is written beside the line."""
        name = f"{TOPOLOGIES.get(self.network, self.network)} {self.method}"
        name += f", {self.study}" * (self.study != "table3") + f", seed {self.seed}" * (self.seed != 1)
        return name + (f": running, epoch {self.epochs[-1]} of {self.length}" if self.running else "")


@dataclass(frozen=True)
class LearningPicture:
    """What is drawn."""

    profile: str
    curves: list[Curve]
    ends: pd.DataFrame
    """test errors: columns what, epochs, error"""
    notes: list[str]

    @property
    def runs(self) -> list[str]:
        """Ids of the runs that have a line."""
        return [one.id for one in self.curves]

    def words(self) -> str:
        """The picture in words, for readers who cannot see it."""
        said = [f"{_TITLE}, profile {self.profile}, both axes logarithmic."]
        for one in self.curves:
            best = min(range(len(one.errors)), key=one.errors.__getitem__)
            said.append(
                f"{one.name}: validation error {one.errors[0]:.1f} % after epoch {one.epochs[0]}, "
                f"{one.errors[-1]:.1f} % after epoch {one.epochs[-1]}, lowest {one.errors[best]:.1f} % after epoch "
                f"{one.epochs[best]}."
            )
        said += [f"{row.what}: test error {row.error:.2f} % at {row.epochs} epochs." for row in self.ends.itertuples()]
        return " ".join(said + ([f"Law: {_law_sentence()}"] if len(self.ends) else []))

    def csv(self) -> str:
        """All the numbers."""
        rows = [
            {
                "id": one.id, "study": one.study, "network": one.network, "method": one.method, "seed": one.seed,
                "state": "running" if one.running else "finished", "length": one.length, "what": "validation",
                "epochs": epoch, "error_percent": f"{error:.2f}",
            }
            for one in self.curves
            for epoch, error in zip(one.epochs, one.errors, strict=True)
        ]  # fmt: skip
        marks = self.ends.assign(what="test: " + self.ends.what, error_percent=self.ends.error.map("{:.2f}".format))
        frame = pd.concat([pd.DataFrame(rows), marks.drop(columns="error")], ignore_index=True)
        return frame.astype({"seed": "Int64", "length": "Int64"}).to_csv(index=False, lineterminator="\n")

    def files(self, forms: Sequence[str] = FORMS) -> dict[str, bytes]:
        """The figure in each format, the words as description of an SVG; needs matplotlib."""
        about = (
            "Lines: error of the deterministic network on the validation split after each epoch of one training; "
            "hollow: still running."
        )
        if len(self.ends):
            about += (
                f" Marks: test error of complete trainings. Dashed: {_law_sentence()} It describes complete trainings, "
                f"whose learning rate has decayed to zero; a learning curve need not follow it."
            )
        with style():
            made = images(_draw(self), "\n".join([about, f"Profile {self.profile}.", *self.notes]), forms)
        if "svg" not in made:
            return made
        head, tag, rest = made["svg"].partition(b"<svg ")
        inside = f"<title>{escape(_TITLE)}</title><desc>{escape(self.words())}</desc>"
        opening, _, body = rest.partition(b">")
        made["svg"] = b"".join([head, tag, b'role="img" ', opening, b">", inside.encode(), body])
        return made


def learning_picture(results_dir: Path | str, profile: str, runs_dir: Path | str | None = None) -> LearningPicture:
    """The picture of a profile.

    Args:
        results_dir: folder of the results.
        profile: whose trainings are lines.
        runs_dir: folder of runs, for trainings that are not finished, and the curves that results lack.

    Raises:
        ValueError: no training has a curve.
    """
    results, lacking = [], 0
    for result in _results(results_dir, profile):
        result = result if runs_dir is None else completed(result, runs_dir)
        results.append(result)
        lacking += "val_acc" in result.training and "curve" not in result.training
    curves = [made for result in results if (made := _of_result(result))]
    trainings = _of_all_profiles(results_dir)
    if runs_dir is not None:
        labels = {result.method: result.label for result in (*trainings, *results)}
        curves += _running(runs_dir, profile, {result.id for result in results}, labels)
    if not curves:
        raise ValueError(
            f"no training of profile {profile} in {results_dir} has a learning curve: older results have none; "
            f"--runs FOLDER adds those in the logs of runs, finished or not"
        )
    data = max(Counter(one.data for one in curves).items(), key=lambda item: (item[1], str(item[0])))[0]
    others = [one.id for one in curves if one.data != data]
    curves = sorted((one for one in curves if one.data == data), key=lambda one: (one.study, one.errors[-1], one.id))
    notes = [f"Data: {DATA_NAMES.get(data[0], data[0])}{f', {data[1]} training images' if data[1] else ''}."]
    notes += [f"Left out, of other data: {', '.join(others)}."] if others else []
    notes += [f"{lacking} finished trainings have no curve."] if lacking else []
    ends = _ends(trainings) if data == ("cifar10", None) else pd.DataFrame(columns=["what", "epochs", "error"])
    return LearningPicture(profile, curves, ends, notes)


def write_curves(picture: LearningPicture, stem: Path, forms: Sequence[str] = FORMS) -> list[Path]:
    """Write `<stem>.csv` and the figure in each format.

    Raises:
        OSError: the files cannot be written.
    """
    return write_files(stem, picture.files(forms) | {"csv": picture.csv().encode()})


def completed(result: Result, runs_dir: Path | str) -> Result:
    """The result with the curve that the logs of its run hold, if it has none itself."""
    score = next((name for name in ("val_acc", "val_iou") if name in result.training), None)
    if score is None or "curve" in result.training:
        return result
    names = (score.replace("_", "/"), "loss/task")
    points = logged_points(Path(runs_dir) / result.profile / result.study / result.id, names)
    found = {epoch: values for epoch, values in points.items() if epoch <= result.training["epochs"]}
    return replace(result, training={**result.training, "curve": curve(found)}) if found else result


def keep_curves(results_dir: Path | str, profile: str, runs_dir: Path | str) -> list[Path]:
    """Write the curves of run folders into the results that lack them; the files that have changed."""
    pairs = [(result, completed(result, runs_dir)) for result in _results(results_dir, profile)]
    return [write_result(whole, results_dir, overwrite=True) for result, whole in pairs if whole is not result]


def _results(results_dir: Path | str, profile: str) -> Iterator[Result]:
    """Results of what was trained here, ensembles and probes left out: those have the trainings of others."""
    for folder in sorted(path for path in (Path(results_dir) / profile).glob("*") if path.is_dir()):
        for result in load_results(results_dir, profile, folder.name)[0]:
            if "logged" in result.training and "parts" not in result.evaluation:
                yield result


def _of_result(result: Result) -> Curve | None:
    kept = result.training.get("curve") or {}
    if "val_acc" not in kept:  # of segmentation, or without a validation
        return None
    pairs = [(epoch, score) for epoch, score in zip(kept["epoch"], kept["val_acc"], strict=True) if score is not None]
    if not pairs:
        return None
    limit = ((result.config.get("data") or {}).get("init_args") or {}).get("limit_train")
    about = {"id": result.id, "study": result.study, "network": result.network, "method": result.label}
    return _curve(pairs, result.training["epochs"], False, seed=result.seed, data=(result.data["name"], limit), **about)


def _running(runs_dir: Path | str, profile: str, finished: set[str], labels: dict[str, str]) -> Iterator[Curve]:
    for run in logged_runs(runs_dir, profile):
        if run.id in finished:
            continue
        pairs = [(epoch, values["val/acc"]) for epoch, values in sorted(run.points.items()) if "val/acc" in values]
        try:
            about, epochs = _settings(run, labels), int(run.config["trainer"]["max_epochs"])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            why = f"{type(error).__name__} {error}"
            print(
                f"left out: run {run.id} in {runs_dir} does not have the settings of a training ({why})",
                file=sys.stderr,
            )
            continue
        yield _curve(pairs, epochs, True, **about)


def _settings(run: LoggedRun, labels: Mapping[str, str]) -> dict[str, Any]:
    """What its curve is called by, from the configuration of its logs."""
    model, data = run.config["model"]["init_args"], run.config["data"]
    name = data["class_path"].rsplit(".", 1)[-1].removesuffix("DataModule").lower()
    method = labels.get(model["method"], model["method"].replace("_", " "))
    about = {"id": run.id, "study": run.study, "network": model["network"], "method": method}
    return about | {"seed": run.config["seed_everything"], "data": (name, data["init_args"].get("limit_train"))}


def _curve(pairs: Sequence[tuple[int, float]], length: int, running: bool, **about: Any) -> Curve:
    epochs, scores = zip(*pairs, strict=True)
    return Curve(**about, length=length, running=running, epochs=epochs, errors=tuple(100 - 100 * s for s in scores))


def _of_all_profiles(results_dir: Path | str) -> list[Result]:
    """Results of Table III."""
    profiles = sorted(path.name for path in Path(results_dir).glob("*") if path.is_dir())
    return [result for profile in profiles for result in load_results(results_dir, profile, "table3")[0]]


def _ends(trainings: Sequence[Result]) -> pd.DataFrame:
    """Test errors of whole trainings on all of CIFAR-10 at full width, and the paper's."""
    rows = []
    for run in trainings:
        settings = [(run.config.get(group) or {}).get("init_args") or {} for group in ("model", "data")]
        whole = settings[0].get("width", 1) == 1 and not settings[1].get("limit_train")
        if (run.network, run.label, run.data["name"], whole) == (NETWORK, METHOD, "cifar10", True):
            what = f"{METHOD}, {run.profile}" + f", seed {run.seed}" * (run.seed != 1)
            rows.append((what, run.training["epochs"], 100 - 100 * run.metrics["cls/acc"]))
    paper = published("table3.csv").query("topology == @TOPOLOGIES[@NETWORK] and method == @METHOD")
    rows.append(("the paper's", PAPER_EPOCHS, 100 - float(paper.accuracy_percent.iloc[0])))
    return pd.DataFrame(rows, columns=["what", "epochs", "error"])


def _law_sentence() -> str:
    return (
        f"error = {LAW_ERROR} % x ({LAW_EPOCHS} / epochs)^{LAW_EXPONENT}, the power law through our {METHOD} on "
        f"{TOPOLOGIES[NETWORK]} at {LAW_EPOCHS} epochs and the paper's at {PAPER_EPOCHS} (two "
        "points fix it: no fit)."
    )


def _draw(picture: LearningPicture) -> "Figure":
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, ((axes,),) = panels(1, 1, 7.2, 4.6, _TITLE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    look = styles(one.method for one in picture.curves)
    if len(picture.ends):
        epochs = [1, PAPER_EPOCHS]
        axes.plot(epochs, [law(epoch) for epoch in epochs], color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)))
    ends: dict[str, tuple[float, float, str, str]] = {}
    for one in picture.curves:
        colour, _ = look[one.method]
        axes.plot(one.epochs, one.errors, color=colour, linewidth=1.3)
        inside = "white" if one.running else colour
        axes.plot(one.epochs[-1:], one.errors[-1:], "o", color=colour, markersize=4.5, markerfacecolor=inside)
        ends.setdefault(one.name, (float(one.epochs[-1]), one.errors[-1], one.name, colour))
    for row in picture.ends.to_dict("records"):
        axes.plot(row["epochs"], row["error"], "*" if row["what"] == "the paper's" else "D", color=INK, markersize=7)
        text = f"{row['what']}: {row['error']:.1f} %"
        place: Any = {"xytext": (-7, -7), "textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8}
        axes.annotate(text, (row["epochs"], row["error"]), **place)
    axes.set_ylim(bottom=0.92 * axes.get_ylim()[0])  # room for the text below the last mark
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Error (%)")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(FixedLocator([tick for tick in _TICKS if low <= tick <= high]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    label_ends(axes, list(ends.values()))
    return figure
