"""`scaledrop assess --probe NAME [flags of fit]`: measure a trained run of Table III on something and record it.

The run is the one that `fit` with the same flags makes; it is trained first where its checkpoint is missing, and the
members of an ensemble are. What is measured, on one device, falls into parts (a suite, a corruption, an angle); each
is kept when it is done, so the same command goes on after Ctrl-C or a power cut. The result is one JSON file,
`<results>/<profile>/<probe>/<id>.json`. `--evaluation.*` says how the network is asked, not which network: it leaves
the run what it is.
"""

import fnmatch
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules import DatasetNotFoundError, ImageDataModule
from lit_scaledrop import provenance
from lit_scaledrop.assessment import Assessment, plan_assessment
from lit_scaledrop.cli import trained_networks
from lit_scaledrop.ensemble import members_training
from lit_scaledrop.evaluate import evaluation_device, load_trained
from lit_scaledrop.parts import MeasuredPart, read_part
from lit_scaledrop.probes import PROBES, Subject
from lit_scaledrop.progress import PartsProgress
from lit_scaledrop.record import RunRecord
from lit_scaledrop.report.results import Result, is_finished, read_result, write_result
from lit_scaledrop.run import TrainedNetwork, exclusive, require_writable
from lit_scaledrop.tracking import finish_loggers, log_artifacts, wandb_logger


def main(argv: list[str]) -> int:
    """Run ``scaledrop assess`` with ``argv`` behind it."""
    assessment = plan_assessment(argv)
    if is_finished(assessment.path, move_broken=False):
        _say_finished(assessment.path)
        return 0
    data = assessment.plan.build().data
    data.setup("test")
    parts = _chosen_parts(assessment, data)
    for folder in (assessment.path.parent, assessment.plan.run_dir):
        require_writable(folder)
    networks = trained_networks(assessment.plan, assessment.evaluation.checkpoint)
    if networks is None:
        return 0
    modules = [load_trained(network.checkpoint).network for network in networks]
    digest = _weights_digest(modules)
    # parts of other weights or data are no parts of this result
    key = hashlib.sha256(f"{assessment.id} {digest} {data.fingerprint()}".encode()).hexdigest()[:12]
    folder = assessment.plan.run_dir / "probes" / f"{assessment.probe}-{key}"
    device = evaluation_device(assessment.plan.resolved["trainer"].get("accelerator"))
    with exclusive(folder, "measures"):
        if is_finished(assessment.path):
            _say_finished(assessment.path)
            return 0
        started, commit = datetime.now(UTC), provenance.commit()
        model = assessment.plan.resolved["model"]["init_args"]
        subject = Subject(modules, data, assessment.evaluation, device, assessment.limit, model=model)
        measured, absent = _measure(assessment, subject, folder, parts)
        if not measured:
            raise ValueError(f"nothing could be measured: {'; '.join(absent.values())}")
        plan = assessment.plan
        config = {**plan.resolved, "evaluation": asdict(assessment.evaluation), "assess": _asked(assessment)}
        assert plan.method is not None
        run = replace(plan.run, study=assessment.probe)
        record = RunRecord(assessment.id, run, config, plan.method, assessment.words, started, commit)
        metrics = {f"{name}/{key}": value for name, part in measured.items() for key, value in part.metrics.items()}
        how = {**_how(assessment, subject, measured), "absent": absent, "weights": digest}
        result = record.result(data, _training(networks), how, metrics)
        result = replace(result, provenance={**result.provenance, "setting": assessment.setting})
        write_result(result, plan.run.results)
        _track(assessment, result, folder)
    print(f"{len(measured)} parts{_and_absent(list(absent))}: {assessment.path}", flush=True)
    return 0


def _chosen_parts(assessment: Assessment, data: ImageDataModule) -> list[str]:
    """Names of the parts to measure, in the probe's order.

    Raises:
        ValueError: a pattern fits none.
    """
    names = list(PROBES[assessment.probe].parts(Subject([], data, assessment.evaluation, limit=assessment.limit)))
    for pattern in assessment.only:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"--parts {pattern} fits no part of {assessment.probe}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in assessment.only or ("*",))]


def _measure(
    assessment: Assessment, subject: Subject, folder: Path, names: Sequence[str]
) -> tuple[dict[str, MeasuredPart], dict[str, str]]:
    """Measure what is not measured yet; parts by name, and why parts are absent."""
    measured: dict[str, MeasuredPart] = {}
    absent: dict[str, str] = {}
    with PartsProgress(len(names)) as progress:
        subject.on_batch = progress.images
        for name in names:
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
                metrics = PROBES[assessment.probe].measure(subject, name)
            except DatasetNotFoundError as error:
                absent[name] = _reason(error, subject)
                progress.end(name, f"absent: {absent[name]}")
                continue
            seconds = round(time.perf_counter() - start, 2)
            measured[name] = MeasuredPart(metrics, dict(subject.suites), seconds)
            measured[name].write(path)
            progress.end(name, f"{seconds:.1f} s")
    return measured, absent


def _reason(error: Exception, subject: Subject) -> str:
    """The first line of a message without the folders of this machine, which a result must not name."""
    return str(error).splitlines()[0].replace(str(subject.data.root), "the data folder").rstrip(".")


def _track(assessment: Assessment, result: Result, folder: Path) -> None:
    """Mirror the result as a W&B run of job type "assess", in the group of its probe."""
    run, name = assessment.plan.run, f"{result.network}-{result.method}-s{result.seed}-{assessment.probe}"
    tags = [run.profile, assessment.probe, assessment.plan.run_id]
    logger = wandb_logger(folder, run.tracking, run.project, assessment.probe, name, tags, "assess")
    if logger is not None:
        logger.log_hyperparams({"id": result.id, **result.config})
        log_artifacts([logger], assessment.path)
        finish_loggers([logger], result.metrics, 0)


def _asked(assessment: Assessment) -> dict[str, Any]:
    run = assessment.plan.run
    return {
        "probe": assessment.probe,
        "limit": assessment.limit,
        "parts": list(assessment.only) or None,
        "run": assessment.plan.run_id,
        "study": run.study,
    }


def _how(assessment: Assessment, subject: Subject, measured: dict[str, MeasuredPart]) -> dict[str, Any]:
    """What a result says of the evaluation."""
    evaluation, posterior = assessment.evaluation, subject.posterior()
    return {
        "samples": posterior.num_samples,
        "seed": evaluation.seed,
        "execution": posterior.choice or evaluation.execution,
        "scheme": evaluation.scheme,
        "uncovered": posterior.uncovered,
        "variation": None if evaluation.variation is None else evaluation.variation.record(),
        "checkpoint": evaluation.checkpoint,
        **subject.rule,
        "limit": assessment.limit,
        "images": len(subject.test_images[1]),
        "parts": list(measured),
        "suites": {name: about for part in measured.values() for name, about in part.suites.items()},
        "seconds": round(sum(part.seconds for part in measured.values()), 2),
    }


def _training(networks: list[TrainedNetwork]) -> dict[str, Any]:
    records: list[Result] = [network.record for network in networks]
    if len(records) > 1:
        return members_training(records)
    return {
        name: value for name, value in records[0].training.items() if name != "curve"
    }  # the run's own result has it


def _weights_digest(networks: list[nn.Module]) -> str:
    """Sixteen hexadecimal digits for the weights: which numbers were measured on one and the same network."""
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _say_finished(path: Path) -> None:
    absent = list(read_result(path).evaluation.get("absent", {}))
    remedy = "; with the data at hand delete the file and repeat: other parts are kept" if absent else ""
    print(f"finished already{_and_absent(absent)}: {path}{remedy}", flush=True)


def _and_absent(names: list[str]) -> str:
    return f" (absent: {', '.join(names)})" if names else ""
