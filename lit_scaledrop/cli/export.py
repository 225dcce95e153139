"""``scaledrop export --model CHECKPOINT --out FILE``: exports a trained network.

=================  ===================================================================================
``--format``       file
=================  ===================================================================================
``packed``         one bit a binary weight, the rest as it is; ``load_packed`` gives the network back
``onnx``           logits of the deterministic network
``onnx-passes``    logits of T passes; the masks are inputs (``--help``)
``torch``          ``torch.export`` program of the deterministic network
``torch-passes``   the same with the masks as inputs
``vectors``        folder of test vectors of the network on crossbars, see :mod:`lit_scaledrop.deploy.vectors`
=================  ===================================================================================

What was written is read again and compared with the network: on test images where they are there, else on noise. A
packed file has to give the same bits, a program the same logits up to rounding in 99 % of the predictions (a sign whose
input is within rounding of 0 may flip). Test vectors are checked as they are written.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

import datamodules
from datamodules import DatasetNotFoundError
from hardware.chip_file import load_chip
from lit_scaledrop.cli.command import call
from lit_scaledrop.deploy.classify import SIDE
from lit_scaledrop.deploy.inference import freeze
from lit_scaledrop.deploy.model import load_packed, pack
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.deploy.program import Deterministic, Passes, export_onnx, export_program, masks_of
from lit_scaledrop.deploy.vectors import export_vectors
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.extras import extra
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import lookup
from lit_scaledrop.results.store import read_result

SUFFIXES = {"packed": ".packed", "onnx": ".onnx", "torch": ".pt2", "vectors": ""}
IMAGES, BATCH, PASSES = 1000, 100, 3
TOLERANCE, ENOUGH = 1e-4, 0.99
"""How close logits have to be, and for which share of the predictions. The rest is for signs: where the input of one is
within rounding of 0, another order of summation flips it, and the logits of that image move. PyTorch itself, given the
images of CIFAR-10 one by one instead of in batches of 100, changes the logits of 2 in 1,000."""


class ExportError(RuntimeError):
    """The exported file does not reproduce the network."""


def main(argv: list[str]) -> int:
    """Run ``scaledrop export`` with ``argv`` behind it."""
    return call(export, argv, "scaledrop export")


def export(
    *,
    model: Annotated[str, "--ckpt_path"],
    out: Path,
    format: Literal["packed", "onnx", "onnx-passes", "torch", "torch-passes", "vectors"] = "packed",
    data: str | None = None,
    root: str | None = None,
    result: Path | None = None,
    count: Annotated[int, "-n"] = 4,
    passes: int = 2,
    chip: str | None = None,
) -> int:
    """Export a trained network and compare the file with it.

    packed: one bit per binary weight, the rest in float32. onnx, torch: the deterministic network. onnx-passes,
    torch-passes: T stochastic forward passes without a random number, with logits (T, batch, classes). Inputs are
    `images` (batch, channels, height, width) and, drawn by whoever runs it, `masks.LAYER` for each Scale-Dropout,
    floats of shape (T, 1, 1): 1 keeps the scale in that pass, 0 drops it. vectors: inputs, weights by crossbar tile,
    masks, codes, partial sums and signs of every binary layer, for RTL verification.

    Args:
        model: checkpoint, packed file, or a model's name.
        out: file to write; a folder for vectors.
        format: format of the file.
        data: data set of the training, for checkpoints that do not name it.
        root: folder of the data; default: the environment variable DATA, or ./data.
        result: result file of the run, whose name is stored in a packed file.
        count: number of images in vectors.
        passes: number of stochastic passes in vectors.
        chip: chip file with the crossbars for vectors (default: 128 x 128 cells), see `scaledrop chip`.
    """
    kind = format.partition("-")[0]
    if out.suffix != SUFFIXES[kind]:
        ending = f"end in {SUFFIXES[kind]}" if SUFFIXES[kind] else "be a folder, without a file extension"
        raise ValueError(f"--out of {format} has to {ending}, not {out.suffix!r}")
    if min(count, passes) < 1:
        raise ValueError(f"-n and --passes must be at least 1, got {count} and {passes}")
    if chip and kind != "vectors":
        raise ValueError(f"--chip is for --format vectors, not for {format}: that format has no crossbars")
    crossbar = load_chip(chip).chip.crossbar if chip else None
    module, images = _open(model, data)
    x, what = _real(images["name"], root, module.hparams["in_channels"], images.get("size", SIDE))
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "packed":
        _export_packed(module, images, _origin(result) if result else {}, out, x, what)
    elif kind == "vectors":
        manifest = export_vectors(module.network, x[:count], out, passes, crossbar=crossbar)
        print(
            f"{out}: {len(manifest['arrays'])} arrays of {len(manifest['layers'])} layers; "
            f"{manifest['images']} {what}, {manifest['passes']} passes"
        )
    else:
        _export_program(freeze(module.network), kind, format.endswith("-passes"), out, x, what)
    return 0


def _export_packed(
    module: LitNetwork, images: dict[str, Any], about: dict[str, Any], out: Path, x: Tensor, what: str
) -> None:
    size = pack(copy.deepcopy(module), images, about, images.get("size", SIDE)).write(out)
    network, other = module.network, load_packed(out)[0].network
    programs = [Deterministic(other), *([Passes(other)] if stochastic_layers(network) else [])]
    worst = max(_errors(network, run, x, isinstance(run, Passes)).max().item() for run in programs)
    if worst:
        out.unlink()
        raise ExportError(f"the packed network's logits differ by up to {worst:.3g}; nothing was written")
    floats = 4 * sum(value.numel() for value in network.state_dict().values())
    print(f"{out}: {size:,} bytes, {floats / size:.1f} times smaller than in float32 ({floats:,} bytes)")
    how = f"{PASSES} random passes" if not _members(network) else f"the passes of all {_members(network)} members"
    print(f"logits of {len(x)} {what}: the same bits, without dropout and in {how}", flush=True)


def _export_program(network: nn.Module, kind: str, passes: bool, out: Path, x: Tensor, what: str) -> None:
    if kind == "onnx":
        export_onnx(network, x[:2], passes, out)
        run = _onnx_runtime(out)
    else:
        torch.export.save(export_program(network, x[:2], passes), out)
        run = torch.export.load(out).module()
    errors = _errors(network, run, x, passes)
    close = errors <= TOLERANCE
    share = close.double().mean().item()
    if share < ENOUGH:
        raise ExportError(
            f"{out}: the logits of {1 - share:.1%} of the predictions differ by more than {TOLERANCE:g}, up to "
            f"{errors.max():.3g}: do not use it"
        )
    how = f" in {_members(network) or PASSES} passes" if passes else ""
    flipped = f"; {int((~close).sum())} others have a sign that rounding flipped" if share < 1 else ""
    print(
        f"{out}: {out.stat().st_size:,} bytes\n"
        f"logits of {len(x)} {what}{how}: {int(close.sum()):,} of {close.numel():,} "
        f"predictions differ by at most {errors[close].max():.2g}{flipped}",
        flush=True,
    )


def _open(model: str, data: str | None) -> tuple[LitNetwork, dict[str, Any]]:
    """The module, and what a picture goes through before its network sees it: that of ``data``, if given."""
    if data is None:
        return open_trained(model)
    kind = datamodules.DATAMODULES[lookup("data set", data, datamodules.DATAMODULES)]
    own: Any = kind()
    return load_trained(model), own.image_facts


def _real(name: str, root: str | None, channels: int, side: int) -> tuple[Tensor, str]:
    """Normalized test images, or noise where there are none, and what they are."""
    kind = datamodules.DATAMODULES.get(name)
    if kind is not None:
        module = kind(root=root)
        try:
            module.setup("test")
            images = module.test_set.__getitems__(range(min(IMAGES, len(module.test_set))))[0]
            return module.normalized(images), f"{module.name} test images"
        except DatasetNotFoundError:
            pass
    return torch.randn(BATCH, channels, side, side, generator=torch.Generator().manual_seed(0)), "images of noise"


def _origin(result: Path) -> dict[str, Any]:
    """What a packed file says of the run that its network comes from."""
    record = read_result(result)
    return {
        "run": record.id,
        "commit": record.provenance["commit"],
        "data": {"name": record.data["name"], "fingerprint": record.data["fingerprint"]},
        "epochs": record.training["epochs"],
        "test_accuracy": record.metrics.get("cls/acc"),
    }


def _members(network: nn.Module) -> int:
    """Members that passes take turns with; 0 where there are none."""
    return max((layer.turns for layer in stochastic_layers(network).values()), default=0)


@torch.no_grad()
def _errors(network: nn.Module, run: Callable[..., Tensor], x: Tensor, passes: bool) -> Tensor:
    """Largest difference of the logits of each prediction, without dropout or in a few random passes."""
    own = Passes(network) if passes else Deterministic(network)
    masks = [masks_of(network, _members(network) or PASSES, seed=1)] if passes else []
    return torch.cat([(run(batch, *masks) - own(batch, *masks)).abs().amax(-1).flatten() for batch in x.split(BATCH)])


def _onnx_runtime(path: Path) -> Callable[..., Tensor]:
    runtime = extra("onnxruntime", "the check of an ONNX model")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(images: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        feed = dict(zip(names, [images, *(masks or [])], strict=True))
        return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in feed.items()})[0])

    return run
