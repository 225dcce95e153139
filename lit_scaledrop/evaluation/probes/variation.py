"""Table IV: a network under variation of its drop probabilities, redrawn at each use, and on ten simulated chips.

The uniform numbers behind the masks are the same in all parts, so the parts differ only by their probabilities. In
addition to the test images, a few hundred images of uniform noise show whether it is still detected.
"""

from dataclasses import replace

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.posterior.drop_probability import chip_probabilities, injected, read_probabilities, scale_dropouts
from lit_scaledrop.results.measurement import Coordinates, Measurement

CHIPS = 10
NOISE_IMAGES = 200


def parts(subject: Subject) -> dict[str, Coordinates]:
    """One part without variation; with it, probabilities of each use and of the chips 1 to 10.

    Raises:
        ValueError: the evaluation names a chip of its own.
    """
    if subject.evaluation.finished:
        raise ValueError(
            "table4 sets redraw and ten chips itself: remove evaluation.redraw, evaluation.chip and chip files"
        )
    variation = subject.evaluation.variation
    if variation is None or not variation.moves_p:
        return {"nominal": {"condition": "nominal"}}
    return {"use": {"condition": "use"}} | {f"chip/{number}": {"chip": number} for number in range(1, CHIPS + 1)}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy, likelihood, calibration, the share of noise that is rejected, and the probabilities of a chip."""
    evaluation, about_chip = subject.evaluation, {}
    if "chip" in at:
        evaluation = replace(evaluation, redraw="chip", chip=int(at["chip"]))
        assert evaluation.variation is not None
        nominal = read_probabilities(scale_dropouts(subject.networks[0]))
        actual = chip_probabilities(nominal, evaluation.variation.probability(), evaluation.chip)
        about_chip = injected(nominal, actual)
    few = min(subject.limit or NOISE_IMAGES, NOISE_IMAGES)
    asked, noise = subject.asked(evaluation), subject.asked(evaluation, limit=few)
    _, labels, prediction = asked.clean()
    suite = noise.suite("uniform")
    rejected = noise.uncertainty(noise.predict(suite.images, suite.normalized))["ood/rate"]
    subject.suites.update(noise.suites)
    return [
        Measurement({**asked.classification(prediction, labels), **about_chip}),
        Measurement({"ood/rate": rejected}, {"suite": "uniform"}),
    ]
