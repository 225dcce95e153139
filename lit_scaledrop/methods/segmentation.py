"""The rows of the paper's Table V: :data:`SEGMENTATION_METHODS`, from a name to a :class:`Method`.

What holds for all of them, in addition to ``classification.py``:

- Binary rows have 1-bit weights and 4-bit activations (1/4). The weights are IR-Net's, channel-wise normalized signs
  with EDE's gradient, without its power-of-two scale: that is one for nearly every channel, and BatchNorm removes it.
  The inputs of a binary convolution are what PACT makes of them, unsigned codes from 0 to 15; no sign acts on them.
- The weight of PACT's term on the clips is that of the term on the weights (``lambda_weight``), as its authors advise.
- MC-Dropout drops single activations behind the central blocks with p = 0.5, where Bayesian SegNet has them; networks
  say which blocks these are. The paper's own places are not in our copy of it.
- SpinDrop and Spatial-SpinDrop drop inputs of every binary convolution, p = 0.1, with a bit for each neuron or feature
  map.
"""

from dataclasses import replace

from lit_scaledrop.layers.scale_dropout import ScaleOptions
from lit_scaledrop.methods.method import Method
from lit_scaledrop.naming import lookup

_PACT = Method(
    "PACT", "Choi et al., 2018 (arXiv:1805.06085), weights as in IR-Net (arXiv:1909.10788)", 1, 4,
    estimator="ede_weights", activation="pact", clip_decay=5e-5,
)  # fmt: skip

SEGMENTATION_METHODS: dict[str, Method] = {
    "fp": Method("FP", "U-Net (arXiv:1505.04597), SegNet (arXiv:1511.00561)", activation="relu"),
    "mc_dropout": Method(
        "MC-Dropout", "Kendall et al., BMVC 2017 (arXiv:1511.02680)", activation="relu", block_dropout=0.5
    ),
    "spindrop": replace(
        _PACT, label="SpinDrop", reference="Ahmed et al., IEEE JETCAS 13(1), 2023",
        input_dropout=0.1, input_dropout_per="neuron",
    ),
    "spatial_spindrop": replace(
        _PACT, label="Spatial-SpinDrop", reference="Ahmed et al., 2023 (arXiv:2306.10185)",
        input_dropout=0.1, input_dropout_per="feature_map",
    ),
    "proposed": replace(
        _PACT, label="Proposed", reference="Ahmed et al., Scale-Dropout (arXiv:2311.15816)", scale=ScaleOptions()
    ),
}  # fmt: skip
SEGMENTATION_METHODS["deep_ensemble"] = replace(
    SEGMENTATION_METHODS["fp"], label="Deep Ensemble",
    reference="Lakshminarayanan et al., NeurIPS 2017 (arXiv:1612.01474)", members=5, member="fp",
)  # fmt: skip


def get_segmentation_method(name: str) -> Method:
    """Look a method up by its key in :data:`SEGMENTATION_METHODS`.

    Raises:
        ValueError: for an unknown name, with the nearest match.
    """
    return SEGMENTATION_METHODS[lookup("segmentation method", name, SEGMENTATION_METHODS)]
