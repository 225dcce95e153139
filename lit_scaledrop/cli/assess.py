"""``scaledrop assess --probe NAME [flags of fit]``: measure a trained run of Table III on something and record it."""

import argparse
from dataclasses import replace
from pathlib import Path

from lit_scaledrop.cli.fit import plan_fit, trained_networks
from lit_scaledrop.cli.flags import expand_variation, last_value, without
from lit_scaledrop.cli.lightning import check
from lit_scaledrop.evaluation.probes import PROBES
from lit_scaledrop.naming import lookup
from lit_scaledrop.results.result import is_finished, read_result
from lit_scaledrop.runs.assess import Assessment, assess, chosen_parts
from lit_scaledrop.runs.identity import SAME_NUMBERS
from lit_scaledrop.runs.run import require_writable

STUDY = "--run.study=table3"
#: runs that were trained with variation are no rows of Table III
VARIED_STUDY = "--run.study=variation"


DESCRIPTION = """
Measure a trained run of Table III on something and record it. The run is the one that fit with the same flags makes; it
is trained first where its checkpoint is missing. The parts that are measured are kept, so the same command goes on
after Ctrl-C. Runs on one device. --evaluation.* says how the network is asked, not which network.
"""


def plan_assessment(argv: list[str]) -> Assessment:
    """Check a command line and find what it asks for.

    Raises:
        ValueError: for an unknown probe, a bad limit, or flags that `fit` refuses.
    """
    own, flags = _parser().parse_known_args(argv)
    flags = expand_variation(flags)
    lookup("probe", own.probe, PROBES)
    if own.limit is not None and own.limit < 1:
        raise ValueError(f"--limit is the most images of a part, at least 1, not {own.limit}")
    study = VARIED_STUDY if any("MTJVariation" in flag for flag in flags) else STUDY
    asked = plan_fit([study, *flags])
    run_flags = without(flags, "--evaluation")
    plan = asked if run_flags == flags else plan_fit([study, *run_flags])
    evaluation = asked.evaluation
    if last_value(flags, "--evaluation.execution") is None and evaluation.execution in SAME_NUMBERS:
        evaluation = replace(evaluation, execution="auto")
    only = tuple(sorted({pattern for pattern in (own.parts or "").split(",") if pattern}))
    return Assessment(own.probe, own.limit, only, evaluation, plan, ("assess", *argv))


def planned_assessment(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop assess`` with ``argv`` behind it will write.

    Raises:
        ValueError: it is not finished, and the model or the data refuse their arguments.
    """
    assessment = plan_assessment(argv)
    if not is_finished(assessment.path, move_broken=False):
        check(assessment.plan)
    return assessment.path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "scaledrop assess",
        usage="%(prog)s --probe NAME [--limit N] [--parts PATTERNS] [FLAGS OF fit]",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    parser.add_argument("--probe", required=True, help=f"what is measured: {', '.join(sorted(PROBES))}")
    parser.add_argument("--limit", type=int, help="most images of each part (default: all)")
    parser.add_argument("--parts", help="only these, patterns with commas between: clean,corrupted/*/5 (default: all)")
    return parser


def main(argv: list[str]) -> int:
    """Run ``scaledrop assess`` with ``argv`` behind it."""
    assessment = plan_assessment(argv)
    if is_finished(assessment.path, move_broken=False):
        _say_finished(assessment.path)
        return 0
    data = assessment.plan.build().data
    data.setup("test")
    parts = chosen_parts(assessment, data)
    for folder in (assessment.path.parent, assessment.plan.folder):
        require_writable(folder)
    networks = trained_networks(assessment.plan, assessment.evaluation.checkpoint)
    if networks is None:
        return 0
    result = assess(assessment, data, parts, networks)
    if result is None:
        _say_finished(assessment.path)
    else:
        measured, absent = result.evaluation["parts"], result.evaluation["absent"]
        print(f"{len(measured)} parts{_and_absent(list(absent))}: {assessment.path}", flush=True)
    return 0


def _say_finished(path: Path) -> None:
    absent = list(read_result(path).evaluation.get("absent", {}))
    remedy = "; with the data at hand delete the file and repeat: other parts are kept" if absent else ""
    print(f"finished already{_and_absent(absent)}: {path}{remedy}", flush=True)


def _and_absent(names: list[str]) -> str:
    return f" (absent: {', '.join(names)})" if names else ""
