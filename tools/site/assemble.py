"""``python tools/site/assemble.py FOLDER``: the sources of the site, in the layout of the repository.

Documents and whatever they link to are copied, so that a link leads to the same place as in a checkout. Links to code
lead to the reference, those to folders to a list of what is in them. Notebooks become pages with their outputs.
"""

import base64
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENTRANCES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/tutorials/*.ipynb")
PACKAGES = ("lit_scaledrop", "datamodules", "hardware")
_FIRST = ("index.md", "README.md")
_ROLE = re.compile(r":(?:class|data|func|meth|mod|attr|exc|obj):(<code>)~?")
_FORMULA = re.compile(
    r"(?<![\\$\w])\$((?:[^$`\n]|\n(?!\s*\n))+)\$(?![\w$])|```math\n(.*?)```|\$\$([^$`]+)\$\$", re.DOTALL
)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)(#[^)]*)?(\))")


def assemble(target: Path, root: Path = ROOT) -> list[Path]:
    """Write the sources of the site.

    Args:
        target: folder that is emptied first.
        root: checkout.

    Returns:
        the documents, relative to ``target``.
    """
    shutil.rmtree(target, ignore_errors=True)
    waiting = [path for pattern in ENTRANCES for path in sorted(root.glob(pattern))]
    done: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in done:
            continue
        done.add(source)
        place = target / source.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            waiting += [entry for entry in source.iterdir() if entry.is_file() and not entry.name.startswith(".")]
            _write(place / "index.md", _listing(source, root))
        elif source.suffix == ".md":
            text, linked = _relinked(source.read_text(), source.parent, root)
            waiting += linked
            _write(place, text)
        elif source.suffix == ".ipynb":
            text, linked = _relinked(_page_of(source, place.with_suffix("")), source.parent, root)
            waiting += linked
            _write(place.with_suffix(".md"), text)
        else:
            shutil.copyfile(source, place)
    for name, text in _reference(root).items():
        _write(target / "api" / name, text)
    for name in ("extra.css", "iframe-worker.js", "regions.js"):
        shutil.copyfile(Path(__file__).with_name(name), target / name)
    return sorted(path.relative_to(target) for path in target.rglob("*.md"))


def on_config(config: Any) -> Any:
    """MkDocs' hook: a folder in the navigation stands for its pages, by title."""
    sources = Path(config["docs_dir"])

    def expanded(entry: Any) -> Any:
        if isinstance(entry, list):
            return [expanded(inner) for inner in entry]
        if isinstance(entry, dict):
            return {title: expanded(inner) for title, inner in entry.items()}
        pages = sorted((sources / entry).glob("*.md"), key=lambda page: (page.name not in _FIRST, page.name))
        return [str(page.relative_to(sources)) for page in pages] or entry

    config["nav"] = expanded(config["nav"])
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' hook: formulas become MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    def drawn(match: re.Match[str]) -> str:
        return str(convert(match[1] or match[2] or match[3], display="inline" if match[1] else "block"))

    pieces = re.split(r"(^```(?!math).*?^```$|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(piece if index % 2 else _FORMULA.sub(drawn, piece) for index, piece in enumerate(pieces))


def on_page_content(html: str, **_: Any) -> str:
    """MkDocs' hook: the roles of docstrings, which only Sphinx reads, leave the name alone."""
    return _ROLE.sub(r"\1", html)


def on_post_page(output: str, **_: Any) -> str:
    """MkDocs' hook: the theme's search box has no name."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _relinked(text: str, folder: Path, root: Path) -> tuple[str, list[Path]]:
    linked = []

    def relink(match: re.Match[str]) -> str:
        head, link, anchor, tail = match[1], match[2], match[3] or "", match[4]
        source = (folder / link).resolve()
        if ":" in link or not source.is_relative_to(root) or not source.exists():
            return match[0]
        up = "../" * len(folder.relative_to(root).parts)
        if source.suffix == ".py" and source.relative_to(root).parts[0] in PACKAGES:
            page, module = _room(source.relative_to(root))
            return f"{head}{up}api/{page}.md#{module}{tail}"
        linked.append(source)
        if source.is_dir():
            link = f"{link.rstrip('/')}/index.md"
        return f"{head}{link.replace('.ipynb', '.md')}{anchor}{tail}"

    return _LINK.sub(relink, text), linked


def _room(source: Path) -> tuple[str, str]:
    """Page of the reference and name of the module of a file such as ``lit_scaledrop/layers/scale_dropout.py``."""
    parts = [part for part in source.with_suffix("").parts if part != "__init__"]
    return ".".join(parts[: 2 if parts[0] == "lit_scaledrop" else 1]), ".".join(parts)


def _listing(folder: Path, root: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return "\n".join([f"# {folder.relative_to(root)}", "", *(f"- [{name}]({name})" for name in names), ""])


def _page_of(notebook: Path, pictures: Path) -> str:
    """A notebook as Markdown; its pictures as files beside it."""
    parts, heading = [], notebook.stem
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            heading = (re.findall(r"^#+ (.+)$", source, re.MULTILINE) or [heading])[-1]
            continue
        parts.append(f"```python\n{source}\n```")
        for index, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{number}-{index}.png"
                pictures.mkdir(parents=True, exist_ok=True)
                (pictures / name).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![Picture: {heading}]({pictures.name}/{name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _reference(root: Path) -> dict[str, str]:
    pages = {}
    for package in PACKAGES:
        inside = (root / package).iterdir() if package == "lit_scaledrop" else ()
        rooms = sorted(f"{package}.{entry.stem}" for entry in inside if _is_module(entry)) or [package]
        pages |= {f"{room}.md": f"---\ntitle: {room}\n---\n\n::: {room}\n" for room in rooms}
    public = importlib.import_module("lit_scaledrop")
    lines = ["# Reference", "", "What `import lit_scaledrop` offers:", ""]
    for name in public.__all__:
        thing = getattr(public, name)
        home = getattr(thing, "__module__", None)
        lines.append(f"- [`{name}`][{home}.{name}]" if home in sys.modules and callable(thing) else f"- `{name}`")
    lines += ["", "The rooms, as [Architecture](../docs/architecture.md) explains them:", ""]
    return pages | {"index.md": "\n".join([*lines, *(f"- [{name[:-3]}]({name})" for name in pages), ""])}


def _is_module(entry: Path) -> bool:
    if entry.name.startswith("_"):
        return False
    return (entry / "__init__.py").exists() or entry.suffix == ".py"


if __name__ == "__main__":
    from lit_scaledrop.__main__ import main as scaledrop

    folder = Path(sys.argv[1])
    print(f"{len(assemble(folder))} pages in {folder}")
    page = folder / "results" / "index.html"
    sys.exit(scaledrop(["report", "--html", "--results", str(ROOT / "results"), "--out", str(page)]))
