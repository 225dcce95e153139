"""Contents of the page: tables, figures and runs of each profile, and problems with its files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from lit_scaledrop.report.figures import FIGURES, Picture, pictures_of
from lit_scaledrop.report.figures.learning import learning_picture
from lit_scaledrop.report.groups import ORDER, epochs_heading, ids_of
from lit_scaledrop.report.sound import from_sound
from lit_scaledrop.report.sweeps import SWEEPS, sweep_pictures, sweep_report
from lit_scaledrop.report.sweeps.swept import swept as varied
from lit_scaledrop.report.table import BITS, RESULT_IDS, Report, Section, named, number, text
from lit_scaledrop.report.tables import TABLES, build
from lit_scaledrop.results.reading import read_json
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import load_results
from lit_scaledrop.results.trials import trials_in

_LARGE = 4_000_000
"""Bytes from which on an SVG is shown as its PNG, if that is smaller: a PNG stays white on a dark page."""


@dataclass(frozen=True)
class Shown:
    """One picture of the page."""

    name: str
    """Of its files, without ending."""
    image: bytes
    form: str
    """`svg` or `png`."""
    files: list[Path]
    """Files of the same name, for links."""
    runs: list[Result]
    picture: Picture | None
    """The numbers in it and the caption; none for a picture that is no figure of `FIGURES`."""
    words: str = ""
    """What is seen, where that is known from elsewhere."""


@dataclass
class Study:
    """A table, or a study that has pictures only."""

    name: str
    results: list[Result]
    report: Report | None = None
    pictures: list[Shown] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What could not be shown, and why."""


def profiles_in(results_dir: Path | str) -> list[str]:
    """Profiles that have results, by name."""
    return sorted({path.parent.parent.name for path in Path(results_dir).glob("*/*/*.json")})


def studies(results_dir: Path | str, profile: str) -> list[Study]:
    """Tables in the order of `TABLES`, then figures, then what has neither; a broken file is named, and left out."""
    folder = Path(results_dir) / profile
    found = {path.parent.name for path in folder.glob("*/*.json")}
    names = [name for name in (*TABLES, *FIGURES) if name in found]
    made = []
    for name in (*names, *sorted(found - set(names))):
        results, problems = load_results(results_dir, profile, name)
        study = Study(name, results, problems=problems)
        if results:
            _fill(study, folder)
        made.append(study)
    _foreign(made, folder)
    for study in made:
        if study.report and study.name not in TABLES and not study.pictures and find_spec("matplotlib"):
            _draw_sweep(study, folder)
    return made + _learning(results_dir, profile, made)


def _fill(study: Study, folder: Path) -> None:
    with _noted(study, "the table"):
        if study.name in TABLES:
            study.report = from_sound(partial(build, study.name), study.results, study.problems.append)
        elif study.name not in FIGURES:
            swept = study.name in SWEEPS or varied(study.results)
            trials = trials_in(folder / study.name, study.problems.append)
            study.report = sweep_report(study.name, study.results, trials) if swept else _plain(study)
    for name, figure in FIGURES.items():
        if study.name == (figure.study or name):
            with _noted(study, f"the picture {name}"):
                study.pictures += _figure(name, study.results, folder, study.problems)


@contextmanager
def _noted(study: Study, what: str) -> Iterator[None]:
    """Note why something could not be made: it must not take the rest of the page with it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        reason = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__} {error}"
        study.problems.append(f"{what} could not be made: {reason}")


def _figure(name: str, results: Sequence[Result], folder: Path, problems: list[str]) -> Iterator[Shown]:
    """Pictures whose CSV holds the numbers of the results as they are now are taken from the folder, others drawn."""
    for picture in pictures_of(name, results, folder / name):
        files = _files(picture.stem)
        drawn = {path.suffix[1:]: path.read_bytes() for path in files}
        if drawn.get("csv") != picture.csv() or not drawn.keys() & {"svg", "png"}:
            files = []
            if find_spec("matplotlib") is None:
                problems.append(f"the picture {picture.stem.name} is not drawn: that needs matplotlib")
                continue
            drawn = picture.files()
        form, image = _smaller(drawn)
        yield Shown(picture.stem.name, image, form, files, picture.runs, picture)


def _files(stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("svg", "png", "csv")]
    return [path for path in paths if path.is_file()]


def _smaller(drawn: dict[str, bytes]) -> tuple[str, bytes]:
    by_size = sorted(drawn.keys() & {"svg", "png"}, key=lambda form: (form == "svg", len(drawn[form])))
    form = "svg" if "svg" in drawn and len(drawn["svg"]) <= max(_LARGE, len(drawn.get("png", b""))) else by_size[0]
    return form, drawn[form]


def _foreign(made: list[Study], folder: Path) -> None:
    """Add pictures that are no figure's: to the study that their name begins with, or whose runs their JSON file names.

    Of any other it is not known what it was made from, so it is not shown.
    """
    lost = Study("pictures", [])
    for stem in sorted({path.with_suffix("") for form in ("svg", "png") for path in folder.glob(f"*.{form}")}):
        if stem.name == "curves" or any(stem.name == name or stem.name.startswith(f"{name}-") for name in FIGURES):
            continue
        if not (files := _files(stem)):  # a folder with a picture's name
            continue
        form, image = _smaller({path.suffix[1:]: path.read_bytes() for path in files})
        owners = [study for study in made if study.results and f"{stem.name}-".startswith(f"{study.name}-")]
        if owners:
            owner = max(owners, key=lambda study: len(study.name))
            owner.pictures.append(Shown(stem.name, image, form, files, owner.results, None))
            continue
        for study in made:
            try:
                runs, words = segmented(stem.with_suffix(".json"), study.results)
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                continue
            if runs:
                study.pictures.append(Shown(stem.name, image, form, files, runs, None, words))
                break
        else:
            lost.problems.append(f"the picture {stem.name}: no result in this folder says what it was made from")
    made += [lost] if lost.problems else []


def segmented(path: Path, results: Sequence[Result]) -> tuple[list[Result], str]:
    """Those of the results that the record beside Figure 8 names, and what is seen on it.

    Raises:
        OSError: there is no such file.
        ValueError, LookupError, TypeError, AttributeError: it is no record of Figure 8.
    """
    shown = read_json(path)["shown"]
    ids = {id for about in shown.values() for id in about["runs"].values()}
    sentences = []
    for title, about in shown.items():
        for example in about["examples"]:
            overlaps = [f"{name} {one['iou']:.2f}" for name, one in example.items() if isinstance(one, dict)]
            sentences.append(f"{title}, {example['example']}: IoU {', '.join(overlaps)}.")
    words = "Segmented images beside the truth, with the uncertainty of each pixel. " + " ".join(sentences)
    return [run for run in results if run.id in ids], words


def _draw_sweep(study: Study, folder: Path) -> None:
    """Add the pictures of a sweep that has none in the folder."""
    with TemporaryDirectory() as temporary, _noted(study, "the pictures"):
        trials = trials_in(folder / study.name, lambda _: None)  # the table has said it
        for path in sweep_pictures(study.name, study.results, Path(temporary) / study.name, trials):
            if path.suffix == ".svg":
                study.pictures.append(Shown(path.stem, path.read_bytes(), "svg", [], study.results, None))


def _learning(results_dir: Path | str, profile: str, made: Sequence[Study]) -> list[Study]:
    """The learning curves of finished trainings, where there are any."""
    runs = [run for study in made for run in study.results if run.training.get("curve", {}).get("val_acc")]
    if not runs or find_spec("matplotlib") is None:
        return []
    picture = learning_picture(results_dir, profile)
    shown = [run for run in runs if run.id in picture.runs]
    image = Shown("curves", picture.files()["svg"], "svg", [], shown, None, picture.words())
    return [Study("curves", shown, pictures=[image])]


def _plain(study: Study) -> Report:
    """Runs of a study that has no table of its own, one a row."""
    masks = any("seg/iou" in run.metrics for run in study.results)
    score, nll = ("seg/iou", "seg/nll") if masks else ("cls/acc", "cls/nll")
    rows = []
    for run in study.results:
        row = {"topology": run.topology, "method": run.label, "seed": run.seed}
        row |= {"bits_w": run.bits_w, "bits_a": run.bits_a, RESULT_IDS: ids_of([run])}
        row |= {"what": epochs_heading(run) if run.training else "nothing trained"}
        row |= {"score": 100 * run.metrics.get(score, float("nan"))}
        rows.append(row | {"nll": run.metrics.get(nll), "ece": run.metrics.get("cal/ece")})
    frame = pd.DataFrame(rows).sort_values(
        ["topology", "method", "what", "seed"],
        key=lambda column: column.map(ORDER).fillna(9) if column.name == "topology" else column,
        kind="stable",
    )
    columns = named(
        text("topology"),
        text("method"),
        BITS,
        text("what", "data"),
        number("seed", "seed", ".0f"),
        number("score", f"test {'IoU' if masks else 'accuracy'} (%)", ".2f"),
        number("nll", "NLL", ".3f"),
        number("ece", "ECE", ".3f"),
    )
    return Report(f"Runs of {study.name}", [Section("Runs, one a line", frame, columns, [])], [], frame)
