"""BatchNorm under the masks of inference, against a mixture over all masks that is put together by hand."""

import itertools
import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from lit_scaledrop.layers.binary import STE, BinaryConv2d
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.mixture_norm import reestimate_norms
from lit_scaledrop.posterior.plans import draw_plan, enumerate_plan

P = (0.2, 0.45)


def small():
    """A convolution, two scales of which the first has a bias, two norms, a sign between them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1),
        ScaleDropout(4, P[0], bias=True, start=(0.9, 0.8)),
        nn.BatchNorm2d(4),
        BinaryConv2d(4, 3, 3, STE(), STE(), padding=1),
        ScaleDropout(3, P[1], start=(0.9, 0.0)),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(48, 3),
    )
    for norm in (network[2], network[5]):
        nn.init.uniform_(norm.bias, -1, 1)
    return network, torch.randn(60, 2, 4, 4)


def masked(network, kept):
    fixed = deepcopy(network).eval()
    for layer, keep in zip((fixed[1], fixed[4]), kept, strict=True):
        if not keep:
            layer.scale.data.fill_(1.0)
            if layer.bias is not None:
                layer.bias.data.zero_()
    return fixed


def by_hand(network, images):
    """Moments of the mixture over all masks, norm by norm: the second sees the first one's statistics."""
    found = deepcopy(network).eval()
    for place in (2, 5):
        inputs, weights = [], []
        for kept in itertools.product((True, False), repeat=2):
            inputs.append(masked(found, kept)[:place](images).detach().double())
            weights.append(torch.tensor([1 - p if keep else p for keep, p in zip(kept, P, strict=True)]).prod().item())
        mean = sum(w * x.mean((0, 2, 3)) for w, x in zip(weights, inputs, strict=True))
        spread = [w * (x - mean[:, None, None]).square().mean((0, 2, 3)) for w, x in zip(weights, inputs, strict=True)]
        found[place].running_mean.copy_(mean)
        found[place].running_var.copy_(sum(spread))
    return found


def test_all_masks_in_one_batch_are_the_mixture():
    network, images = small()
    wanted = by_hand(network, images)
    assert reestimate_norms(network, [images], enumerate_plan(network)) == 2
    for place in (2, 5):
        torch.testing.assert_close(network[place].running_mean, wanted[place].running_mean)
        torch.testing.assert_close(network[place].running_var, wanted[place].running_var)
    # the moments of one mask alone are others
    kept = masked(network, (True, True))[:2](images)
    assert not torch.allclose(kept.mean((0, 2, 3)), wanted[2].running_mean, atol=0.01)


def test_the_page_says_what_the_files_say():
    """The table of docs/scale-placement.md, from what `scaledrop evaluate --out` wrote."""
    docs = Path(__file__).parents[2] / "docs"
    names = {"lenet5": "LeNet-5", "resnet20": "ResNet-20"}
    wanted = set()
    for path in (docs / "norms").glob("*.json"):
        found = json.loads(path.read_text())
        seed, metrics = path.stem.split("-")[1].removeprefix("s"), found["metrics"]
        how = "re-estimated" if found.get("norm_images") == 1000 else "from training"
        accuracy, error = 100 * metrics["cls/acc"], 100 * metrics["cal/ece"]
        wanted.add(
            f"| {names[found['network'][0]]}, {seed} | {how} | {accuracy:.2f} | {metrics['cls/nll']:.3f} | {error:.2f} "
            f"| {metrics['unc/mutual_information']:.4f} |"
        )
    lines = (docs / "scale-placement.md").read_text().splitlines()
    assert {line for line in lines if line.startswith(tuple(f"| {name}, " for name in names.values()))} == wanted
    assert len(wanted) == 6


def test_many_passes_tend_to_all_masks():
    network, images = small()
    wanted = by_hand(network, images)
    reestimate_norms(network, [images], draw_plan(network, 500, 1))
    for place in (2, 5):
        torch.testing.assert_close(network[place].running_mean, wanted[place].running_mean, atol=0.06, rtol=0.1)
        torch.testing.assert_close(network[place].running_var, wanted[place].running_var, atol=0.06, rtol=0.2)


def test_batches_are_put_together_and_the_first_norm_is_exact():
    network, images = small()
    whole, parts = deepcopy(network), deepcopy(network)
    plan = enumerate_plan(network)
    reestimate_norms(whole, [images], plan)
    reestimate_norms(parts, images.split([35, 25]), plan)
    torch.testing.assert_close(parts[2].running_mean, whole[2].running_mean)
    torch.testing.assert_close(parts[2].running_var, whole[2].running_var)  # between batches, too
    torch.testing.assert_close(parts[5].running_var, whole[5].running_var, rtol=0.2, atol=0.1)


def test_it_is_deterministic_and_changes_nothing_else():
    network, images = small()
    network.train()
    other, before = deepcopy(network), {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    for one in (network, other):
        reestimate_norms(one, images.split(30), draw_plan(one, 7, 3))
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{place}.running_{what}" for place in (2, 5) for what in ("mean", "var")}
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("method", ["proposed", "proposed_affine", "mc_dropout_irnet", "spatial_spindrop", "irnet"])
def test_a_network_of_the_zoo_keeps_finite_statistics(method):
    torch.manual_seed(0)
    network = build_network("resnet20", METHODS[method], 10, 3, 0.25)
    images = torch.randn(8, 3, 32, 32)
    assert reestimate_norms(network, [images], draw_plan(network, 3)) > 10
    stem = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    rows = first(images).detach()
    torch.testing.assert_close(stem.running_mean, rows.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_what_has_no_norm_or_no_images_is_refused():
    network, images = small()
    with pytest.raises(ValueError, match="no BatchNorm"):
        reestimate_norms(nn.Linear(2, 2), [images], draw_plan(nn.Linear(2, 2), 1))
    with pytest.raises(ValueError, match="there are none"):
        reestimate_norms(network, [], draw_plan(network, 1))
