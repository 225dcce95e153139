"""The page in a real Chromium: filters, panels, colours, sizes. SCALEDROP_PICTURES=folder keeps the screenshots."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lit_scaledrop.report.page import write_page
from lit_scaledrop.report.page.contents import profiles_in

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
)


CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A headless Chromium with one page, driven over its debugging pipe (fd 3 and 4): nothing to install beside it.

    `errors` gathers what the console says, `requests` what is asked for.
    """

    def __init__(self, folder: Path):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._session = ""
        self._rest = b""
        theirs, self._out = os.pipe()
        self._in, answers = os.pipe()
        # bash, since other shells take fds of one digit only
        line = f'exec "$@" 3<&{theirs} 4>&{answers}'
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        command = ["bash", "-c", line, "bash", str(CHROMIUM), *flags]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(theirs, answers), stdout=quiet, stderr=quiet)
        os.close(theirs)
        os.close(answers)
        (target,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + 600
        while self.eval("document.readyState") != "complete":
            assert time.monotonic() < until
            time.sleep(0.05)

    def eval(self, code: str) -> Any:
        """Value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        box = self.eval(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView("
            "{block: 'center', inline: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def look(self, width: int, height: int, scheme: str, media: str = "screen") -> None:
        """Set the size of the window, light or dark, and screen or print."""
        narrow = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=narrow)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, path: Path) -> bytes:
        """Write what is seen as PNG."""
        image = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(image)
        return image

    def close(self) -> None:
        """End the browser."""
        try:
            os.write(self._out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
            self._process.wait(timeout=900)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._in, 1 << 20)
            assert block, "the browser ended"
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])


RESULTS = Path(__file__).parents[2] / "results"
DESKTOP, PHONE = (1400, 1000), (390, 844)
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
def browser(tmp_path_factory):
    if CHROMIUM is None or shutil.which("bash") is None:
        pytest.skip(f"no Chromium or no bash here; looked for {', '.join(NAMES)}")
    one = Browser(tmp_path_factory.mktemp("chromium"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(RESULTS, profiles_in(RESULTS), path)
    return path


@pytest.fixture
def opened(browser, page):
    browser.look(*DESKTOP, "light")
    browser.open(page)
    browser.eval("localStorage.clear()")
    browser.open(page)
    browser.errors.clear()
    return browser


def choose(browser, name, value):
    browser.eval(
        f"(() => {{ const e = document.querySelector('#filters [name={name}]'); e.value = {json.dumps(value)};"
        "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def rows(browser, what="true"):
    """Rows that are seen, of those that `what` holds for."""
    return browser.eval(
        f"[...document.querySelectorAll('.profile tbody tr')].filter((row) => row.offsetHeight && ({what})).length"
    )


def test_filters(opened):
    everything = rows(opened)
    assert everything > 300
    choose(opened, "topology", "VGG-small")
    assert 0 < rows(opened) < everything
    assert rows(opened, "row.dataset.topology && row.dataset.topology !== 'VGG-small'") == 0
    choose(opened, "method", "Proposed")
    assert rows(opened, "row.dataset.method && !row.dataset.method.split('|').includes('Proposed')") == 0
    before = rows(opened)
    opened.click("#filters [name=measured]")
    assert 0 < rows(opened) < before
    assert rows(opened, "row.dataset.measured === 'no'") == 0
    assert opened.eval("document.querySelector('output').textContent").startswith(
        f"{rows(opened)} of {everything} rows"
    )
    choose(opened, "profile", "gpu")
    assert opened.eval("document.querySelector('[data-profile=cpu]').offsetHeight") == 0
    # what is left without rows is hidden with its title, and in the contents
    assert opened.eval("[...document.querySelectorAll('article')].filter((a) => a.offsetHeight).length") == 0
    assert opened.eval("[...document.querySelectorAll('nav li[data-for]')].filter((a) => a.offsetHeight).length") == 0
    opened.click("#filters button")
    until = time.monotonic() + 600
    while rows(opened) != everything:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not opened.errors


def test_panels_and_links(opened):
    opened.click("#cpu-table3 button.runs")
    panel = "document.querySelector('[popover]:popover-open')"
    assert "scaledrop fit" in opened.eval(f"{panel}.innerText")
    assert opened.eval(f"{panel}.querySelector('details').open")
    opened.click("[popover]:popover-open summary")
    assert not opened.eval(f"{panel}.querySelector('details').open")
    opened.click("[popover]:popover-open .bar button")
    assert opened.eval(panel) is None
    opened.click("#cpu-table3 button.runs")
    for kind in ("keyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
    assert opened.eval(panel) is None
    # the keyboard shows where it is
    opened.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert float(opened.eval("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")) >= 2
    assert not opened.errors


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_colours_and_sizes(opened, page, tmp_path, size, scheme):
    opened.look(*size, scheme)
    opened.open(page)
    folder = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path))
    name = f"page-{'desktop' if size == DESKTOP else 'phone'}-{scheme}"
    assert opened.screenshot(folder / f"{name}.png").startswith(b"\x89PNG")
    contrasts = opened.eval(CONTRASTS)
    assert len(contrasts) >= 5
    assert min(contrasts.values()) >= 4.5, contrasts
    assert (opened.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
        scheme == "light"
    )
    # tables scroll in their boxes, the page does not; the first column stays
    assert opened.eval("document.documentElement.scrollWidth") == size[0]
    place = "document.querySelector('#cpu-table3 tbody th').getBoundingClientRect().left"
    box = "document.querySelector('#cpu-table3 .scroll')"
    opened.eval(f"{box}.scrollIntoView({{behavior: 'instant'}})")
    before = opened.eval(place)
    opened.eval(f"{box}.scrollLeft = 150")
    if size == PHONE:
        assert opened.eval(f"{box}.scrollLeft") == 150
    assert opened.eval(place) == pytest.approx(before, abs=1)
    opened.screenshot(folder / f"{name}-table.png")
    opened.click("#theme")
    assert (opened.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
        scheme == "dark"
    )
    assert not opened.errors


def test_print(opened, tmp_path):
    opened.look(*DESKTOP, "dark", media="print")
    assert opened.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.eval("document.querySelector('aside').offsetHeight") == 0
    folder = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path))
    pdf = base64.b64decode(opened.call("Page.printToPDF", printBackground=True)["data"])
    (folder / "page.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    assert not opened.errors


def test_nothing_is_asked_of_a_network(opened, page):
    opened.requests.clear()
    opened.open(page)
    assert opened.requests
    assert all(url.startswith(("data:", "file:")) for url in opened.requests)
    assert [url for url in opened.requests if url.startswith("file:")] == [page.resolve().as_uri()]


def test_without_javascript_all_but_the_filters_works(opened, page):
    opened.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened.open(page)
        assert opened.eval("document.getElementById('filters').offsetHeight") == 0
        opened.click("#cpu-table3 button.runs")
        assert "scaledrop fit" in opened.eval("document.querySelector('[popover]:popover-open').innerText")
    finally:
        opened.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_policy_lets_no_foreign_script_run(opened, page, tmp_path):
    path = tmp_path / "evil.html"
    path.write_text(page.read_text().replace("</main>", "</main><script>document.title = 'run'</script>"))
    opened.open(path)
    assert opened.eval("document.title") != "run"
    assert opened.errors
