"""Pipelines of layers: hand-made ones, and LeNet-5's against the sums of its stages."""

import pytest

from hardware.pipeline import Stage, stages, throughput
from lit_scaledrop.chip.energy import estimate_energy
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network


def test_two_stages_by_hand():
    """Stages of 2 and 3 ns, two passes: 2, 4 leave the first, 5, 8 the second; then an image each 6 ns."""
    found = throughput([Stage("a", 2.0, 2), Stage("b", 3.0, 2)], 2)
    assert (found.first_ns, found.period_ns, found.slowest) == (8.0, 6.0, "b")
    # a stage once for both: 4 ns, then 7 and 10; the second stage is the slowest with 6 ns
    once = throughput([Stage("a", 4.0, 1), Stage("b", 3.0, 2)], 2)
    assert (once.first_ns, once.period_ns) == (10.0, 6.0)
    # alone it is as fast as it can be
    assert throughput([Stage("a", 5.0, 1)], 1).period_ns == 5.0


@pytest.mark.parametrize("execution", ["loop", "prefix"])
def test_lenet5_runs_as_fast_as_its_slowest_stage(execution):
    net = build_network("lenet5", METHODS["proposed"], in_channels=1)
    estimate = estimate_energy(net, (1, 32, 32), execution=execution)
    report = estimate.report()
    pipeline = stages(estimate.layers, estimate.uses, report)
    # by hand: first layer 117,600 MAC on 256 units at 1 ns; convolution 100 pixels of 5 ns and 8 columns of 0.8333 ns,
    # 10 ns for its bit
    times = {stage.name: stage.time_ns for stage in pipeline}
    assert times["stem.0"] == pytest.approx(117_600 / 256)
    assert times["hidden.0.conv"] == pytest.approx(100 * (5 + 8 * 0.8333) + 10)
    assert times["hidden.3.linear"] == pytest.approx(5 + 8 * 0.8333 + 10)
    found = throughput(pipeline, 10)
    assert found.slowest == "hidden.0.conv"
    assert found.period_ns == pytest.approx(10 * times["hidden.0.conv"])
    # the first image: what stands in front, ten convolutions, and the last pass through what follows
    behind = [stage.time_ns for stage in pipeline[2:]]
    assert found.first_ns == pytest.approx(times["stem.0"] + 10 * times["hidden.0.conv"] + sum(behind))
    # passes that do not overlap are the latency of the report
    assert sum(stage.image_ns for stage in pipeline) == pytest.approx(report.latency_ns)
    assert found.first_ns < report.latency_ns
    assert found.images_per_second == pytest.approx(1e9 / found.period_ns)


def test_what_has_no_rate():
    with pytest.raises(ValueError, match="needs a stage"):
        throughput([], 10)
    with pytest.raises(ValueError, match="take execution loop or prefix"):
        throughput([Stage("a", 1.0, 3)], 10)
