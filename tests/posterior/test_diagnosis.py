"""What a layer's random bits do, against networks whose masks are put in place by hand."""

import itertools
import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from pandas import read_csv
from torch import nn

from lit_scaledrop.functional.uncertainty import mutual_information
from lit_scaledrop.layers.binary import STE, BinaryLinear
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.networks import build_network, build_segmentation_network
from lit_scaledrop.posterior import diagnosis
from lit_scaledrop.posterior.diagnosis import AGREEING_NATS, diagnose, diagnosis_images, render
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.store import read_result

ROOT = Path(__file__).parents[2]

P = (0.1, 0.4, 0.3)
IMAGES = 130  # three batches


def small():
    """Three scales, the second and third with biases, signs behind the first two."""
    torch.manual_seed(0)
    layers = [ScaleDropout(6, p, bias=place > 0, start=(0.9, 0.7)) for place, p in enumerate(P)]
    binary = [BinaryLinear(6, 6, STE(), STE()) for _ in range(2)]
    norms = [nn.BatchNorm1d(6) for _ in range(2)]
    for norm in norms:
        nn.init.uniform_(norm.bias, -2, 2)
    parts = [layers[0], norms[0], binary[0], layers[1], norms[1], binary[1], layers[2], nn.Linear(6, 4)]
    images = 2 * torch.randn(IMAGES, 6)
    return nn.Sequential(*parts).eval(), images


def with_masks(network, kept):
    """The network with a mask put in place for good: a dropped scale is one, a dropped bias zero."""
    fixed = deepcopy(network)
    scales = [layer for layer in fixed if isinstance(layer, ScaleDropout)]
    for layer, keep in zip(scales, kept, strict=True):
        if not keep:
            layer.scale.data.fill_(1.0)
            if layer.bias is not None:
                layer.bias.data.zero_()
    return fixed


def probs(network, images):
    return network(images).detach().double().softmax(-1)


def test_each_layer_alone_is_what_masks_by_hand_give():
    network, images = small()
    found = diagnose(network, images)
    assert [effect.layer for effect in found.layers] == ["0", "3", "6"]
    for place, effect in enumerate(found.layers):
        dropped = with_masks(network, [other != place for other in range(3)])
        at = int(effect.layer)
        plain, moved = network[: at + 1](images), dropped[: at + 1](images)
        assert effect.moved == pytest.approx(((moved - plain).norm() / plain.norm()).item(), rel=1e-5)
        assert effect.moved > 0.1
        both = torch.stack([probs(network, images), probs(dropped, images)])
        weights = torch.tensor([1 - P[place], P[place]], dtype=torch.float64)
        assert effect.information == pytest.approx(mutual_information(both, weights).mean().item(), rel=1e-5)
        if place == 2:
            assert effect.flipped is None  # no sign behind the last
            continue
        signs = [part[: at + 2](images) >= 0 for part in (network, dropped)]
        assert effect.flipped == pytest.approx((signs[0] != signs[1]).double().mean().item())
        assert 0 < effect.flipped < 1
    assert sum(found.shares()) == pytest.approx(1)


def test_mutual_information_is_that_of_the_passes_and_near_that_of_all_masks():
    network, images = small()
    found = diagnose(network, images, samples=400, seed=3)
    passes = PosteriorPredictive(network, 400, 3)(images)
    assert found.mutual_information == pytest.approx(passes.mutual_information.double().mean().item(), rel=1e-4)
    leaves, weights = [], []
    for kept in itertools.product((True, False), repeat=3):
        leaves.append(probs(with_masks(network, kept), images))
        weights.append(torch.tensor([1 - p if keep else p for keep, p in zip(kept, P, strict=True)]).prod())
    exact = mutual_information(torch.stack(leaves), torch.stack(weights).double()).mean().item()
    assert found.mutual_information == pytest.approx(exact, rel=0.1)
    assert (found.images, found.samples) == (IMAGES, 400)


def test_of_one_random_layer_alone_is_all():
    network, images = small()
    only = nn.Sequential(network[0], *network[1:3], network[7])
    found = diagnose(only, images)
    exact = PosteriorPredictive(only, execution="exact")(images).wide().mutual_information.mean().item()
    assert found.layers[0].information == pytest.approx(exact, rel=1e-5)
    assert found.shares() == [1.0]


def test_a_scale_of_one_moves_nothing_and_the_passes_agree():
    network, images = small()
    for layer in network:
        if isinstance(layer, ScaleDropout):
            layer.scale.data.fill_(1.0)
            if layer.bias is not None:
                layer.bias.data.zero_()
    found = diagnose(network, images)
    assert [effect.moved for effect in found.layers] == [0.0] * 3
    assert [effect.information for effect in found.layers] == pytest.approx([0.0] * 3, abs=1e-15)
    assert found.mutual_information == pytest.approx(0, abs=1e-15)
    assert (found.shares(), found.agrees) == ([0.0] * 3, True)
    assert "the passes agree: mutual information is 0.0000 nats on 130 validation images" in render(found)


def test_a_level_is_a_level():
    network, images = small()
    found = diagnose(network, images)
    assert found.mutual_information > AGREEING_NATS
    assert not found.agrees
    text = render(found).splitlines()
    assert text[-1].startswith("the passes differ")
    assert len(text) == 2 + 3 + 1
    assert len({len(line) for line in text[:-1]}) == 1


def test_the_level_parts_the_committed_networks():
    page = (ROOT / "docs" / "scale-placement.md").read_text()

    def stated(label, information, rejected):
        return f"| {label} | {information:.4f} | {100 * rejected:.1f} |" in page

    trained = {}
    for path in (ROOT / "results" / "cpu" / "table3").glob("*.json"):
        result = read_result(path)
        if result.network == "resnet20" and result.label in ("Proposed", "MC-Dropout (IR-Net)"):
            trained[result.label] = result.metrics["unc/mutual_information"], result.metrics["ood/rate"]
    assert trained["Proposed"][0] < AGREEING_NATS < trained["MC-Dropout (IR-Net)"][0]
    assert all(stated(label, *numbers) for label, numbers in trained.items())
    frame = read_csv(ROOT / "results" / "cpu" / "figure6.csv").query("topology == 'ResNet-20' and angle == 0")
    turned = frame.set_index(["method", "metric"])["mean"]
    for label, name in (
        ("Proposed", "Proposed"),
        ("MC-Dropout (HTanh)", "MC-Dropout (HTanh)"),
        ("Deep Ensemble", "Deep Ensemble, five networks"),
    ):
        information = turned[label, "unc/mutual_information"]
        assert (information < AGREEING_NATS) == (label == "Proposed")
        assert stated(name, information, turned[label, "ood/rate"])
    packaged = json.loads((ROOT / "docs" / "chip.json").read_text())["digital"]
    assert packaged["unc/mutual_information"] < AGREEING_NATS
    assert stated("Proposed, as packaged", packaged["unc/mutual_information"], packaged["ood/rate"])


def test_nothing_in_the_network_changes(monkeypatch):
    network, images = small()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    one = diagnose(network, images)
    monkeypatch.setattr(diagnosis, "_BATCH", 17)
    two = diagnose(network, images)
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for left, right in zip(one.layers, two.layers, strict=True):
        assert (left.moved, left.information) == pytest.approx((right.moved, right.information), rel=1e-5)
        assert left.flipped == (right.flipped if left.flipped is None else pytest.approx(right.flipped))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if method.bayesian and method.members == 1]
)
def test_every_bayesian_method_can_be_diagnosed(method):
    torch.manual_seed(0)
    network = build_network("lenet5", METHODS[method], 10, 1)
    images = torch.randn(5, 1, 32, 32)
    found = diagnose(network, images, samples=3)
    assert all(effect.moved >= 0 and effect.information >= 0 for effect in found.layers)
    assert found.images == 5
    flipped = [effect.flipped for effect in found.layers if effect.flipped is not None]
    assert all(0 <= share <= 1 for share in flipped)
    # behind the features, and behind the last BatchNorm, there is no sign
    assert bool(flipped) == (METHODS[method].binary and method not in ("mc_dropout_irnet", "tiny_deep_ensemble"))


def test_pixels_of_a_segmentation_network_are_examples():
    torch.manual_seed(0)
    network = build_segmentation_network("unet", SEGMENTATION_METHODS["proposed"], 2, 3, 0.125, 32)
    found = diagnose(network, torch.randn(2, 3, 32, 32), samples=2)
    assert found.images == 2
    assert all(0 <= effect.information < 0.7 for effect in found.layers)


class WithHead(nn.Module):
    """A network with a head that training alone would call."""

    def __init__(self, network):
        super().__init__()
        self.auxiliary = nn.Sequential(ScaleDropout(6, 0.3), BinaryLinear(6, 4, STE(), STE()))
        self.network = network

    def forward(self, x):
        return self.network(x)


def test_a_head_that_is_never_called_has_no_part():
    network, images = small()
    found, plain = diagnose(WithHead(network), images), diagnose(network, images)
    assert [effect.layer for effect in found.layers] == ["network.0", "network.3", "network.6"]
    for one, other in zip(found.layers, plain.layers, strict=True):
        assert (one.moved, one.flipped, one.information) == (other.moved, other.flipped, other.information)
    alone = WithHead(nn.Linear(6, 4))
    found = diagnose(alone, images)
    assert (found.layers, found.mutual_information) == ((), pytest.approx(0, abs=1e-12))
    assert "the passes agree" in render(found)


def test_the_work_is_bounded():
    network, _ = small()
    assert diagnosis_images(network) == 20_000 // 24
    assert diagnosis_images(build_network("resnet20", METHODS["proposed"], 10, 3)) == 20_000 // 39
    assert diagnosis_images(network, samples=40_000) == 1
    assert diagnosis_images(network, pixels=64 * 64) == 20_000 // 24 // 4


def test_what_cannot_be_diagnosed():
    with pytest.raises(ValueError, match="the network has no random layers"):
        diagnose(nn.Linear(2, 2), torch.ones(1, 2))
    network, images = small()
    with pytest.raises(ValueError, match="there are none"):
        diagnose(network, images[:0])
