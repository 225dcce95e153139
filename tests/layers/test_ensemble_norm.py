"""Tiny-Deep Ensemble against networks of their own, each with a copy of one member's BatchNorms."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fakes.networks
from hardware.cells import Imperfections
from hardware.mapping import Crossbar
from hardware.network import on_crossbar
from hardware.recovery import recover
from lit_scaledrop.layers import EnsembleNorm, MaskPlan, ScaleDropout, ensemble_norms, stochastic_layers
from lit_scaledrop.layers.stochastic import differing_passes
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks import NETWORKS, build_network
from lit_scaledrop.networks.convert import convert
from lit_scaledrop.posterior import PosteriorPredictive, diagnose, draw_plan, enumerate_plan
from lit_scaledrop.posterior.mixture_norm import reestimate_norms
from lit_scaledrop.posterior.variation import Variation
from lit_scaledrop.results.store import read_result

TINY = METHODS["tiny_deep_ensemble"]
M = 4


def ensemble(name="resnet20", width=0.25, seed=0):
    return fakes.networks.network_of(name, "tiny_deep_ensemble", width, seed=seed)


def images(count=6, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def by_hand(network, name="resnet20", width=0.25, member=0):
    """An IR-Net with the ensemble's weights and one member's BatchNorms, in the ensemble's mode."""
    plain = build_network(name, METHODS["irnet"], width=width, in_channels=3)
    state = {}
    for key, value in network.state_dict().items():
        front, sets, rest = key.partition(".sets.")
        if sets and rest.startswith(f"{member}."):
            state[f"{front}.{rest.removeprefix(f'{member}.')}"] = value
        elif not sets:
            state[key] = value
    plain.load_state_dict(state)
    return plain.train(network.training)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact", "auto"])
def test_every_execution_is_four_networks(name, execution):
    width = 0.25 if name in ("lenet5", "resnet20") else 0.1
    network, x = ensemble(name, width), images()
    with torch.no_grad():
        each = torch.stack([by_hand(network, name, width, member)(x) for member in range(M)])
    found = PosteriorPredictive(network, 20, execution=execution)(x)
    torch.testing.assert_close(found.logits, each, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.mean, each.softmax(-1).mean(0), rtol=1e-5, atol=1e-6)
    assert found.mutual_information.min() > 0
    torch.testing.assert_close(network(x), each[0])  # without a plan it is its first member


def test_passes_are_the_members_in_turn():
    network = ensemble()
    (name,) = stochastic_layers(network)  # one for the whole network
    for scheme in ("iid", "stratified", "systematic"):
        assert draw_plan(network, 6, 9, scheme).draws[name].tolist() == [[0], [1], [2], [3], [0], [1]]
    exact = enumerate_plan(network)
    assert exact.draws[name].tolist() == [[0], [1], [2], [3]]
    assert exact.weights.tolist() == [0.25] * M
    assert [differing_passes(network, samples) for samples in (1, 3, 20)] == [1, 3, 4]
    x = images()
    all_of_them, two = PosteriorPredictive(network, 20)(x), PosteriorPredictive(network, 2)(x)
    assert torch.equal(two.logits, all_of_them.logits[:2])
    mixed = nn.Sequential(network, ScaleDropout(10, 0.5))
    assert differing_passes(mixed, 20) == 20
    plan = draw_plan(mixed, 6)
    assert plan.draws[f"0.{name}"][:, 0].tolist() == [0, 1, 2, 3, 0, 1]
    assert torch.equal(plan.draws["1"], draw_plan(nn.Sequential(nn.ReLU(), ScaleDropout(10, 0.5)), 6).draws["1"])


def test_a_training_step_is_four_networks_on_a_quarter_of_the_batch_each():
    network, x, target = ensemble("vgg_small", 0.1).train(), images(18), torch.arange(18) % 10
    plain = [by_hand(network, "vgg_small", 0.1, member) for member in range(M)]
    F.cross_entropy(network(x), target, reduction="sum").backward()
    parts = zip(plain, x.tensor_split(M), target.tensor_split(M), strict=True)
    logits = []
    for one, part, labels in parts:
        logits.append(one(part))
        F.cross_entropy(logits[-1], labels, reduction="sum").backward()
    norms = {name: norm for name, norm in network.named_modules() if isinstance(norm, EnsembleNorm)}
    assert len(norms) == 6
    for name, norm in norms.items():
        for own, other in zip(norm.sets, (one.get_submodule(name) for one in plain), strict=True):
            torch.testing.assert_close(own.running_mean, other.running_mean)
            torch.testing.assert_close(own.running_var, other.running_var)
            torch.testing.assert_close(own.weight.grad, other.weight.grad, rtol=1e-4, atol=1e-4)
            assert own.weight.grad.abs().max() > 0
    for name, weight in network.named_parameters():
        if ".sets." not in name:
            together = sum(one.get_parameter(name).grad for one in plain)
            torch.testing.assert_close(weight.grad, together, rtol=1e-3, atol=1e-4)


def test_small_batches_and_the_mode_of_a_plan():
    norm = EnsembleNorm(nn.BatchNorm1d(3), M)
    for rows, taught in ((1, 0), (3, 1), (5, 2), (8, 4), (9, 4)):
        before = [one.num_batches_tracked.item() for one in norm.sets]
        if rows == 1:
            with pytest.raises(ValueError, match="more than 1 value"):
                norm(torch.randn(rows, 3))
            continue
        assert norm(torch.randn(rows, 3)).shape == (rows, 3)
        after = [one.num_batches_tracked.item() for one in norm.sets]
        assert [b - a for a, b in zip(before, after, strict=True)] == [1] * taught + [0] * (M - taught)


def test_members_start_apart():
    torch.manual_seed(0)
    norm = EnsembleNorm(nn.BatchNorm2d(2000), M)
    scales = torch.stack([one.weight for one in norm.sets])
    offsets = torch.stack([one.bias for one in norm.sets])
    for values, centre, distance in ((scales, 1, 0.3), (offsets, 0, 0.6)):
        assert (values - centre).abs().max() <= distance
        # standard deviation of a uniform number is its range over the root of 12
        torch.testing.assert_close(values.std(1), torch.full((M,), 2 * distance / 12**0.5), rtol=0.05, atol=0)
        assert torch.corrcoef(values).fill_diagonal_(0).abs().max() < 0.1


def test_running_statistics_under_the_plan_are_those_of_each_network():
    network, batches = ensemble("lenet5", 0.5), images(60).split(30)
    plain = [by_hand(network, "lenet5", 0.5, member) for member in range(M)]
    for one in plain:
        reestimate_norms(one, batches, MaskPlan({}, 1))
    for plan in (draw_plan(network, M), draw_plan(network, 20), enumerate_plan(network)):
        made = copy.deepcopy(network)
        reestimate_norms(made, batches, plan)
        for member, one in enumerate(plain):
            for key, value in by_hand(made, "lenet5", 0.5, member).state_dict().items():
                torch.testing.assert_close(value, one.state_dict()[key], rtol=1e-4, atol=1e-4)


def test_on_an_ideal_chip_every_member_is_what_it_was():
    network, x = ensemble("lenet5", 1.0), images(64)
    chip = on_crossbar(network, Crossbar(32, 32), Imperfections(adc_bits=6))
    run = PosteriorPredictive(network, 20)
    before = {name: value.clone() for name, value in chip.state_dict().items()}
    recover(chip, network, [x], PosteriorPredictive(chip, 20), run, spare_columns=2)
    assert all(torch.equal(value, before[name]) for name, value in chip.state_dict().items())
    assert torch.equal(PosteriorPredictive(chip, 20)(x).logits, run(x).logits)


def test_its_diagnosis_has_one_line_the_members():
    network, x = ensemble("lenet5", 0.5), images(20)
    found = diagnose(network, x)
    exact = PosteriorPredictive(network, execution="exact")(x).wide().mutual_information.mean().item()
    (effect,) = found.layers
    assert effect.information == pytest.approx(exact, rel=1e-5)
    assert found.mutual_information == pytest.approx(exact, rel=1e-4)
    assert found.samples == M
    with pytest.raises(ValueError, match="no bits that could be correlated"):
        Variation(0.0, correlation=0.5).require(network)


def test_models_that_are_not_ours():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 28 * 28, 10),
    ).eval()  # fmt: skip
    converted = convert(model, "tiny_deep_ensemble", input_shape=(3, 32, 32))
    assert [c.name for c in converted.changes if c.after == "EnsembleNorm"] == ["1", "4"]
    network = converted.network
    assert len(stochastic_layers(network)) == 1
    assert not network.training
    assert not any(module.training for module in network.modules())
    again = copy.deepcopy(network)
    ensemble_norms(again, M)  # sets have no sets
    assert again.state_dict().keys() == network.state_dict().keys()
    prediction = PosteriorPredictive(network, 20, execution="shared")(images())
    assert prediction.num_samples == M
    assert prediction.variance.max() > 0


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="the network has none"):
        ensemble_norms(nn.Linear(2, 2), M)
    with pytest.raises(ValueError, match="nothing else is random: 4"):
        replace(METHODS["proposed"], norm_sets=4)
    with pytest.raises(ValueError, match="nothing else is random: 0"):
        Method("x", "y", norm_sets=0)
    assert TINY.bayesian
    assert not TINY.draws


def test_the_measured_table_is_of_its_files():
    docs = Path(__file__).parents[2] / "docs"
    text, files = (docs / "scale-placement.md").read_text(encoding="utf-8"), list((docs / "members").glob("*.json"))
    assert len(files) == 7
    for path in files:
        run = read_result(path)
        m = run.metrics
        percent = [f"{100 * m['cls/acc']:.2f}", f"{m['cls/nll']:.3f}", f"{100 * m['cal/ece']:.2f}"]
        cells = [*percent, f"{m['unc/mutual_information']:.4f}", f"{100 * m['ood/rate']:.1f}"]
        assert f"| {run.label}, {run.seed} | {run.evaluation['samples']} | {' | '.join(cells)} |" in text
        assert not run.provenance["dirty"]
