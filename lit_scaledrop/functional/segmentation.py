r"""Formulas of segmentation: loss, overlap of masks per image, and detection of wrong pixels by uncertainty.

A mask holds class indices; pixels with ``ignore_index`` count nowhere. Class 0 is the background.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_scaledrop.shapes import Float, Int

IGNORE = 255
"""class index of pixels that nobody has labelled"""
PATCH = 4
"""side of the patches of PAvPU, in pixels"""

Masks = Int[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]


def dice_loss(logits: Float[Tensor, "batch classes height width"], target: Masks, smooth: float = 1.0) -> Tensor:
    r"""Soft Dice loss over the foreground classes (Milletari et al., arXiv:1606.04797), one number a batch.

    $$ 1 - \frac 1{C - 1} \sum_{c > 0} \frac{2 \sum_i p_{ic}\, g_{ic} + s}{\sum_i (p_{ic}^2 + g_{ic}) + s} $$

    with sums over all pixels of the batch, so that images without foreground need no case of their own.

    Args:
        logits: of the network.
        target: class of each pixel, or :data:`IGNORE`.
        smooth: $s$; keeps batches without foreground finite.

    >>> logits = torch.tensor([[[[-9.0, 9.0]], [[9.0, -9.0]]]])
    >>> dice_loss(logits, torch.tensor([[[1, 0]]])).item() < 1e-6
    True
    """
    classes = logits.shape[1]
    valid = (target != IGNORE)[:, None]
    probs = logits.float().softmax(1) * valid
    truth = F.one_hot(target.clamp_max(classes - 1), classes).movedim(-1, 1) * valid
    dims = (0, 2, 3)
    overlap = 2 * (probs * truth).sum(dims) + smooth
    return 1 - (overlap / (probs.square().sum(dims) + truth.sum(dims) + smooth))[1:].mean()


def image_overlap(predicted: Masks, target: Masks, classes: int) -> tuple[PerImage, PerImage]:
    r"""IoU and Dice of each image, means over the foreground classes that the prediction or the truth has.

    Where neither has any foreground the image is right: 1. Where only one has, there is no overlap: 0.

    Args:
        predicted: class of each pixel.
        target: true class of each pixel, or :data:`IGNORE`.
        classes: number of classes, the background among them.

    Raises:
        ValueError: the shapes differ, or a mask has other values than classes.

    >>> truth = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]]])
    >>> image_overlap(torch.tensor([[[0, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]), truth, classes=2)
    (tensor([0.5000, 1.0000, 0.0000]), tensor([0.6667, 1.0000, 0.0000]))
    """
    counts = _confusion(predicted, target, classes).float()
    hits = counts.diagonal(dim1=1, dim2=2)[:, 1:]
    either = (counts.sum(1) + counts.sum(2))[:, 1:]  # pixels of the prediction and of the truth
    present = either > 0
    iou = _mean_of(hits / (either - hits).clamp_min(1), present)
    return iou, _mean_of(2 * hits / either.clamp_min(1), present)


def patch_counts(
    wrong: Float[Tensor, "batch height width"],
    uncertainty: Float[Tensor, "batch height width"],
    valid: Float[Tensor, "batch height width"],
) -> Float[Tensor, "accurate certain"]:
    r"""Patches by accuracy and certainty, from which PAvPU follows (Mukhoti and Gal, arXiv:1811.12709, section 4).

    A patch of :data:`PATCH` x :data:`PATCH` pixels is accurate if at least half of them are right, and certain if their
    mean uncertainty is below a half. Patches do not overlap; a border that does not fill one is left out, and so is a
    patch without a valid pixel.

    Args:
        wrong: 1 where the predicted class is wrong.
        uncertainty: of each pixel, from 0 to 1.
        valid: 0 where a pixel counts nowhere.

    Returns:
        Counts ``[[inaccurate uncertain, inaccurate certain], [accurate uncertain, accurate certain]]``.

    >>> one = torch.ones(1, 4, 8)
    >>> wrong = torch.cat([one[..., :4], 0 * one[..., :4]], -1)
    >>> patch_counts(wrong, wrong, one)
    tensor([[1., 0.],
            [0., 1.]])
    """
    if min(valid.shape[1:]) < PATCH:
        return torch.zeros(2, 2).to(valid)
    pixels = F.avg_pool2d(valid, PATCH)
    used = pixels > 0
    share = F.avg_pool2d(wrong * valid, PATCH)[used] / pixels[used]
    mean = F.avg_pool2d(uncertainty * valid, PATCH)[used] / pixels[used]
    cell = 2 * (share <= 0.5).long() + (mean < 0.5).long()
    return torch.bincount(cell, minlength=4).view(2, 2).to(valid)


def pavpu(counts: Float[Tensor, "accurate certain"]) -> dict[str, Tensor]:
    """What :func:`patch_counts` says: accurate if certain, uncertain if inaccurate, and the share of either (PAvPU).

    NaN where nothing is certain, or nothing inaccurate.

    >>> {name: round(value.item(), 3) for name, value in pavpu(torch.tensor([[3.0, 1.0], [2.0, 4.0]])).items()}
    {'pavpu': 0.7, 'accurate_if_certain': 0.8, 'uncertain_if_inaccurate': 0.75}
    """
    return {
        "pavpu": (counts[0, 0] + counts[1, 1]) / counts.sum(),
        "accurate_if_certain": counts[1, 1] / counts[:, 1].sum(),
        "uncertain_if_inaccurate": counts[0, 0] / counts[0].sum(),
    }


def mean_mask_iou(train: Masks, test: Int[Tensor, "images height width"]) -> float:
    """IoU, over all pixels, of one and the same mask for every test image: what knows only where lesions tend to be.

    The mask is where lesions cover at least a share t of the training images, with the t of 0.05, 0.1, ... 0.95 whose
    mask has the largest IoU with the training masks.

    Args:
        train: training masks; every class but 0 counts as lesion.
        test: test masks.

    >>> train = torch.tensor([[[1, 0]], [[1, 1]], [[1, 0]]])
    >>> round(mean_mask_iou(train, torch.tensor([[[1, 1]], [[1, 0]]])), 3)
    0.667
    """
    share = ((train > 0) & (train != IGNORE)).double().mean(0)
    fixed = share >= torch.arange(1, 20, device=train.device)[:, None, None] / 20

    def iou(mask: Tensor, truth: Tensor) -> Tensor:
        lesion, counted = (truth > 0) & (truth != IGNORE), truth != IGNORE
        both, either = (mask & lesion).sum(), ((mask & counted) | lesion).sum()
        return both / either.clamp_min(1)

    best = max(fixed, key=lambda mask: iou(mask, train).item())
    return iou(best, test).item()


def _confusion(predicted: Masks, target: Masks, classes: int) -> Int[Tensor, "batch truth predicted"]:
    if predicted.shape != target.shape:
        raise ValueError(f"masks differ in shape: {tuple(predicted.shape)} predicted, {tuple(target.shape)} true")
    valid = target != IGNORE
    for name, mask in (("predicted", predicted[valid]), ("true", target[valid])):
        if mask.numel() and not 0 <= int(mask.min()) <= int(mask.max()) < classes:
            raise ValueError(
                f"{name} masks must have classes 0 to {classes - 1} (or {IGNORE} for pixels without a label), "
                f"got {int(mask.min())} to {int(mask.max())}"
            )
    image = torch.arange(len(target), device=target.device)[:, None, None].expand_as(target)
    cells = (image * classes + target) * classes + predicted
    return torch.bincount(cells[valid], minlength=len(target) * classes**2).view(-1, classes, classes)


def _mean_of(values: Float[Tensor, "batch foreground"], present: Tensor) -> PerImage:
    """Mean over what is present; 1 where nothing is."""
    count = present.sum(1)
    return torch.where(count > 0, (values * present).sum(1) / count.clamp_min(1), torch.ones_like(values[:, 0]))
