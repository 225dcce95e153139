"""The rows of the paper's Table III and additional ones: :data:`METHODS`, from a name to a :class:`Method`.

A new method is one entry here and at most one layer class. Each layer documents its method and simplifications. Common
to all:

- First and last layer are in full precision; convolution, (scale), (pooling), BatchNorm, activation is the order of a
  block, in which BatchNorm removes a constant scale. So what XNOR-Net, DoReFa-Net, LAB and DSQ differ in is how signs
  come about in training. XNOR-Net's own order (BatchNorm, sign, convolution, pooling) is the same sequence from sign to
  sign, except for the first block.
- XNOR-Net's map K, the mean magnitude of the inputs under each kernel, is left out, as its authors do for speed and as
  CIFAR-10 networks commonly do: it would be a real-valued scale for each output pixel, which no crossbar computes.
- DoReFa-Net keeps 32-bit gradients (1W/1A/32G); its two activation states are 0 and 1, so its nonlinearity is a clip
  to [0, 1].
- RAD is BNN with the distribution loss at weight 2 throughout the training (the authors end it a tenth before the
  end). The values in front of the classifier, which no sign binarizes, are included.
- SpinDrop, Spatial-SpinDrop and SpinBayes stand on IR-Net's binarization, as Proposed does. MC-Dropout (IR-Net) is not
in the paper, whose MC-Dropout has full precision and no layer for a crossbar.
- *Open skip* rows are not in the paper: no Hardtanh on the skip path, so that skips add up to the classifier,
  Bi-Real Net's gradient for the signs of activations, average pooling in the shortcuts; no parameter more. Without
  skips (VGG-small, LeNet-5) the forward pass is Proposed's. *Affine* rows drop a bias together with the scale, behind
  BatchNorm (after arXiv:2401.12416), still by one bit a layer.
- Tiny-Deep Ensemble stands on IR-Net's binarization as well: four sets of BatchNorm on one set of weights, no random
  bit (``layers/ensemble_norm.py`` has our assumptions).
- Members of a deep ensemble are ordinary runs of ``member`` with seeds of their own; see ``runs/ensemble.py``.
"""

from dataclasses import replace
from functools import partial

from lit_scaledrop.layers.scale_dropout import ScaleOptions
from lit_scaledrop.methods.method import Method
from lit_scaledrop.naming import lookup

_IRNET = "Qin et al., CVPR 2020 (arXiv:1909.10788)"
_GAL = "Gal & Ghahramani, ICML 2016 (arXiv:1506.02142)"
_RECU = "Xu et al., ICCV 2021 (arXiv:2103.12369)"
_SCALE = "Ahmed et al., Scale-Dropout (arXiv:2311.15816)"
_INVERTED = "after Ahmed et al., inverted normalization with affine dropout (arXiv:2401.12416)"
_AFFINE = ScaleOptions(placement="after_norm", bias=True, start=(0.3, 0.6))
_TINY = "Ahmed, Hefenbrock & Tahoori, 2024 (arXiv:2405.05286)"
_ENSEMBLE = "Lakshminarayanan et al., NeurIPS 2017 (arXiv:1612.01474)"

_binary = partial(Method, bits_w=1, bits_a=1)
_irnet = partial(_binary, estimator="ede", weight_scale="power_of_two")
_spindrop = partial(_irnet, input_dropout=0.1)
_open = partial(_binary, estimator="ede_poly", open_skip=True, shortcut="pool")

METHODS: dict[str, Method] = {
    "fp": Method("FP", "full-precision reference of the IR-Net paper (arXiv:1909.10788)", activation="relu"),
    "bnn": _binary("BNN", "Courbariaux, Hubara et al., NeurIPS 2016 (arXiv:1602.02830)", estimator="bnn"),
    "xnor": _binary("XNOR", "Rastegari et al., ECCV 2016 (arXiv:1603.05279)", estimator="xnor"),
    "dorefa": _binary("DoReFa", "Zhou et al., 2016 (arXiv:1606.06160)", estimator="dorefa", activation="unit"),
    "lab": _binary("LAB", "Hou, Yao & Kwok, ICLR 2017 (arXiv:1611.01600)", estimator="lab"),
    "dsq": _binary("DSQ", "Gong et al., ICCV 2019 (arXiv:1908.05033)", estimator="dsq"),
    "rad": _binary("RAD", "Ding et al., CVPR 2019 (arXiv:1904.02823)", estimator="bnn", distribution_loss=2.0),
    "irnet": _irnet("IR-Net", _IRNET),
    "recu": _binary("ReCU", _RECU, estimator="recu", shortcut="pool"),
    "mc_dropout_htanh": Method("MC-Dropout (HTanh)", _GAL, activation="hardtanh", feature_dropout=0.5),
    "mc_dropout_relu": Method("MC-Dropout (ReLU)", _GAL, activation="relu", feature_dropout=0.5),
    "mc_dropconnect": Method(
        "MC-DropConnect", "Mobiny et al., 2019 (arXiv:1906.04569)", activation="relu", weight_dropout=0.5
    ),
    "mc_dropout_irnet": _irnet("MC-Dropout (IR-Net)", _GAL, feature_dropout=0.5),
    "spindrop": _spindrop("SpinDrop", "Ahmed et al., IEEE JETCAS 13(1), 2023", input_dropout_per="neuron"),
    "spatial_spindrop": _spindrop(
        "Spatial-SpinDrop", "Ahmed et al., 2023 (arXiv:2306.10185)", input_dropout_per="feature_map"
    ),
    "spinbayes": _binary("SpinBayes", "Ahmed et al., ACM TECS, 2023", estimator="ede", arrays=4, divergence=1e-2),
    "tiny_deep_ensemble": _irnet("Tiny-Deep Ensemble", _TINY, norm_sets=4),
    "proposed": _binary("Proposed", _SCALE, estimator="ede", scale=ScaleOptions()),
    "proposed_open": _open("Proposed, open skip", _SCALE, scale=ScaleOptions()),
    "proposed_affine": _binary("Proposed, affine", _INVERTED, estimator="ede", scale=_AFFINE),
    "proposed_affine_open": _open("Proposed, affine, open skip", _INVERTED, scale=_AFFINE),
    "proposed_recu": _binary(
        "Proposed + ReCU",
        "Scale-Dropout (arXiv:2311.15816) on ReCU (arXiv:2103.12369)",
        estimator="recu",
        shortcut="pool",
        scale=ScaleOptions(),
    ),
}
METHODS["deep_ensemble"] = replace(METHODS["fp"], label="Deep Ensemble", reference=_ENSEMBLE, members=5, member="fp")
METHODS["deep_ensemble_irnet"] = replace(
    METHODS["irnet"], label="Deep Ensemble (IR-Net)", reference=_ENSEMBLE, members=5, member="irnet"
)


def get_method(name: str) -> Method:
    """Look a method up by its key in :data:`METHODS`.

    Raises:
        ValueError: for an unknown name, with the nearest match.
    """
    return METHODS[lookup("method", name, METHODS)]
