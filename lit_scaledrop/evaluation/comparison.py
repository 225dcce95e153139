"""Compares several networks on the same images, in one table and one figure."""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from datamodules.suites.suites import rotated
from lit_scaledrop.evaluation.comparison_figure import draw_comparison
from lit_scaledrop.functional.calibration import calibration_bins, calibration_error
from lit_scaledrop.functional.ood import auroc
from lit_scaledrop.functional.selective import aurc
from lit_scaledrop.functional.uncertainty import brier_score, negative_log_likelihood
from lit_scaledrop.metrics.ood import ood_scores
from lit_scaledrop.posterior.any_network import inputs_in
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.progress import with_progress
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.text import cell, one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Form = Literal["text", "markdown", "latex", "csv"]
BINS = 15
SCORES = {"predictive_entropy": "entropy", "mutual_information": "MI"}
"""Scores by which inputs are told apart, with the names that the table has for them."""
_COLUMNS: dict[str, tuple[str, float, int]] = {
    "cls/acc": ("accuracy (%)", 100, 2),
    "cls/nll": ("NLL", 1, 4),
    "cls/brier": ("Brier", 1, 4),
    "cal/ece": ("ECE (%)", 100, 2),
    "sel/aurc": ("AURC (%)", 100, 2),
    "unc/mutual_information": ("MI (nats)", 1, 4),
}
"""Columns of the table: name, factor and decimals."""


class Seen:
    """What is kept of one network on one set of images: numbers of each image, never its passes."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Tensor]] = []
        self.seconds = 0.0
        self.bins = torch.zeros(BINS, 3, dtype=torch.float64)

    def add(self, prediction: Predictive, labels: Tensor | None) -> None:
        """Add a batch."""
        scores = ood_scores(prediction)
        part = {name: scores[name] for name in SCORES} | {"confidence": prediction.wide().confidence}
        if labels is not None:
            part["correct"] = prediction.predicted_class == labels
            part["nll"] = negative_log_likelihood(prediction.log_mean, labels)
            part["brier"] = brier_score(prediction.mean, labels)
            self.bins = self.bins + calibration_bins(prediction.mean, labels, BINS).cpu()
        self.parts.append({name: values.cpu() for name, values in part.items()})

    def __getitem__(self, name: str) -> Tensor:
        """A number of each image: confidence, correct, nll, brier, or one of :data:`SCORES`."""
        return torch.cat([part[name] for part in self.parts])

    def __len__(self) -> int:
        return sum(len(part["confidence"]) for part in self.parts)

    def numbers(self) -> dict[str, float]:
        """Means over the images by their keys, calibration error and area under the risk-coverage curve."""
        keys = {
            "cls/acc": "correct",
            "cls/nll": "nll",
            "cls/brier": "brier",
            "unc/mutual_information": "mutual_information",
        }
        means = {key: self[name].double().mean().item() for key, name in keys.items()}
        ranked = aurc(self["confidence"], self["correct"])
        return {**means, "cal/ece": calibration_error(self.bins).item(), "sel/aurc": ranked}


@dataclass(frozen=True)
class Comparison:
    """Numbers and curves of several networks, in the order in which they were given."""

    frame: "pd.DataFrame"
    """a row for each network: shares from 0 to 1 and nats by their keys, passes and seconds of an image"""
    images: int
    seen: Mapping[str, Seen] = field(repr=False)
    outside: Mapping[str, Mapping[str, Seen]] = field(repr=False)
    """by the name of the OOD set, then of the network"""
    turned: Mapping[float, Mapping[str, Seen]] = field(repr=False)
    """by the angle in degrees, then of the network"""

    def table(self, form: Form = "text") -> str:
        """The table for a terminal, Markdown, LaTeX (booktabs), or as CSV with all digits.

        Raises:
            ValueError: for another form.
        """
        if form not in get_args(Form):
            raise ValueError(f"a table is {', '.join(get_args(Form))}, got {form!r}")
        if form == "csv":
            return self.frame.rename(index=cell, columns=cell).to_csv(index_label="network")
        shown = self._shown()
        if form == "text":
            return shown.to_string()
        if form == "markdown":
            return shown.rename(index=one_line, columns=one_line).to_markdown(
                disable_numparse=True, colalign=["left", *["right"] * shown.shape[1]]
            )
        return shown.to_latex(escape=True, column_format="l" + "r" * shown.shape[1])

    def _shown(self) -> "pd.DataFrame":
        import pandas as pd

        frame, columns = self.frame, dict[str, Any]()
        for key, (name, factor, digits) in _COLUMNS.items():
            columns[name] = [f"{factor * value:.{digits}f}" for value in frame[key]]
        for suite in self.outside:
            for score, short in SCORES.items():
                values = frame[f"{suite}/ood/auroc/{score}"]
                columns[f"AUROC {suite}, {short} (%)"] = [f"{100 * value:.1f}" for value in values]
        columns["T"] = [f"{passes:d}" for passes in frame["passes"]]
        columns["ms an image"] = [f"{1000 * seconds:.2f}" for seconds in frame["seconds_per_image"]]
        return pd.DataFrame(columns, index=pd.Index(frame.index))

    def plot(self) -> "Figure":
        """Reliability, risk by coverage, ROC of each OOD set, and accuracy and entropy over the angle, as a figure.

        ``figure.savefig("comparison.pdf")`` writes it; a notebook shows it.
        """
        return draw_comparison(self.seen, self.outside, self.turned)

    def save(self, path: str | Path) -> None:
        """Write the table (``.md``, ``.tex``, ``.csv``, ``.txt``) or the figure (``.png``, ``.pdf``, ``.svg``).

        Raises:
            ValueError: for another ending.
        """
        forms: dict[str, Form] = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".txt": "text"}
        path = Path(path)
        if path.suffix in forms:
            write_atomic(path, self.table(forms[path.suffix]).rstrip() + "\n")
        elif path.suffix in (".png", ".pdf", ".svg"):
            self.plot().savefig(path, dpi=150)
        else:
            raise ValueError(f"{path}: a table ends in {', '.join(forms)}, a figure in .png, .pdf or .svg")

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return self._shown().to_html()


def compare(
    networks: Mapping[str, nn.Module | Sequence[nn.Module]],
    batches: Iterable[Any],
    ood: Mapping[str, Iterable[Any]] | None = None,
    *,
    evaluation: Evaluation | None = None,
    rotations: Sequence[int | float] = (),
    device: torch.device | str | None = None,
) -> Comparison:
    """Evaluate several networks on the same images.

    Args:
        networks: by their names: one, whose passes are drawn, or the members of an ensemble.
        batches: images ``(batch, ...)`` as the networks take them, and labels ``(batch,)``; read once.
        ood: batches of images out of distribution by the names of their sets: images, tuples that begin with them, or
            dicts with one of the keys of :func:`lit_scaledrop.posterior.any_network.inputs_in`.
        evaluation: passes, plan and seed; by default 20 passes.
        rotations: angles in degrees by which the images are turned as well, e.g. ``range(0, 181, 15)``; corners are
            filled with 0.
        device: where all networks run, and are moved to (default: where the first one is).

    Raises:
        ValueError: there is no network or no image, labels are missing, networks disagree on the classes, or the
            evaluation names a chip file.

    >>> from lit_scaledrop import METHODS, build_network, compare
    >>> made = {name: build_network("lenet5", METHODS[name], width=0.5).eval() for name in ("proposed", "irnet")}
    >>> images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> compare(made, [(images, torch.zeros(8, dtype=torch.long))]).frame["passes"].to_dict()
    {'proposed': 20, 'irnet': 1}
    """
    import pandas as pd

    if not networks:
        raise ValueError("there are no networks to compare")
    asked = evaluation or Evaluation(samples=20, execution="shared")
    if asked.chip_file is not None:
        raise ValueError(
            "a chip file needs training images to set the ranges of its converters: use `scaledrop evaluate --chip "
            "FILE`, or compare networks that are already on a chip (hardware.network.on_crossbar)"
        )
    members = {name: [given] if isinstance(given, nn.Module) else list(given) for name, given in networks.items()}
    if empty := [name for name, theirs in members.items() if not theirs]:
        raise ValueError(f"{empty[0]} is an ensemble without members")
    device = device or next((tensor.device for tensor in next(iter(members.values()))[0].state_dict().values()), "cpu")
    for one in itertools.chain(*members.values()):
        one.to(device)
    posteriors = {name: build_posterior(theirs, asked) for name, theirs in members.items()}
    seen = {name: Seen() for name in networks}
    turned: dict[float, dict[str, Seen]] = {float(angle): {name: Seen() for name in networks} for angle in rotations}
    for batch in with_progress(batches, "comparing"):
        x, labels = _with_labels(batch, device)
        classes: dict[str, int] = {}
        for name, posterior in posteriors.items():
            start = time.perf_counter()
            prediction = posterior(x).cpu()
            seen[name].seconds += time.perf_counter() - start
            classes[name] = prediction.num_classes
            _require_classes(classes, labels)
            seen[name].add(prediction, labels)
        for angle, theirs in turned.items():
            images = rotated(x, angle)
            for name, posterior in posteriors.items():
                theirs[name].add(posterior(images).cpu(), labels)
    outside = {suite: _outside(posteriors, theirs, suite, device) for suite, theirs in (ood or {}).items()}
    rows = [
        _row(posterior, seen[name], {suite: found[name] for suite, found in outside.items()})
        for name, posterior in posteriors.items()
    ]
    count = len(seen[next(iter(networks))])
    return Comparison(pd.DataFrame(rows, index=pd.Index(list(networks))), count, seen, outside, turned)


def _row(posterior: PosteriorPredictive, seen: Seen, outside: Mapping[str, Seen]) -> dict[str, Any]:
    if not len(seen):
        raise ValueError("there are no images to compare the networks on")
    told = {
        f"{suite}/ood/auroc/{score}": auroc(seen[score], found[score]).item()
        for suite, found in outside.items() for score in SCORES
    }  # fmt: skip
    return {**seen.numbers(), **told, "passes": posterior.num_samples, "seconds_per_image": seen.seconds / len(seen)}


def _outside(
    posteriors: Mapping[str, PosteriorPredictive], batches: Iterable[Any], suite: str, device: torch.device | str
) -> dict[str, Seen]:
    found = {name: Seen() for name in posteriors}
    for batch in with_progress(batches, suite):
        x = inputs_in(batch).to(device)
        for name, posterior in posteriors.items():
            found[name].add(posterior(x).cpu(), None)
    if not all(map(len, found.values())):
        raise ValueError(f"there are no images in the OOD set {suite!r}")
    return found


def _with_labels(batch: Any, device: torch.device | str) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise ValueError(
            "batches must be tuples of images and labels, e.g. from a DataLoader; only OOD sets need no labels"
        )
    x, labels = batch[0].to(device), torch.as_tensor(batch[1]).cpu()
    if labels.dim() != 1 or len(labels) != len(x) or labels.is_floating_point():
        raise ValueError(f"labels are whole numbers of shape ({len(x)},), got {labels.dtype} {tuple(labels.shape)}")
    return x, labels


def _require_classes(classes: Mapping[str, int], labels: Tensor) -> None:
    """The network that was looked at last tells as many classes apart as the first one, and all labels are of them."""
    (first, number), (name, theirs) = next(iter(classes.items())), list(classes.items())[-1]
    if theirs != number:
        raise ValueError(f"{first} tells {number} classes apart and {name} {theirs}: they cannot be compared")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < number:
        raise ValueError(
            f"{name} tells {number} classes apart, and labels go from {int(labels.min())} to {int(labels.max())}"
        )
