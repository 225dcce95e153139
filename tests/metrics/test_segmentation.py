"""Metrics of segmentation against scikit-learn and against loops over pixels, on random, empty and full masks."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional as F

from lit_scaledrop.functional.segmentation import IGNORE, dice_loss, image_overlap, patch_counts
from lit_scaledrop.metrics.segmentation import SegmentationMetrics
from lit_scaledrop.posterior.predictive import Predictive

SHAPE = (3, 8, 12)


def prediction(seed=0, classes=2, samples=4, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return Predictive(2 * torch.randn(samples, math.prod(shape), classes, generator=generator))


def masks(kind, classes=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    full = {"empty": torch.zeros(SHAPE), "full": torch.ones(SHAPE)}
    return full[kind].long() if kind in full else torch.randint(0, classes, SHAPE, generator=generator)


def values(predictive, target, classes=2):
    metrics = SegmentationMetrics(classes)
    metrics.update(predictive, target)
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("kind", ["random", "empty", "full"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # torchmetrics: no positive samples
def test_binary_metrics_are_scikit_learns(kind):
    predictive, target = prediction(), masks(kind)
    ours = values(predictive, target)
    truth, guess = target.flatten().numpy(), predictive.predicted_class.numpy()
    expected = {
        "seg/acc": sk.accuracy_score(truth, guess),
        "seg/iou": sk.jaccard_score(truth, guess, zero_division=0),
        "seg/f1": sk.f1_score(truth, guess, zero_division=0),
        "seg/sensitivity": sk.recall_score(truth, guess, zero_division=0),
        "seg/specificity": sk.recall_score(truth, guess, pos_label=0, zero_division=0),
        "seg/precision": sk.precision_score(truth, guess, zero_division=0),
        "err/auroc": sk.roc_auc_score(truth != guess, predictive.predictive_entropy.numpy()),
        "seg/nll": sk.log_loss(truth, predictive.mean.double().numpy(), labels=[0, 1]),
    }
    if kind == "random":
        expected["seg/auc"] = sk.roc_auc_score(truth, predictive.mean[:, 1].numpy())
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-5), name


def test_several_classes_are_means_over_classes():
    predictive, target = prediction(classes=3), masks("random", 3)
    ours = values(predictive, target, 3)
    truth, guess = target.flatten().numpy(), predictive.predicted_class.numpy()
    assert ours["seg/acc"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert ours["seg/iou"] == pytest.approx(sk.jaccard_score(truth, guess, average="macro"))
    assert ours["seg/f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    auc = sk.roc_auc_score(truth, predictive.mean.double().numpy(), average="macro", multi_class="ovr")
    assert ours["seg/auc"] == pytest.approx(auc, abs=1e-5)


def test_images_one_by_one():
    predictive, target = prediction(classes=3), masks("random", 3)
    target[1] = 0
    guess = predictive.predicted_class.view(SHAPE)
    guess[1] = 0
    ious, dices = [], []
    for truth, image in zip(target.flatten(1).numpy(), guess.flatten(1).numpy(), strict=True):
        classes = sorted((set(truth) | set(image)) - {0})
        ious.append(np.mean([sk.jaccard_score(truth == c, image == c) for c in classes]) if classes else 1.0)
        dices.append(np.mean([sk.f1_score(truth == c, image == c) for c in classes]) if classes else 1.0)
    iou, dice = image_overlap(guess, target, 3)
    assert iou.tolist() == pytest.approx(ious)
    assert dice.tolist() == pytest.approx(dices)


def test_ignored_pixels_count_nowhere():
    predictive, target = prediction(), masks("random")
    unlabelled = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5)) < 0.3
    unlabelled[:, :4, :4] = True  # a patch without any pixel
    marked = torch.where(unlabelled, IGNORE, target)
    changed = Predictive(torch.where(unlabelled.flatten()[:, None], 9 - predictive.logits, predictive.logits))
    assert values(predictive, marked) == pytest.approx(values(changed, marked))
    kept = ~unlabelled.flatten().numpy()
    truth, guess = target.flatten().numpy()[kept], predictive.predicted_class.numpy()[kept]
    assert values(predictive, marked)["seg/iou"] == pytest.approx(sk.jaccard_score(truth, guess))


def test_batches_add_up():
    predictive, target = prediction(), masks("random")
    metrics = SegmentationMetrics(2)
    pixels = target[0].numel()
    for image in range(len(target)):
        rows = slice(image * pixels, (image + 1) * pixels)
        metrics.update(Predictive(predictive.logits[:, rows]), target[image : image + 1])
    together = {name: float(value) for name, value in metrics.compute().items()}
    assert together == pytest.approx(values(predictive, target), rel=1e-5)
    metrics.reset()
    metrics.update(predictive, target)
    assert {n: float(v) for n, v in metrics.compute().items()} == pytest.approx(values(predictive, target))


def test_patches_one_by_one():
    generator = torch.Generator().manual_seed(0)
    wrong = (torch.rand(2, 9, 8, generator=generator) < 0.5).double()
    uncertainty = torch.rand(2, 9, 8, generator=generator).double()
    expected = torch.zeros(2, 2)
    for image in range(2):
        for row in (0, 4):  # the ninth line fills no patch
            for column in (0, 4):
                where = (image, slice(row, row + 4), slice(column, column + 4))
                accurate = (1 - wrong[where]).mean() >= 0.5
                expected[int(accurate), int(uncertainty[where].mean() < 0.5)] += 1
    assert patch_counts(wrong, uncertainty, torch.ones_like(wrong)).tolist() == expected.tolist()


def test_dice_loss_is_the_formula_and_learns():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float32, requires_grad=True)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = IGNORE
    keep = (target != IGNORE).flatten()
    probs = logits.softmax(1).movedim(1, -1).flatten(0, 2)[keep]
    truth = F.one_hot(target.flatten()[keep], 3)
    terms = [
        (2 * (probs[:, c] * truth[:, c]).sum() + 1) / (probs[:, c].square().sum() + truth[:, c].sum() + 1)
        for c in (1, 2)
    ]
    loss = dice_loss(logits, target)
    assert loss.item() == pytest.approx(1 - sum(terms).item() / 2, abs=1e-6)
    loss.backward()
    assert logits.grad[:, :, 1:].abs().sum() > 0
    assert logits.grad[0, :, 0].abs().sum() == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3, 8, 11, dtype=torch.long), "need predictions for 264 pixels"),
        (torch.full(SHAPE, 2), "classes 0 to 1"),
    ],
)
def test_masks_that_do_not_fit(target, message):
    with pytest.raises(ValueError, match=message):
        values(prediction(), target)
