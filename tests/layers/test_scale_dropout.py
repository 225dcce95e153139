"""Scale-Dropout against its definition."""

import itertools

import pytest
import torch
from torch import nn

from lit_scaledrop.layers import sampling
from lit_scaledrop.layers.scale_dropout import ScaleDropout, adaptive_probability, set_adaptive_probability
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules import LitClassifier
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.drop_probability import scale_dropouts

ALPHA = torch.tensor([0.5, 2.0, 3.5])


def layer_with(**options):
    layer = ScaleDropout(3, **options)
    layer.scale.data.copy_(ALPHA)
    return layer


@pytest.mark.parametrize(("drop_value", "dropped"), [("unitary", torch.ones(3)), ("average", torch.full((3,), 2.0))])
def test_keep_and_drop(drop_value, dropped):
    x = torch.randn(4, 3, 2, 2)
    kept = layer_with(p=0.0, drop_value=drop_value).train()(x)
    torch.testing.assert_close(kept, x * ALPHA[:, None, None])
    gone = layer_with(p=1.0, drop_value=drop_value).train()(x)
    torch.testing.assert_close(gone, x * dropped[:, None, None])


def test_random_drop_value_lies_in_its_range_and_never_is_alpha():
    layer = layer_with(p=1.0, drop_value="random", random_range=(0.8, 1.2)).train()
    out = layer(torch.ones(500, 3))
    assert out.min() >= 0.8
    assert out.max() <= 1.2
    assert out.std() > 0.05
    # one draw for the vector
    assert torch.equal(out[:, 0], out[:, 2])


def test_evaluation_without_a_plan_keeps_the_scale():
    x = torch.randn(2, 3)
    torch.testing.assert_close(layer_with(p=1.0).eval()(x), x * ALPHA)


@pytest.mark.parametrize("mask_per", ["sample", "batch"])
def test_training_masks_have_the_asked_granularity(mask_per):
    torch.manual_seed(0)
    layer = layer_with(p=0.5, mask_per=mask_per).train()
    dropped = torch.stack([(layer(torch.ones(64, 3)) == 1).all(1) for _ in range(200)])
    if mask_per == "batch":
        assert torch.equal(dropped.all(1), dropped.any(1))
    else:
        assert dropped.any(1).all()
        assert not dropped.all(1).any()
    # 200 or 12,800 draws; five standard errors
    error = 5 * 0.5 / (200 if mask_per == "batch" else 12_800) ** 0.5
    assert abs(dropped.float().mean() - 0.5) < error


def test_element_masks_drop_channels_apart():
    torch.manual_seed(0)
    out = layer_with(p=0.5, mask="element").train()(torch.ones(200, 3))
    assert len(out.unique(dim=0)) == 8
    assert layer_with(mask="element").random_bits == 3
    assert layer_with().random_bits == 1


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_probability_is_checked(p):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ScaleDropout(2, p=p)


def test_probability_is_no_part_of_the_weights():
    trained, asked = ScaleDropout(2, p=0.1), ScaleDropout(2, p=0.9)
    asked.load_state_dict(trained.state_dict())
    assert float(asked.p) == pytest.approx(0.9)


def test_vector_masks_give_at_most_two_to_the_layers_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(*itertools.chain(*[(nn.Linear(3, 3), ScaleDropout(3, p=0.5)) for _ in range(3)])).eval()
    for module in model:
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.5, 2)
    x, outputs = torch.randn(1, 3), []
    plan = draw_plan(model, 400, 1)
    for index in range(400):
        with sampling(model, plan.single(index)):
            outputs.append(model(x))
    assert len(torch.cat(outputs).unique(dim=0)) == 8


def test_adaptive_probability_of_vgg_small():
    model = nn.ModuleList(
        ScaleDropout(1, num_weights=9 * a * b) for a, b in ((128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    )
    set_adaptive_probability(model)
    assert [round(float(layer.p), 3) for layer in model] == [0.1, 0.1, 0.2, 0.2, 0.5]
    assert adaptive_probability(1, 1) == 0.5
    set_adaptive_probability(model, (0.3, 0.0, 1.0))
    assert [round(float(layer.p), 3) for layer in model] == [0.3, 0.3, 0.0, 0.0, 1.0]


def test_a_probability_for_each_size_class():
    network = build_network("resnet20", METHODS["proposed"].with_scale(p=[0.05, 0.1, 0.3]), num_classes=10)
    values = {layer.num_weights: round(float(layer.p), 3) for layer in scale_dropouts(network)}
    assert values == {9 * 16 * 16: 0.05, 9 * 16 * 32: 0.05, 9 * 32 * 32: 0.1, 9 * 32 * 64: 0.1, 9 * 64 * 64: 0.3}
    with pytest.raises(ValueError, match="one value for all layers, or three"):
        METHODS["proposed"].with_scale(p=[0.1, 0.2])
    with pytest.raises(ValueError, match=r"of a size class.*must lie in \[0, 1\], got 1.5"):
        METHODS["proposed"].with_scale(p=(0.1, 0.2, 1.5))


def test_options_of_the_command_line_make_affine_of_proposed():
    model = LitClassifier(
        "lenet5", "proposed", scale_bias=True, scale_placement="after_norm", scale_start=(0.3, 0.6), in_channels=1
    )
    assert model.method.scale == METHODS["proposed_affine"].scale
    layers = [layer for layer in model.network.modules() if isinstance(layer, ScaleDropout)]
    assert layers
    for layer in layers:
        assert 0 < (layer.scale - 1).abs().max() <= 0.3
        assert 0.3 < layer.bias.abs().max() <= 0.6
    plain = LitClassifier("lenet5", "proposed_affine", scale_bias=False, in_channels=1)
    assert all(layer.bias is None for layer in plain.modules() if isinstance(layer, ScaleDropout))


@pytest.mark.parametrize("start", [(0.3,), (0.3, -0.1), (0.3, float("inf"))])
def test_a_start_is_two_distances(start):
    with pytest.raises(ValueError, match="start has two distances of at least 0"):
        METHODS["proposed"].with_scale(start=start)


def _data_gradient(mask_per, after_norm, p=0.5):
    """Size of the task loss's gradient on alpha in a conv-BatchNorm network, alpha away from one."""
    torch.manual_seed(0)
    scale, norm = ScaleDropout(4, p=p, mask_per=mask_per), nn.BatchNorm2d(4)
    scale.scale.data.copy_(torch.tensor([0.6, 0.9, 1.3, 1.8]))
    order = (norm, scale) if after_norm else (scale, norm)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), *order, nn.Flatten(), nn.Linear(4 * 36, 3)).train()
    loss = nn.functional.cross_entropy(model(torch.randn(16, 2, 8, 8)), torch.arange(16) % 3)
    loss.backward()
    return float(scale.scale.grad.norm())


def test_alpha_gets_a_gradient_from_the_data_under_the_default():
    assert _data_gradient("sample", after_norm=False) > 1e-3


def test_one_mask_a_batch_before_batchnorm_hides_alpha_from_the_loss():
    """The trap: BatchNorm(alpha z) equals BatchNorm(z) up to its epsilon."""
    hidden, seen = (_data_gradient("batch", after_norm, p=0.0) for after_norm in (False, True))
    assert hidden < 1e-4 < 1e-3 < seen
