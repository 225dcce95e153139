"""U-Net and SegNet of Table V: hand counts, bits of what flows, sharing equal to the loop, for every method."""

import subprocess
import sys
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hardware.workload import trace_workload
from lit_scaledrop.cli.summary import main as summary
from lit_scaledrop.layers import PACT, BinaryConv2d, ScaleDropout, SpinDrop, sampling, stochastic_layers
from lit_scaledrop.layers.prefix import PrefixTree, sharing
from lit_scaledrop.methods.method import Method
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS, get_segmentation_method
from lit_scaledrop.networks import SEGMENTATION_NETWORKS, build_segmentation_network
from lit_scaledrop.networks.segnet import SegNet
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive

OURS = ["segnet", "unet"]
BINARY = [name for name, method in SEGMENTATION_METHODS.items() if method.binary]
STOCHASTIC = [name for name, method in SEGMENTATION_METHODS.items() if method.stochastic]
HIDDEN = {"segnet": 24, "unet": 21}


def build(network, method, **options):
    torch.manual_seed(0)
    method = SEGMENTATION_METHODS[method] if isinstance(method, str) else method
    return build_segmentation_network(network, method, width=1 / 16, image_size=32, **options)


def trained(network, method):
    """As after training: scales and clips of their own, BatchNorm with the statistics of its inputs.

    Steps of the codes are sixteenths and drop probabilities a half, so that sums of codes are exact: SegNet's pooling
    takes the first of equals, which rounding in another order would make unequal.
    """
    net = build(network, method)
    for module in net.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.5, 1.5)
        if isinstance(module, PACT):
            module.clip.data.copy_(15 / 16 * torch.randint(1, 4, ()))
        if isinstance(module, SpinDrop):
            module.p.fill_(0.5)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.bias.data.normal_(0, 0.3)
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 32, 32))
    return net.eval()


def parameters(network, method):
    with torch.device("meta"):
        net = SEGMENTATION_NETWORKS[network](SEGMENTATION_METHODS[method])
    return sum(p.numel() for p in net.parameters())


def test_parameters_of_unet():
    encoder = 9 * (3 * 64 + 64**2 + 64 * 128 + 128**2 + 128 * 256 + 256**2 + 256 * 512 + 512**2 + 512 * 1024 + 1024**2)
    up = 4 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64)
    decoder = 9 * (1024 * 512 + 512**2 + 512 * 256 + 256**2 + 256 * 128 + 128**2 + 128 * 64 + 64**2)
    norms = 2 * (2 * (64 + 128 + 256 + 512 + 1024) + 4 * (512 + 256 + 128 + 64) + 2 * (512 + 256 + 128 + 64))
    assert parameters("unet", "fp") == encoder + up + decoder + norms + 64 * 2 + 2
    # a scale for every column but those of the stem, a clip for every activation; ups share the encoders'
    scales = norms // 2 - 64
    assert parameters("unet", "proposed") == parameters("unet", "fp") + scales + 18
    assert parameters("unet", "spindrop") == parameters("unet", "fp") + 18


def test_parameters_of_segnet():
    vgg16 = 14_714_688  # of the convolutions of VGG-16, of which biases:
    biases = 4_224
    decoder = vgg16 - biases - 3 * 64 * 9
    head = 64 * 2 * 9 + 2
    back = 512 * 3 + 512 * 2 + 256 + 256 * 2 + 128 + 128 + 64 + 64
    expected = vgg16 - biases + decoder + head + 2 * (biases + back)
    assert parameters("segnet", "fp") == expected
    assert parameters("segnet", "proposed") == expected + biases + back - 64 + 13 + 12


@pytest.mark.parametrize("method", SEGMENTATION_METHODS)
@pytest.mark.parametrize("network", OURS)
def test_layers_gradients_and_logits(network, method):
    net = build(network, method, num_classes=3)
    work = trace_workload(net, (3, 32, 32))
    binary = [layer for layer in work if layer.binary]
    assert len(work) == HIDDEN[network] + 2
    assert len(binary) == (HIDDEN[network] if SEGMENTATION_METHODS[method].binary else 0)
    assert not work[0].binary
    assert not work[-1].binary
    assert len([m for m in net.modules() if isinstance(m, ScaleDropout)]) == (
        len(binary) if method == "proposed" else 0
    )
    logits = net.train()(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3, 32, 32)
    F.cross_entropy(logits, torch.randint(3, (2, 32, 32))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", BINARY)
@pytest.mark.parametrize("network", OURS)
def test_binary_layers_read_4_bits_and_hold_1(network, method, training):
    net, levels = trained(network, method).train(training), {}
    kept = 2 if training and method != "proposed" else 1

    def note(name, values):
        levels[name] = values.unique()

    for name, module in net.named_modules():
        if isinstance(module, BinaryConv2d):
            module.input_estimator.register_forward_hook(lambda m, i, o, n=name: note(f"{n} inputs", o))
            module.weight_estimator.register_forward_hook(lambda m, i, o, n=name: note(f"{n} weights", o))
    with torch.no_grad():
        net(torch.randn(4, 3, 32, 32))
    assert len(levels) == 2 * HIDDEN[network]
    for name, values in levels.items():
        if name.endswith("weights"):
            assert values.tolist() == [-1, 1], name
        else:
            assert values[0] == 0, name
            # multiples of one of the steps that `trained` gives, at most the 15th; dropout doubles what it keeps
            steps = [kept * clip / 16 for clip in (1, 2, 3)]
            assert any({*(values / step).tolist()} <= {*range(16)} for step in steps), name
            assert len(values) == 16 if method == "proposed" else len(values) > 2, name


@pytest.mark.parametrize("network", OURS)
def test_the_loss_sees_every_scale_and_every_clip(network):
    """From the data alone, with the default placement and granularity of masks."""
    method = SEGMENTATION_METHODS["proposed"].with_scale(p=0.5)
    net = trained(network, method).train()
    for module in net.modules():
        if isinstance(module, PACT):
            module.clip.data.fill_(0.5)  # so that something saturates in the few pixels of the deepest maps
    logits = net(torch.randn(8, 3, 32, 32))
    F.cross_entropy(logits, torch.randint(2, (8, 32, 32))).backward()
    for name, module in net.named_modules():
        if isinstance(module, ScaleDropout):
            assert module.scale.grad.abs().max() > 1e-5, name
        if isinstance(module, PACT):
            assert module.clip.grad.abs() > 1e-5, name


def test_adaptive_probabilities_follow_the_layers_sizes():
    with torch.device("meta"):
        net = SEGMENTATION_NETWORKS["unet"](SEGMENTATION_METHODS["proposed"])
    sizes = [layer.num_weights for layer in stochastic_layers(net).values()]
    assert max(sizes) == 9 * 1024**2
    net = build("unet", "proposed")
    p = {name: round(float(layer.p), 1) for name, layer in stochastic_layers(net).items()}
    assert p["bottom.blocks.2.scale"] == 0.5
    assert p["decoders.0.stage.blocks.0.scale"] == 0.2
    assert p["encoders.0.blocks.2.scale"] == 0.1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", STOCHASTIC)
@pytest.mark.parametrize("network", OURS)
def test_shared_is_the_loop(network, method, batch):
    net, x = trained(network, method), torch.randn(batch, 3, 32, 32)
    plan = draw_plan(net, 5, seed=1)
    loop = []
    for index in range(5):
        with torch.no_grad(), sampling(net, plan.single(index)):
            loop.append(net(x))
    expected = torch.stack(loop)
    assert expected.std(0).max() > 0.01 * expected.abs().max()
    with torch.no_grad(), sharing(net, PrefixTree(net, plan), batch) as state:
        rows = state.expand(net(x))
    shared = rows.unflatten(0, (-1, batch))[state.partition.group_of]
    assert (shared - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_pixels_are_the_examples_of_a_prediction():
    net, x = trained("segnet", "proposed"), torch.randn(2, 3, 32, 32)
    loop = PosteriorPredictive(net, 4, execution="loop")(x)
    assert loop.logits.shape == (4, 2 * 32 * 32, 2)
    passes = []
    for index in range(4):
        with torch.no_grad(), sampling(net, draw_plan(net, 4).single(index)):
            passes.append(net(x).softmax(1))
    mean = torch.stack(passes).mean(0)
    torch.testing.assert_close(loop.mean.unflatten(0, (2, 32, 32)).movedim(-1, 1), mean)
    for execution in ("folded", "shared"):
        torch.testing.assert_close(PosteriorPredictive(net, 4, execution=execution)(x).logits, loop.logits)
    ensemble = PosteriorPredictive([build("unet", "fp"), build("unet", "fp")])(x)
    assert ensemble.logits.shape == (2, 2 * 32 * 32, 2)
    assert PosteriorPredictive(net, 4)(x[:0]).logits.shape == (4, 0, 2)


@pytest.mark.parametrize("network", OURS)
def test_common_prefixes_run_once(network):
    net, rows = trained(network, SEGMENTATION_METHODS["proposed"].with_scale(p=0.0)), defaultdict(int)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, o, n=name: rows.update({n: rows[n] + len(o)}))
    with torch.no_grad(), sharing(net, PrefixTree(net, draw_plan(net, 6)), 2):
        net(torch.randn(2, 3, 32, 32))
    assert set(rows.values()) == {2}


@pytest.mark.parametrize("network", OURS)
@pytest.mark.parametrize("method", STOCHASTIC)
def test_random_bits_are_what_the_masks_draw(network, method):
    net = build(network, method)
    layers = stochastic_layers(net)
    drawn = {name: draws.numel() for name, draws in draw_plan(net, 1).draws.items()}
    assert drawn == {name: layer.random_bits for name, layer in layers.items()}
    inputs = {}
    for module in net.modules():
        if isinstance(module, BinaryConv2d):
            module.register_forward_pre_hook(lambda m, x: inputs.update({m: x[0][0].numel()}))
    net.eval()(torch.zeros(1, 3, 32, 32))
    expected = {
        "proposed": HIDDEN[network],
        "spatial_spindrop": sum(module.in_channels for module in inputs),
        "spindrop": sum(inputs.values()),
        # channels times pixels: encoder 4, bottom, decoders 4 and 3; encoders 3, 4, 5, decoders 5, 4, 3
        "mc_dropout": {
            "unet": 32 * 4**2 + 64 * 2**2 + 32 * 4**2 + 16 * 8**2,
            "segnet": 16 * 4**2 + 32 * 2**2 + 32 + 32 * 2**2 + 16 * 4**2 + 8 * 8**2,
        }[network],
    }
    assert sum(drawn.values()) == expected[method]


@pytest.mark.parametrize("network", OURS)
def test_evaluation_uses_every_scale(network):
    net, x = trained(network, "proposed"), torch.randn(2, 3, 32, 32)
    kept = {name: torch.ones(1, *layer.uniform_shape) for name, layer in stochastic_layers(net).items()}
    with torch.no_grad():
        first = net(x)
        with sampling(net, kept):
            assert torch.equal(net(x), first)


def test_segnet_puts_values_back_where_it_found_them():
    x = torch.rand(2, 4, 6, 6)
    net = SegNet(SEGMENTATION_METHODS["fp"], width=1 / 16)
    encoder, decoder = net.encoders[0], net.decoders[-1]
    encoder.blocks = decoder.blocks = nn.Identity()
    pooled, places = encoder(x)
    back = decoder(pooled, places)
    largest = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(back, torch.where(x == largest, x, 0))


def test_names_sizes_and_methods_are_checked():
    with pytest.raises(ValueError, match="did you mean 'spatial_spindrop'"):
        get_segmentation_method("spatial-spindrop")
    with pytest.raises(ValueError, match="did you mean 'unet'"):
        build("u-net", "fp")
    with pytest.raises(ValueError, match="width"):
        build_segmentation_network("unet", SEGMENTATION_METHODS["fp"], width=0.0)
    with pytest.raises(ValueError, match="multiples of 16, got 40x40: pad or scale them to 48x48"):
        build_segmentation_network("unet", SEGMENTATION_METHODS["fp"], width=1 / 16, image_size=40)
    with pytest.raises(ValueError, match="multiples of 32, got 48x32: pad or scale them to 64x32"):
        build("segnet", "fp")(torch.zeros(1, 3, 48, 32))
    with pytest.raises(ValueError, match="build the network for images of this size"):
        build("unet", "spindrop")(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="fixed width"):
        build("unet_smp", "fp")
    with pytest.raises(ValueError, match=r"has no Proposed \(1/4\)"):
        build_segmentation_network("unet_smp", SEGMENTATION_METHODS["proposed"])
    assert build("unet", "proposed").eval()(torch.zeros(1, 3, 48, 32)).shape == (1, 2, 48, 32)


def test_unet_of_segmentation_models_pytorch():
    pytest.importorskip("segmentation_models_pytorch")
    net = build_segmentation_network("unet_smp", SEGMENTATION_METHODS["deep_ensemble"], in_channels=1, image_size=64)
    assert net.eval()(torch.zeros(1, 1, 64, 32)).shape == (1, 2, 64, 32)
    with pytest.raises(ValueError, match="multiples of 32"):
        net(torch.zeros(1, 1, 48, 48))


def test_methods_are_what_they_say():
    labels = [method.label for method in SEGMENTATION_METHODS.values()]
    assert len(set(labels)) == len(labels)
    for method in SEGMENTATION_METHODS.values():
        assert (method.bits_w, method.bits_a) == ((1, 4) if method.binary else (32, 32))
        assert isinstance(method.activation_layer(), PACT if method.binary else nn.ReLU)
    ensemble = SEGMENTATION_METHODS["deep_ensemble"]
    assert (ensemble.members, SEGMENTATION_METHODS[ensemble.member].label) == (5, "FP")
    assert isinstance(ensemble, Method)


def test_summary_of_a_segmentation_network(capsys):
    assert summary(["unet", "proposed", "--width=0.0625", "--image-size=32"]) == 0
    text = capsys.readouterr().out
    assert "one 3x32x32 image" in text
    assert "1-bit weights times activations of 4 bits" in text


def test_a_training_step_compiles_without_a_graph_break():
    """In a process of its own: jaxtyping's checks, which only tests have, break graphs."""
    program = """
import sys
import torch
from torch import nn
from torch.nn import functional as F
from lit_scaledrop.networks import build_segmentation_network, unet
from lit_scaledrop.modules.objective import method_terms
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS

def compare(net, step, backend):
    grads = []
    for run in (step, torch.compile(step, backend=backend, fullgraph=True)):
        net.zero_grad()
        run().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    torch.testing.assert_close(grads[1], grads[0])
    return grads[0]

torch.manual_seed(0)
method = SEGMENTATION_METHODS["proposed"].with_scale(p=0.0)
sys.modules[unet.__module__].CHANNELS = (64, 128, 256)  # further levels are as these
net = build_segmentation_network("unet", method, width=1 / 32, image_size=16).train()
x, target = torch.randn(2, 3, 16, 16), torch.randint(2, (2, 16, 16))
compare(net, lambda: F.cross_entropy(net(x), target) + method_terms(net, method)["clip"][1], "eager")

# the gradients of the custom functions under AOTAutograd, on less than a network
block = nn.Sequential(method.conv_block(3, 4, 3), method.activation_layer())
block[1].clip.data.fill_(1.0)
assert compare(block, lambda: block(x).square().sum(), "aot_eager")[-1].abs() > 1, "the clip"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=900)
