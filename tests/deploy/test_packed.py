"""Packed files: the same bits back, one bit a weight, BatchNorm folded where it is exact; exported programs."""

import json
import struct
import zlib

import pytest
import torch
from torch import nn

from lit_scaledrop.__main__ import main
from lit_scaledrop.deploy import Packed, PackedError, freeze, load_packed, pack, read_packed
from lit_scaledrop.deploy.container import MAGIC
from lit_scaledrop.deploy.program import Passes, export_onnx, export_program, masks_of
from lit_scaledrop.deploy.thresholds import foldable, threshold_of
from lit_scaledrop.layers import ScaleDropout, sampling
from lit_scaledrop.layers.binary import binary_sign
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior import draw_plan

IMAGES = {"mean": [0.5], "std": [0.25], "class_names": ["a"], "name": "test"}
PACKABLE = [
    name for name, method in METHODS.items() if method.members == 1 and name not in ("mc_dropconnect", "spinbayes")
]


def trained(network="lenet5", method="proposed", width=0.5, channels=1, seed=0):
    """A module whose scales, statistics and affine parameters are far from their first values."""
    torch.manual_seed(seed)
    module = LitClassifier(network, method, in_channels=channels, width=width)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_(0, 3)
            layer.running_var.uniform_(0.5, 30)
        elif isinstance(layer, ScaleDropout):
            nn.init.normal_(layer.scale, 1, 0.5)
    return module.eval()


@torch.no_grad()
def logits(network, x):
    """Without dropout, and of random passes, one at least of each member that there is."""
    plan, found = draw_plan(network, 4, seed=1), [network(x)]
    for index in range(4):
        with sampling(network, plan.single(index)):
            found.append(network(x))
    return torch.stack(found)


@pytest.mark.parametrize("method", PACKABLE)
def test_a_packed_network_has_the_same_bits(tmp_path, method):
    module = trained(method=method)
    x = torch.randn(16, 1, 32, 32)
    expected = logits(module.network, x)
    pack(module, IMAGES, {"run": "0123"}).write(tmp_path / "net.packed")
    loaded, about = load_packed(tmp_path / "net.packed")
    assert torch.equal(logits(loaded.network, x), expected)
    assert (about["run"], about["images"], about["task"]) == ("0123", IMAGES, "LitClassifier")
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(("network", "count"), [("vgg_small", 6), ("resnet18", 8), ("resnet20", 0), ("lenet5", 3)])
def test_where_batchnorm_becomes_a_comparison(tmp_path, network, count):
    channels = 1 if network == "lenet5" else 3
    module = trained(network, width=0.125, channels=channels)
    x = torch.randn(8, channels, 32, 32)
    expected = logits(module.network, x)
    packed = pack(module, IMAGES)
    assert len(packed.about["folded"]) == count - (network == "vgg_small")  # its last one goes to the classifier
    packed.write(tmp_path / "net.packed")
    assert torch.equal(logits(load_packed(tmp_path / "net.packed")[0].network, x), expected)


def test_of_each_member_batchnorm_becomes_a_comparison(tmp_path):
    module = trained("vgg_small", "tiny_deep_ensemble", 0.125, channels=3)
    x = torch.randn(8, 3, 32, 32)
    expected = logits(module.network, x)
    packed = pack(module, IMAGES)
    # six BatchNorms of four sets, but for the last, which goes to the classifier
    assert len(packed.about["folded"]) == 5 * 4
    packed.write(tmp_path / "net.packed")
    found = logits(load_packed(tmp_path / "net.packed")[0].network, x)
    assert torch.equal(found, expected)
    assert all((found[1] != other).any() for other in found[2:])


def test_size_is_one_bit_a_weight():
    packed = pack(trained("resnet20", width=1.0, channels=3), IMAGES)
    weights = sum(positive.numel() for positive in packed.signs.values())
    floats = sum(tensor.numel() for tensor in packed.tensors.values())
    assert weights == 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    assert 0 <= len(packed.to_bytes()) - weights / 8 - 4 * floats < 4000  # the rest is the header
    assert len(packed.to_bytes()) < 60_000


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(5), nn.BatchNorm2d(5)])
def test_the_threshold_is_where_the_computed_batchnorm_changes_its_sign(norm):
    norm.eval()
    norm.weight.data = torch.tensor([0.7, -1.3, 0.0, 0.0, 1e-20])
    norm.bias.data = torch.tensor([0.11, 0.3, 0.5, -0.5, 1e-30])
    norm.running_mean.copy_(torch.tensor([3.0, -2.0, 0.0, 0.0, 1.0]))
    norm.running_var.copy_(torch.tensor([2.0, 0.3, 1.0, 1.0, 1.0]))
    made = threshold_of(norm)
    assert made.rising.tolist() == [True, False, True, True, True]
    around = made.threshold.double().clamp(-1e30, 1e30)
    exact = norm.running_mean - norm.bias * (norm.running_var + norm.eps).sqrt() / norm.weight
    torch.testing.assert_close(made.threshold[:2], exact[:2].detach(), rtol=1e-5, atol=1e-6)
    steps = torch.arange(-40, 41)[:, None].double() * 1e-7 * around.abs().clamp(min=1.0)
    x = torch.cat([(around + steps).float(), torch.linspace(-50, 50, 501)[:, None].expand(-1, 5)])
    if isinstance(norm, nn.BatchNorm2d):
        x = x[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
    assert torch.equal(made(x), binary_sign(norm(x)))
    # the very neighbours of the threshold
    t = made.threshold[:2]
    for channel, towards in ((0, -torch.inf), (1, torch.inf)):
        beyond = torch.nextafter(t[channel], torch.tensor(towards))
        rows = torch.stack([t[channel], beyond]).view(2, 1, *[1] * (x.dim() - 2)).expand(2, 5, *x.shape[2:])
        signs = binary_sign(norm(rows.contiguous()))[:, channel].reshape(2, -1)[:, 0]
        assert signs.tolist() == [1.0, -1.0]


def test_a_skip_keeps_batchnorm():
    network = freeze(trained("resnet18", width=0.125, channels=3).network)
    names = foldable(network, torch.randn(4, 3, 32, 32))
    assert all(name.endswith("first.0.norm") for name in names)


def test_weights_with_a_factor(tmp_path):
    module = trained(method="xnor")
    packed = pack(module, IMAGES)
    assert packed.about["factors"] == ["hidden.0.conv", "hidden.3.linear", "hidden.5.linear"]
    assert [n for n in packed.tensors if n.endswith("factor")] == [
        f"{n}.weight_estimator.factor" for n in packed.about["factors"]
    ]


@pytest.mark.parametrize("method", ["mc_dropconnect", "spinbayes"])
def test_drawn_weights_are_refused(method):
    with pytest.raises(ValueError, match="has random weights: it cannot be packed"):
        pack(trained(method=method), IMAGES)


def test_more_than_two_values_are_refused():
    network = build_network("lenet5", METHODS["irnet"], in_channels=1)
    network.hidden[0].conv.weight_estimator = nn.Identity()
    with pytest.raises(ValueError, match=r"hidden\.0\.conv has filters with more than two values"):
        freeze(network)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "net.packed"
    pack(trained(), IMAGES).write(path)
    content = path.read_bytes()
    for damage, message in (
        (content[:-1], "damaged .*checksum"),
        (content[:40], "is damaged"),
        (content[:-1] + bytes([content[-1] ^ 255]), "damaged .*checksum"),
        (b"PK" + content, "is not a packed network"),
        (MAGIC[:-1] + b"\x07" + content[10:], "has layout 7, this version reads 1"),
        (b"", "is not a packed network"),
    ):
        path.write_bytes(damage)
        with pytest.raises(PackedError, match=message):
            load_packed(path)
    with pytest.raises(PackedError, match="cannot read"):
        read_packed(tmp_path / "absent")


def test_a_file_of_another_network(tmp_path):
    packed = pack(trained(), IMAGES)
    path = tmp_path / "net.packed"
    about = {**packed.about, "arguments": {**packed.about["arguments"], "method": "no_such"}}
    Packed(about, packed.tensors, packed.signs).write(path)
    with pytest.raises(PackedError, match="matches no network of this version"):
        load_packed(path)
    fewer = {name: tensor for name, tensor in packed.tensors.items() if name != "classifier.bias"}
    Packed(packed.about, fewer, packed.signs).write(path)
    with pytest.raises(PackedError, match=r"does not match its network: classifier\.bias"):
        load_packed(path)


def test_only_numbers_are_read(tmp_path):
    with pytest.raises(ValueError, match="x is float16; a packed file holds float32, int64 and signs"):
        Packed({}, {"x": torch.zeros(1).half()}, {}).to_bytes()
    about = {"about": {}, "tensors": [["x", "object", [1]]], "signs": [], "sha256": ""}
    header = zlib.compress(json.dumps(about).encode())
    (tmp_path / "x").write_bytes(MAGIC + struct.pack("<I", len(header)) + header)
    with pytest.raises(PackedError, match="damaged"):
        read_packed(tmp_path / "x")


def test_signs_of_any_number_and_shape(tmp_path):
    torch.manual_seed(0)
    signs = {"a": torch.rand(3, 5) > 0.5, "b": torch.rand(1) > 2, "c": torch.zeros(0, dtype=torch.bool)}
    tensors = {"f": torch.randn(2, 3), "i": torch.tensor(-7), "s": torch.tensor(0.5)}
    Packed({"x": [1, None]}, tensors, signs).write(tmp_path / "x")
    found = read_packed(tmp_path / "x")
    assert found.about == {"x": [1, None]}
    assert all(torch.equal(found.signs[name], signs[name]) for name in signs)
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("method", ["proposed", "spindrop", "tiny_deep_ensemble"])
def test_exported_programs(tmp_path, method):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = freeze(trained(method=method, width=0.25).network)
    x, images = torch.randn(2, 1, 32, 32), torch.randn(5, 1, 32, 32)
    masks = masks_of(network, 4, seed=2)
    with torch.no_grad():
        passes = Passes(network)(images, masks)
        plan = draw_plan(network, 4, seed=2)
        for index in range(4):
            with sampling(network, plan.single(index)):
                torch.testing.assert_close(network(images), passes[index])
    assert passes.std(0).max() > 0
    program = export_program(network, x, passes=True).module()
    torch.testing.assert_close(program(images, masks), passes)
    export_onnx(network, x, True, tmp_path / "net.onnx")  # without masks it is exported, and compared, by test_readme
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    names = [entry.name for entry in session.get_inputs()]
    assert names[0] == "images"
    assert all(name.startswith("masks.") for name in names[1:])
    feed = {name: tensor.numpy() for name, tensor in zip(names, [images, *masks], strict=True)}
    torch.testing.assert_close(torch.from_numpy(session.run(["logits"], feed)[0]), passes, rtol=0, atol=1e-4)


def test_nothing_random_has_no_masks():
    with pytest.raises(ValueError, match="this network has no random layers"):
        Passes(freeze(trained(method="irnet").network))


def test_export_command(place, finished, capsys, monkeypatch):
    monkeypatch.setenv("DATA", str(place))  # no data set: noise instead
    checkpoint = next(finished.rglob("best-*.ckpt"))
    assert main(["export", "--ckpt_path", str(checkpoint), "--out", "net.packed"]) == 0
    printed = capsys.readouterr().out
    assert "logits of 100 images of noise: the same bits, without dropout and in 3 random passes" in printed
    assert load_packed("net.packed")[1]["images"]["class_names"][0] == "airplane"
    content = place.joinpath("net.packed").read_bytes()
    assert main(["export", "--model", "net.packed", "--out", "again.packed"]) == 0  # what is packed stays as it is
    assert place.joinpath("again.packed").read_bytes() == content
    capsys.readouterr()
    assert main(["export", "--model", "lenet5-proposed", "--out", "net.pt2", "--format", "torch-passes"]) == 0
    assert "noise in 3 passes: 300 of 300 predictions differ by at most 0\n" in capsys.readouterr().out
    assert main(["export", "--ckpt_path", str(checkpoint), "--out", "net.onnx", "--format", "packed"]) == 1
    assert "--out of packed has to end in .packed, not '.onnx'" in capsys.readouterr().err
