"""The rows of the paper's Table V: :data:`SEGMENTATION_METHODS`, from a name to a :class:`Method`.

What holds for all of them, in addition to ``classification.py``:

- Binary rows have 1-bit weights and 4-bit activations (1/4), which are PACT's (Choi et al., 2018, arXiv:1805.06085).
  The weights are IR-Net's, channel-wise normalized signs
  with EDE's gradient, without its power-of-two scale: that is one for nearly every channel, and BatchNorm removes it.
  The inputs of a binary convolution are what PACT makes of them, unsigned codes from 0 to 15; no sign acts on them.
- The weight of PACT's term on the clips is that of the term on the weights (``lambda_weight``), as its authors advise.
- MC-Dropout drops single activations behind the central blocks with p = 0.5, where Bayesian SegNet has them; networks
  say which blocks these are. The paper's own places are not in our copy of it.
- SpinDrop and Spatial-SpinDrop drop inputs of every binary convolution, p = 0.1, with a bit for each neuron or feature
  map.
"""

from functools import partial

from lit_scaledrop.layers.scale_dropout import ScaleOptions
from lit_scaledrop.methods.method import Method
from lit_scaledrop.naming import lookup

_pact = partial(Method, bits_w=1, bits_a=4, estimator="ede_weights", activation="pact", clip_decay=5e-5)
_spindrop = partial(_pact, input_dropout=0.1)

SEGMENTATION_METHODS: dict[str, Method] = {
    "fp": Method("FP", "U-Net (arXiv:1505.04597), SegNet (arXiv:1511.00561)", activation="relu"),
    "mc_dropout": Method(
        "MC-Dropout", "Kendall et al., BMVC 2017 (arXiv:1511.02680)", activation="relu", block_dropout=0.5
    ),
    "spindrop": _spindrop("SpinDrop", "Ahmed et al., IEEE JETCAS 13(1), 2023", input_dropout_per="neuron"),
    "spatial_spindrop": _spindrop(
        "Spatial-SpinDrop", "Ahmed et al., 2023 (arXiv:2306.10185)", input_dropout_per="feature_map"
    ),
    "proposed": _pact("Proposed", "Ahmed et al., Scale-Dropout (arXiv:2311.15816)", scale=ScaleOptions()),
    "deep_ensemble": Method(
        "Deep Ensemble",
        "Lakshminarayanan et al., NeurIPS 2017 (arXiv:1612.01474)",
        activation="relu",
        members=5,
        member="fp",
    ),
}


def get_segmentation_method(name: str) -> Method:
    """Look a method up by its key in :data:`SEGMENTATION_METHODS`.

    Raises:
        ValueError: for an unknown name, with the nearest match.
    """
    return SEGMENTATION_METHODS[lookup("segmentation method", name, SEGMENTATION_METHODS)]
