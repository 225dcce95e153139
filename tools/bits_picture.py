"""``python -m tools.bits_picture``: what signs as bits save, drawn from ``benchmarks/results/bits.md``."""

import hashlib
import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from lit_scaledrop.report.figures.style import FAINT, INK, RIVAL, TRUE, images, panels, style

ROOT = Path(__file__).resolve().parent.parent
SOURCE, PICTURE = ROOT / "benchmarks/results/bits.md", ROOT / "docs/bits.png"
_NAMES = {"vgg_small": "VGG-small", "resnet18": "ResNet-18", "resnet20": "ResNet-20"}
_BATCHES = {"50": "50 images at a time", "1": "one image at a time"}


def shares(text: str, images: str) -> dict[str, dict[str, float]]:
    """Of each network, on one core, what each way takes of a float32 pass of PyTorch.

    Args:
        text: the benchmark's tables.
        images: of the batch.

    >>> shares(SOURCE.read_text(), "50")["resnet20"]["PyTorch, float32"]
    1.0
    """
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    found = {}
    for name in _NAMES:
        mine = [row for row in rows if row[:3] == [name, images, "1"]]
        (passes,), (other,) = ([row for row in mine if len(row) == count] for count in (10, 6))
        one, faster, than_bfloat16, _, twenty, _, every = (float(cell or "nan") for cell in passes[3:])
        found[name] = {
            "PyTorch, float32": 1.0,
            "PyTorch, bfloat16": than_bfloat16 / faster,
            "ONNX Runtime, float32, no masks": float(other[3]) / one,
            "bits, one pass": 1 / faster,
            "bits, T = 20": twenty,
            "bits, all 32 masks": every,
        }
    return found


def picture() -> bytes:
    """The PNG, which tells the digest of its source."""
    text = SOURCE.read_text()
    colours = ["#7F7F7F", FAINT, RIVAL, TRUE, "#56B4E9", "#009E73"]
    with style():
        figure, axes = panels(
            1, 2, 4.6, 3.4, "Time of a prediction in float32 passes of the same binary network, one core"
        )
        for panel, batch in zip(axes[0], _BATCHES, strict=True):
            place = 0.0
            ticks = {}
            for name, ways in shares(text, batch).items():
                shown = {way: share for way, share in ways.items() if share == share}
                ticks[place - (len(shown) - 1) / 2] = _NAMES[name]
                for way, share in shown.items():
                    panel.barh(place, share, 0.85, color=colours[list(ways).index(way)])
                    panel.text(share + 0.02, place, f"{share:.2g}  {way}", va="center", fontsize=6.5, color=INK)
                    place -= 1
                place -= 1
            panel.set_yticks(list(ticks), list(ticks.values()))
            panel.set_xlim(0, 1.5 * max(bar.get_width() for bar in panel.patches))
            panel.grid(False)
            panel.set_title(_BATCHES[batch])
        where = text.strip().splitlines()[-1].split(". Command")[0]
        drawn = images(figure, f"{where} ({SOURCE.relative_to(ROOT)})", ("png",))["png"]
    noted = PngImagePlugin.PngInfo()
    noted.add_text("Source", digest(text))
    stream = io.BytesIO()
    Image.open(io.BytesIO(drawn)).convert("RGB").quantize(64).save(stream, "PNG", optimize=True, pnginfo=noted)
    return stream.getvalue()


def digest(text: str) -> str:
    """Of the tables that a picture was drawn from."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    PICTURE.write_bytes(picture())
