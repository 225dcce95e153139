"""The page in a real Chromium: filters, panels, colours, sizes. SCALEDROP_PICTURES=folder keeps the screenshots."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from lit_scaledrop.report.page import write_page
from lit_scaledrop.report.page.contents import profiles_in

RESULTS = Path(__file__).parents[2] / "results"
DESKTOP, PHONE = (1400, 1000), (390, 844)
OPEN_PANEL = "[popover]:popover-open"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
WHITE = "rgb(255, 255, 255)"
# of each piece of text, its colour against the nearest background that is not transparent, by WCAG's formula
CONTRASTS = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || ["SCRIPT", "STYLE", "OPTION"].includes(e.tagName)) continue;
    const pair = [getComputedStyle(e).color, ground(e)];
    const [low, high] = pair.map(light).sort((a, b) => a - b);
    found[pair.join(" on ")] = (high + 0.05) / (low + 0.05);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(RESULTS, profiles_in(RESULTS), path)
    return path


@pytest.fixture
def opened(browser, file):
    """The page, opened: called with a size, a colour scheme and other settings of a tab; no error may come."""
    said, tabs = [], []

    def open_page(size=DESKTOP, scheme="light", path=file, **settings):
        tab = browser.new_page(
            viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme, **settings
        )
        tab.set_default_timeout(600_000)
        tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: tab.__dict__.setdefault("asked", []).append(request.url))
        tab.goto(path.resolve().as_uri())
        tabs.append(tab)
        return tab

    open_page.said = said
    yield open_page
    for tab in tabs:
        tab.close()
    assert not said


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(opened, axe, size, scheme, media):
    tab = opened(size, scheme, is_mobile=size == PHONE, bypass_csp=True)
    tab.emulate_media(media=media, color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert axe(tab) == []


def rows(tab, what="true"):
    """Rows that are seen, of those that `what` holds for."""
    return tab.evaluate(
        f"[...document.querySelectorAll('.profile tbody tr')].filter((row) => row.offsetHeight && ({what})).length"
    )


def test_filters(opened):
    tab = opened()
    everything = rows(tab)
    assert everything > 300
    tab.select_option("#filters [name=topology]", "VGG-small")
    assert 0 < rows(tab) < everything
    assert rows(tab, "row.dataset.topology && row.dataset.topology !== 'VGG-small'") == 0
    tab.select_option("#filters [name=method]", "Proposed")
    assert rows(tab, "row.dataset.method && !row.dataset.method.split('|').includes('Proposed')") == 0
    before = rows(tab)
    tab.click("#filters [name=measured]")
    assert 0 < rows(tab) < before
    assert rows(tab, "row.dataset.measured === 'no'") == 0
    assert tab.text_content("output").startswith(f"{rows(tab)} of {everything} rows")
    tab.select_option("#filters [name=profile]", "gpu")
    assert not tab.is_visible("[data-profile=cpu]")
    # what is left without rows is hidden with its title, and in the contents
    for what in ("article", "nav li[data-for]"):
        assert not tab.locator(what).filter(visible=True).count()
    tab.click("#filters button")
    tab.wait_for_function(
        "(n) => [...document.querySelectorAll('.profile tbody tr')].filter((row) => row.offsetHeight).length === n",
        arg=everything,
    )


def test_panels_and_links(opened):
    tab = opened()
    tab.click("#cpu-table3 button.runs >> nth=0")
    assert "scaledrop fit" in tab.inner_text(OPEN_PANEL)
    is_open = f"document.querySelector('{OPEN_PANEL} details').open"
    assert tab.evaluate(is_open)
    tab.click(f"{OPEN_PANEL} summary >> nth=0")
    assert not tab.evaluate(is_open)
    tab.click(f"{OPEN_PANEL} .bar button")
    assert not tab.locator(OPEN_PANEL).count()
    tab.click("#cpu-table3 button.runs >> nth=0")
    tab.keyboard.press("Escape")
    assert not tab.locator(OPEN_PANEL).count()
    # the keyboard shows where it is
    tab.keyboard.press("Tab")
    assert tab.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_colours_and_sizes(opened, tmp_path, size, scheme):
    tab = opened(size, scheme, is_mobile=size == PHONE)
    name = f"page-{'desktop' if size == DESKTOP else 'phone'}-{scheme}"
    folder = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path))
    tab.screenshot(path=folder / f"{name}.png")
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) >= 5
    assert min(contrasts.values()) >= 4.5, contrasts
    assert (tab.evaluate(BACKGROUND) == WHITE) == (scheme == "light")
    # tables scroll in their boxes, the page does not; the first column stays
    assert tab.evaluate("document.documentElement.scrollWidth") == size[0]
    place = "document.querySelector('#cpu-table3 tbody th').getBoundingClientRect().left"
    box = "document.querySelector('#cpu-table3 .scroll')"
    tab.evaluate(f"{box}.scrollIntoView({{behavior: 'instant'}})")
    before = tab.evaluate(place)
    tab.evaluate(f"{box}.scrollLeft = 150")
    if size == PHONE:
        assert tab.evaluate(f"{box}.scrollLeft") == 150
    assert tab.evaluate(place) == pytest.approx(before, abs=1)
    tab.screenshot(path=folder / f"{name}-table.png")
    tab.click("#theme")
    assert (tab.evaluate(BACKGROUND) == WHITE) == (scheme == "dark")


WIDE = "[...document.querySelectorAll('.picture')].filter((box) => box.scrollWidth > box.clientWidth + 1).length"


def test_no_picture_is_wider_than_its_column_until_it_is_enlarged(opened):
    tab = opened()
    assert tab.locator(".picture").count() > 5
    assert tab.evaluate(WIDE) == 0
    button = tab.locator("#cpu-figure6 .enlarge")
    button.click()
    assert tab.evaluate(WIDE) == 1
    assert tab.evaluate("document.documentElement.scrollWidth") == DESKTOP[0]
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert tab.evaluate(WIDE) == 0
    assert not tab.locator(".narrow-only").filter(visible=True).count()


@pytest.mark.parametrize("javascript", [True, False], ids=["", "without-javascript"])
def test_on_a_phone_a_picture_is_large_enough_to_read_and_scrolls_in_its_box(opened, javascript):
    tab = opened(PHONE, is_mobile=True, java_script_enabled=javascript)
    pictures = tab.evaluate(
        """[...document.querySelectorAll('.picture img')].map((image) => ({
             drawing: image.src.startsWith('data:image/svg'), drawn: image.naturalWidth, shown: image.clientWidth,
             shape: image.naturalWidth / image.naturalHeight * image.clientHeight / image.clientWidth}))"""
    )
    assert len(pictures) > 5
    for one in pictures:  # a drawing is as large as it was drawn, letters of 8 points as 8 points; pixels are finer
        assert one["shown"] == pytest.approx(one["drawn"] * (1 if one["drawing"] else 96 / 150), abs=1)
        assert one["shape"] == pytest.approx(1, abs=0.01)
    assert tab.evaluate(WIDE) == len(pictures)
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    box = "document.querySelector('#cpu-figure6 .picture')"
    tab.evaluate(f"{box}.scrollLeft = 1e6")
    assert tab.evaluate(f"{box}.scrollLeft + {box}.clientWidth - {box}.scrollWidth") == pytest.approx(0, abs=1)
    assert not tab.locator(".enlarge").filter(visible=True).count()
    assert tab.locator(".narrow-only").filter(visible=True).count() == len(pictures)


def test_a_phone_shows_accuracy_without_scrolling_sideways(opened):
    tab = opened(PHONE, is_mobile=True)
    cells = tab.evaluate(
        "[...document.querySelectorAll('#cpu-table3 .section > .scroll td.ours')].map((cell) => "
        "[cell.getBoundingClientRect().right, cell.closest('.scroll').getBoundingClientRect().right])"
    )
    assert len(cells) > 10
    assert all(right <= of_box for right, of_box in cells)


def test_drawings_take_the_colours_of_the_page(opened):
    """Of the system, and of the button."""
    corner = """() => {
      const image = document.querySelector("#cpu-figure6 img");
      image.scrollIntoView({behavior: "instant"});
      const {left, top} = image.getBoundingClientRect();
      return [left, top];
    }"""
    tab = opened(scheme="dark")
    seen = []
    for _ in range(2):
        left, top = tab.evaluate(corner)
        shot = tab.screenshot(clip={"x": left + 2, "y": top + 2, "width": 1, "height": 1})
        seen.append(Image.open(io.BytesIO(shot)).convert("RGB").getpixel((0, 0)))
        tab.click("#theme")
    assert seen == [(0x14, 0x17, 0x1B), (255, 255, 255)]


def test_print(opened, tmp_path):
    tab = opened(scheme="dark")
    tab.emulate_media(media="print")
    assert tab.evaluate(BACKGROUND) == WHITE
    assert not tab.is_visible("aside")
    # buttons are gone, so runs are named, and no heading lies on the next line
    assert not tab.locator("button").filter(visible=True).count()
    assert tab.locator(".paper-only").filter(visible=True).count() > 20
    assert "seed" in tab.inner_text("#cpu-table3 .paper-only >> nth=0")
    gap = "document.querySelector('.profile > .notes').getBoundingClientRect().top >= "
    assert tab.evaluate(gap + "document.querySelector('.profile > h2').getBoundingClientRect().bottom")
    folder = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path))
    assert tab.pdf(path=folder / "page.pdf", print_background=True).startswith(b"%PDF")


def test_nothing_is_asked_of_a_network(opened, file):
    asked = opened().__dict__["asked"]
    assert all(url.startswith(("data:", "file:")) for url in asked)
    assert [url for url in asked if url.startswith("file:")] == [file.resolve().as_uri()]


def test_without_javascript_all_but_the_filters_works(opened):
    tab = opened(java_script_enabled=False)
    assert not tab.is_visible("#filters")
    tab.click("#cpu-table3 button.runs >> nth=0")
    assert "scaledrop fit" in tab.inner_text(OPEN_PANEL)


def test_the_policy_lets_no_foreign_script_run(opened, file, tmp_path):
    path = tmp_path / "evil.html"
    path.write_text(file.read_text().replace("</main>", "</main><script>document.title = 'run'</script>"))
    assert opened(path=path).title() != "run"
    assert opened.said
    opened.said.clear()
