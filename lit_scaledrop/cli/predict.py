"""``scaledrop predict --images``: a trained network on one's own pictures, classified or segmented."""

from lit_scaledrop.deploy import classify as classify_images
from lit_scaledrop.deploy import segment as segment_images
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.modules.segmenter import LitSegmenter


def main(argv: list[str]) -> int:
    """Do what the network was trained for."""
    known, _ = classify_images.parser(add_help=False).parse_known_args(argv)
    if known.model is None:  # the parser that explains itself says what is missing
        classify_images.parser().parse_args(argv)
    module, images = open_trained(known.model)
    task = segment_images if isinstance(module, LitSegmenter) else classify_images
    return task.main(argv, module, images)
