"""Measurements of trained networks by a probe: their identity, part by part."""

import fnmatch
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules import DatasetNotFoundError, ImageDataModule
from lit_scaledrop.evaluation.checkpoint import load_trained, weights_digest
from lit_scaledrop.evaluation.evaluate import evaluation_device
from lit_scaledrop.evaluation.on_chip import asked_record, on_chip
from lit_scaledrop.evaluation.probes import PROBES, Subject
from lit_scaledrop.evaluation.probes.parts import MeasuredPart, read_part
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.progress import PartsProgress
from lit_scaledrop.results import provenance
from lit_scaledrop.results.measurement import Coordinates, flat_names
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import is_finished, write_result
from lit_scaledrop.runs.ensemble import members_training
from lit_scaledrop.runs.identity import SAME_NUMBERS, run_identity, with_contents
from lit_scaledrop.runs.plan import RunPlan
from lit_scaledrop.runs.record import RunRecord
from lit_scaledrop.runs.run import TrainedNetwork, exclusive
from lit_scaledrop.runs.tracking import finish_loggers, log_artifacts, start_loggers, wandb_logger

#: raised when all probes come to measure something else; one alone has a version of its own
ASSESSMENT_VERSION = 1


@dataclass(frozen=True)
class Assessment:
    """What a command line of ``assess`` asks for; nothing is built or run yet."""

    probe: str
    limit: int | None
    """most images of each part"""
    only: tuple[str, ...]
    """patterns of the parts that are measured; none: all"""
    evaluation: Evaluation
    plan: RunPlan
    words: Sequence[str]
    """command line behind ``scaledrop``"""

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits: the run, the probe, the parts and how the posterior is asked."""
        return self._identity(self.plan.id)

    @property
    def setting(self) -> str:
        """The same for all seeds."""
        return self._identity(run_identity({**self.plan.config, "seed_everything": None}, self.plan.method))

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
        what = [ASSESSMENT_VERSION, run_id, self.probe, self.limit, self.only, with_contents(how)]
        probe = PROBES[self.probe]
        if probe.constants is not None:
            what.append(probe.constants(self.evaluation))
        if probe.version > 1:
            what.append({"version": probe.version})
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def assess(
    assessment: Assessment, data: ImageDataModule, parts: Mapping[str, Coordinates], networks: list[TrainedNetwork]
) -> Result | None:
    """Measure trained networks, part by part, and write the result; ``None`` where another process has just done so.

    Raises:
        ValueError: nothing could be measured, since the data of all parts is absent.
    """
    plan = assessment.plan
    modules = [load_trained(network.checkpoint).network for network in networks]
    digest = weights_digest(modules)
    # parts of other weights or data are no parts of this result
    key = hashlib.sha256(f"{assessment.id} {digest} {data.fingerprint()}".encode()).hexdigest()[:12]
    folder = plan.folder / "probes" / f"{assessment.probe}-{key}"
    device = evaluation_device(plan.config["trainer"].get("accelerator"))
    with exclusive(folder, "measures"):
        if is_finished(assessment.path):
            return None
        started, commit = datetime.now(UTC), provenance.commit()
        resolved = plan.recorded(data)
        if not PROBES[assessment.probe].own_chips:
            modules = on_chip([module.to(device) for module in modules], assessment.evaluation, data, device)
        subject = Subject(modules, data, assessment.evaluation, device, assessment.limit)
        measured, absent = _measure(assessment, subject, folder, parts)
        if not measured:
            raise ValueError(f"nothing could be measured: {'; '.join(absent.values())}")
        config = {
            **resolved,
            "evaluation": provenance.portable(asdict(assessment.evaluation)),
            "assess": _asked(assessment),
        }
        assert plan.method is not None
        run = replace(plan.run, study=assessment.probe)
        record = RunRecord(assessment.id, run, config, plan.method, assessment.words, started, commit)
        found = [one for part in measured.values() for one in part.measurements]
        how = {**_how(assessment, subject, measured), "absent": absent, "weights": digest}
        result = record.result(data, _training(networks), how, found)
        result = replace(result, provenance={**result.provenance, "setting": assessment.setting})
        write_result(result, plan.run.results)
        _track(assessment, result, folder)
    return result


def chosen_parts(assessment: Assessment, data: ImageDataModule) -> dict[str, Coordinates]:
    """Coordinates of the parts to measure, by name, in the probe's order.

    Raises:
        ValueError: a pattern fits none.
    """
    parts = PROBES[assessment.probe].parts(Subject([], data, assessment.evaluation, limit=assessment.limit))
    for pattern in assessment.only:
        if not fnmatch.filter(parts, pattern):
            raise ValueError(f"--parts {pattern} matches no part of {assessment.probe}; there are {', '.join(parts)}")
    chosen = assessment.only or ("*",)
    return {name: at for name, at in parts.items() if any(fnmatch.fnmatchcase(name, p) for p in chosen)}


def _measure(
    assessment: Assessment, subject: Subject, folder: Path, parts: Mapping[str, Coordinates]
) -> tuple[dict[str, MeasuredPart], dict[str, str]]:
    """Measure what is not measured yet; parts by name, and why parts are absent."""
    measured: dict[str, MeasuredPart] = {}
    absent: dict[str, str] = {}
    with PartsProgress(len(parts)) as progress:
        subject.on_batch = progress.images
        for name, at in parts.items():
            path = folder / f"{name}.json"
            part = read_part(path)
            if part is not None:
                measured[name] = part
                progress.end(name, "measured before")
                continue
            progress.begin(name)
            start = time.perf_counter()
            subject.suites.clear()
            try:
                found = PROBES[assessment.probe].measure(subject, at)
            except DatasetNotFoundError as error:
                absent[name] = _reason(error, subject)
                progress.end(name, f"absent: {absent[name]}")
                continue
            seconds = round(time.perf_counter() - start, 2)
            measured[name] = MeasuredPart([one.within(at) for one in found], dict(subject.suites), seconds)
            measured[name].write(path)
            progress.end(name, f"{seconds:.1f} s")
    return measured, absent


def _reason(error: Exception, subject: Subject) -> str:
    """The first line of a message without the folders of this machine, which a result must not name."""
    return str(error).splitlines()[0].replace(str(subject.data.root), "the data folder").rstrip(".")


def _track(assessment: Assessment, result: Result, folder: Path) -> None:
    """Mirror the result as a W&B run of job type "assess", in the group of its probe."""
    run, name = assessment.plan.run, f"{result.network}-{result.method}-s{result.seed}-{assessment.probe}"
    tags = [run.profile, assessment.probe, assessment.plan.id]
    about: dict[str, Any] = {"entity": run.entity, "notes": run.notes}
    shown = (run.project, assessment.probe, run.name or name, tags)
    logger = wandb_logger(folder, run.tracking, *shown, "assess", **about)
    if logger is not None:
        start_loggers([logger], {"id": result.id, **result.config})
        log_artifacts([logger], assessment.path)
        finish_loggers([logger], flat_names(result.measurements), 0)


def _asked(assessment: Assessment) -> dict[str, Any]:
    run = assessment.plan.run
    return {
        "probe": assessment.probe,
        "limit": assessment.limit,
        "parts": list(assessment.only) or None,
        "run": assessment.plan.id,
        "study": run.study,
    }


def _how(assessment: Assessment, subject: Subject, measured: dict[str, MeasuredPart]) -> dict[str, Any]:
    """What a result says of the evaluation."""
    return {
        **asked_record(subject.posterior(), assessment.evaluation, subject.networks),
        **subject.rule,
        "limit": assessment.limit,
        **_images(assessment, subject),
        "parts": list(measured),
        "suites": {name: about for part in measured.values() for name, about in part.suites.items()},
        "seconds": round(sum(part.seconds for part in measured.values()), 2),
    }


def _images(assessment: Assessment, subject: Subject) -> dict[str, Any]:
    """Number of the images that were measured, and of which split where it is not the test set."""
    split = PROBES[assessment.probe].split
    if split == "test":
        return {"images": len(subject.test_images[1])}
    return {"images": len(subject.data.val_set.labels[: assessment.limit]), "split": split}


def _training(networks: list[TrainedNetwork]) -> dict[str, Any]:
    records: list[Result] = [network.record for network in networks]
    if len(records) > 1:
        return members_training(records)
    return {
        name: value for name, value in records[0].training.items() if name != "curve"
    }  # the run's own result has it
