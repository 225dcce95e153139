"""Images per second of the corruption generator, per corruption and on average over all 15."""

from functools import partial
from typing import Any

import torch

from benchmarks.measure import by_group, table
from datamodules import CORRUPTIONS, corrupt

TITLE = "Generating CIFAR-10-C"
SEVERITY = 3


def bench_corruptions(interleaved: Any, options: Any) -> None:
    """All corruptions of the same images."""
    images = 20 * options.batch
    clean = torch.randint(256, (images, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    timed = interleaved({name: partial(corrupt, clean, name, SEVERITY) for name in CORRUPTIONS})
    for fixture in timed.values():
        fixture.extra_info.update(images=images, threads=torch.get_num_threads())


def markdown(results: list[dict[str, Any]], _options: Any) -> str:
    """Images per second, and how much slower than the quickest."""
    (group,) = by_group(results)
    info = next(iter(group.values()))["extra_info"]
    images = info["images"]
    seconds = {name: result["median"] for name, result in group.items()}
    quickest = min(seconds.values())
    rows: list[list[object]] = [[name, images / value, value / quickest] for name, value in seconds.items()]
    mean = sum(seconds.values()) / len(seconds)
    rows.append(["all 15, one after another", images / mean, mean / quickest])
    return f"{images:,} images of 32x32 pixels in RGB, severity {SEVERITY}, {info['threads']} thread(s).\n\n" + table(
        ["corruption", "images/s", "times slower than the quickest"], rows
    )
