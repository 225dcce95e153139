"""Tables VII and VIII and the figure of energies: from counted and from made-up results."""

import io

import pandas as pd
import pytest

from lit_scaledrop.cli.report import main
from lit_scaledrop.report.energies import CONSTANTS, TREATMENTS, carrier, energies
from lit_scaledrop.report.figures import pictures
from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.report.tables import build, published
from lit_scaledrop.results.result import InvalidResultError, load_results, write_result

DIGITS = {"name": "digits", "stand_in": True, "fingerprint": "d161", "source": "scikit-learn digits at 32x32"}
MNIST = {"name": "mnist", "fingerprint": "3157", "source": "idx"}
ADC_PJ = {"neurosim": 0.4, "isaac": 1.67, "mnsim": 15.6, "murmann": 0.05}
HOW = {"samples": 10, "limit": None, "images": 10000, "parts": ["clean", "energy/loop"], "suites": {}, "absent": {}}


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Rows of the table under each heading."""
    found = {}
    for block in text.split("## ")[1:]:
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"
        ]
        found[block.splitlines()[0]] = [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]
    return found


def row(found: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (one,) = [cells for cells in found if all(cells[key] == value for key, value in wanted.items())]
    return one


# --- table VII ---


@pytest.fixture(scope="module")
def counted():
    """Results of `scaledrop cost` for LeNet-5."""
    from hardware.presets import components
    from lit_scaledrop.chip.dropout_modules import SCHEMES, cost_result

    return [cost_result("lenet5", scheme, components(), "cpu", [], ("c" * 40, False)) for scheme in SCHEMES]


def test_table7(counted):
    found = tables(markdown(build("table7", counted[::-1])))
    reused, separate, layers = found.values()
    # hand counts: 6 maps of 14 x 14, 400 and 120 features come in; 2,400, 48,000 and 10,080 weights
    assert [(r["method"], r["modules"]) for r in reused] == [
        ("Proposed", "1"), ("Proposed, element-wise", "120"), ("SpinBayes", "2"), ("Spatial-SpinDrop", "400"),
        ("SpinDrop", "1,176"), ("MC-Dropout (HTanh)", "84"), ("MC-DropConnect", "48,000"),
    ]  # fmt: skip
    assert [r["modules"] for r in separate] == ["3", "220", "6", "526", "1,696", "84", "60,480"]
    one = row(reused, method="Proposed")
    assert one["power (mW)"] == one["power (paper, mW)"] == "0.0225"
    assert (one["bits a pass"], one["energy a pass (pJ)"], one["latency a pass (ns)"]) == ("3", "0.675", "30")
    assert row(reused, method="SpinDrop")["modules (paper)"] == ""
    assert [r["layer"] for r in layers] == ["hidden.0.conv", "hidden.3.linear", "hidden.5.linear", "classifier"]
    assert row(layers, layer="hidden.0.conv")["Spatial-SpinDrop"] == "6"
    assert row(layers, layer="classifier") == {
        "layer": "classifier", "Proposed": "", "Proposed, element-wise": "", "SpinBayes": "", "Spatial-SpinDrop": "",
        "SpinDrop": "", "MC-Dropout (HTanh)": "84", "MC-DropConnect": "",
    }  # fmt: skip


def test_table7_says_where_its_constants_are_from_and_how_to_make_it(counted):
    text = markdown(build("table7", counted))
    assert "module_power 0.0225 mW (paper: the paper, section 5" in text
    assert "module_area 10 um2 (assumed:" in text
    assert "`scaledrop cost --profile cpu`" in text
    assert "cccccccccc" in text


def test_table7_in_full_as_csv(counted):
    frame = pd.read_csv(io.StringIO(csv(build("table7", counted))))
    layers = (
        frame[frame.scope == "layer"].groupby("method")[["modules", "area_um2", "power_mw", "draws", "energy_pj"]].sum()
    )
    separate = frame[frame.reuse == "no"].set_index("method")
    for method, sums in layers.iterrows():
        for name, value in sums.items():
            assert separate.loc[method, name] == pytest.approx(value)


def test_a_record_without_training_has_all_of_it_or_nothing(counted, make, tmp_path):
    path = write_result(counted[0], tmp_path)
    assert load_results(tmp_path, "cpu", "table7") == ([counted[0]], [])
    assert path.name == f"{counted[0].id}.json"
    record = make()
    with pytest.raises(InvalidResultError, match=r"training\.epochs is missing"):
        type(record)(**{**vars(record), "training": {}})


# --- table VIII ---


def eight(make, number, network="lenet5", accuracy=0.98, scale=1.0, **changes):
    """Ten passes: a digital layer of 300 nJ, 40,000 conversions, 50 nJ of multiplications; sharing halves it."""
    metrics = {"clean/cls/acc": accuracy}
    for execution, share in (("loop", 1.0), ("shared", 0.5)):
        for real in TREATMENTS:
            parts = {"adc": 40_000, "scale_multiplier": 12_500} | ({"digital_mac": 1e6} if real == "digital" else {})
            for adc, each_pj in ADC_PJ.items():
                each = {"adc": each_pj, "scale_multiplier": 4.0, "digital_mac": 0.3}
                energy = {name: scale * share * n * each[name] / 1e3 for name, n in parts.items()}
                head = f"energy/{execution}/{real}"
                metrics[f"{head}/{adc}/hw/energy_nj"] = sum(energy.values())
                metrics |= {f"{head}/{adc}/hw/energy_nj/{name}": value for name, value in energy.items()}
                metrics |= {f"{head}/operations/{name}": scale * share * n for name, n in parts.items()}
    how = {"study": "table8", "network": network, "seed": number, "evaluation": HOW, "numbers": metrics}
    return make(number, **how, **changes)


def test_table8(make):
    runs = [
        eight(make, 1, data=MNIST),
        eight(make, 2, data=MNIST, accuracy=0.96),
        eight(make, 3, "vgg_small", 0.76, 2000),
    ]
    text = markdown(build("table8", runs))
    found = tables(text)
    systems = found["Beside published systems"]
    assert len(systems) == 10 + 2 * 3
    paper = row(systems, work="Scale-Dropout (MNIST)")
    assert paper["energy an image"].startswith("0.18 uJ [^")
    assert row(systems, work="H. Fan et al.")["energy an image"].startswith("0.014 J [^")
    ours = row(systems, topology="LeNet-5", work="ours, first and last layer digital")
    # 300 + 40 x 1.67 + 50 nJ; mean of 98 and 96 %, deviation sqrt 2
    assert (ours["energy an image"], ours["band over ADC models"]) == ("417 nJ", "352 nJ to 974 nJ")
    assert (ours["accuracy (ours, %)"], ours["on"]) == ("97.00 ± 1.41", "MNIST")
    assert row(systems, topology="VGG-small", work="ours, first and last layer left out")["on"] == "CIFAR-10"
    bands = found["LeNet-5, Proposed, T = 10: energy of an image by ADC model"]
    digital = row(bands, **{"first and last layer": "digital", "passes": "one by one"})
    assert (digital["paper"], digital["paper in the band"], digital["ISAAC / paper"]) == ("180 nJ", "no", "2.32")
    binary = row(bands, **{"first and last layer": "as if binary", "passes": "one by one"})
    assert (binary["MNSIM"], binary["paper in the band"]) == ("674 nJ", "yes")
    shared = row(bands, **{"first and last layer": "as if binary", "passes": "common prefixes once"})
    assert (shared["MNSIM"], shared["paper in the band"]) == ("337 nJ", "")
    parts = found["LeNet-5, Proposed, T = 10: by component"]
    assert [r["component"] for r in parts] == ["digital MAC", "ADC", "scale multiplier"]
    assert row(parts, component="ADC")["digital, MNSIM"] == "624 nJ (64.1 %)"
    assert "nan" not in text
    for word in ("MNIST; idx", "seeds 1 2", "seeds 3", "the unit is lost in our copy", "sweeps/table8.yaml"):
        assert word in text


def test_the_constant_that_carries_the_difference_is_named(make):
    frame = energies(eight(make, 1))
    digital = carrier(frame, "digital", 180.0)
    assert "outside of the band 352 nJ to 974 nJ" in digital
    # all but the digital layer is 66.8 + 50 nJ: 63.2 nJ are left for a million operations
    assert "digital MAC, 1,000,000 operations of 0.3 pJ (real_mac_energy)" in digital
    assert "All else takes 117 nJ; at 0.0632 pJ it would be the paper's" in digital
    assert "in the band 52 nJ to 674 nJ" in carrier(frame, "binary", 180.0)
    assert "which is already more than the paper has" in carrier(frame, "digital", 100.0)


def test_stand_ins_and_other_numbers_of_passes_are_not_compared(make):
    stand_in = eight(make, 1, data=DIGITS)
    stand_in.evaluation["samples"] = 20
    text = markdown(build("table8", [stand_in]))
    found = tables(text)
    ours = row(found["Beside published systems"], work="ours, first and last layer digital")
    assert ours["on"] == "digits (stand-in)"
    bands = found["LeNet-5, Proposed, T = 20: energy of an image by ADC model"]
    assert all(r["paper"] == r["paper in the band"] == "" for r in bands)
    assert "the paper's 180 nJ" not in text


def test_table8_in_full_as_csv(make):
    frame = pd.read_csv(io.StringIO(csv(build("table8", [eight(make, 1)]))))
    theirs = frame[frame.work == "H. Fan et al."].iloc[0]
    assert theirs.energy_nj == pytest.approx(14e6)
    ours = frame[
        (frame.work == "ours") & (frame.execution == "loop") & (frame.adc == "isaac") & (frame.real_layers == "digital")
    ]
    energy = ours.set_index("component").energy_nj
    assert energy.drop("total").sum() == pytest.approx(energy["total"]) == pytest.approx(416.8)


def test_a_result_without_energies_is_a_clear_error(make, without):
    result = eight(make, 1)
    for execution in ("loop", "shared"):
        without(result, execution=execution)
    with pytest.raises(ValueError, match="000000000001 has no energies"):
        build("table8", [result])


def test_published_systems():
    frame = published("table8.csv")
    assert len(frame) == 10
    assert not frame.isna().any().any()
    assert set(CONSTANTS) >= {"adc", "crossbar", "dropout_module"}


def test_the_command_draws_the_figure_with_the_table(make, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for result in (eight(make, 1, data=MNIST), eight(make, 2, "vgg_small", 0.76, 2000)):
        write_result(result, tmp_path)
    assert main(["table8", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    names = {path.name for path in (tmp_path / "cpu").iterdir() if path.is_file()}
    assert names == {"table8.md", "table8.csv", "energy.svg", "energy.png", "energy.csv"}
    before = (tmp_path / "cpu" / "energy.png").read_bytes()
    assert main(["energy", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    assert (tmp_path / "cpu" / "energy.png").read_bytes() == before
    assert main(["energy", "--results", str(tmp_path), "--profile", "paper"]) == 1
    assert "sweeps/table8.yaml" in capsys.readouterr().err


def test_runs_on_other_data_stand_in_one_picture(make, tmp_path):
    pytest.importorskip("matplotlib")
    made = [eight(make, 1, data=MNIST), eight(make, 2, "vgg_small", 0.76, 2000)]
    written = pictures("energy", made, tmp_path / "energy")
    assert [path.name for path in written] == ["energy.svg", "energy.png", "energy.csv"]
    frame = pd.read_csv(tmp_path / "energy.csv")
    paper = frame[frame.adc == "paper"].set_index("topology")["mean"]
    assert paper.to_dict() == {"LeNet-5": 180.0, "VGG-small": 290_000.0}
    total = frame[(frame.topology == "VGG-small") & (frame.adc == "isaac") & (frame.component == "total")]
    assert total.set_index("real_layers")["mean"]["digital"] == pytest.approx(833_600)
