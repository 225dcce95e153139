"""The site: documents with what they link to, notebooks as pages, and nothing from another server."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageChops

from tools import bits_picture
from tools.site.assemble import assemble, on_page_content, on_page_markdown
from tools.strip import PANEL, strip

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path):
    """A repository of four files and a folder of results."""
    (tmp_path / "docs" / "tutorials").mkdir(parents=True)
    (tmp_path / "lit_scaledrop" / "layers").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "datamodules").mkdir()
    (tmp_path / "hardware").mkdir()
    (tmp_path / "lit_scaledrop" / "layers" / "__init__.py").touch()
    (tmp_path / "lit_scaledrop" / "layers" / "binary.py").touch()
    (tmp_path / "results" / "one.json").write_text("{}")
    (tmp_path / "docs" / "plan.png").write_bytes(b"png")
    (tmp_path / "README.md").write_text(
        "[a](docs/a.md#part) [layer](lit_scaledrop/layers/binary.py) [web](https://a.org)\n"
    )
    (tmp_path / "docs" / "a.md").write_text("![plan](plan.png) [all](../results) [start](tutorials/one.ipynb)\n")
    return tmp_path


def notebook(*outputs):
    cells = [
        {"cell_type": "markdown", "source": ["# One\n", "See [a](../a.md)."]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": list(outputs)},
    ]
    return json.dumps({"cells": cells})


def test_links_lead_to_the_same_places(checkout):
    (checkout / "docs" / "tutorials" / "one.ipynb").write_text(notebook())
    target = checkout / "site"
    pages = assemble(target, checkout)
    assert Path("docs/tutorials/one.md") in pages
    start = (target / "README.md").read_text()
    assert start == (
        "[a](docs/a.md#part) [layer](api/lit_scaledrop.layers.md#lit_scaledrop.layers.binary) [web](https://a.org)\n"
    )
    assert (
        target / "docs" / "a.md"
    ).read_text() == "![plan](plan.png) [all](../results/index.md) [start](tutorials/one.md)\n"
    assert (target / "docs" / "plan.png").read_bytes() == b"png"
    assert "[one.json](one.json)" in (target / "results" / "index.md").read_text()
    assert (target / "results" / "one.json").exists()


def test_notebook_becomes_a_page_with_its_outputs(checkout):
    picture = base64.b64encode(b"a picture").decode()
    outputs = (
        {"output_type": "stream", "text": ["1\n"]},
        {"output_type": "display_data", "data": {"image/png": picture}},
    )
    (checkout / "docs" / "tutorials" / "one.ipynb").write_text(notebook(*outputs))
    assemble(checkout / "site", checkout)
    folder = checkout / "site" / "docs" / "tutorials"
    text = (folder / "one.md").read_text()
    assert "# One" in text
    assert "```python\nprint(1)\n```" in text
    assert "```text\n1\n```" in text
    assert "![Picture: One](one/1-1.png)" in text
    assert (folder / "one" / "1-1.png").read_bytes() == b"a picture"


def test_formulas_are_drawn_and_roles_vanish():
    drawn = on_page_markdown("from $p$ to `$HOME` and $5\n\n```bash\necho $a $b\n```\n")
    assert drawn.startswith("from <math")
    assert "`$HOME` and $5" in drawn
    assert on_page_markdown("$a +\nb$ and $$c$$").count("<math") == 2
    assert "echo $a $b" in drawn
    assert on_page_content("see :class:<code>~a.B</code>") == "see <code>a.B</code>"


def test_the_picture_of_bits_is_that_of_the_tables():
    text = bits_picture.SOURCE.read_text()
    with Image.open(bits_picture.PICTURE) as kept:
        assert kept.text["Source"] == bits_picture.digest(text), "python -m tools.bits_picture"
    found = bits_picture.shares(text, "1")
    assert list(found) == ["vgg_small", "resnet18", "resnet20"]
    assert 0 < found["vgg_small"]["bits, one pass"] < found["vgg_small"]["bits, T = 20"] < 1
    with Image.open(io.BytesIO(bits_picture.picture())) as made, Image.open(bits_picture.PICTURE) as kept:
        assert made.size == kept.size


def test_the_strip_is_cut_out_of_figure_8():
    """Below the words, which another Pillow may draw otherwise."""
    with Image.open(ROOT / "results/cpu/figure8.png") as figure, Image.open(ROOT / "docs/strip.png") as kept:
        cut = strip(figure.convert("RGB"))
        panels = (0, cut.height - PANEL, *cut.size)
        assert cut.crop(panels).tobytes() == kept.convert("RGB").crop(panels).tobytes()
        for moved in (figure.resize((100, 100)), *(ImageChops.offset(figure.convert("RGB"), 0, by) for by in (-4, 4))):
            with pytest.raises(ValueError, match="measure COLUMNS and ROWS again"):
                strip(moved)


def test_issue_forms_and_workflow_are_sound():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for form in forms:
        written = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(written)
        assert all({"type", "attributes"} <= set(field) for field in written["body"])
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())["jobs"]["publish"]["steps"]
    assert {"run": "make site"} in steps


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    place = [f"SITE_SOURCE={folder / 'sources'}", f"SITE={folder / 'site'}", f"BIN={Path(sys.executable).parent}"]
    command = ["make", "--assume-old=install-dev", "site", *place]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_site_needs_no_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text()
        assert not re.search(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), page
        assert not re.search(r'<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//', text), page
        if page != site / "results" / "index.html":  # drawings inside it hold ">"; tests/report reads its pictures
            assert all('alt="' in picture for picture in re.findall(r"<img[^>]*>", text)), page
    for file in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", file.read_text()), file
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert {"docs/concepts.html", "api/lit_scaledrop.layers.html"} <= {entry["location"] for entry in index["docs"]}


@pytest.mark.slow
def test_tables_and_formulas_are_drawn(site):
    for page in site.rglob("*.html"):
        if article := re.search(r"<article.*</article>", page.read_text(), re.DOTALL):
            code = r"<(pre|code|script|math)\b.*?</\1>|<[^>]+>"
            words = re.sub(code, "", article[0], flags=re.DOTALL)
            assert not re.search(r"\|\s*:?---|^\|.*\||={6,}|\$\\", words, re.MULTILINE), page


@pytest.mark.slow
def test_search_finds_in_files_from_a_disk(site, browser):
    tab = browser.new_page()
    tab.goto(f"{(site / 'index.html').as_uri()}?q=threshold")
    tab.wait_for_selector(".md-search-result__item", timeout=600_000)
    assert "matching documents" in tab.inner_text(".md-search-result__meta")
    tab.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1300, 900), (390, 844)], ids=["desktop", "phone"])
def test_pages_fit_and_axe_finds_nothing(site, browser, axe, size, scheme):
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    said = []
    tab.on("pageerror", lambda error: said.append(str(error)))
    # 404.html is for servers: its links begin at their root
    for page in sorted([*site.glob("[A-Zi]*.html"), *(site / "docs").rglob("*.html"), *(site / "api").glob("i*.html")]):
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0], page
        assert axe(tab) == [], page
    tab.goto((site / "index.html").as_uri())
    strip = tab.evaluate("(({clientHeight, parentElement: p}) => [clientHeight, p.scrollWidth > p.clientWidth])"
                         "(document.querySelector('img[src*=strip]'))")  # fmt: skip
    assert strip[0] > 80
    assert strip[1] == (size == (390, 844))
    assert not said
    tab.close()
