"""Names and descriptions of metrics, suites, networks, data sets and components. Loads without torch."""

from typing import NamedTuple


class MetricEntry(NamedTuple):
    """One row of the glossary."""

    description: str
    """One sentence, with unit and range."""
    higher_is_better: bool | None
    """``None`` where it depends on the data: a high entropy is right on noise and wrong on clean images."""
    unit: str = ""
    """``"1"`` for a share between 0 and 1, or ``"nats"``; empty where it is not said."""
    title: str = ""
    """Short name, for columns and axes."""
    digits: int = 3
    """Behind the point, where it is not shown in per cent."""

    def heading(self, before: str = "") -> str:
        """Title with its unit, for an axis, e.g. ``Test accuracy (%)``."""
        title = f"{before} {self.title}" if before else self.title[:1].upper() + self.title[1:]
        unit = "%" if self.factor == 100 else self.unit.strip("1")
        return f"{title} ({unit})" if unit else title

    @property
    def factor(self) -> int:
        """What a value is multiplied with to be drawn: shares are in per cent, but for calibration errors."""
        return 100 if self.unit == "1" and self.title != "ECE" else 1


SWEEP_FILES = (
    "table3", "table4", "table5", "table6", "table7", "table8", "table9", "table10", "figure5", "figure6", "figure7",
    "posterior", "reliability", "threshold", "hardware", "temperature", "ageing", "pareto",
    "ablation-drop-value",
    "ablation-dropout-rate", "ablation-passes", "ablation-placement", "ablation-recipe", "ablation-sigma",
    "search-proposed", "search-uncertainty",
)  # fmt: skip
"""Studies that a file in `sweeps/` makes, by their names; the runs of others have commands of their own."""
SCORES = {
    "max_probability": "the largest mean probability",
    "predictive_entropy": "predictive entropy",
    "mutual_information": "mutual information",
    "variance": "the variance of the probabilities",
    "quantile_confidence": "the quantile rule's confidence",
    "logit_variance": "the variance of the logits over the passes",
    "disagreement": "the share of passes that do not predict the majority class",
    "energy": "the energy score of the mean logits",
    "max_logit": "the largest mean logit",
}
"""Scores of OOD detection by name; results made before the last four came lack them."""
DETECTION = {
    "auroc": ("OOD detection by {}: area under the ROC curve, 0.5 for chance, to 1.", True),
    "aupr": ("OOD detection by {}: average precision, OOD positive, 0 to 1.", True),
    "fpr95": ("Share of in-distribution inputs flagged where {} flags 95 % of OOD inputs.", False),
}
COMPONENTS = {
    "input_fetch": "fetching input bits",
    "word_lines": "word lines",
    "crossbar": "the crossbars' cells",
    "adc": "analog-to-digital converters",
    "adder": "adding the partial sums of crossbars",
    "digital_mac": "multiply-accumulates of layers that are not binary",
    "weight_memory": "reading the weights of layers that are not binary",
    "scale_memory": "reading scales",
    "threshold_memory": "reading thresholds of kept and dropped scales",
    "affine_memory": "reading scales and offsets in front of skips and real layers",
    "multiplexer": "selecting between kept and dropped scale",
    "scale_multiplier": "multiplying by scales",
    "bias_adder": "adding the biases of affine scales",
    "affine_multiplier": "scale and BatchNorm in front of skips and real layers",
    "affine_adder": "adding their offsets",
    "skip_adder": "adding skips",
    "skip_buffer": "keeping skips",
    "feature_buffer": "storing concatenated features and max-pooling indices",
    "comparator": "comparing with thresholds",
    "dropout_module": "random bits of the dropout modules",
    "prefix_buffer": "storing activations that passes share",
    "averaging": "the mean over the passes",
}

TRAINING: dict[str, MetricEntry] = {
    "loss/total": MetricEntry("Objective, the sum of all weighted terms, epoch mean.", False),
    "loss/task": MetricEntry("Task loss (like the following terms without its weight), epoch mean, nats.", False),
    "loss/scale": MetricEntry("Regularizer of the scales, epoch mean.", False),
    "loss/weight": MetricEntry("Regularizer of the proxy weights, epoch mean.", False),
    "loss/distribution": MetricEntry("Additional loss of RAD, epoch mean.", False),
    "loss/divergence": MetricEntry("Additional loss of SpinBayes, epoch mean, nats.", False),
    "loss/clip": MetricEntry("Additional loss of PACT, the sum of its squared clipping levels, epoch mean.", False),
    "val/acc": MetricEntry(
        "Accuracy of the deterministic network on the validation split, used to select the checkpoint, 0 to 1.", True
    ),
    "val/nll": MetricEntry("Negative log-likelihood of the deterministic network on that split, nats.", False),
    "val/iou": MetricEntry(
        "IoU of the deterministic segmentation network on the validation split, used to select the checkpoint, 0 to 1.",
        True,
    ),
    "val/loss": MetricEntry("Task loss of the deterministic segmentation network on that split.", False),
    "grad/alpha_data": MetricEntry(
        "L2 norm of the task loss's gradient with respect to all scales (callback `ScaleGradient`), epoch mean.", None
    ),
}
"""What a training logs, epoch by epoch."""

METRICS: dict[str, MetricEntry] = (
    {
        "cls/acc": MetricEntry(
            "Accuracy: share of examples whose most probable class is correct, 0 to 1.", True, "1", "accuracy"
        ),
        "cls/nll": MetricEntry(
            "Negative log-likelihood of the correct class under the mean prediction, nats.", False, "nats", "NLL"
        ),
        "cls/brier": MetricEntry(
            "Brier score: squared distance of the mean prediction to the one-hot target, 0 to 2.", False
        ),
        "cal/ece": MetricEntry(
            "Expected calibration error of the top class, 15 equal-width bins, 0 to 1.", False, "1", "ECE"
        ),
        "unc/predictive_entropy": MetricEntry(
            "Entropy of the mean prediction: total uncertainty, nats.", None, "nats", "predictive entropy"
        ),
        "unc/expected_entropy": MetricEntry(
            "Mean entropy of the passes: uncertainty within a single pass, nats.", None, "nats"
        ),
        "unc/mutual_information": MetricEntry(
            "Mutual information, predictive minus expected entropy: disagreement between passes, nats.",
            None,
            "nats",
            "mutual information",
            4,
        ),
        "unc/layer_moved": MetricEntry(
            "Relative change of a layer's output when its scale is dropped, on validation images.", None
        ),
        "unc/layer_flipped": MetricEntry(
            "Share of the next signs that flip when a layer's scale is dropped, 0 to 1.", None, "1"
        ),
        "unc/layer_information": MetricEntry(
            "Mutual information when only one layer is random, all others as in evaluation, nats.",
            None,
            "nats",
            digits=5,
        ),
        "ood/rate": MetricEntry(
            "Share of inputs that the OOD rule (eq. 26, a quantile over the passes) calls out of distribution, 0 to 1.",
            None,
            "1",
            "called OOD",
        ),
        "seg/acc": MetricEntry("Share of pixels whose most probable class is correct, 0 to 1.", True, "1", "accuracy"),
        "seg/iou": MetricEntry("Intersection over union of the lesion over all pixels, 0 to 1.", True, "1", "IoU"),
        "seg/auc": MetricEntry(
            "Area under the ROC curve of the lesion's probability over all pixels, 0 to 1.", True, "1", "AUC"
        ),
        "seg/f1": MetricEntry("F1 (Dice) of the lesion over all pixels, 0 to 1.", True, "1", "F1"),
        "seg/sensitivity": MetricEntry(
            "Share of the lesion's pixels that are found, 0 to 1.", True, "1", "sensitivity"
        ),
        "seg/specificity": MetricEntry(
            "Share of the other pixels that are not predicted as lesion, 0 to 1.", True, "1", "specificity"
        ),
        "seg/precision": MetricEntry("Share of the predicted pixels that are lesion, 0 to 1.", True, "1", "precision"),
        "seg/nll": MetricEntry(
            "Negative log-likelihood of a pixel's class under the mean prediction, nats.", False, "nats"
        ),
        "seg/image_iou": MetricEntry(
            "Intersection over union, mean of images; 1 where both masks are empty.", True, "1", "IoU, mean of images"
        ),
        "seg/image_dice": MetricEntry(
            "Dice, mean of images; 1 where both masks are empty.", True, "1", "Dice, mean of images"
        ),
        "seg/mean_mask_iou": MetricEntry(
            "Intersection over union of the mean training mask, a baseline, 0 to 1.",
            None,
            "1",
            "IoU of the mean training mask",
        ),
        "err/auroc": MetricEntry(
            "Detection of wrong pixels by predictive entropy: area under the ROC curve.",
            True,
            "1",
            "AUROC of wrong pixels",
        ),
        "err/pavpu": MetricEntry(
            "Share of 4 x 4 patches that are accurate and certain, or neither, 0 to 1.", True, "1", "PAvPU"
        ),
        "err/accurate_if_certain": MetricEntry("Share of the certain patches that are accurate, 0 to 1.", True, "1"),
        "err/uncertain_if_inaccurate": MetricEntry(
            "Share of the inaccurate patches that are uncertain, 0 to 1.", True, "1"
        ),
        "cls/error": MetricEntry("Share of examples whose most probable class is wrong, 0 to 1.", False, "1", "error"),
        "cal/adaptive_ece": MetricEntry(
            "Calibration error of the top class, 15 bins of equally many examples, 0 to 1.", False, "1"
        ),
        "cal/temperature": MetricEntry(
            "Temperature by which the logits of each pass are divided, fitted on the validation split.", None
        ),
        "sel/threshold": MetricEntry(
            "Threshold of the OOD rule that accepts 95 % of the validation split, 0 to 1.", None, "1"
        ),
        "sel/accept": MetricEntry("Share of inputs that the OOD rule accepts, 0 to 1.", None, "1"),
        "sel/reject": MetricEntry("Share of inputs that the OOD rule rejects, 0 to 1.", None, "1"),
        "sel/tpr": MetricEntry("Share of correct predictions that the rule accepts, 0 to 1.", True, "1"),
        "sel/tnr": MetricEntry("Share of wrong predictions that the rule rejects, 0 to 1.", True, "1"),
        "sel/ar": MetricEntry("Share of accepted predictions that are correct, 0 to 1.", True, "1"),
        "sel/aurc": MetricEntry(
            "Area under the risk-coverage curve, inputs ordered by confidence, 0 to 1.", False, "1"
        ),
        "sel/coverage_at_risk_5": MetricEntry(
            "Largest share of the most confident inputs with an error of at most 5 %, 0 to 1.", True, "1"
        ),
        "hw/same_logits": MetricEntry(
            "Share of inputs whose logits on a chip equal the digital network's, 0 to 1.", True, "1"
        ),
        "hw/same_class": MetricEntry(
            "Share of inputs whose class on a chip equals the digital network's, 0 to 1.", True, "1"
        ),
        "hw/p_shift": MetricEntry(
            "Mean absolute difference between actual and nominal drop probabilities, 0 to 1.", None, "1"
        ),
        "hw/p_min": MetricEntry("Smallest actual drop probability, 0 to 1.", None, "1"),
        "hw/p_max": MetricEntry("Largest actual drop probability, 0 to 1.", None, "1"),
    }
    | {
        f"ood/{key}/{score}": MetricEntry(text.format(name), better, "1")
        for key, (text, better) in DETECTION.items()
        for score, name in SCORES.items()
    }
    | {
        "val/predictive_acc": MetricEntry(
            "Accuracy of the mean prediction on the validation split, 0 to 1.", True, "1"
        ),
        "val/predictive_nll": MetricEntry("NLL of the mean prediction on the validation split, nats.", False, "nats"),
        "val/predictive_ece": MetricEntry("ECE of the mean prediction on the validation split, 0 to 1.", False, "1"),
        "val/mutual_information": MetricEntry("Mutual information on the validation split, nats.", None, "nats", "", 4),
    }
    | {
        f"val/auroc/{score}": MetricEntry(
            f"Detection of outliers made of validation images by {name}: area under the ROC curve, 0 to 1.", True, "1"
        )
        for score, name in SCORES.items()
    }
    | {
        "hw/energy_nj": MetricEntry(
            "Energy per image on the modelled chip, all T passes (callback `CrossbarEnergy`), nJ.", False
        ),
        "hw/latency_us": MetricEntry("Latency per image on the modelled chip, all T passes, us.", False),
        "hw/area_mm2": MetricEntry("Area of the modelled chip, mm2.", False),
    }
    | {
        f"hw/energy_nj/{key}": MetricEntry(f"Energy per image for {text}, nJ.", False)
        for key, text in COMPONENTS.items()
    }
)


TOPOLOGIES = {
    "resnet18": "ResNet-18", "resnet20": "ResNet-20", "vgg_small": "VGG-small", "lenet5": "LeNet-5",
    "unet": "U-Net", "unet_smp": "U-Net (ResNet-18 encoder)", "segnet": "Bayesian SegNet",
}  # fmt: skip
"""The paper's name of a network by its key, in the paper's order."""

DATA_NAMES = {
    "cifar10": "CIFAR-10", "mnist": "MNIST",
    "skin_lesion": "Skin Cancer", "breast_ultrasound": "Breast Cancer", "covid_ct": "COVID-19 Lung CT",
}  # fmt: skip
"""The paper's name of a data set by ours."""

SUITES = {
    "clean": "test images", "gaussian": "Gaussian", "uniform": "uniform", "test_gaussian": "test + Gaussian",
    "test_uniform": "test + uniform", "svhn": "SVHN", "stl10": "STL-10", "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet", "mnist": "MNIST", "textures": "Textures", "places365": "Places365",
}  # fmt: skip
"""Short names of what a network is shown, in the order of tables."""

SUITE_KINDS = {
    "near": ("cifar100", "tiny_imagenet"),
    "far": ("mnist", "svhn", "textures", "places365"),
    "noise": ("gaussian", "uniform", "test_gaussian", "test_uniform"),
}
"""Suites whose detection is averaged: near and far as OpenOOD v1.5 has them for CIFAR-10 (arXiv 2306.09301), and the
paper's noise, which OpenOOD has not. STL-10, whose classes are mostly CIFAR-10's, is in none."""
