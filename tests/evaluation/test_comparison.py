"""`compare`: each number by hand from the passes, tables and pictures of it, what it refuses."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from lit_scaledrop import METHODS, PosteriorPredictive, build_network, compare
from lit_scaledrop.functional.ood import roc
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.report.figures.style import styles

HOW = Evaluation(samples=6, seed=3, execution="shared")


def network(seed, method="proposed"):
    torch.manual_seed(seed)
    made = build_network("lenet5", METHODS[method], in_channels=1, width=0.5)
    for layer in made.modules():
        if isinstance(layer, ScaleDropout):
            torch.nn.init.normal_(layer.scale, 1, 0.7)
    return made.eval()


@pytest.fixture(scope="module")
def found():
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(60, 1, 32, 32, generator=generator), 3 * torch.rand(40, 1, 32, 32, generator=generator)
    labels = torch.randint(10, (60,), generator=generator)
    networks = {"Proposed": network(0), "IR-Net": network(1, "irnet"), "ensemble": [network(2, "irnet"), network(3)]}
    batches = zip(x.split(25), labels.split(25), strict=True)  # read once
    made = compare(networks, batches, {"noise": [noise[:30], (noise[30:], None)]}, evaluation=HOW, rotations=(0, 90))
    return networks, x, labels, noise, made


def test_numbers_by_hand(found):
    networks, x, labels, noise, made = found
    assert list(made.frame.index) == list(networks)
    assert made.frame["passes"].tolist() == [6, 1, 7]
    for name, members in networks.items():
        inside, outside = (PosteriorPredictive(members, 6, 3, "loop")(images) for images in (x, noise))
        passes = [1, 6] if name == "ensemble" else [len(inside.probs)]  # each network counts alike
        mean = torch.stack([part.double().mean(0) for part in inside.probs.split(passes)]).mean(0)
        row = made.frame.loc[name]
        right = mean.argmax(1) == labels
        assert row["cls/acc"] == pytest.approx(right.double().mean().item())
        assert row["cls/nll"] == pytest.approx(-mean[range(60), labels].log().mean().item(), abs=1e-5)
        onehot = torch.nn.functional.one_hot(labels, 10)
        assert row["cls/brier"] == pytest.approx((mean - onehot).square().sum(1).mean().item(), abs=1e-5)
        bins = (mean.amax(1) * 15).ceil()
        gaps = [abs((mean.amax(1) - right.double())[bins == one].sum().item()) for one in range(1, 16)]
        assert row["cal/ece"] == pytest.approx(sum(gaps) / 60, abs=1e-5)
        truth = np.repeat([0, 1], (60, 40))
        for score in ("predictive_entropy", "mutual_information"):
            both = torch.cat([getattr(each.wide(), score) for each in (inside, outside)])
            assert row[f"noise/ood/auroc/{score}"] == pytest.approx(roc_auc_score(truth, both), abs=2e-3)
        upright, turned = (made.turned[angle][name]["correct"] for angle in (0.0, 90.0))
        assert torch.equal(upright, right)
        again = PosteriorPredictive(members, 6, 3)(x.rot90(1, (2, 3))).predicted_class == labels
        assert torch.equal(turned, again)


def test_roc_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    inside = torch.randint(20, (300,), generator=generator).float()  # ties
    outside = torch.randint(5, 25, (200,), generator=generator).float()
    x, y, _ = roc_curve(np.repeat([0, 1], (300, 200)), torch.cat([inside, outside]), drop_intermediate=False)
    ours = roc(inside, outside)
    assert ours[0].tolist() == pytest.approx(x.tolist())
    assert ours[1].tolist() == pytest.approx(y.tolist())


def test_tables(found, tmp_path):
    made = found[-1]
    assert str(made) == made.table()
    cells = made.table("markdown").splitlines()[2].split("|")
    assert [cells[1].strip(), cells[2].strip()] == ["Proposed", f"{100 * made.frame['cls/acc'].iloc[0]:.2f}"]
    assert "AUROC noise, MI (\\%)" in made.table("latex")
    assert r"\toprule" in made.table("latex")
    exact = pd.read_csv(io.StringIO(made.table("csv")), index_col="network")
    pd.testing.assert_frame_equal(exact, made.frame, check_names=False)
    for name in ("a.md", "a.tex", "a.csv", "a.txt", "a.svg", "a.png", "a.pdf"):
        made.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 100
    assert "<table" in made._repr_html_()
    with pytest.raises(ValueError, match="a table ends in"):
        made.save(tmp_path / "a.docx")


def test_the_picture(found):
    figure = found[-1].plot()
    assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook without pyplot shows it"
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == ["Reliability", "Errors among the surest", "ROC, noise (dotted: MI)", *["Turned images"] * 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(found[0])
    # passes of a network without random layers do not differ: it has no line by mutual information
    assert len(figure.axes[2].lines) == 3 + 2 + 1


IMAGES = torch.zeros(4, 1, 32, 32)


def test_names_that_mean_something_to_a_format(tmp_path):
    names = ["_first", r"a$\frac$ & 5 %", "$x$ | y", "=1"]
    made = compare({name: network(0) for name in names}, [(IMAGES, torch.zeros(4).long())], {"$z$": [{"x": IMAGES}]})
    figure = made.plot()
    figure.savefig(tmp_path / "a.svg")
    shown = [text.get_text().lstrip("\u200b") for text in figure.legends[0].get_texts()]
    assert shown == names
    assert r"a\$\textbackslash frac\$ \& 5 \%" in made.table("latex")
    assert r"| $x$ \| y" in made.table("markdown")
    assert "\n'=1," in made.table("csv")


def test_more_networks_than_colours():
    looks = list(styles([f"net {number}" for number in range(30)] + ["Proposed"]).values())
    assert len(set(looks)) == 31
    made = compare({str(number): network(0) for number in range(14)}, [(IMAGES, torch.zeros(4).long())])
    figure = made.plot()
    figure.canvas.draw()
    legend, lowest = (each.get_window_extent() for each in (figure.legends[0], figure.axes[0].xaxis.label))
    assert legend.y1 <= lowest.y0


def test_networks_run_where_the_first_one_is():
    """On the meta device nothing has values, so a prediction there cannot become numbers."""
    first, second = network(0).to("meta"), network(1)
    with contextlib.suppress(NotImplementedError, RuntimeError):
        compare({"a": first, "b": second}, [(IMAGES, torch.zeros(4).long())])
    assert next(second.parameters()).device.type == "meta"


@pytest.mark.parametrize(
    ("networks", "batches", "ood", "message"),
    [
        ({}, [(IMAGES, torch.zeros(4).long())], None, "no networks"),
        ({"a": "net"}, [], None, "no images to compare"),
        ({"a": "net"}, [IMAGES], None, "images and labels"),
        ({"a": "net"}, [(IMAGES, torch.zeros(4))], None, "whole numbers"),
        ({"a": "net"}, [(IMAGES, torch.full((4,), 10))], None, "a tells 10 classes apart, and labels go from 10 to 10"),
        ({"a": "net"}, [(IMAGES, torch.zeros(4, 1).long())], None, "whole numbers of shape"),
        ({"a": "net"}, [{"image": IMAGES, "label": torch.zeros(4)}], None, "images and labels"),
        ({"a": "net", "b": "five"}, [(IMAGES, torch.zeros(4).long())], None, "a tells 10 classes apart and b 5"),
        ({"a": "net", "b": "none"}, [(IMAGES, torch.zeros(4).long())], None, "b is an ensemble without members"),
        ({"a": "net"}, [(IMAGES, torch.zeros(4).long())], {"none": []}, "OOD set 'none'"),
    ],
)
def test_what_cannot_be_compared(networks, batches, ood, message):
    known = {"net": network(0), "five": build_network("lenet5", METHODS["irnet"], 5, 1, width=0.5), "none": []}
    made = {name: known[which] for name, which in networks.items()}
    with pytest.raises(ValueError, match=message):
        compare(made, batches, ood, evaluation=HOW)


def test_a_chip_needs_training_images():
    with pytest.raises(ValueError, match="a chip file needs training images"):
        compare({"a": network(0)}, [(IMAGES, torch.zeros(4).long())], evaluation=Evaluation(chip_file="sot_80nm"))
