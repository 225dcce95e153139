"""``scaledrop verify``: measures a committed number again, from committed weights."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_scaledrop.cli.command import UsageError, call
from lit_scaledrop.deploy.open import MODELS, from_pretrained, model_names
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set, require_match
from lit_scaledrop.evaluation.on_chip import chip_record, on_chip, variation_record
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import read_result
from lit_scaledrop.runs.identity import class_of

TOLERANCE = 0.005
"""Difference of any metric that other kernels' rounding explains: a sign that turns moves an image, not a mean."""
_FEWEST = 50


def main(argv: list[str]) -> int:
    """Run ``scaledrop verify`` with ``argv`` behind it."""
    return call(verify, argv, "scaledrop verify")


def verify(
    what: list[str],
    *,
    limit: int | None = None,
    root: str | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> int:
    """Measure a committed result again from its weights and print both numbers and their difference.

    The weights of some committed rows are packaged; for others pass your own. The data must have the recorded
    fingerprint. Exits with 0 if the numbers agree, with 1 if they do not.

    Args:
        what: a study and a row (table3 resnet20/proposed), the name of a packaged model (resnet20-proposed), or a
            result file and its checkpoint or packed file (of an ensemble, all members).
        limit: use only the first images; accuracy then has to be within its 99 % interval.
        root: folder of the data; default: the environment variable DATA, or ./data.
        device: where the network runs.
    """
    if limit is not None and limit < _FEWEST:
        raise UsageError(f"--limit must be at least {_FEWEST}: fewer images cannot verify an accuracy")
    committed, names = _committed(what)
    before = committed.metrics
    if not committed.training or "assess" in committed.config:
        raise ValueError(
            f"{committed.id} is of {committed.study}, but only results of trainings can be verified; reproduce it "
            f"with: {committed.provenance['command']}"
        )
    if limit is not None and "cls/acc" not in before:
        raise UsageError("--limit is for classification: remove it")
    modules = [from_pretrained(name) for name in names]
    _require_its_own(committed, names, modules)
    data = _data(committed, root)
    for name, module in zip(names, modules, strict=True):
        require_match(name, module, data)
    data.setup("test")
    if data.fingerprint() != committed.data["fingerprint"]:
        raise ValueError(
            f"{committed.id} was measured on {committed.data['name']} {committed.data['fingerprint']}, your "
            f"data is {data.fingerprint()}: other data cannot verify it (`scaledrop data` lists yours)"
        )
    evaluation = _evaluation(committed)
    networks = [module.network.to(device) for module in modules]
    _require_its_device(committed, evaluation, networks)
    networks, batches = on_chip(networks, evaluation, data, device), normalized_test_set(data)
    found, how = evaluate_network(
        networks, batches if limit is None else _first(batches, limit), evaluation,
        modules[0].test_metrics(evaluation), device,
    )  # fmt: skip
    images, whole = how["images"], committed.evaluation["images"]
    print(f"{committed.study}, {committed.network}, {committed.label}, seed {committed.seed}: {committed.id}")
    print(f"{images} of {whole} test images, T = {how['samples']}, {how['seconds']:.0f} s on {device}\n")
    print(f"{'':<28}{'committed':>12}{'now':>12}{'difference':>12}")
    shared = {key: value for key, value in before.items() if key in found}
    for key, value in shared.items():
        print(f"{key:<28}{value:>12.4f}{found[key]:>12.4f}{found[key] - value:>+12.4f}")
    allowed = _allowed(shared, images, whole)
    wrong = [key for key, most in allowed.items() if abs(found[key] - shared[key]) > most]
    print("\n" + _verdict(wrong, allowed, images == whole))
    return 1 if wrong else 0


def _committed(what: list[str]) -> tuple[Result, list[str]]:
    """The committed result, and what its weights are opened by."""
    if len(what) > 1 and what[0].endswith(".json"):
        return read_result(what[0]), what[1:]
    known = {name: read_result(MODELS / f"{name}.json") for name in model_names()}
    if len(what) == 1:
        name = lookup("model", what[0], known)
        return known[name], [name]
    rows = {f"{one.study} {one.network}/{one.method}": name for name, one in known.items()}
    if len(what) != 2 or " ".join(what) not in rows:
        raise UsageError(
            f"the package contains the weights of {', '.join(rows)}; for other rows pass your own: scaledrop verify "
            f"RESULT.json CHECKPOINT"
        )
    name = rows[" ".join(what)]
    return known[name], [name]


def _require_its_own(committed: Result, names: list[str], modules: list[LitNetwork]) -> None:
    """Refuse weights of another network, or too few or too many members."""
    method = {**METHODS, **SEGMENTATION_METHODS}.get(committed.method)
    members, trained = (method.members, method.member or committed.method) if method else (1, committed.method)
    if len(names) != members:
        raise UsageError(
            f"{committed.id} has {members} trained networks ({trained}), and {len(names)} files were given"
        )
    for name, module in zip(names, modules, strict=True):
        found = f"{module.hparams['network']}/{module.hparams['method']}"
        if found != f"{committed.network}/{trained}":
            raise ValueError(f"{committed.id} is of {committed.network}/{trained}, and {name} of {found}")


def _data(committed: Result, root: str | None) -> Any:
    """The data module with the settings of the record."""
    said = committed.config["data"]
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in (said.get("init_args") or {}).items()}
    try:
        return class_of(said["class_path"])(**given, root=root)
    except ImportError as error:
        raise ValueError(
            f"the data of {committed.id} are read by {said['class_path']}, which cannot be imported: call verify in "
            "the folder where its file lies"
        ) from error


def _evaluation(committed: Result) -> Evaluation:
    """As it was evaluated, by the quickest execution that gives the same numbers."""
    known = {field.name for field in fields(Evaluation)}
    said: dict[str, Any] = {key: value for key, value in committed.config["evaluation"].items() if key in known}
    varied: Any = committed.evaluation.get("variation")
    if varied and not said.get("chip_file"):  # a callback of the training may have said it
        said |= {key: value for key, value in varied.items() if key in known and value is not None}
        said["mtj"] = said.get("mtj") or varied["device"]
    evaluation = Evaluation(**said)
    return evaluation if evaluation.execution == "exact" else replace(evaluation, execution="shared")


def _require_its_device(committed: Result, evaluation: Evaluation, networks: list[torch.nn.Module]) -> None:
    """Refuse a chip or device file that says something else than that of the record."""
    chips: Any = committed.evaluation.get("on_chip"), chip_record(evaluation).get("on_chip")
    varied: Any = committed.evaluation.get("variation"), variation_record(evaluation, networks)
    for key, (then, now) in (("fingerprint", chips), ("device_fingerprint", varied)):
        if then and now and then.get(key) and then[key] != now.get(key):
            name = Path(str(evaluation.chip_file or evaluation.mtj)).name
            raise ValueError(
                f"{committed.id} was evaluated with {name} {then[key]}, now it is {now.get(key)}: "
                "restore the original file"
            )


def _first(batches: Iterable[tuple[Tensor, Tensor]], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """As many images."""
    for images, targets in batches:
        yield images[:count], targets[:count]
        count -= len(images)
        if count <= 0:
            return


def _allowed(metrics: dict[str, float], images: int, whole: int) -> dict[str, float]:
    """Largest difference of each metric that is judged: of all images rounding, of some the sampling of accuracy."""
    if images == whole:
        return dict.fromkeys(metrics, TOLERANCE)
    accuracy = metrics["cls/acc"]
    variance = accuracy * (1 - accuracy) / images * (whole - images) / (whole - 1)
    return {"cls/acc": TOLERANCE + 2.576 * variance**0.5}


def _verdict(wrong: list[str], allowed: dict[str, float], every: bool) -> str:
    if wrong:
        return f"They do not agree: {', '.join(sorted(wrong))}"
    if every:
        return f"They agree: no metric differs by more than {TOLERANCE}"
    return (
        f"Accuracy agrees: with this many images it is within {allowed['cls/acc']:.3f} of that of all (99 %). The "
        f"other "
        "metrics are judged without --limit only"
    )
