"""Provenance of a number: data, training, evaluation, settings and versions of a run."""

from collections.abc import Iterator, Sequence
from typing import Any

from lit_scaledrop.naming import count
from lit_scaledrop.report.groups import code_of, data_name
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import duration


def facts(run: Result) -> Iterator[tuple[str, str]]:
    """What a reader asks of a number, by name; groups that are empty (nothing was trained) are left out."""
    bayesian = "Bayesian" if run.bayesian else "not Bayesian"
    yield "Network", f"{run.topology}, {run.label}, {run.bits_w}/{run.bits_a} bits (W/A), {bayesian}"
    yield "Profile and study", f"{run.profile}, {run.study}"
    yield "Seed", str(run.seed)
    data, training, asked, source = run.data, run.training, run.evaluation, run.provenance
    if data:
        kind = " (a stand-in)" if data["stand_in"] else ""
        sizes = f"{data['train']} training, {data['val']} validation, {data['test']} test images"
        yield "Data", f"{data_name(run)}{kind}; {data['source']}; {sizes}"
        yield "Fingerprint", data["fingerprint"]
    if training:
        compiled = ", compiled" if training["compiled"] else ""
        yield "Training", f"{count(training['epochs'], 'epoch')}, best is number {training['best_epoch'] + 1}"
        yield "Device", f"{training['device']}; {training['precision']}{compiled}"
        yield "Training time", f"{training['seconds']:.1f} s ({duration(training['seconds'])})"
    if asked:
        limit = f", at most {asked['limit']} images per part" if asked.get("limit") else ""
        yield (
            "Evaluation",
            (
                f"T = {asked['samples']}, {asked['execution']}, mask seed {asked['seed']}, {asked['checkpoint']} "
                f"checkpoint{limit}; {asked['seconds']:.1f} s"
            ),
        )
    if settings := ", ".join(f"{name} {value}" for name, value in _settings(run.config)):
        yield "Settings", settings
    yield "Commit", code_of(run)
    yield "Finished", source["finished"]
    yield "Versions", ", ".join(f"{name} {version}" for name, version in source["versions"].items())


def note(runs: Sequence[Result]) -> str:
    """Of which runs a number is, for paper: ids by seed, with the commits of their code."""
    commits: dict[str, list[str]] = {}
    for run in runs:
        commits.setdefault(code_of(run, 10), []).append(f"{run.id} (seed {run.seed})")
    return "; ".join(f"{', '.join(ids)} at commit {commit}" for commit, ids in commits.items())


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings of the model, the data and the trainer that are set; all of them are in the JSON file."""
    for group in ("model", "data"):
        about = config.get(group)
        values = about.get("init_args") if isinstance(about, dict) else None
        for name, value in (values or {}).items():
            if value is not None:
                yield f"{group}.{name}", value
    trainer = config.get("trainer")
    for name in ("max_epochs", "gradient_clip_val", "accumulate_grad_batches"):
        if isinstance(trainer, dict) and trainer.get(name) is not None:
            yield f"trainer.{name}", trainer[name]
