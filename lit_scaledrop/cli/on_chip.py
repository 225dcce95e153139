"""``scaledrop chip report`` and ``scaledrop chip effects``: measurements of a trained network on simulated chips."""

import fnmatch
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import datamodules
from hardware.chip_file import load_chip
from lit_scaledrop.chip.chip_figure import draw_chip
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.evaluation.checkpoint import weights_digest
from lit_scaledrop.evaluation.chip_report import report_chip
from lit_scaledrop.evaluation.evaluate import data_for
from lit_scaledrop.evaluation.probes import Subject
from lit_scaledrop.evaluation.probes import chip as crossbars
from lit_scaledrop.extras import extra
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import count, lookup
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.progress import PartsProgress
from lit_scaledrop.results import provenance
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.glossary import TOPOLOGIES
from lit_scaledrop.results.measurement import flat_names
from lit_scaledrop.results.reading import read_json
from lit_scaledrop.results.units import in_unit


def report(
    chip: str,
    network: str,
    *,
    data: str,
    evaluation: Evaluation,
    root: str | None = None,
    chips: int = 3,
    limit: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Path = Path("chip.png"),
) -> int:
    """Report on a trained network on a chip: switching curve, spread of p, accuracy, calibration, energy.

    Args:
        chip: chip file, or a packaged junction on the default chip.
        network: checkpoint, packed file, or a model that comes with the package.
        data: name of a data set of images with classes.
        evaluation: how the posterior is asked.
        root: folder of the data; default: the environment variable DATA, or ./data.
        chips: number of simulated chips.
        limit: most test images (default: all).
        device: where the network runs.
        out: figure, .png, .pdf or .svg (needs matplotlib); its numbers are written to a .json next to it.
    """
    extra("matplotlib", "the page")
    load_chip(chip)  # what is wrong with it is said before a network is opened
    module, images = _opened(network, data, root)
    with PartsProgress(1) as progress:
        progress.begin(f"the network and {count(chips, 'chip')}")
        found = report_chip(module.network, images, chip, evaluation, chips, limit, device, progress.images)
    topology = module.hparams["network"]
    name = f"{TOPOLOGIES.get(topology, topology)}, {module.method.label}"
    energy = found.energy.report()
    for row in found.rows():
        print(f"{row[0]:<34}{row[1]:>9}{row[2]:>18}")
    print(f"energy {in_unit(energy.energy_pj)}, {energy.latency_ns / 1e3:.1f} us an image")
    about = found.record(images, name, evaluation.seed)
    footer = (
        f"{Path(chip).name} ({found.chip.fingerprint}); {images.name}{' (a stand-in)' if images.stand_in else ''} "
        f"{about['data']['fingerprint']}, {found.images} test images, T = {found.passes}, seed {evaluation.seed}; "
        f"{count(chips, 'finished chip')}; energy: passes one by one; commit {about['commit'][:7]}."
    )
    title = f"{name} on {Path(chip).stem}"
    figure = draw_chip(
        found.chip, found.rows(), found.digital.bins, [one.bins for one in found.on_chips], energy, title, footer
    )
    write_atomic(out.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
    print(f"report: {out}, its numbers: {out.with_suffix('.json')}")
    return 0


def effects(
    network: str,
    *,
    data: str,
    evaluation: Evaluation,
    root: str | None = None,
    parts: str = "*",
    limit: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Path = Path("effects.json"),
) -> int:
    """Measure a trained network on non-ideal crossbars, one effect at a time; the same command resumes.

    Args:
        network: checkpoint, packed file, or a model that comes with the package.
        data: name of a data set of images with classes.
        evaluation: how the posterior is asked.
        root: folder of the data; default: the environment variable DATA, or ./data.
        parts: parts of the probe `hardware`, comma-separated patterns: wire/*,recovered/0.1/1 (default: all).
        limit: most test images (default: all).
        device: where the network runs.
        out: JSON file of the numbers; parts that it already holds, with the same settings, are not measured again.
    """
    module, images = _opened(network, data, root)
    subject = Subject([module.network], images, replace(evaluation, execution="auto"), device, limit)
    known = crossbars.parts(subject)
    chosen = {name: at for name, at in known.items() if any(fnmatch.fnmatchcase(name, p) for p in parts.split(","))}
    if not chosen:
        raise ValueError(f"--parts {parts} matches none of {', '.join(known)}")
    asked = {
        "network": Path(network).name,
        "weights": weights_digest([module.network]),
        "data": {"name": images.name, "fingerprint": images.fingerprint(), "stand_in": images.stand_in},
        "samples": evaluation.samples,
        "seed": evaluation.seed,
        "limit": limit,
        **crossbars.constants(evaluation),
    }
    done = _measured(out, asked)
    with PartsProgress(len(chosen)) as progress:
        subject.on_batch = progress.images
        for name, at in chosen.items():
            progress.begin(name)
            if name not in done:
                done[name] = flat_names(crossbars.measure(subject, at)) | {"commit": provenance.commit()[0]}
                write_atomic(out, json.dumps({"asked": asked, "parts": done}, indent=2) + "\n")
            found = done[name]
            progress.end(name, f"accuracy {found['cls/acc']:.3f}, same class {found['hw/same_class']:.3f}")
    print(f"{count(len(chosen), 'part')}: {out}")
    return 0


def _measured(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Parts that a file has already of the same question.

    Raises:
        ValueError: it is another kind of file, which is not written over.
    """
    if not out.exists():
        return {}
    try:
        before = read_json(out)
        return before["parts"] if before["asked"] == asked else {}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{out} was not written by this command ({error}): move it away, or give another --out"
        ) from error


def _opened(network: str, data: str, root: str | None) -> tuple[LitNetwork, Any]:
    """A trained network and its data, set up."""
    known = lookup("data set", data, datamodules.DATAMODULES)  # images with classes only
    module, _ = open_trained(network)
    images = data_for(module, known, root, called=network)
    images.setup("test")
    return module, images
