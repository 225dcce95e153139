"""Rows of Table III as points of a sweep: each published row is one point, and a row is what its two flags are."""

import re
from collections import Counter
from pathlib import Path

import pytest

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.cli.flags import expand_configs
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import NETWORKS
from lit_scaledrop.report.groups import TOPOLOGIES
from lit_scaledrop.report.tables import published
from lit_scaledrop.sweep.file import grid, load_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"


def rows(name):
    config = load_sweep(SWEEPS / name)
    return [tuple(point["row"].split("/")) for point in grid(config["parameters"])]


def keys(name):
    """Rows as the report finds them."""
    methods = [(TOPOLOGIES[network], METHODS[method]) for network, method in rows(name)]
    return [(topology, m.label, m.bits_w, m.bits_a, m.bayesian) for topology, m in methods]


def test_every_published_row_is_one_point():
    paper = published("table3.csv")[["topology", "method", "bits_w", "bits_a", "bayesian"]]
    table = [tuple(row) for row in paper.itertuples(index=False, name=None)]
    assert len(table) == 26
    assert Counter(keys("table3.yaml")) == Counter(table)


def test_rows_beyond_the_paper_are_not_in_it_and_name_what_exists():
    beyond = keys("table3-beyond.yaml")
    assert len(set(beyond)) == len(beyond)
    assert not set(beyond) & set(keys("table3.yaml"))
    every = rows("table3.yaml") + rows("table3-beyond.yaml")
    for network, method in every:
        assert network in NETWORKS
        assert method in METHODS
    assert {method for _, method in every} == set(METHODS)


@pytest.mark.parametrize("profile", ["quick", "cpu"])
@pytest.mark.parametrize("row", ["resnet20/proposed", "resnet18/rad", "vgg_small/lab"])
def test_a_row_is_the_run_of_its_two_flags(row, profile):
    network, method = row.split("/")
    flags = [f"--model.network={network}", f"--model.method={method}"]
    expected = plan_fit(["--profile", profile, *flags]).result
    assert plan_fit(["--profile", profile, f"--row={row}"]).result == expected
    assert plan_fit(["--row", row, "--profile", profile]).result == expected
    # as the sweep says it
    assert plan_fit(["--config", f"profile/{profile}.yaml", f"--row={row}"]).result == expected


def test_a_profile_has_additions_for_networks():
    def files(*words):
        return [Path(word).name for word in expand_configs(["fit", *words]) if word.endswith(".yaml")]

    base = ["classify.yaml", "quick.yaml"]
    assert files("--profile", "quick") == base
    assert files("--profile", "quick", "--model.network=resnet20") == base
    assert files("--profile=quick", "--model.network", "resnet18") == [*base, "quick.resnet18.yaml"]
    assert files("--row=resnet18/fp", "--profile", "quick") == [*base, "quick.resnet18.yaml"]
    assert files("--profile", "quick", "--model.network=resnet18", "--row=vgg_small/fp")[2] == "quick.vgg_small.yaml"
    assert files("--profile", "paper", "--model.network=resnet18") == ["classify.yaml", "paper.yaml"]
    assert files("--profile", "paper_sgd", "--model.network=resnet18") == ["classify.yaml", "paper_sgd.yaml"]
    # flags still go before
    words = ["--profile", "quick", "--row=vgg_small/fp"]
    assert plan_fit(words).id != plan_fit([*words, "--model.width=1"]).id


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--row=resnet20"], "or NETWORK/DATA/METHOD, e.g. unet/skin_lesion/proposed, not 'resnet20'"),
        (["--row=resnet-20/fp"], "unknown network 'resnet-20'; did you mean 'resnet20'?"),
        (["--row=resnet20/xnot"], "unknown method 'xnot'; did you mean 'xnor'?"),
        (["--profile=quick.resnet18"], "unknown profile 'quick.resnet18'; did you mean 'quick'?"),
        (["--rwo=resnet20/fp"], "did you mean '--row'?"),
    ],
)
def test_rows_that_do_not_exist(words, message, capsys):
    assert main(["fit", *words]) in (1, 2)
    assert message in capsys.readouterr().err


def test_summary_of_a_network(capsys):
    assert main(["summary", "vgg_small", "proposed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    number = r"([\d,.]+)\s+"
    last = re.fullmatch(rf"total\s+{number * 5}([\d,]+)", lines[-1])
    ones, real, memory, binary_mac, real_mac, bits = (float(text.replace(",", "")) for text in last.groups())
    assert binary_mac == 603_979_776
    assert real_mac == 3_538_944 + 81_920
    assert ones == 4_571_136
    norms, scales = 4 * (128 + 128 + 256 + 256 + 512 + 512), 128 + 256 + 256 + 512 + 512
    assert real == 3456 + 81_930 + norms + scales
    assert memory == pytest.approx((ones / 8 + 4 * real) / 1000, abs=0.01)
    assert bits == 5
    assert len(lines) == 4 + 18 + 1


def test_summary_counts_stored_arrays_shared_layers_and_members(capsys):
    import torch
    from torch import nn

    from lit_scaledrop.chip.summary import summarize, total

    assert main(["summary", "lenet5", "spinbayes", "--in-channels=1"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("hidden.0.conv"))
    assert row.split()[1:3] == ["SpinBayesConv2d", f"{4 * 6 * 16 * 25:,}"]
    assert row.split()[-1] == "2"
    assert main(["summary", "lenet5", "deep_ensemble", "--width=0.5"]) == 0
    assert "the ensemble has 5" in capsys.readouterr().out
    shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    sums = total(summarize(nn.Sequential(shared, nn.ReLU(), shared), (4, 5, 5)))
    assert (sums.macs_32bit, sums.weights_32bit) == (2 * 25 * 144, 144)
    assert torch.is_grad_enabled()
    assert main(["summary", "vgg_small", "nonsense"]) == 1
    assert "unknown method 'nonsense'" in capsys.readouterr().err
