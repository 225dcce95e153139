"""Metrics that keep all scores: batching, compute groups, empty sets; all metrics over two processes."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torchmetrics import MetricCollection

from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.metrics.ood import OODDetection, ood_metrics
from lit_scaledrop.metrics.selective import SelectivePrediction, selective_metrics
from lit_scaledrop.posterior.predictive import Predictive

THRESHOLD = 0.5


def data(batch=61, samples=4, classes=5):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (batch,), generator=generator)
    logits = (8 * torch.randn(samples, batch, classes, generator=generator)).round() / 8  # some equal scores
    logits += 2 * torch.nn.functional.one_hot(target, classes)
    return logits, target, torch.rand(batch, generator=generator) < 0.4


def metrics_of(logits, target, outside, chunks):
    detection, selection = OODDetection(threshold=THRESHOLD), SelectivePrediction(threshold=THRESHOLD)
    parts = zip(logits.split(chunks, 1), target.split(chunks), outside.split(chunks), strict=True)
    for part, labels, marks in parts:
        detection.update(Predictive(part), marks)
        selection.update(Predictive(part), labels)
    values = detection.compute() | selection.compute()
    return {name: value.item() for name, value in values.items()}


def expected(logits, target, outside):
    inner, outer = Predictive(logits[:, ~outside]), Predictive(logits[:, outside])
    detection = ood_metrics(inner, outer, threshold=THRESHOLD)
    return detection | selective_metrics(Predictive(logits), target, threshold=THRESHOLD)


@pytest.mark.parametrize("chunks", [61, [1, 60], [20, 0, 41]])
def test_batches_equal_the_formulas_on_all(chunks):
    case = data()
    assert metrics_of(*case, chunks) == pytest.approx(expected(*case), rel=1e-12)


def test_forward_reset_and_dtype():
    logits, target, _ = data()
    metric = SelectivePrediction(threshold=THRESHOLD)
    metric(Predictive(logits), target)
    metric.reset()
    metric.half()  # scores stay what they are
    metric.update(Predictive(logits[:, :9]), target[:9])
    wanted = selective_metrics(Predictive(logits[:, :9]), target[:9], threshold=THRESHOLD)
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(wanted)


def test_compute_groups_do_not_merge_other_quantiles():
    sure = Predictive(torch.full((3, 4, 2), 0.0))
    logits, _, outside = data()
    pair = MetricCollection({"a": OODDetection(quantile=0.1), "b": OODDetection(quantile=0.9)}, prefix="x/")
    pair.update(sure, torch.tensor([True, False, True, False]))
    pair.update(Predictive(logits), outside)
    key = "ood/auroc/quantile_confidence"
    assert pair["a"].compute()[key] != pair["b"].compute()[key]


def test_empty_sets_are_a_clear_error():
    logits, _, outside = data()
    metric = OODDetection()
    metric.update(Predictive(logits), torch.zeros_like(outside))
    with pytest.raises(ValueError, match="no out-of-distribution inputs"):
        metric.compute()
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(ValueError, match="there are no inputs"),
    ):
        SelectivePrediction().compute()
    with pytest.raises(ValueError, match="2 marks for a prediction of 61"):
        metric.update(Predictive(logits), outside[:2])


def sums_of(logits, target, chunks):
    metrics = classification_metrics(5, threshold=THRESHOLD)
    for part, labels in zip(logits.split(chunks, 1), target.split(chunks), strict=True):
        metrics.update(Predictive(part), labels)
    return {f"sums of {name}": value.item() for name, value in metrics.compute().items()}


def _rank(rank, rendezvous, shards, results):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    for case, bounds in enumerate(shards):
        logits, target, outside = data()
        shard = slice(*bounds[rank])
        logits, target, outside = logits[:, shard], target[shard], outside[shard]
        if len(target):
            values = metrics_of(logits, target, outside, 20)
        else:  # never updated
            detection, selection = OODDetection(threshold=THRESHOLD), SelectivePrediction(threshold=THRESHOLD)
            detection._update_count = selection._update_count = 1  # no warning
            values = {k: v.item() for k, v in (detection.compute() | selection.compute()).items()}
        results[case, rank] = values | sums_of(logits, target, 20)
    dist.destroy_process_group()


def test_two_processes_with_uneven_shards_equal_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # where the children find this module
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shards = [[(0, 25), (25, 61)], [(0, 61), (61, 61)]]  # the last leaves one process without examples
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (str(tmp_path / "rendezvous"), shards, results), nprocs=2)
        found = dict(results)
    logits, target, outside = data()
    # sums of the same batches on one process: float32 formulas round differently in batches of another size
    for case, chunks in enumerate([[20, 5, 20, 16], 20]):
        wanted = expected(logits, target, outside) | sums_of(logits, target, chunks)
        for rank in range(2):
            assert found[case, rank] == pytest.approx(wanted, rel=1e-12)


def test_metrics_draw_themselves_as_those_of_torchmetrics_do():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    logits, target, outside = data()
    collection = classification_metrics(num_classes=5)
    collection.update(Predictive(logits), target)
    for name, metric in collection.items():
        figure, axes = metric.plot()
        assert len(axes.lines) == 1, name
        assert axes.lines[0].get_ydata()[0] == pytest.approx(metric.compute().item()), name
        pyplot.close(figure)
    detection = OODDetection(threshold=THRESHOLD)
    detection.update(Predictive(logits), outside)
    figure, axes = detection.plot([detection.compute()] * 3)
    assert len(axes.lines) >= len(detection.compute())
    pyplot.close(figure)
