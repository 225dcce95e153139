"""How the numbers of a row were made: a panel with each run's data, training, settings, command and JSON file."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lit_scaledrop.report.groups import TOPOLOGIES, data_name
from lit_scaledrop.report.page.markup import escape, tag
from lit_scaledrop.report.tables.accuracy import duration
from lit_scaledrop.results.result import Result


class Panels:
    """Panels of a page, one for each set of runs; a button opens one. Works without JavaScript.

    Args:
        results_dir: folder of results.
        page: file of the page, which links are relative to.
    """

    def __init__(self, results_dir: Path | str, page: Path | str):
        self._results_dir, self._page = results_dir, Path(page)
        self._ids: dict[tuple[str, ...], str] = {}
        self._panels: list[str] = []

    def button(self, runs: Sequence[Result], of: str) -> str:
        """A button that opens the panel of the runs; ``of`` says for a screen reader what was made by them."""
        key = tuple(str(run.path("")) for run in runs)
        if key not in self._ids:
            self._ids[key] = f"runs-{len(self._ids) + 1}"
            self._panels.append(self._panel(self._ids[key], runs))
        many = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        label = f"{many}: how {of} was made"
        return tag("button", many, type="button", class_="runs", popovertarget=self._ids[key], aria_label=label)

    def html(self) -> str:
        """All panels that buttons have asked for."""
        return "\n".join(self._panels)

    def link(self, path: Path, text: str) -> str:
        """A link to a file, relative to the page."""
        start = self._page.parent.absolute()
        relative = Path(os.path.relpath(path.absolute(), start)).as_posix()
        return tag("a", escape(text), href=quote(relative))

    def _panel(self, id: str, runs: Sequence[Result]) -> str:
        title = f"How it was made: {len(runs)} run{'s' * (len(runs) != 1)}"
        head = tag("p", title, class_="title", id=f"{id}-title")
        close = tag("button", "Close", type="button", popovertarget=id, popovertargetaction="hide")
        each = "".join(self._run(run, len(runs) == 1) for run in runs)
        return (
            f'<div popover role="dialog" id="{id}" aria-labelledby="{id}-title" class="panel">'
            f'<div class="bar">{head}{close}</div>{each}</div>'
        )

    def _run(self, run: Result, is_open: bool) -> str:
        topology = TOPOLOGIES.get(run.network, run.network)
        link = self.link(run.path(self._results_dir), f"{run.id}.json")
        items = [("Result", link), *((name, escape(value)) for name, value in facts(run))]
        items.append(("Command", tag("code", escape(run.provenance["command"]))))
        listed = "".join(tag("dt", name) + tag("dd", value) for name, value in items)
        opened = " open" if is_open else ""
        named = escape(f"{topology}, {run.label}, seed {run.seed}")
        return f"<details{opened}><summary>{named}</summary><dl>{listed}</dl></details>"


def facts(run: Result) -> Iterator[tuple[str, str]]:
    """What a reader asks of a number, by name; groups that are empty (nothing was trained) are left out."""
    topology = TOPOLOGIES.get(run.network, run.network)
    bayesian = "Bayesian" if run.bayesian else "not Bayesian"
    yield "Network", f"{topology}, {run.label}, {run.bits_w}/{run.bits_a} bits (W/A), {bayesian}"
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
        yield "Training", f"{training['epochs']} epochs, best is number {training['best_epoch'] + 1}"
        yield "Device", f"{training['device']}; {training['precision']}{compiled}"
        yield "Training time", f"{training['seconds']:.1f} s ({duration(training['seconds'])})"
    if asked:
        limit = f", at most {asked['limit']} images a part" if asked.get("limit") else ""
        yield (
            "Evaluation",
            (
                f"T = {asked['samples']}, {asked['execution']}, mask seed {asked['seed']}, {asked['checkpoint']} "
                f"checkpoint{limit}; {asked['seconds']:.1f} s"
            ),
        )
    if settings := ", ".join(f"{name} {value}" for name, value in _settings(run.config)):
        yield "Settings", settings
    yield "Commit", source["commit"] + " (dirty)" * source["dirty"]
    yield "Finished", source["finished"]
    yield "Versions", ", ".join(f"{name} {version}" for name, version in source["versions"].items())


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
