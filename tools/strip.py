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
        ValueError: if the figure has another size than the one that was measured.
    """
    if figure.size != (1620, 1424):
        raise ValueError(f"Figure 8 has {figure.size} pixels instead of (1620, 1424); measure its panels again")
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


if __name__ == "__main__":
    with Image.open(ROOT / "results/cpu/figure8.png") as whole:
        strip(whole.convert("RGB")).save(ROOT / "docs/strip.png", optimize=True)
