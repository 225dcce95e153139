"""``scaledrop assess --probe NAME [flags of fit]``: measure a trained network and record it."""

from dataclasses import replace
from pathlib import Path

from datamodules import SegmentationDataModule
from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.fit import plan_fit, trained_networks
from lit_scaledrop.cli.flags import expand_chip, expand_variation
from lit_scaledrop.cli.own import IMAGES
from lit_scaledrop.cli.planning import check
from lit_scaledrop.cli.words import last_value, without
from lit_scaledrop.evaluation.probes import PROBES
from lit_scaledrop.naming import count, lookup
from lit_scaledrop.results.store import is_finished, read_result
from lit_scaledrop.runs.assess import Assessment, assess, chosen_parts
from lit_scaledrop.runs.identity import SAME_NUMBERS
from lit_scaledrop.runs.run import Run, require_writable

STUDY = "--run.study=table3"
#: runs that were trained with variation are no rows of Table III
VARIED_STUDY = "--run.study=variation"


def plan_assessment(argv: list[str]) -> Assessment:
    """Parse and check a command line.

    Raises:
        ValueError: for an unknown probe, a bad limit, or flags that `fit` refuses.
    """
    usage = "%(prog)s --probe NAME [--limit N] [--parts PATTERNS] [FLAGS OF fit]"
    asked: Assessment = call(assessment, argv, "scaledrop assess", usage, known={"probe": sorted(PROBES)})
    return replace(asked, words=("assess", *argv))


def assessment(*flags: str, probe: str, limit: int | None = None, parts: str | None = None) -> Assessment:
    """Measure a trained network with a probe, e.g. on OOD data or under corruptions, and record it.

    The network is that of `fit` with the same flags; it is trained first if its checkpoint is missing. Finished parts
    are kept, so the same command resumes after Ctrl-C. Runs on one device. --evaluation.* changes how the network is
    evaluated, not which network.

    Args:
        flags: of fit.
        probe: what is measured.
        limit: largest number of images per part (default: all).
        parts: only these, comma-separated patterns: clean,corrupted/*/5 (default: all).
    """
    run_flags = expand_chip(expand_variation(list(flags)), energy=False)
    lookup("probe", probe, PROBES)
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is the largest number of images per part, at least 1, not {limit}")
    study = VARIED_STUDY if any("MTJVariation" in flag for flag in run_flags) else STUDY
    begin = [] if last_value(run_flags, IMAGES) else [study]  # own pictures are a study themselves
    asked = plan_fit([*begin, *run_flags])
    network_flags = without(run_flags, "--evaluation")
    plan = asked if network_flags == run_flags else plan_fit([*begin, *network_flags])
    evaluation = asked.evaluation
    if last_value(run_flags, "--evaluation.execution") is None and evaluation.execution in SAME_NUMBERS:
        evaluation = replace(evaluation, execution="auto")
    only = tuple(sorted({pattern for pattern in (parts or "").split(",") if pattern}))
    return Assessment(probe, limit, only, evaluation, plan, ())


def planned_assessment(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop assess`` with ``argv`` behind it will write.

    Raises:
        ValueError: it is not finished, and the model or the data refuse their arguments.
    """
    planned = plan_assessment(argv)
    if not planned.path.exists():
        check(planned.plan, planned.evaluation)
    return planned.path


def main(argv: list[str]) -> int:
    """Run ``scaledrop assess`` with ``argv`` behind it."""
    planned = plan_assessment(argv)
    if is_finished(planned.path, move_broken=False):
        _print_finished(planned.path)
        return 0
    data = check(planned.plan, planned.evaluation).data
    if isinstance(data, SegmentationDataModule):
        raise ValueError(
            f"--probe {planned.probe}: probes are for classification, and {data.name} has masks; `scaledrop evaluate "
            "CHECKPOINT` measures IoU, calibration and error detection"
        )
    data.setup("test")
    parts = chosen_parts(planned, data)
    for folder in (planned.path.parent, planned.plan.folder):
        require_writable(folder)
    networks = trained_networks(planned.plan, planned.evaluation.checkpoint)
    if networks is None:
        return 0
    result = assess(planned, data, parts, networks)
    if result is None:
        _print_finished(planned.path)
    else:
        measured, absent = result.evaluation["parts"], result.evaluation["absent"]
        said = f"{count(len(measured), 'part')}{_and_absent(list(absent))}"
        print(f"{said}: {planned.path}; {_shown_by(planned)}", flush=True)
    return 0


def _shown_by(planned: Assessment) -> str:
    run = planned.plan.run
    place = "" if run.results == Run.results else f" --results {run.results}"
    return f"`scaledrop report {planned.probe} --profile {run.profile}{place}` shows it"


def _print_finished(path: Path) -> None:
    absent = list(read_result(path).evaluation.get("absent", {}))
    remedy = "; once the data is there, delete the file and repeat: other parts are kept" if absent else ""
    print(f"finished already{_and_absent(absent)}: {path}{remedy}", flush=True)


def _and_absent(names: list[str]) -> str:
    return f" (absent: {', '.join(names)})" if names else ""
