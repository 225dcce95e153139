"""Bit-exact test vectors of a network on crossbars, for its hardware description (RTL): arrays and a manifest.

For each binary layer, of some images and passes (leading axes: passes, images):

=====================  =========================================================================================
array                  values
=====================  =========================================================================================
``inputs``             what drives the word lines: 1, -1, or 0 where a dropped input drives none; not yet padded
``tileN/places``       for each row of the tile, its weight's number in a flattened ``(channels, kh, kw)`` kernel
``tileN/weights``      (rows, outputs): bit 1 for +1; columns beyond the crossbar's lie on further tiles
``tileN/codes``        what the converters give: matches, as they have the bits that exact sums need
``tileN/partial``      partial sums, 2 * code - word lines that are on
``sums``               the layer's sums
``thresholds, rising`` (passes, outputs): the sign behind is +1 where sum >= threshold, or <= if not rising
``signs``              bit 1 for +1: of scale and BatchNorm behind the layer, before any pooling
``any``                (passes, outputs): of a pooled window, the sign is +1 where any is; where 0, where all are
``pooled``             those signs; as the next binary layer gets them, like ``signs`` where nothing is pooled
=====================  =========================================================================================

The last four are of layers whose outputs only a sign sees (``seen_by`` in the manifest). Of those that go to a skip or
to a layer with real inputs the sums are all that a crossbar gives: what follows is arithmetic. ``behind`` has the order
of what stands behind a layer: pooling takes the largest number behind what is in front of it, and where BatchNorm
behind it turns the order round, all signs have to be +1 in place of any.

``masks/NAME`` are the keep bits of each module that draws, or the number of the member that a pass is of. All are in
``vectors.npz`` and in a ``.hex`` file each, for ``$readmemh``: a line has the last axis of the array, its first element
in the lowest bits, each as wide as the manifest says, in two's complement where it is signed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hardware.cells import Imperfections
from hardware.crossbar import CrossbarLayer
from hardware.kernels import pair, three_states
from hardware.mapping import Crossbar, exact_adc_bits
from hardware.network import on_crossbar
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.layers.ensemble_norm import EnsembleNorm
from lit_scaledrop.layers.probing import hooked
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import differing_passes, sampling, stochastic_layers
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.shapes import Float

Arrays = dict[str, np.ndarray]
FORMAT = 2


@torch.no_grad()
def export_vectors(
    network: nn.Module,
    images: Float[Tensor, "images channels h w"],
    folder: Path,
    passes: int = 2,
    seed: int = 0,
    crossbar: Crossbar | None = None,
) -> dict[str, Any]:
    """Write the vectors of some images; returns the manifest.

    Args:
        network: with binary layers.
        images: network inputs.
        folder: where the files go.
        passes: random passes; a network that draws nothing makes one, a Tiny-Deep Ensemble at most one a member.
        seed: of the masks.
        crossbar: geometry and mapping.

    Raises:
        ValueError: no layer is binary, a module draws other numbers than bits, or the signs behind a layer are no
            comparison of its sums, pooled or not.
    """
    geometry = crossbar or Crossbar()
    bits = exact_adc_bits(geometry.rows)
    chip = on_crossbar(network, geometry, Imperfections(adc_bits=bits))
    plan = draw_plan(chip, differing_passes(chip, passes), seed)
    layers = {name: m for name, m in chip.named_modules() if isinstance(m, CrossbarLayer)}
    seen_by = {shape.name: _seen_by(shape) for shape in trace_workload(network, tuple(images.shape[1:]))}
    behind = {name: _behind(chip, name) for name in layers}
    signs = {name: found for name, found in behind.items() if seen_by[name] == "sign" and found.chain}
    of_member = [name for name, layer in stochastic_layers(chip).items() if layer.turns]
    arrays: Arrays = {f"masks/{name}": _bits(name, draws, name in of_member) for name, draws in plan.draws.items()}
    runs = []
    for index in range(plan.samples):
        with sampling(chip, plan.single(index)):
            runs.append(_watched(chip, layers, signs, images))
    arrays |= {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    for name, layer in layers.items():
        if name in signs:
            _check(name, arrays, signs[name].pool)
        for tile, cells in enumerate(_weights(layer)):
            arrays |= {f"{name}/tile{tile}/places": layer.places[tile].numpy(), f"{name}/tile{tile}/weights": cells}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "images": len(images),
        "passes": len(runs),
        "crossbar": {**vars(geometry), "adc_bits": bits},
        "layers": {
            name: {**_geometry(layer), "seen_by": seen_by[name], **behind[name].described}
            for name, layer in layers.items()
        },
        "arrays": {name: _described(name, values) for name, values in arrays.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "vectors.npz", allow_pickle=False, **arrays)
    for name, about in manifest["arrays"].items():
        (folder / about["hex"]).write_text(_hex(arrays[name], about["bits"]), encoding="ascii")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _bits(name: str, draws: Tensor, number: bool) -> np.ndarray:
    if not (number or bool(((draws == 0) | (draws == 1)).all())):
        raise ValueError(f"{name} draws other numbers than bits, which test vectors cannot hold")
    return draws.flatten(1).to(torch.uint8).numpy()


@dataclass(frozen=True)
class _Behind:
    """What stands between a layer and the next activation, in its order: scale, BatchNorm, pooling."""

    chain: tuple[nn.Module, ...]

    @property
    def pool(self) -> nn.MaxPool2d | None:
        """The pooling, if there is one."""
        return next((module for module in self.chain if isinstance(module, nn.MaxPool2d)), None)

    @property
    def affine(self) -> nn.Sequential:
        """All but the pooling."""
        return nn.Sequential(*(module for module in self.chain if module is not self.pool))

    @property
    def last(self) -> nn.Sequential:
        """What is behind the pooling."""
        return nn.Sequential(*self.chain[self.chain.index(self.pool) + 1 :] if self.pool else ())

    @property
    def described(self) -> dict[str, Any]:
        """Order and geometry for the manifest."""
        kinds = {nn.MaxPool2d: "pool", ScaleDropout: "scale"}
        order = [next((name for kind, name in kinds.items() if isinstance(m, kind)), "norm") for m in self.chain]
        pool = self.pool and {"kernel": list(pair(self.pool.kernel_size)), "stride": list(pair(self.pool.stride))}
        return {"behind": order, **({"pool": pool} if pool else {})}


def _seen_by(shape: LayerShape) -> str:
    """Who sees the outputs of a layer: a ``skip``, a ``real`` layer, or signs alone."""
    return "skip" if shape.to_skip else "real" if shape.to_real else "sign"


def _watched(chip: nn.Module, layers: dict[str, CrossbarLayer], signs: dict[str, _Behind], images: Tensor) -> Arrays:
    """One pass with what each layer gets, converts and sends on."""
    found: Arrays = {}
    hooks = []
    for name, layer in layers.items():
        behind = signs.get(name)

        def convert(_: nn.Module, inputs: tuple[Any, ...], output: Tensor, name: str = name) -> None:
            found[f"{name}/tile{inputs[0]}/codes"] = output.to(torch.int32).numpy()

        def leave(
            layer: Any, inputs: tuple[Tensor, ...], output: Tensor, name: str = name, behind: Any = behind
        ) -> None:
            _record(found, name, layer, inputs[0], output, behind)

        hooks += [layer.converters.register_forward_hook(convert), layer.register_forward_hook(leave)]
    with hooked(*hooks):
        chip(images)
    return found


def _record(
    found: Arrays, name: str, layer: CrossbarLayer, received: Tensor, output: Tensor, behind: _Behind | None
) -> None:
    """What a layer got and sent on, once its converters are done."""
    x, on, level = three_states(layer.input_estimator(received))
    found[f"{name}/inputs"] = x.to(torch.int8).numpy()
    on = torch.ones_like(x) if on is None else on
    lit = layer.word_lines(on[:, :, None, None] if layer.linear else on)
    partial = []
    for tile, lines in enumerate(lit):
        codes = found[f"{name}/tile{tile}/codes"].reshape(output.shape)
        count = lines.to(torch.int32).numpy().reshape(len(lines), -1, *output.shape[2:])
        found[f"{name}/tile{tile}/codes"] = codes
        found[f"{name}/tile{tile}/partial"] = 2 * codes - count
        partial.append(2 * codes - count)
    found[f"{name}/sums"] = np.stack(partial).sum(0, dtype=np.int32)
    if behind is not None:
        found[f"{name}/signs"] = (behind.affine(output) >= 0).to(torch.uint8).numpy()
        found[f"{name}/thresholds"], found[f"{name}/rising"] = _thresholds(layer, behind.affine, level)
        if behind.pool:
            found[f"{name}/pooled"] = (nn.Sequential(*behind.chain)(output) >= 0).to(torch.uint8).numpy()
            far = torch.tensor([-1e6, 1e6]).expand(1, len(layer.factor), 1, 2).to(output)
            low, high = behind.last(far)[0, :, 0].unbind(-1)
            found[f"{name}/any"] = (high >= low).to(torch.uint8).numpy()


def _behind(chip: nn.Module, name: str) -> _Behind:
    """Scale, BatchNorm and one pooling behind a layer."""
    parent, _, key = name.rpartition(".")
    block, chain = chip.get_submodule(parent), list[nn.Module]()
    if isinstance(block, nn.Sequential):
        for module in list(block.children())[list(dict(block.named_children())).index(key) + 1 :]:
            if isinstance(module, ScaleDropout | EnsembleNorm | nn.BatchNorm1d | nn.BatchNorm2d | nn.MaxPool2d):
                chain.append(module)
            elif not isinstance(module, nn.Identity):
                break
    return _Behind(tuple(chain))


def _thresholds(layer: CrossbarLayer, behind: nn.Module, level: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each output the sum at which the sign changes and whether it rises, found by asking for all possible sums."""
    most = sum(len(places) for places in layer.places)
    sums = torch.arange(-most, most + 1)
    x = sums[:, None] * (layer.factor * level)
    # as a map, since BatchNorm may round other shapes otherwise
    high = behind(x) >= 0 if layer.linear else behind(x.t()[None, :, None])[0, :, 0].t() >= 0
    rising = ~high[0] | high[-1]
    threshold = torch.where(rising, most + 1 - high.sum(0), high.sum(0) - most - 1)
    return threshold.to(torch.int32).numpy(), rising.to(torch.uint8).numpy()


def _check(name: str, arrays: Arrays, pool: nn.MaxPool2d | None) -> None:
    """Refuse thresholds that do not give the network's signs, or signs that do not give the pooled ones."""
    sums, signs = arrays[f"{name}/sums"], arrays[f"{name}/signs"]
    shape = (len(sums), 1, -1, *[1] * (sums.ndim - 3))
    threshold, rising = (arrays[f"{name}/{kind}"].reshape(shape) for kind in ("thresholds", "rising"))
    if not np.array_equal(np.where(rising, sums >= threshold, sums <= threshold), signs):
        raise ValueError(f"the signs behind {name} are no comparison of its sums with one threshold a channel")
    if pool is not None:
        # all of them are +1 where none is -1
        turn = 2 * torch.from_numpy(arrays[f"{name}/any"]).double().reshape(shape)[:, 0] - 1
        each = zip(turn, torch.from_numpy(signs).double(), strict=True)
        pooled = torch.stack([way * pool(way * values) for way, values in each])
        if not np.array_equal(pooled.numpy(), arrays[f"{name}/pooled"]):
            raise ValueError(f"the pooled signs behind {name} are not any, or all, of the signs of a window")


def _weights(layer: CrossbarLayer) -> list[np.ndarray]:
    """Bits of each tile as they lie, ``(rows, outputs)``."""
    found = []
    for tile, places in enumerate(layer.places):
        kernel = torch.zeros(len(layer.factor), *layer.shape)
        kernel[:, *layer.boxes[tile]] = getattr(layer, f"difference_{tile}")
        found.append((kernel.flatten(1)[:, places] > 0).t().to(torch.uint8).numpy())
    return found


def _geometry(layer: CrossbarLayer) -> dict[str, Any]:
    return {
        "kind": "linear" if layer.linear else "conv",
        "kernel": list(layer.kernel),
        "stride": list(layer.stride),
        "dilation": list(layer.dilation),
        "padding_left_right_top_bottom": layer.pads,
        "groups": layer.groups,
        "outputs": len(layer.factor),
        "tile_rows": [len(places) for places in layer.places],
    }


def _described(name: str, values: np.ndarray) -> dict[str, Any]:
    low, high = int(values.min()), int(values.max())
    signed = values.dtype.kind == "i" and low < 0
    bits = max((-low - 1).bit_length() + 1 if low < 0 else 1, high.bit_length() + signed, 1)
    return {"shape": list(values.shape), "bits": bits, "signed": signed, "hex": name.replace("/", ".") + ".hex"}


def _hex(values: np.ndarray, bits: int) -> str:
    """A line for each last axis, its first element in the lowest bits."""
    lines = values.reshape(-1, values.shape[-1]).astype(np.int64)
    planes = (lines[:, :, None] >> np.arange(bits)) & 1
    packed = np.packbits(planes.reshape(len(lines), -1).astype(np.uint8), axis=1, bitorder="little")
    digits = -(-lines.shape[1] * bits // 4)
    return "".join(f"{int.from_bytes(line.tobytes(), 'little'):0{digits}x}\n" for line in packed)
