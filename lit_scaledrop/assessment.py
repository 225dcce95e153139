"""What a command line of `scaledrop assess` asks for: which run, which probe, which posterior; and its identity."""

import argparse
import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from lit_scaledrop.cli import plan_fit
from lit_scaledrop.evaluation import Evaluation
from lit_scaledrop.identity import SAME_NUMBERS, run_identity
from lit_scaledrop.methods import lookup
from lit_scaledrop.probes import PROBES
from lit_scaledrop.rows import expand_variation, last_value
from lit_scaledrop.training_cli import ScaleDropCLI

#: raised when a probe comes to measure something else under the same name
ASSESSMENT_VERSION = 1
STUDY = "--run.study=table3"
#: runs that were trained with variation are no rows of Table III
VARIED_STUDY = "--run.study=variation"
DESCRIPTION = """
Measure a trained run of Table III on something and record it. The run is the one that fit with the same flags makes; it
is trained first where its checkpoint is missing. The parts that are measured are kept, so the same command goes on
after Ctrl-C. Runs on one device. --evaluation.* says how the network is asked, not which network.
"""


@dataclass(frozen=True)
class Assessment:
    """What a command line of ``assess`` asks for; nothing is built or run yet."""

    probe: str
    limit: int | None
    """most images of each part"""
    only: tuple[str, ...]
    """patterns of the parts that are measured; none: all"""
    evaluation: Evaluation
    plan: ScaleDropCLI
    """the run"""
    words: list[str]
    """command line behind ``scaledrop``"""

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits: the run, the probe, the parts and how the posterior is asked."""
        return self._identity(self.plan.run_id)

    @property
    def setting(self) -> str:
        """The same for all seeds."""
        return self._identity(run_identity({**self.plan.resolved, "seed_everything": None}, self.plan.method))

    @property
    def path(self) -> Path:
        """File of the result."""
        return replace(self.plan.run, study=self.probe).result_path(self.id)

    def _identity(self, run_id: str) -> str:
        how = {
            field.name: value
            for field in fields(Evaluation)
            if (value := getattr(self.evaluation, field.name)) != field.default
            and not (field.name == "execution" and value in (*SAME_NUMBERS, "auto"))
        }
        what = [ASSESSMENT_VERSION, run_id, self.probe, self.limit, self.only, how]
        if (constants := PROBES[self.probe].constants) is not None:
            what.append(constants())
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


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
    run_flags = _without_evaluation(flags)
    plan = asked if run_flags == flags else plan_fit([study, *run_flags])
    evaluation = asked.evaluation
    if last_value(flags, "--evaluation.execution") is None and evaluation.execution in SAME_NUMBERS:
        evaluation = replace(evaluation, execution="auto")
    only = tuple(sorted({pattern for pattern in (own.parts or "").split(",") if pattern}))
    return Assessment(own.probe, own.limit, only, evaluation, plan, ["assess", *argv])


def planned_assessment(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop assess`` with ``argv`` behind it will write; nothing is built or run."""
    return plan_assessment(argv).path


def _without_evaluation(flags: list[str]) -> list[str]:
    """The flags that say which network it is.

    >>> _without_evaluation(["--row", "resnet20/fp", "--evaluation.samples", "5", "--evaluation.quantile=0.2"])
    ['--row', 'resnet20/fp']
    """
    kept: list[str] = []
    rest = iter(flags)
    for word in rest:
        flag, equals, _ = word.partition("=")
        if not flag.startswith("--evaluation"):
            kept.append(word)
        elif not equals:
            next(rest, None)
    return kept


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
