"""Tables VII and VIII and the figure of energies: from counted and from made-up results."""

import io

import pandas as pd
import pytest

from lit_scaledrop.cli.report import main
from lit_scaledrop.report.energies import EXECUTIONS, TREATMENTS, energies
from lit_scaledrop.report.figures import pictures
from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.report.tables import build, published
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import InvalidResultError
from lit_scaledrop.results.store import load_results, write_result

ADC_PJ = {"neurosim": 0.4, "isaac": 1.67, "survey": 2.17, "mnsim": 15.6, "murmann": 0.05}
ROLES = dict.fromkeys(ADC_PJ, "converter") | {"mnsim": "outlier", "murmann": "bound"}


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
    from lit_scaledrop.chip.dropout_modules import SCHEMES, module_count

    parts = components()
    return [module_count("lenet5", scheme, parts).result("cpu", [], ("c" * 40, False)) for scheme in SCHEMES]


def test_table7(counted):
    found = tables(markdown(build("table7", counted[::-1])))
    reused, separate, layers = found.values()
    # hand counts: 6 maps of 14 x 14, 400 and 120 features come in; 2,400, 48,000 and 10,080 weights
    assert [(r["method"], r["modules"]) for r in reused] == [
        ("Proposed", "1"), ("Proposed", "1"), ("Proposed, element-wise", "120"), ("SpinBayes", "2"),
        ("Spatial-SpinDrop", "400"), ("SpinDrop", "1,176"), ("SpinDrop, its authors' count", "400"),
        ("MC-Dropout (HTanh)", "84"), ("MC-DropConnect", "48,000"),
    ]  # fmt: skip
    # its authors: inputs of a kernel, 150, 400 and 120
    assert [r["modules"] for r in separate] == ["3", "3", "220", "6", "526", "1,696", "670", "84", "60,480"]
    assert [r["mapping"] for r in reused if r["method"] == "Proposed"] == ["unrolled", "K x K split"]
    assert {r["mapping"] for r in reused if r["method"] != "Proposed"} == {"either"}
    assert row(reused, method="SpinDrop")["counted by"] == "us: one module per neuron"
    assert row(reused, method="SpinDrop, its authors' count")["counted by"] == "its authors: K K C_in"
    one = row(reused, method="Proposed", mapping="unrolled")
    assert one["power (mW)"] == one["power (paper, mW)"] == "0.0225"
    assert (one["bits a pass"], one["energy a pass (pJ)"], one["latency a pass (ns)"]) == ("3", "0.675", "30")
    assert row(reused, method="SpinDrop")["modules (paper)"] == ""
    assert [r["layer"] for r in layers] == ["hidden.0.conv", "hidden.3.linear", "hidden.5.linear", "classifier"]
    assert row(layers, layer="hidden.0.conv")["Spatial-SpinDrop"] == "6"
    assert row(layers, layer="classifier") == {
        "layer": "classifier", "Proposed": "", "Proposed, element-wise": "", "SpinBayes": "", "Spatial-SpinDrop": "",
        "SpinDrop": "", "SpinDrop, its authors' count": "", "MC-Dropout (HTanh)": "84", "MC-DropConnect": "",
    }  # fmt: skip


def test_table7_says_where_its_constants_are_from_and_how_to_make_it(counted):
    text = markdown(build("table7", counted))
    assert "module_power 0.0225 mW (paper: the paper, Table VII" in text
    assert "module_area 10 um2 (assumed:" in text
    assert "`scaledrop cost --profile cpu`" in text
    assert "cccccccccc" in text


def test_table7_in_full_as_csv(counted):
    frame = pd.read_csv(io.StringIO(csv(build("table7", counted))))
    layers = (
        frame[frame.scope == "layer"].groupby("method")[["modules", "area_um2", "power_mw", "draws", "energy_pj"]].sum()
    )
    separate = frame[(frame.reuse == "no") & (frame.mapping != "K x K split")].set_index("method")
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


def eight(make, number, network="lenet5", label="Proposed", scale=1.0, product=True, shared=0.5, **changes):
    """Ten passes: a digital layer of 300 nJ, 40,000 conversions, 50 nJ of products; prefix: the layer once; sharing."""
    found = []
    for how, times in (("loop", 1.0), ("prefix", 1.0), ("shared", shared)):
        for kind in ("folded", "multiplied"):
            for real in TREATMENTS:
                parts = {"adc": (40_000 * times, None)}
                if product and kind == "multiplied":
                    parts["scale_multiplier"] = (12_500 * times, 4.0)
                if real == "digital":
                    parts["digital_mac"] = (1e6 if how == "loop" else 1e5, 0.3)
                where = {"execution": how, "scale": kind, "real_layers": real}
                for adc, each_pj in ADC_PJ.items():
                    total = sum(scale * n * (each or each_pj) / 1e3 for n, each in parts.values())
                    spread = {"energy_std_nj": 1.5 if "scale_multiplier" in parts else 0.0, "tops_per_watt": 20.0}
                    found.append(Measurement({"hw/energy_nj": total, **spread}, {**where, "adc": adc}))
                for name, (n, each) in parts.items():
                    numbers = {"hw/energy_nj": scale * n * (each or ADC_PJ["isaac"]) / 1e3, "operations": scale * n}
                    found.append(Measurement(numbers, {**where, "component": name}))
            if how == "loop":
                for name, energy in (("multiplier: horowitz", 330.0), ("lowest", 300.0), ("highest", 900.0)):
                    at = {"execution": how, "scale": kind, "condition": name}
                    found.append(Measurement({"hw/energy_nj": scale * energy}, at))
    result = make(number, study="table8", network=network, label=label, bits_w=1, bits_a=1, **changes)
    config = {
        "passes": 10,
        "converters": {adc: {"title": adc, "role": role, "source": ""} for adc, role in ROLES.items()},
    }
    empty = {"data": {}, "training": {}, "evaluation": {}}
    return type(result)(**{**vars(result), **empty, "measurements": found, "config": config})


@pytest.fixture
def nine(make):
    methods = (("Proposed", 1.0, True, 0.5), ("SpinDrop", 2.0, False, 1.0), ("Spatial-SpinDrop", 1.5, False, 0.9))
    return [
        eight(make, 10 * place + number, network, label, size * scale, product, shared)
        for place, (network, size) in enumerate((("lenet5", 1.0), ("vgg_small", 2000.0)), 1)
        for number, (label, scale, product, shared) in enumerate(methods, 1)
    ]


def test_table8_beside_published_systems(nine):
    found = tables(markdown(build("table8", nine)))
    systems = found["Beside published systems"]
    assert len(systems) == 10 + 6
    assert row(systems, work="Scale-Dropout (MNIST)")["energy an image"].startswith("0.18 uJ [^")
    assert row(systems, work="H. Fan et al.")["energy an image"].startswith("0.014 J [^")
    ours = row(systems, work="ours: Proposed", topology="LeNet-5")
    # 300 + 40 x 1.67 nJ; NeuroSim and the survey are the ends; the layer once; half of the conversions
    assert (ours["energy an image"], ours["over cited converters"]) == ("367 nJ", "316 nJ to 387 nJ")
    assert (ours["prefix once"], ours["shared"]) == ("96.8 nJ", "63.4 nJ")


def test_table8_methods_and_their_ratios(nine):
    text = markdown(build("table8", nine))
    found = tables(text)
    methods = found["LeNet-5: energy of an image by method and execution"]
    assert [(r["method"], r["scales"]) for r in methods] == [
        ("Proposed", "folded"), ("Proposed", "multiplied"), ("SpinDrop", "-"), ("Spatial-SpinDrop", "-"),
    ]  # fmt: skip
    multiplied = row(methods, scales="multiplied")
    assert (multiplied["one by one, digital"], multiplied["one by one, left out"]) == ("417 nJ", "117 nJ")
    assert (multiplied["deviation over masks"], multiplied["TOPS/W"]) == ("1.5 nJ", "20")
    assert row(methods, scales="folded")["deviation over masks"] == "0"
    ratios = found["How many times Proposed's energy"]
    folded = row(ratios, topology="LeNet-5", method="SpinDrop", **{"Proposed's scales": "folded"})
    assert (folded["one by one, digital"], folded["shared, left out"], folded["paper"]) == ("2.00", "4.00", "11.1")
    # 2 x 66.8 nJ against 66.8 + 50 nJ
    against = row(ratios, topology="LeNet-5", method="SpinDrop", **{"Proposed's scales": "multiplied"})
    assert against["one by one, left out"] == "1.14"
    assert row(ratios, topology="VGG-small", method="SpinDrop", **{"Proposed's scales": "folded"})["paper"] == ""
    assert "SpinDrop: the paper's 11.1 times Proposed is not reproduced. Ours is 1.14 to 4.00" in text
    assert "Spatial-SpinDrop: the paper's 3.8 times Proposed is not reproduced" in text
    assert "nan" not in text


def test_a_ratio_that_is_reproduced_says_where(make):
    runs = [eight(make, 1), eight(make, 2, label="SpinDrop", scale=11.0, product=False)]
    text = markdown(build("table8", runs))
    assert "reproduced only where passes are one by one, digital; one by one, as if binary" in text


def test_table8_against_the_paper(nine):
    text = markdown(build("table8", nine))
    found = tables(text)
    bands = found["LeNet-5, Proposed: the paper's 180 nJ"]
    left_out = row(bands, passes="one by one", scales="folded", **{"first and last layer": "left out"})
    # 40,000 conversions of 0.4, 2.17, 15.6 and 0.05 pJ, and of 4.5 pJ for 180 nJ
    assert (left_out["cited converters, least"], left_out["most"]) == ("16 nJ", "86.8 nJ")
    assert left_out["the paper's is ... times that"] == "2.1 to 11"
    assert (left_out["mnsim, outlier"], left_out["murmann, bound"]) == ("624 nJ", "2 nJ")
    assert left_out["conversion that would match"] == "4.50 pJ"
    digital = row(bands, passes="one by one", scales="folded", **{"first and last layer": "digital"})
    assert digital["conversion that would match"] == "none"
    assert "inside the band" not in text
    assert "cited converters give 16 nJ to 86.8 nJ, the paper's 180 nJ is 2.1 to 11 times that" in text
    # VGG-small: 290 uJ over 80 million conversions
    vgg = found["VGG-small, Proposed: the paper's 290 uJ"]
    assert row(vgg, passes="one by one", scales="folded", **{"first and last layer": "left out"})[
        "conversion that would match"
    ] == "3.62 pJ"  # fmt: skip
    assert "No single converter matches both: nearest are" in text


def test_table8_components_and_sources(nine):
    found = tables(markdown(build("table8", nine)))
    parts = found["LeNet-5, Proposed: by component, first and last layer digital"]
    assert [r["component"] for r in parts] == ["digital MAC", "ADC", "scale multiplier"]
    assert row(parts, component="ADC")["one by one, folded"] == "66.8 nJ (18.2 %)"
    assert row(parts, component="scale multiplier")["one by one, folded"] == ""
    assert row(parts, component="scale multiplier")["shared, multiplied"] == "25 nJ (28.3 %)"
    (source,) = found["LeNet-5, Proposed: other sources, one at a time"]
    assert source["change"] == "-10.0 %"
    text = markdown(build("table8", nine))
    for word in ("source of each at once 300 nJ to 900 nJ", "`scaledrop cost --table table8 --profile cpu`"):
        assert word in text


def test_table8_in_full_as_csv(nine):
    frame = pd.read_csv(io.StringIO(csv(build("table8", nine))))
    theirs = frame[frame.work == "H. Fan et al."].iloc[0]
    assert theirs.energy_nj == pytest.approx(14e6)
    ours = frame[(frame.work == "ours") & (frame.topology == "LeNet-5") & (frame.method == "Proposed")]
    here = ours[(ours.execution == "loop") & (ours.scale == "folded") & (ours.real_layers == "digital")]
    total = here[here.adc == "isaac"].energy_nj.item()
    assert here[here.component.notna()].energy_nj.sum() == pytest.approx(total) == pytest.approx(366.8)


def test_a_result_without_energies_is_a_clear_error(make):
    result = eight(make, 1)
    result.measurements[:] = [Measurement({"macs": 1.0})]
    with pytest.raises(ValueError, match="000000000001 has no energies"):
        build("table8", [result])


def test_published_systems():
    frame = published("table8.csv")
    assert len(frame) == 10
    assert not frame.isna().any().any()


def test_the_command_draws_the_figure_with_the_table(nine, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for result in nine:
        write_result(result, tmp_path)
    assert main(["table8", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    names = {path.name for path in (tmp_path / "cpu").iterdir() if path.is_file()}
    assert names == {"table8.md", "table8.csv", "energy.svg", "energy.png", "energy.csv"}
    before = (tmp_path / "cpu" / "energy.png").read_bytes()
    assert main(["energy", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    assert (tmp_path / "cpu" / "energy.png").read_bytes() == before
    assert main(["energy", "--results", str(tmp_path), "--profile", "paper"]) == 1
    assert "sweeps/table8.yaml" in capsys.readouterr().err
    assert main(["--html", "--results", str(tmp_path), "--profile", "cpu"]) == 0


def test_what_the_picture_shows(nine, tmp_path):
    pytest.importorskip("matplotlib")
    written = pictures("energy", nine, tmp_path / "energy")
    assert [path.name for path in written] == ["energy.svg", "energy.png", "energy.csv"]
    frame = pd.read_csv(tmp_path / "energy.csv")
    paper = frame[frame.adc == "paper"].set_index("topology")["mean"]
    assert paper.to_dict() == {"LeNet-5": 180.0, "VGG-small": 290_000.0}
    here = frame[(frame.topology == "VGG-small") & (frame.method == "Proposed") & (frame.adc == "isaac")]
    total = here[here.component == "total"].set_index("execution")["mean"]
    assert total.to_dict() == pytest.approx({"loop": 733_600, "prefix": 193_600, "shared": 126_800})
    assert set(frame.execution) == set(EXECUTIONS)


def test_energies_of_a_result(make):
    frame = energies(eight(make, 1))
    assert set(frame.scale) == {"folded", "multiplied"}
    assert frame["hw/energy_nj"].notna().all()
