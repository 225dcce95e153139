"""Test vectors: replayed by a program of numpy, they are the network's, bit for bit."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from hardware.mapping import Crossbar
from lit_scaledrop.__main__ import main
from lit_scaledrop.deploy.vectors import export_vectors
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import sampling
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.plans import draw_plan
from tests.deploy.replay import read_hex, replay


def network(name, method, width):
    """As if it were trained: scales of both signs, statistics and shifts of every channel."""
    torch.manual_seed(0)
    made = build_network(name, METHODS[method], width=width)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, ScaleDropout):
                nn.init.uniform_(layer.scale, -1.5, 1.5)
                layer.set_probability(0.5)
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, std=3)
                nn.init.uniform_(layer.running_var, 10, 60)
                nn.init.normal_(layer.bias)
                nn.init.normal_(layer.weight)
    return made.eval()


@pytest.mark.parametrize(
    ("name", "method", "width"),
    [
        ("lenet5", "proposed", 1.0),
        ("resnet20", "proposed", 0.125),
        ("lenet5", "spatial_spindrop", 0.5),
        ("lenet5", "irnet", 0.5),
    ],
)
@pytest.mark.parametrize("crossbar", [Crossbar(40, 24), Crossbar(40, 24, mapping="kernel_split")])
def test_replay(tmp_path, name, method, width, crossbar):
    made, x = network(name, method, width), torch.randn(2, 3, 32, 32)
    manifest = export_vectors(made, x, tmp_path, passes=3, seed=5, crossbar=crossbar)
    assert json.loads((tmp_path / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    assert manifest["passes"] == (1 if method == "irnet" else 3)
    written = np.load(tmp_path / "vectors.npz")
    assert set(written.files) == set(manifest["arrays"])
    for array, about in manifest["arrays"].items():
        assert np.array_equal(read_hex(tmp_path, about), written[array]), array
    replayed = replay(tmp_path)
    kinds = {key.rpartition("/")[2] for key in replayed}
    # of a ResNet all outputs go into skips, where no sign sees them alone
    signs = set() if name == "resnet20" else {"signs", "pooled"}
    assert kinds == {"codes", "partial", "sums"} | signs
    for array, values in replayed.items():
        assert np.array_equal(values, written[array]), array
    assert set(replayed) == {key for key in written.files if key.rpartition("/")[2] in kinds}
    # a bench that is wrong somewhere would be seen: both signs and many codes occur
    both = [0 < written[key].mean() < 1 for key in written.files if key.endswith(("/signs", "/pooled"))]
    assert sum(both) >= 0.8 * len(both)
    assert bool(both) == bool(signs)
    for layer, about in manifest["layers"].items():
        assert (f"{layer}/thresholds" in written.files) == (about["seen_by"] == "sign"), layer


def test_they_are_the_networks(tmp_path):
    """Sums against the digital layers' in the same passes; signs against what the next layer is given."""
    made, x = network("lenet5", "proposed", 1.0), torch.randn(3, 3, 32, 32)
    manifest = export_vectors(made, x, tmp_path, passes=2, seed=1)
    written, plan = np.load(tmp_path / "vectors.npz"), draw_plan(made, 2, 1)
    names = list(manifest["layers"])
    assert [manifest["layers"][name]["kind"] for name in names] == ["conv", "linear", "linear"]
    for index in range(2):
        seen = {}
        hooks = [
            made.get_submodule(name).register_forward_hook(
                lambda _, __, out, name=name, seen=seen: seen.update({name: out})
            )
            for name in names
        ]
        with sampling(made, plan.single(index)), torch.no_grad():
            made(x)
        for hook in hooks:
            hook.remove()
        for name in names:
            assert np.array_equal(written[f"{name}/sums"][index], seen[name].numpy())
    assert [manifest["layers"][name]["seen_by"] for name in names] == ["sign", "sign", "real"]
    assert f"{names[2]}/signs" not in written.files
    # between the linear layers nothing but a sign
    assert np.array_equal(written[f"{names[1]}/signs"].astype(int) * 2 - 1, written[f"{names[2]}/inputs"])
    for name, draws in plan.draws.items():
        assert np.array_equal(written[f"masks/{name}"], draws.flatten(1).numpy())
    changing = written[f"{names[1]}/thresholds"]
    assert not np.array_equal(changing[0], changing[1]) or np.array_equal(*written[f"masks/{list(plan.draws)[1]}"])


@pytest.mark.parametrize("method", ["proposed", "proposed_affine", "irnet", "tiny_deep_ensemble"])
@pytest.mark.parametrize("name", ["lenet5", "vgg_small"])
def test_pooled_signs_are_the_next_layers_inputs(tmp_path, name, method):
    """Scale, pooling and BatchNorm in their order, with gains of both signs: any of a window, or all."""
    made = network(name, method, 1.0 if name == "lenet5" else 0.125)
    manifest = export_vectors(made, torch.randn(2, 3, 32, 32), tmp_path, passes=3, seed=1)
    written, replayed, compared = np.load(tmp_path / "vectors.npz"), replay(tmp_path), 0
    names = list(manifest["layers"])
    for here, behind in itertools.pairwise(names):
        assert manifest["layers"][here]["seen_by"] == "sign"
        given = replayed.get(f"{here}/pooled", replayed[f"{here}/signs"])
        wanted = written[f"{behind}/inputs"]
        assert np.array_equal(2 * given.reshape(wanted.shape) - 1, wanted), here
        if f"{here}/pooled" in replayed:
            order = {"proposed": ["scale", "pool", "norm"], "proposed_affine": ["pool", "norm", "scale"]}
            assert manifest["layers"][here]["behind"] == order.get(method, ["pool", "norm"])
            assert manifest["layers"][here]["pool"] == {"kernel": [2, 2], "stride": [2, 2]}
            assert 0 < written[f"{here}/any"].mean() < 1
            compared += 1
    assert compared == {"lenet5": 1, "vgg_small": 2}[name]
    assert manifest["layers"][names[-1]]["seen_by"] == "real"


def test_outputs_of_a_skip_say_so(tmp_path):
    manifest = export_vectors(network("resnet20", "proposed", 0.125), torch.randn(1, 3, 32, 32), tmp_path, passes=1)
    assert [layer["seen_by"] for layer in manifest["layers"].values()] == ["skip"] * 18
    assert not any(key.endswith(("/signs", "/thresholds", "/rising")) for key in manifest["arrays"])


def test_what_cannot_be_written(tmp_path):
    class Odd(ScaleDropout):
        """Its scale depends on the sum, so that its sign has no one threshold."""

        def forward(self, x):
            return torch.cos(x)

    made = nn.Sequential(METHODS["irnet"].conv_layer(3, 4, 3), Odd(4), METHODS["irnet"].conv_layer(4, 4, 3))
    with pytest.raises(ValueError, match="no comparison of its sums"):
        export_vectors(made, torch.randn(2, 3, 9, 9), tmp_path)
    drawn = nn.Sequential(METHODS["irnet"].conv_layer(3, 4, 3), ScaleDropout(4, drop_value="random"))
    with pytest.raises(ValueError, match="other numbers than bits"):
        export_vectors(drawn, torch.randn(2, 3, 9, 9), tmp_path)


def test_command(tmp_path, capsys):
    folder = tmp_path / "vectors"
    arguments = ["export", "--model", "lenet5-proposed", "--out", str(folder), "--root", str(tmp_path)]
    assert main([*arguments, "--format", "vectors", "-n", "2", "--passes", "3"]) == 0
    assert "2 images of noise, 3 passes" in capsys.readouterr().out
    written = np.load(folder / "vectors.npz")
    for array, values in replay(folder).items():
        assert np.array_equal(values, written[array]), array
    chip = tmp_path / "chip.yaml"
    chip.write_text("geometry: {rows: 40, columns: 24, mapping: kernel_split}")
    assert main([*arguments, "--format", "vectors", "-n", "1", "--chip", str(chip)]) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {key: manifest["crossbar"][key] for key in ("rows", "columns", "mapping", "adc_bits")} == {
        "rows": 40, "columns": 24, "mapping": "kernel_split", "adc_bits": 6
    }  # fmt: skip
    assert max(max(layer["tile_rows"]) for layer in manifest["layers"].values()) == 40
    capsys.readouterr()
    assert main([*arguments[:4], "net.onnx", "--format", "onnx", "--chip", str(chip)]) == 1
    assert "--chip is for --format vectors" in capsys.readouterr().err
    assert main([*arguments[:4], "net.npz", "--format", "vectors"]) == 1
    assert "--out of vectors has to be a folder" in capsys.readouterr().err
