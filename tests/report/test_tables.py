"""Table III from made-up results: numbers, order, what is never mixed, and what is never claimed."""

import io
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from lit_scaledrop.cli.report import main
from lit_scaledrop.report.table import Report, Section, csv, latex, markdown, named, section_cells
from lit_scaledrop.report.table import text as text_column
from lit_scaledrop.report.tables import TABLES, build, published
from lit_scaledrop.results.store import write_result

FP = {"method": "fp", "label": "FP", "bits_w": 32, "bits_a": 32, "bayesian": False}
DIGITS = {"name": "digits", "stand_in": True, "fingerprint": "d161", "source": "scikit-learn digits at 32x32"}


def three_seeds(make, **changes):
    return [make(s, seed=s, metrics={"cls/acc": a}, **changes) for s, a in ((1, 0.85), (2, 0.86), (3, 0.88))]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(text: str, topology: str, method: str) -> dict[str, str]:
    table = rows(text)
    found = [cells for cells in table if cells[:2] == [topology, method]]
    assert len(found) == 1, text
    return dict(zip(table[0], found[0], strict=True))


def test_mean_std_n_and_difference(make):
    text = markdown(build("table3", three_seeds(make)))
    proposed = row(text, "ResNet-20", "Proposed")
    # (85 + 86 + 88) / 3 = 86.333; std = sqrt((1.333^2 + 0.333^2 + 1.667^2) / 2) = 1.5275
    assert proposed["CIFAR-10 accuracy (ours, %)"] == "86.33 ± 1.53 (n=3)"
    assert proposed["CIFAR-10 accuracy (paper, %)"].startswith("86.04 [^")
    assert proposed["difference (points)"] == "+0.29"
    assert (proposed["NLL"], proposed["ECE"], proposed["OOD rate"]) == ("0.500", "0.030", "0.200")
    assert (proposed["epochs"], proposed["training time"]) == ("10", "1.5 min")
    assert (proposed["W/A"], proposed["Bayesian"]) == ("1/1", "yes")


def test_one_seed_has_no_std_and_missing_metrics_are_empty(make):
    one = make(1, **FP)
    del one.metrics["ood/rate"]
    fp = row(markdown(build("table3", [one])), "ResNet-20", "FP")
    assert fp["CIFAR-10 accuracy (ours, %)"] == "86.00 (n=1)"
    assert fp["OOD rate"] == ""
    assert fp["difference (points)"] == "-5.70"


def test_order_is_the_papers_and_our_own_rows_follow(make):
    results = [make(1, network="lenet5"), make(2, **FP), make(3), make(4, network="resnet20", label="New")]
    text = markdown(build("table3", results))
    order = [tuple(cells[:2]) for cells in rows(text)[2:]]
    paper = list(published("table3.csv")[["topology", "method"]].itertuples(index=False, name=None))
    assert order == [*paper, ("ResNet-20", "New"), ("LeNet-5", "Proposed")]
    assert "Not in the paper's table: ResNet-20 New, LeNet-5 Proposed." in text
    lenet = row(text, "LeNet-5", "Proposed")
    assert lenet["CIFAR-10 accuracy (paper, %)"] == lenet["difference (points)"] == ""


def test_lost_cells_stay_empty_and_sources_are_footnotes(make):
    text = markdown(build("table3", [make()]))
    lost = row(text, "ResNet-20", "MC-Dropout (HTanh)")
    assert [lost[name] for name in lost if name not in ("topology", "method", "W/A", "Bayesian")] == [""] * 8
    assert "the number is missing in our copy of the paper" in text
    assert "lost in our copy" not in text.split("[^1]:")[1]
    mark = row(text, "ResNet-20", "Proposed")["CIFAR-10 accuracy (paper, %)"].split()[1]
    assert f"{mark}: derived from Table X" in text.splitlines()
    for source in published("table3.csv").dropna().source.unique():
        assert sum(line.endswith(f": {source}") for line in text.splitlines()) == 1


def test_stand_in_is_named_and_never_compared(make):
    text = markdown(build("table3", three_seeds(make, data=DIGITS, profile="quick")))
    assert "CIFAR" not in text.split("|")[0]  # neither title nor heading
    assert rows(text)[0][4:6] == ["digits accuracy (ours, %)", "CIFAR-10 accuracy (paper, %)"]
    assert "difference" not in text
    assert "a stand-in: not comparable with the paper's data" in text
    header = csv(build("table3", three_seeds(make, data=DIGITS))).splitlines()[0].split(",")
    assert "digits_accuracy_percent" in header
    assert "paper_cifar10_accuracy_percent" in header
    assert not {"difference_points", "cifar10_accuracy_percent"} & set(header)


def test_data_and_epochs_are_never_mixed(make):
    results = [
        make(1),
        make(2, seed=2, training={"epochs": 300}),
        make(3, seed=3, data={"fingerprint": "0ff"}),
        make(4, seed=4, data={"train": 500}),
        make(5, seed=5, data=DIGITS),
    ]
    report = build("table3", results)
    assert len(report.sections) == 5
    assert all(section.frame.n.max() == 1 for section in report.sections)
    frame = pd.read_csv(io.StringIO(csv(report)))
    ours = frame.dropna(subset="n")
    assert sorted(zip(ours.data, ours.epochs, ours.seeds, strict=True)) == [
        ("cifar10", 10, 1), ("cifar10", 10, 3), ("cifar10", 10, 4), ("cifar10", 300, 2), ("digits", 10, 5),
    ]  # fmt: skip
    assert ours[ours.data == "digits"].cifar10_accuracy_percent.isna().all()
    assert ours[ours.data == "digits"].difference_points.isna().all()


def test_a_topology_stands_where_it_was_measured(make):
    long = [make(1), make(2, network="vgg_small")]
    short = make(3, network="resnet18", training={"epochs": 8})
    shown = {section.heading: set(section.frame.topology) for section in build("table3", [short, *long]).sections}
    assert shown == {"CIFAR-10, 8 epochs": {"ResNet-18"}, "CIFAR-10, 10 epochs": {"ResNet-20", "VGG-small"}}
    # what nobody has measured is shown once
    shown = [set(section.frame.topology) for section in build("table3", [short, make(1)]).sections]
    assert sorted(map(len, shown)) == [1, 2]
    assert set.union(*shown) == {"ResNet-18", "ResNet-20", "VGG-small"}


def test_profiles_are_never_mixed(make):
    with pytest.raises(ValueError, match="one profile"):
        build("table3", [make(1), make(2, profile="paper")])
    with pytest.raises(ValueError, match="one profile"):
        build("table3", [])


def test_newest_setting_is_shown_and_the_others_noted(make):
    old = three_seeds(make)
    new = make(4, seed=1, metrics={"cls/acc": 0.9}, provenance={"setting": "s2"})
    text = markdown(build("table3", [new, *old]))
    assert row(text, "ResNet-20", "Proposed")["CIFAR-10 accuracy (ours, %)"] == "90.00 (n=1)"
    assert "left out are 3 older runs of other settings (000000000001, 000000000002, 000000000003)" in text


def test_one_seed_twice_is_no_second_sample(make):
    results = [make(n, metrics={"cls/acc": 0.8 + n / 100}, config={"lr": n}) for n in (1, 2)]
    for result in results:
        del result.provenance["setting"]
    text = markdown(build("table3", results))
    assert row(text, "ResNet-20", "Proposed")["CIFAR-10 accuracy (ours, %)"] == "82.00 (n=1)"
    assert "000000000001" in text


def test_caption_says_what_a_reader_needs(make):
    results = [
        make(1, seed=7, provenance={"dirty": True}),
        make(2, seed=2, evaluation={"samples": 1}, training={"device": "cuda: Test GPU"}, **FP),
    ]
    caption = "\n".join(build("table3", results).sections[0].caption)
    for part in (
        "Profile cpu",
        "CIFAR-10; a made-up archive; fingerprint f00d",
        "45000 training, 5000 validation and 10000 test",
        "Epochs: 10; best checkpoint; T = 1 (FP), 20 (Proposed); seeds 2 7",
        "cpu: Test CPU, 2 threads; cuda: Test GPU",
        "abcdef0123 (dirty)",
        "scaledrop sweep sweeps/table3.yaml --profile cpu --seeds 2 7",
        "scaledrop report table3 --profile cpu",
    ):
        assert part in caption


def test_bytes_do_not_depend_on_the_order_of_results(make):
    old = [make(n, provenance={"setting": "old", "finished": f"2025-01-0{n}"}) for n in (7, 8)]
    old += [make(9, provenance={"setting": "old", "finished": "2025"}, **FP)]
    results = [
        *three_seeds(make),
        make(4, **FP),
        make(5, seed=5, data=DIGITS),
        make(6, network="lenet5"),
        *old,
    ]
    one, two = build("table3", results), build("table3", results[::-1])
    assert markdown(one) == markdown(two)
    assert csv(one) == csv(two)


def test_command_writes_both_files(make, tmp_path, capsys):
    for result in three_seeds(make):
        write_result(result, tmp_path)
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "86.33 ± 1.53 (n=3)" in out
    assert max(map(len, out.splitlines())) > 80  # a pipe gets whole lines, not cells folded to 80 columns
    for name in ("table3.md", "table3.csv"):
        assert str(tmp_path / "cpu" / name) in err
    texts = [(tmp_path / "cpu" / f"table3.{end}").read_bytes() for end in ("md", "csv")]
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.encode() == texts[0]
    assert [(tmp_path / "cpu" / f"table3.{end}").read_bytes() for end in ("md", "csv")] == texts
    assert sorted(os.listdir(tmp_path / "cpu")) == ["table3", "table3.csv", "table3.md"]


def test_latex_has_the_cells_of_the_table(make, tmp_path, capsys):
    results = three_seeds(make)
    for result in results:
        write_result(result, tmp_path)
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu", "--format", "latex"]) == 0
    out = capsys.readouterr().out
    assert r"86.33 $\pm$ 1.53 (n=3)" in out
    bodies = re.findall(r"\\toprule\n(.*?)\\bottomrule", out, re.DOTALL)
    for section, body in zip(build("table3", results).sections, bodies, strict=True):
        lines = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if line != r"\midrule"]
        plain = [[re.sub(r"\$\^\{\d+\}\$", "", cell) for cell in line] for line in lines]
        told = [
            [cell.replace(r"$\pm$", "±").replace(r"\%", "%").replace("$|$", "|") for cell in line] for line in plain
        ]
        cells = section_cells(section)
        assert told == [list(cells.columns), *map(list, cells.itertuples(index=False))]
    sources = re.findall(r"^\$\^\{(\d+)\}\$ ", out, re.MULTILINE)
    assert {*re.findall(r"\d\$\^\{(\d+)\}\$ &", out)} == {*sources}


def test_latex_says_what_it_is_given(tmp_path):
    frame = pd.DataFrame({"name": ["[a]_b & ~50 % #1", r"\cmd{x} $5^2 *"]})
    section = Section("100 %", frame, named(text_column("name", "a_b")), ["`run` <it>"])
    found = latex(Report("T", [section], ["note & more"], frame))
    assert r"{[}a]\_b \& \textasciitilde{}50 \% \#1 \\" in found
    assert r"\textbackslash{}cmd\{x\} \$5\textasciicircum{}2 {*} \\" in found
    assert r"\caption{100 \%. \textasciigrave{}run\textasciigrave{} $<$it$>$}" in found
    assert found.endswith("note \\& more\n")
    if shutil.which("pdflatex"):
        preamble = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        (tmp_path / "t.tex").write_text(f"{preamble}\n{found}\n\\end{{document}}")
        subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_command_leaves_broken_files_out_and_says_so(make, tmp_path, capsys):
    write_result(make(1), tmp_path)
    broken = make(2).path(tmp_path)
    broken.write_text('{"schema"')
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert f"left out: {broken}" in err
    assert "86.00 (n=1)" in out
    assert broken.exists()


def test_command_without_results_says_what_makes_them(make, tmp_path, capsys):
    write_result(make(), tmp_path)
    assert main(["table3", "--results", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "scaledrop sweep sweeps/table3.yaml --profile quick" in err
    assert "there are results of: cpu" in err
    assert not (tmp_path / "quick").exists()


def test_command_without_accuracy_is_a_clear_error(make, tmp_path, capsys):
    result = make()
    del result.metrics["cls/acc"]
    write_result(result, tmp_path)
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu"]) == 1
    assert "no metric cls/acc in the results 000000000001" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "hint"), [("tabel3", "did you mean 'table3'?"), ("xyz", "there is table3")])
def test_unknown_table(name, hint, capsys):
    assert main([name]) == 2
    assert hint in capsys.readouterr().err


def test_every_table_has_its_published_numbers():
    key = ["work", "topology", "method", "bits_w", "bits_a", "quantity", "renormalized", "corruption"]
    key += ["condition", "level", "dataset"]
    for table in filter(lambda table: table.paper, TABLES.values()):
        frame = published(table.paper)
        assert not frame.duplicated([name for name in key if name in frame]).any()
        lost = frame.source == "lost in our copy"
        for column in frame.filter(like="percent"):
            assert frame[column].isna().equals(lost)


def test_report_and_sweep_do_without_torch():
    code = "import sys, lit_scaledrop.cli.report, lit_scaledrop.sweep; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=900).returncode == 0


def test_the_command_that_makes_a_table_again_has_the_flags_of_its_runs(make):
    """A shorter training, or fewer parts, is not what the sweep file says by itself."""
    words = "scaledrop assess --config a.yaml --row=x --evaluation.samples=10 --seed_everything=1"
    one = make(1, provenance={"command": f"{words} --trainer.max_epochs=4 '--parts=clean,*/5' --run.results=out"})
    other = make(2, seed=2, provenance={"command": f"{words} '--parts=clean,*/5' --trainer.max_epochs=4 --fast"})
    text = markdown(build("table3", [one, other]))
    assert "--profile cpu --seeds 1 2 -- --trainer.max_epochs=4 '--parts=clean,*/5'`" in text
