"""Throughput: layers as the stages of a pipeline, through which passes follow each other, of one image or of many.

Each layer has its own crossbars, so while it works on one pass the layer behind it works on the one before; digital
layers are taken to have arithmetic of their own. A stage takes one job at a time, and what is finished waits in front
of the next stage; a job is a pass over an image, or a layer's one evaluation for all passes where nothing random
precedes it. The latency of :mod:`hardware.energy` is the special case of one image whose passes do not overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hardware.breakdown import EnergyReport
from hardware.passes import LayerUse
from hardware.workload import LayerShape


@dataclass(frozen=True)
class Stage:
    """A layer in the pipeline."""

    name: str
    time_ns: float
    """time of one evaluation, ns"""
    jobs: int
    """evaluations for an image"""

    @property
    def image_ns(self) -> float:
        """Time that an image keeps it busy, ns."""
        return self.time_ns * self.jobs


def stages(layers: Sequence[LayerShape], uses: Sequence[LayerUse], report: EnergyReport) -> list[Stage]:
    """Stages of a network from the latencies of its layers; layers that are left out have none."""
    latency_ns = {entry.layer: entry.latency_ns for entry in report.by_layer()}
    return [
        Stage(layer.name, latency_ns[layer.name] / use.evaluations, use.evaluations)
        for layer, use in zip(layers, uses, strict=True)
        if latency_ns.get(layer.name)
    ]


@dataclass(frozen=True)
class Throughput:
    """What a pipeline does."""

    first_ns: float
    """time until the first image is finished, ns"""
    period_ns: float
    """time between images in the steady state, ns"""
    slowest: str
    """stage that decides it"""

    @property
    def images_per_second(self) -> float:
        """Rate in the steady state."""
        return 1e9 / self.period_ns


def throughput(pipeline: Sequence[Stage], passes: int, images: int = 32) -> Throughput:
    """Run images through a pipeline, event by event.

    A stage with one job an image works for all of its passes at once: those behind it start when it is done.

    Args:
        pipeline: stages in order; the jobs of each are 1 or the passes.
        passes: T.
        images: how many are run; the last one's distance to the one before is the period.

    Raises:
        ValueError: no stages, fewer than two images, or stages whose jobs are neither.
    """
    if not pipeline or images < 2:
        raise ValueError("a pipeline needs a stage, and its period two images")
    for stage in pipeline:
        if stage.jobs not in (1, passes):
            raise ValueError(f"{stage.name} runs {stage.jobs} times for {passes} passes: take execution loop or prefix")
    # when each stage is free again: its last job has moved on to the next one
    free = [0.0] * len(pipeline)
    finished: list[float] = []
    for _ in range(images):
        arrived = [0.0] * passes
        # jobs of the image, stage by stage; passes enter in their order
        for place, stage in enumerate(pipeline):
            alike = stage.jobs < passes
            left = []
            for index in range(1 if alike else passes):
                ready = max(arrived) if alike and index == 0 else arrived[index]
                start = max(ready, free[place])
                free[place] = start + stage.time_ns
                left.append(free[place])
            arrived = left * passes if alike else left
        finished.append(max(arrived))
    slowest = max(pipeline, key=lambda stage: stage.image_ns)
    return Throughput(finished[0], finished[-1] - finished[-2], slowest.name)
