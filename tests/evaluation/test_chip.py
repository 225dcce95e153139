"""The probe `hardware`: the chips that it makes, what it measures on them, and what it refuses."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from datamodules import ImageDataModule
from datamodules.loading import ImageArrays
from hardware.crossbar import CrossbarLayer
from hardware.devices import load_device
from lit_scaledrop.evaluation.probes import PROBES, Subject, chip
from lit_scaledrop.evaluation.probes.chip import on_chip
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import flat_names

IMAGES = 16


class Noise(ImageDataModule):
    """Images of no content; those of the training and of the test are drawn apart."""

    name, class_names = "noise", tuple("abcdefghij")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    train_seed, test_seed = 0, 1

    def load(self):
        train, test = (
            torch.randint(256, (IMAGES, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
            for seed in (self.train_seed, self.test_seed)
        )
        labels = torch.arange(IMAGES) % 10
        return ImageArrays(train, labels, test, labels.clone(), "made up")


def subject(method="proposed", members=1, train_seed=0, test_seed=1, **changes):
    """ResNet-20 of two to eight channels, with weights and statistics as if it were trained."""
    data = Noise(eval_batch_size=10, val_fraction=0.0)
    data.train_seed, data.test_seed = train_seed, test_seed
    data.setup()
    networks = []
    for member in range(members):
        torch.manual_seed(member)
        network = build_network("resnet20", METHODS[method], width=0.125)
        for layer in network.modules():
            if isinstance(layer, ScaleDropout):
                nn.init.uniform_(layer.scale, 0.3, 1.7)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.fill_(9.0)
        networks.append(network)
    evaluation = Evaluation(samples=5, execution="auto")
    return Subject(networks, data, **{"evaluation": evaluation, **changes})


def layers(made):
    return [m for network in made.networks for m in network.modules() if isinstance(m, CrossbarLayer)]


def at(part):
    return chip.parts(Subject([], None, Evaluation()))[part]


def measured(made, part):
    metrics = flat_names(PROBES["hardware"].measure(made, at(part)))
    assert all(type(value) is float for value in metrics.values())
    return metrics


def test_parts_are_named_without_networks():
    made = subject()
    parts = PROBES["hardware"].parts(Subject([], made.data, made.evaluation))
    assert list(parts)[:3] == ["digital", "ideal", "adc/7"]
    assert parts["conductance/0.1/3"] == {"effect": "conductance", "level": 0.1, "chip": 3}
    assert sum(name.startswith("conductance/0.1/") for name in parts) == chip.CHIPS >= 3


@pytest.mark.parametrize("method", ["proposed", "mc_dropout_irnet", "spatial_spindrop", "recu"])
def test_the_ideal_chip_is_the_digital_network(method):
    made = subject(method)
    digital, ideal = measured(made, "digital"), measured(made, "ideal")
    assert digital == ideal
    assert ideal["hw/same_logits"] == ideal["hw/same_class"] == 1
    assert len(layers(on_chip(made, at("ideal")))) == 18
    assert set(made.suites) == {"uniform"}


def test_masks_are_those_of_the_digital_network():
    made = subject()
    ours, theirs = made.posterior().plans[0], on_chip(made, at("stuck/0.01/1")).posterior().plans[0]
    assert list(ours.draws) == list(theirs.draws)
    assert all(torch.equal(ours.draws[name], theirs.draws[name]) for name in ours.draws)
    assert not any(isinstance(m, CrossbarLayer) for m in made.networks[0].modules())


def test_what_is_measured():
    made = subject()
    on = on_chip(made, at("conductance/0.3/2"))
    metrics = measured(made, "conductance/0.3/2")
    images, labels = made.test_images
    clean, noise = on.predict(images), on.predict(made.suite("uniform").images)
    assert metrics["cls/acc"] == pytest.approx((clean.predicted_class == labels).double().mean().item())
    assert metrics["uniform/ood/rate"] == noise.is_ood().double().mean().item()
    assert metrics["ood/rate"] == pytest.approx(clean.is_ood().double().mean().item())
    scores = torch.cat([clean.predictive_entropy, noise.predictive_entropy]).double().numpy()
    area = roc_auc_score([0] * len(images) + [1] * len(noise.mean), scores)
    assert metrics["uniform/ood/auroc/predictive_entropy"] == pytest.approx(area)
    digital = made.predict(images)
    same = (clean.predicted_class == digital.predicted_class).double().mean().item()
    assert metrics["hw/same_class"] == same
    assert metrics["hw/same_logits"] == 0


def test_fewer_bits_than_the_columns_need_show():
    made = subject()
    coarsest = {
        bits: max(step for layer in layers(on_chip(made, at(f"adc/{bits}"))) for _, step in layer.converters.scale)
        for bits in (7, 6, 5, 4, 3)
    }
    need = min(bits for bits, step in coarsest.items() if step == 1)  # a code for each match in every range
    assert 4 <= need < 7
    share = {bits: measured(made, f"adc/{bits}")["hw/same_logits"] for bits in (7, need, need - 1)}
    assert share[7] == share[need] > share[need - 1]


def test_ranges_are_those_of_training_images():
    ranges = [
        [layer.converters.scale for layer in layers(on_chip(subject(**seeds), at("adc/3")))]
        for seeds in ({}, {"test_seed": 7}, {"train_seed": 7})
    ]
    assert ranges[0] == ranges[1] != ranges[2]


def test_ranges_are_those_of_all_passes():
    made = subject()
    layer = layers(on_chip(made, at("adc/7")))[9]
    seen = [math.inf, -math.inf]
    ideal = on_chip(made, at("ideal"))
    inside = layers(ideal)[9]
    convert = inside.converters.forward

    def note(tile, matches):
        seen[:] = min(seen[0], matches.min().item()), max(seen[1], matches.max().item())
        return convert(tile, matches)

    inside.converters.forward = note
    ideal.predict(made.data.train_set.images)
    assert layer.tiles == 1
    assert layer.converters.scale == [(seen[0], 1.0)]


def test_a_number_is_a_chip():
    made = subject()
    assert measured(made, "conductance/0.2/1") == measured(made, "conductance/0.2/1")
    assert measured(made, "conductance/0.2/1") != measured(made, "conductance/0.2/2")
    ideal, *chips = (
        torch.cat([layer.difference_0.flatten() for layer in layers(on_chip(made, at(part)))])
        for part in ("ideal", "conductance/0.05/1", "conductance/0.1/1", "conductance/0.1/2")
    )
    weak, strong, other = (devices - ideal for devices in chips)
    # the same devices at all strengths, others on another chip
    assert torch.corrcoef(torch.stack([weak, strong]))[0, 1] > 0.99
    assert torch.corrcoef(torch.stack([strong, other]))[0, 1].abs() < 0.1
    assert (strong.std() / weak.std()).item() == pytest.approx(2, rel=0.05)


def test_half_of_the_stuck_devices_are_in_either_state():
    imperfect = chip.imperfections(at("stuck/0.03/2"))
    assert (imperfect.stuck_p, imperfect.stuck_ap, imperfect.adc_bits) == (0.015, 0.015, 8)
    assert chip.imperfections(at("adc/4")).adc_bits == 4
    assert chip.imperfections(at("combined/3")).conductance_cv == load_device("sot_80nm")[1].resistance_cv


def test_recovery_is_of_the_same_chip():
    made = subject()
    before, after = (on_chip(made, at(f"{part}/0.2/1")) for part in ("reference", "recovered"))
    pairs = list(zip(layers(before), layers(after), strict=True))
    changed = [(a.cells[0][0].match != b.cells[0][0].match).any(1) for a, b in pairs]
    assert all(columns.sum() <= chip.SPARE_COLUMNS for columns in changed)
    assert any(columns.any() for columns in changed)
    assert not any(torch.equal(a.difference_0, a.difference_0.sign() / 2) for a, _ in pairs)
    statistics = [
        torch.cat([m.running_mean for m in found.networks[0].modules() if isinstance(m, nn.BatchNorm2d)])
        for found in (made, before, after)
    ]
    assert torch.equal(statistics[0], statistics[1])
    assert not torch.equal(statistics[1], statistics[2])
    assert measured(made, "combined_recovered/1") != measured(made, "combined/1")


def test_converters_of_a_part_are_not_ideal():
    assert chip.imperfections(at("offset/2/1")).adc_offset_matches == 2
    assert chip.imperfections(at("noise/1/3")).adc_noise_matches == 1
    reference = chip.imperfections(at("reference/0.1/1"))
    assert (reference.conductance_cv, reference.real_reference) == (0.1, True)
    assert measured(subject(), "noise/1/1") == measured(subject(), "noise/1/1") != measured(subject(), "noise/1/2")
    with_offset, without = (layers(on_chip(subject(), at(part)))[0] for part in ("offset/2/1", "adc/7"))
    assert with_offset.converters.errors == ["offset"]
    assert not without.converters.errors


def test_members_of_an_ensemble_are_chips_of_their_own():
    on = on_chip(subject("deep_ensemble_irnet", members=2), at("conductance/0.2/1"))
    one, two = (next(m for m in network.modules() if isinstance(m, CrossbarLayer)) for network in on.networks)
    assert not torch.equal(one.common_0, two.common_0)
    assert on.posterior().num_samples == 2


@pytest.mark.parametrize(("method", "reason"), [("fp", "no binary layer"), ("spinbayes", "at random")])
def test_what_no_crossbar_holds_is_refused_before_anything_is_measured(method, reason):
    seen = []
    with pytest.raises(ValueError, match=reason):
        measured(subject(method, on_batch=lambda *at: seen.append(at)), "digital")
    assert not seen
