"""The HTML page: all tables, numbers and provenance are there, well formed, harmless, readable by everybody."""

import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from markupsafe import escape

from lit_scaledrop.cli.report import main
from lit_scaledrop.report.figures import FIGURES
from lit_scaledrop.report.page import document, write_page
from lit_scaledrop.report.page.contents import profiles_in, studies
from lit_scaledrop.report.page.summary import best_first
from lit_scaledrop.report.table import RESULT_IDS, section_cells
from lit_scaledrop.report.tables import TABLES, build
from lit_scaledrop.results.store import load_results, write_result

RESULTS = Path(__file__).parents[2] / "results"
VOID = {"meta", "link", "img", "input", "br"}
CSS = (files("lit_scaledrop.report.page") / "page.css").read_text()


class Element:
    def __init__(self, name, attributes):
        self.name, self.attributes, self.children = name, attributes, []

    def __iter__(self):
        """The element and all below it."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child

    def all(self, *names):
        return [element for element in self if element.name in names]

    @property
    def text(self):
        words = [child.text if isinstance(child, Element) else child for child in self.children]
        return " ".join("".join(words).split())


class Tree(HTMLParser):
    """Elements of a page; an end tag that closes another element is an error."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, name, attributes):
        element = Element(name, dict(attributes))
        assert len(element.attributes) == len(attributes), f"an attribute twice in <{name}>"
        self._open[-1].children.append(element)
        if name not in VOID:
            self._open.append(element)

    def handle_endtag(self, name):
        assert self._open.pop().name == name

    def handle_data(self, text):
        self._open[-1].children.append(text)


def tree(path):
    return Tree(path.read_text(encoding="utf-8")).root


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of this repository's results."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(RESULTS, profiles_in(RESULTS), path)
    return path


@pytest.fixture(scope="module")
def root(page):
    return tree(page)


def named(root, id):
    (one,) = [element for element in root if element.attributes.get("id") == id]
    return one


def shown_tables():
    return [
        (profile, name) for profile in profiles_in(RESULTS) for name in TABLES if (RESULTS / profile / name).is_dir()
    ]


# --- what is there ---


@pytest.mark.parametrize(("profile", "name"), shown_tables())
def test_every_number_of_every_table(root, profile, name):
    results, _ = load_results(RESULTS, profile, name)
    report = build(name, results)
    article = named(root, f"{profile}-{name}")
    folded = [table for details in article.all("details") for table in details.all("table")]
    sections = [element for element in article.all("div") if element.attributes.get("class") == "section"]
    assert len(sections) == len(report.sections)
    for part, section in zip(sections, report.sections, strict=True):
        table, *empty = part.all("table")
        assert table.all("caption")[0].text == section.heading
        headers = [column.header for column in section.columns.values()]
        at = {
            cell.text.replace("\xa0", " "): place for place, cell in enumerate(table.all("thead")[0].all("th")) if place
        }
        rows = [row for one in (table, *empty) for row in one.all("tbody")[0].all("tr")]
        # rows of nothing measured stand in a folded table of their own, behind the measured ones
        order = section.frame[RESULT_IDS].isna() | (section.frame[RESULT_IDS] == "")
        assert [table in folded for table in (table, *empty)] == (
            [True] if order.all() else [False, True][: 1 + order.any()]
        )
        section = replace(section, frame=section.frame.assign(order=order).sort_values("order", kind="stable"))
        expected = section_cells(section)
        assert len(rows) == len(expected)
        for row, cells, record in zip(
            rows, expected.itertuples(index=False), section.frame.to_dict("records"), strict=True
        ):
            for sup in row.all("sup"):
                sup.children.clear()  # footnote marks
            ids = str(record[RESULT_IDS]).split() if str(record[RESULT_IDS]) != "nan" else []
            found = [cell.text for cell in row.all("th", "td")]
            many = f"{len(ids)} run{'s' * (len(ids) != 1)}" if ids else ""
            assert found[at["runs"]] == many
            names = [header for header in headers if header not in at]
            assert found[0].split() == " ".join(cells[headers.index(name)] for name in names).split()
            for header, cell in zip(headers, cells, strict=True):
                assert header in names or found[at[header]] == " ".join(cell.split())
            assert row.attributes["data-measured"] == ("yes" if ids else "no")
    for section in report.sections:
        for line in section.caption:
            assert " ".join(line.replace("`", "").split()) in article.text


def test_a_summary_of_the_longest_training_stands_first(make, tmp_path):
    """Sentence and pictures are of the results: other results, other words."""

    def bars(root):
        return {svg.attributes["aria-label"] for svg in root.all("svg")}

    for seed, accuracy in ((1, 0.5), (2, 0.6)):
        write_result(make(seed, seed=seed, metrics={"cls/acc": accuracy}), tmp_path)
    write_page(tmp_path, ["cpu"], tmp_path / "index.html")
    assert not bars(tree(tmp_path / "index.html"))  # nothing to compare it with
    full = {"label": "FP", "bits_w": 32, "bits_a": 32, "bayesian": False}
    write_result(make(3, **full, metrics={"cls/acc": 0.8}), tmp_path)
    longer = {"epochs": 99}
    for number, (accuracy, kind) in enumerate(((0.7, {}), (0.9, full)), 4):
        write_result(make(number, profile="gpu", **kind, metrics={"cls/acc": accuracy}, training=longer), tmp_path)
    for profiles, said in (
        (["cpu"], "reaches 55.00 % (mean of 2 seeds), 25.00 points below full precision (80.00 %)."),
        (
            ["cpu", "gpu"],
            "99 epochs: ResNet-20 with Proposed (1/1 bits) reaches 70.00 % (one seed), 20.00 points below",
        ),
    ):
        write_page(tmp_path, profiles, tmp_path / "index.html")
        root = tree(tmp_path / "index.html")
        first = root.all("main")[0].children[1]
        assert first.attributes["class"] == "summary"
        assert said in first.text
        assert len(bars(first)) == 3
    assert "FP (32/32 bits) 90.00, Proposed (1/1 bits) 70.00." in " ".join(bars(first))
    assert best_first(tmp_path, ["cpu", "gpu"]) == ["gpu", "cpu"]


def test_the_first_number_stands_beside_the_name(root):
    headers = named(root, "cpu-table3").all("thead")[0].all("th")
    assert [header.text.replace("\xa0", " ") for header in headers[:3]] == [
        "topology, method",
        "CIFAR-10 accuracy (ours, %)",
        "runs",
    ]


def test_rows_of_nothing_measured_are_one_line(root):
    for name in ("table3", "table6"):
        article = named(root, f"cpu-{name}")
        lines = [details.all("summary")[0].text for details in article.all("details")]
        assert lines
        assert all(line.startswith("Not measured: ") for line in lines)
        folded = [row for details in article.all("details") for row in details.all("tr")]
        empty = [row for row in article.all("tr") if row.attributes.get("data-measured") == "no"]
        assert empty
        assert all(row in folded for row in empty)
        assert sum(line.count(",") + 1 for line in lines) == len(empty)


def test_tables_and_pictures_name_their_runs_on_paper(root):
    for part in [*root.all("figure"), *(e for e in root if e.attributes.get("class") == "section")]:
        buttons = [b for b in part.all("button") if "runs" in b.attributes["class"]]
        notes = [e.text for e in part if "paper-only" in e.attributes.get("class", "").split()]
        runs = sum(int(button.text.split()[0]) for button in buttons)
        assert len(re.findall(r"\b[0-9a-f]{12} \(seed", " ".join(notes))) == runs


def test_every_row_says_how_it_was_made(root):
    panels = {element.attributes["id"]: element for element in root if "popover" in element.attributes}
    buttons = [element for element in root.all("button") if "runs" in element.attributes.get("class", "").split()]
    assert len(buttons) > 100
    for button in buttons:
        panel = panels[button.attributes["popovertarget"]]
        assert len(panel.all("details")) == int(button.text.split()[0])
        assert button.attributes["aria-label"].startswith(button.text)
    for row in root.all("tr"):
        if row.attributes.get("data-measured") == "yes":
            assert row.all("button")


def test_provenance_is_that_of_the_json_files(page, root):
    runs = {}
    for details in [
        details for element in root if "popover" in element.attributes for details in element.all("details")
    ]:
        names = [term.text for term in details.all("dt")]
        facts = dict(zip(names, details.all("dd"), strict=True))
        link = facts["Result"].all("a")[0].attributes["href"]
        record = json.loads((page.parent / link).read_text())
        runs[record["id"]] = record
        text = {name: value.text for name, value in facts.items()}
        assert text["Commit"].split()[0] == record["provenance"]["commit"]
        assert text["Commit"].endswith("(dirty)") == record["provenance"]["dirty"]
        assert text["Command"] == " ".join(record["provenance"]["command"].split())
        assert text["Seed"] == str(record["seed"])
        assert text["Profile and study"] == f"{record['profile']}, {record['study']}"
        if record["training"]:
            assert text["Fingerprint"] == record["data"]["fingerprint"]
            assert text["Device"].startswith(record["training"]["device"])
            assert text["Training"].startswith(f"{record['training']['epochs']} epochs")
            assert text["Training time"].startswith(f"{record['training']['seconds']:.1f} s")
    shown = {run.id for profile in profiles_in(RESULTS) for study in studies(RESULTS, profile) for run in study.results}
    assert runs.keys() <= shown
    assert len(runs) > 0.9 * len(shown)  # the rest are older settings, which the notes name


def test_every_figure_with_results(root):
    for profile in profiles_in(RESULTS):
        expected = {
            name for name, figure in FIGURES.items() if any((RESULTS / profile / (figure.study or name)).glob("*.json"))
        }
        parts = [e for e in root.all("section") if e.attributes.get("data-profile") == profile]
        stems = {
            Path(link.attributes["href"]).stem
            for figure in parts[0].all("figure")
            for link in figure.all("figcaption")[0].all("a")
        }
        assert expected <= stems
    for image in root.all("img"):
        assert len(image.attributes["alt"]) > 80
        assert re.search(r"\d", image.attributes["alt"])


def test_a_figure_older_than_its_results_is_drawn_anew(make, tmp_path):
    pytest.importorskip("matplotlib")
    numbers = {f"plan/0/T/{t}/{m}": 0.5 for t in (1, 2) for m in ("cls/acc", "cls/nll")}
    result = make(1, study="figure7", evaluation={"limit": None, "images": 9}, numbers=numbers)
    write_result(result, tmp_path)
    (tmp_path / "cpu" / "figure7.svg").write_text('<svg viewBox="0 0 10 9">of old numbers</svg>')
    (tmp_path / "cpu" / "figure7.csv").write_text("of other results")
    (study,) = studies(tmp_path, "cpu")
    assert b"of old numbers" not in study.pictures[0].image
    assert study.pictures[0].files == []
    (tmp_path / "cpu" / "figure7.csv").write_bytes(study.pictures[0].picture.csv())
    assert b"of old numbers" in studies(tmp_path, "cpu")[0].pictures[0].image


def test_pictures_of_other_studies_are_shown_too(make, tmp_path):
    write_result(make(1, study="ablation-x"), tmp_path)
    write_result(make(2, study="ablation-x", seed=2, metrics={"cls/acc": 0.5}), tmp_path)
    (tmp_path / "cpu" / "ablation-x-response.svg").write_text('<svg viewBox="0 0 10 9"></svg>')
    write_page(tmp_path, ["cpu"], tmp_path / "index.html")
    root = tree(tmp_path / "index.html")
    alt = root.all("img")[0].attributes["alt"]
    assert "ResNet-20 Proposed" in alt
    assert "test accuracy (%) from 50.00" in alt
    assert "to 86.00" in alt
    assert root.all("table")[0].all("tbody")[0].all("tr")[0].text.startswith("ResNet-20 Proposed")


def test_runs_of_own_pictures_and_of_own_masks(make, tmp_path):
    """Each is counted once, though its curve is drawn as well; an installed package has a version, not a commit."""
    curve = {"epoch": [1, 2], "val_acc": [0.3, 0.5]}
    source = {"commit": "unknown", "dirty": True, "versions": {"lit-scaledrop": "1.2.3"}}
    write_result(make(1, study="photos", training={"curve": curve, "logged": {}}, provenance=source), tmp_path)
    training = {"curve": {"epoch": [1], "val_iou": [0.6]}, "logged": {}, "val_iou": 0.6}
    numbers = {"seg/iou": 0.7, "seg/nll": 0.25, "cal/ece": 0.03}
    write_result(make(2, study="scans", numbers=numbers, training=training), tmp_path)
    write_page(tmp_path, ["cpu"], tmp_path / "index.html")
    root = tree(tmp_path / "index.html")
    words = root.text
    assert "2 results; no number of another profile" in words
    assert "unknown, version 1.2.3" in words
    assert "(dirty)" not in words
    photos, scans = root.all("table")
    assert "test accuracy (%)" in photos.text
    assert "test IoU (%)" in scans.text
    assert "70.00" in scans.text


def test_figure8_says_what_is_seen_and_of_which_runs(make, tmp_path):
    write_result(make(1, study="lenet5"), tmp_path)
    write_result(make(2, study="lenet5", seed=2), tmp_path)
    example = {"example": "median", "image": "a.png", "proposed": {"iou": 0.71, "mean_entropy_share": 0.2}}
    about = {"fingerprint": "f", "runs": {"proposed": f"{2:012x}"}, "examples": [example]}
    for stem in ("figure8", "other"):
        (tmp_path / "cpu" / f"{stem}.svg").write_text('<svg viewBox="0 0 10 9"></svg>')
    (tmp_path / "cpu" / "figure8.json").write_text(json.dumps({"shown": {"U-Net, Breast Cancer": about}}))
    study, lost = studies(tmp_path, "cpu")
    (shown,) = study.pictures
    assert [run.seed for run in shown.runs] == [2]
    assert "U-Net, Breast Cancer, median: IoU proposed 0.71." in shown.words
    assert "other" in lost.problems[0]
    write_page(tmp_path, ["cpu"], tmp_path / "index.html")
    assert shown.words in tree(tmp_path / "index.html").all("img")[0].attributes["alt"]


# --- form ---


def test_structure(page, root):
    assert page.stat().st_size < 5e6
    ids = [element.attributes["id"] for element in root if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    levels = [int(heading.name[1]) for heading in root.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for table in root.all("table"):
        assert table.all("caption")
        for cell in table.all("th"):
            assert cell.attributes["scope"] in ("row", "col")
        assert all(row.all("th") for row in table.all("tr"))
    for element in root:
        references = [element.attributes.get(name) for name in ("aria-labelledby", "popovertarget", "data-for")]
        assert {reference for reference in references if reference} <= set(ids)
        href = element.attributes.get("href", "")
        if href.startswith("#"):
            assert href[1:] in ids
    assert root.all("html")[0].attributes["lang"] == "en"
    assert root.all("title")[0].text
    for control in root.all("select", "input"):
        assert any(control in list(label) for label in root.all("label"))


def test_nothing_is_loaded(page, root):
    for element in root:
        assert element.name not in ("iframe", "object", "embed", "base")
        for name in ("src", "srcset", "data", "poster", "action", "background"):
            assert element.attributes.get(name, "data:").startswith("data:")
        if element.name == "link":
            assert element.attributes["href"] == "data:,"
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
    assert "url(" not in CSS
    assert "@import" not in CSS
    for link in root.all("a"):
        href = link.attributes["href"]
        assert href.startswith(("#", "https://arxiv.org/abs/")) or (page.parent / href).is_file()


def test_the_same_results_give_the_same_bytes(tmp_path):
    """Two tables, a figure with its images, and a sweep with its plots."""
    some = tmp_path / "results"
    for study in ("table3", "table9", "figure5", "ablation-sigma"):
        shutil.copytree(RESULTS / "cpu" / study, some / "cpu" / study)
    pages = [tmp_path / name / "index.html" for name in ("one", "other")]  # links are relative, and as deep
    for page in pages:
        page.parent.mkdir()
        write_page(some, ["cpu"], page)
    one, other = (page.read_bytes() for page in pages)
    assert one == other
    assert all(f'id="cpu-{study}"'.encode() in one for study in ("table3", "table9", "figure5", "ablation-sigma"))


def colours(scheme):
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", CSS)
    return {name: pair[scheme] for name, *pair in found}


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_of_every_text_colour_on_every_background(scheme):
    named = colours(scheme)
    texts = set(re.findall(r"[ ;{]color: var\(--(\w+)\)", CSS))
    grounds = set(re.findall(r"background: var\(--(\w+)\)", CSS))
    assert texts == {"ink", "muted", "link", "alert"}
    assert grounds == {"paper", "surface", "raised"}
    for text in texts:
        for ground in grounds:
            assert contrast(named[text], named[ground]) >= 4.5, (text, ground)


# --- what is broken, missing or hostile ---

EVIL = '</td></table><script>alert("x")</script><img src=x onerror=alert(1)>'


def test_what_results_say_is_escaped(make, tmp_path):
    data = {"source": EVIL, "fingerprint": EVIL}
    provenance = {"command": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}, "setting": EVIL}
    config = {"model": {"init_args": {EVIL: EVIL}}}
    result = make(1, label=EVIL, network=EVIL, data=data, provenance=provenance, config=config)
    write_result(result, tmp_path)
    write_result(make(2, study="other", label=EVIL, provenance=provenance), tmp_path)
    (tmp_path / "cpu" / "table3" / "<script>\"'.json").write_text("{")
    write_page(tmp_path, ["cpu"], tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "alert(" in text
    assert str(escape(EVIL)) in text
    root = tree(tmp_path / "index.html")
    assert len(root.all("script")) == 1
    assert "alert" not in root.all("script")[0].text
    assert not root.all("img")
    policy = next(e.attributes["content"] for e in root.all("meta") if "http-equiv" in e.attributes)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_broken_results_are_named(make, tmp_path, capsys):
    write_result(make(1), tmp_path)
    broken = tmp_path / "cpu" / "table3" / "bad.json"
    broken.write_text('{"half":')
    only = tmp_path / "cpu" / "table9" / "bad.json"
    only.parent.mkdir()
    only.write_text("nothing")
    unfit = make(3, study="table6")  # has no suites
    write_result(unfit, tmp_path)
    assert main(["--html", "--results", str(tmp_path)]) == 0
    root = tree(tmp_path / "cpu" / "index.html")
    said = capsys.readouterr().err
    for name, what in (("table3", str(broken)), ("table9", str(only)), ("table6", "could not be made")):
        (note,) = [e for e in named(root, f"cpu-{name}") if e.attributes.get("class") == "problems"]
        assert what in note.text
        assert what in said
    assert named(root, "cpu-table3").all("table")
    assert not named(root, "cpu-table9").all("table")


@pytest.mark.parametrize("content", ["[" * 100_000, "pipe", '{"shown": {"a": {"runs": [], "examples": 3}}}'])
def test_an_odd_record_of_a_picture_takes_no_page(make, tmp_path, content, capsys):
    write_result(make(1), tmp_path)
    path = tmp_path / "cpu" / "figure8.json"
    path.with_suffix(".png").write_bytes(b"x")
    os.mkfifo(path) if content == "pipe" else path.write_text(content)
    assert main(["--html", "--results", str(tmp_path)]) == 0
    assert "not shown: the picture figure8: no result in this folder" in capsys.readouterr().err
    assert named(tree(tmp_path / "cpu" / "index.html"), "cpu-table3").all("table")


def test_a_page_that_cannot_be_written_says_what_to_do(make, tmp_path, capsys, monkeypatch):
    def read_only(*_):
        raise OSError(30, "Read-only file system", "x")

    write_result(make(1), tmp_path)
    monkeypatch.setattr(document, "write_atomic", read_only)
    assert main(["--html", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "index.html (Read-only file system): choose another file with --out FILE" in said


def test_command(make, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--html"]) == 1
    assert "no results" in capsys.readouterr().err
    write_result(make(1), "results")
    write_result(make(2, profile="paper"), "results")
    assert main(["--html", "--profile", "cpu"]) == 0
    one = tree(Path("results/cpu/index.html"))
    assert [e.attributes["data-profile"] for e in one.all("section")] == ["cpu"]
    link = next(a.attributes["href"] for a in one.all("a") if a.attributes["href"].endswith(".json"))
    assert link == "table3/000000000001.json"
    assert main(["--html"]) == 0
    assert main(["--html", "--profile", "paper", "--profile", "cpu", "--out", "both/page.html"]) == 0
    assert [e.attributes["data-profile"] for e in tree(Path("both/page.html")).all("section")] == ["paper", "cpu"]
    assert [e.attributes["data-profile"] for e in tree(Path("results/index.html")).all("section")] == ["cpu", "paper"]
    assert main(["--html", "--profile", "gpu"]) == 1
    assert "there are: cpu, paper" in capsys.readouterr().err
    for wrong in ([], ["table3", "--out", "x"], ["table3", "--profile", "cpu", "--profile", "paper"]):
        with pytest.raises(SystemExit):
            main(wrong)
