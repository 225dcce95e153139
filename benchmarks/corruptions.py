"""Images per second of the corruption generator, per corruption and on average over all 15."""

from typing import Any

import torch

from benchmarks.measure import interleaved, table
from datamodules import CORRUPTIONS, corrupt

SEVERITY = 3


def run(options: Any) -> str:
    """Markdown."""
    images = 20 * options.batch
    clean = torch.randint(256, (images, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seconds = interleaved(
        {name: lambda name=name: corrupt(clean, name, SEVERITY) for name in CORRUPTIONS},  # type: ignore[misc]
        options.repeats,
    )
    rows: list[list[object]] = [[name, images / value] for name, value in seconds.items()]
    rows.append(["all 15, one after another", images * len(seconds) / sum(seconds.values())])
    return (
        f"{images:,} images of 32x32 pixels in RGB, severity {SEVERITY}, {torch.get_num_threads()} thread(s).\n\n"
        + table(["corruption", "images/s"], rows)
    )
