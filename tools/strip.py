"""``python tools/strip.py``: the README's picture, three lesions cut out of Figure 8."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
PANEL, COLUMNS, ROWS = 154, {"truth": 276, "prediction": 1243, "uncertainty": 1436}, {1: 297, 2: 490, 4: 876}
"""side of a panel, left edges of the columns (the two on the right are Proposed's), upper edges of rows: pixels"""


def strip(figure: Image.Image) -> Image.Image:
    """Truth, prediction and uncertainty of three images in a row.

    Args:
        figure: ``results/cpu/figure8.png``.

    Raises:
        ValueError: if its panels are not where they were measured.
    """
    if figure.size != (1620, 1424) or not all(_framed(figure, x, y) for x in COLUMNS.values() for y in ROWS.values()):
        raise ValueError("the panels of Figure 8 are not where they were; measure COLUMNS and ROWS again")
    gap, head = 8, 34
    width = len(ROWS) * (len(COLUMNS) * (PANEL + gap) + 2 * gap)
    picture = Image.new("RGB", (width, head + PANEL), "white")
    draw = ImageDraw.Draw(picture)
    left = gap
    for top in ROWS.values():
        for name, start in COLUMNS.items():
            picture.paste(figure.crop((start, top, start + PANEL, top + PANEL)), (left, head))
            draw.text((left + PANEL / 2, head / 2), name, "#222", ImageFont.load_default(20), anchor="mm")
            left += PANEL + gap
        left += 2 * gap
    return picture


def _framed(figure: Image.Image, left: int, top: int) -> bool:
    """Whether a panel begins here: white two pixels before its left and its upper edge, and not at them."""
    lines = [(left - x, top, left - x + 1, top + PANEL) for x in (2, 0)]
    lines += [(left, top - y, left + PANEL, top - y + 1) for y in (2, 0)]
    return [figure.crop(line).convert("L").getextrema()[0] == 255 for line in lines] == [True, False, True, False]


if __name__ == "__main__":
    with Image.open(ROOT / "results/cpu/figure8.png") as whole:
        strip(whole.convert("RGB")).save(ROOT / "docs/strip.png", optimize=True)
