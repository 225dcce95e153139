"""Replays test vectors with numpy alone, as a bench for RTL would; knows their manifest and nothing else."""

import json
from pathlib import Path

import numpy as np


def read_hex(folder: Path, about: dict) -> np.ndarray:
    """An array of its hex file: a line has the last axis, the first element in the lowest bits."""
    words = [int(line, 16) for line in (folder / about["hex"]).read_text().split()]
    bits, width = about["bits"], about["shape"][-1]
    values = np.array([[word >> (bits * i) & (1 << bits) - 1 for i in range(width)] for word in words])
    if about["signed"]:
        values = values - (values >> (bits - 1) << bits)
    return values.reshape(about["shape"])


def replay(folder: Path) -> dict[str, np.ndarray]:
    """Codes, partial sums, sums, signs and pooled signs of all layers, from inputs, weights and thresholds."""
    manifest = json.loads((folder / "manifest.json").read_text())
    given = {
        name: read_hex(folder, about)
        for name, about in manifest["arrays"].items()
        if name.rpartition("/")[2] in ("inputs", "places", "weights", "thresholds", "rising", "any")
    }
    found = {}
    for name, layer in manifest["layers"].items():
        x, groups, outputs = given[f"{name}/inputs"], layer["groups"], layer["outputs"]
        lead = x.shape[:2]
        x = x.reshape(-1, *x.shape[2:]) if layer["kind"] == "conv" else x.reshape(-1, x.shape[-1], 1, 1)
        left, right, top, bottom = layer["padding_left_right_top_bottom"]
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        (kh, kw), (sy, sx), (dy, dx) = layer["kernel"], layer["stride"], layer["dilation"]
        height, width = (
            (size - d * (k - 1) - 1) // s + 1
            for size, d, k, s in zip(x.shape[2:], (dy, dx), (kh, kw), (sy, sx), strict=True)
        )
        shape = (*lead, outputs, height, width) if layer["kind"] == "conv" else (*lead, outputs)
        # the word lines: for each output pixel all elements of the kernel's window
        lines = np.stack(
            [
                x[:, :, i * dy : i * dy + sy * (height - 1) + 1 : sy, j * dx : j * dx + sx * (width - 1) + 1 : sx]
                for i in range(kh)
                for j in range(kw)
            ],
            2,
        ).reshape(len(x), groups, -1, height * width)
        for tile in range(len(layer["tile_rows"])):
            rows = lines[:, :, given[f"{name}/tile{tile}/places"]]
            weights = given[f"{name}/tile{tile}/weights"].reshape(rows.shape[2], groups, -1)
            low = np.einsum("ngrp,rgo->ngop", rows > 0, weights, dtype=int)
            low += np.einsum("ngrp,rgo->ngop", rows < 0, 1 - weights, dtype=int)
            lit = np.broadcast_to((rows != 0).sum(2)[:, :, None], low.shape)
            found[f"{name}/tile{tile}/codes"] = low.reshape(shape)
            found[f"{name}/tile{tile}/partial"] = (2 * low - lit).reshape(shape)
        found[f"{name}/sums"] = sum(found[f"{name}/tile{t}/partial"] for t in range(len(layer["tile_rows"])))
        if f"{name}/thresholds" in given:
            sums, per_output = found[f"{name}/sums"], (lead[0], 1, outputs, *[1] * (len(shape) - 3))
            threshold, rising = (given[f"{name}/{kind}"].reshape(per_output) for kind in ("thresholds", "rising"))
            found[f"{name}/signs"] = np.where(rising, sums >= threshold, sums <= threshold).astype(int)
        if f"{name}/any" in given:
            found[f"{name}/pooled"] = pooled(found[f"{name}/signs"], given[f"{name}/any"], layer["pool"])
    return found


def pooled(signs: np.ndarray, any_of: np.ndarray, pool: dict) -> np.ndarray:
    """Bit 1 for each window of which any sign is +1, or all."""
    (kh, kw), (sy, sx) = pool["kernel"], pool["stride"]
    height, width = ((size - k) // s + 1 for size, k, s in zip(signs.shape[-2:], (kh, kw), (sy, sx), strict=True))
    window = np.stack(
        [
            signs[..., i : i + sy * (height - 1) + 1 : sy, j : j + sx * (width - 1) + 1 : sx]
            for i in range(kh)
            for j in range(kw)
        ]
    )
    return np.where(any_of.reshape(len(any_of), 1, -1, 1, 1), window.max(0), window.min(0))
