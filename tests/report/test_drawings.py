"""What the page embeds: the same pixels in fewer bytes, coordinates of a hundredth, colours that are seen on dark."""

import base64
import io
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image

from lit_scaledrop.report.figures.chips import chips_caption
from lit_scaledrop.report.figures.curves import passes_caption
from lit_scaledrop.report.figures.style import _METHODS, _OTHERS
from lit_scaledrop.report.page.drawings import compact, dark, data_url, luminance

RESULTS = Path(__file__).parents[2] / "results" / "cpu"


def test_a_raster_keeps_its_pixels():
    png = (RESULTS / "figure7.png").read_bytes()
    head, _, coded = data_url(png, "png").partition(",")
    again = base64.b64decode(coded)
    assert head == "data:image/webp;base64"
    assert len(again) < len(png)
    images = [Image.open(io.BytesIO(one)).convert("RGBA") for one in (png, again)]
    assert images[0].tobytes() == images[1].tobytes()
    assert data_url(b"no picture", "png") == f"data:image/png;base64,{base64.b64encode(b'no picture').decode()}"


def test_a_drawing_is_smaller_and_fits_an_attribute():
    svg = (RESULTS / "figure7.svg").read_bytes()
    url = data_url(svg, "svg")
    assert len(url) < 0.95 * len(svg)
    assert not set(url.removeprefix("data:")) & set('"#\n')
    assert "<metadata" not in unquote(url)
    assert unquote(url).count("<path") == svg.count(b"<path")


def test_scales_of_letters_keep_their_digits():
    assert "scale(0.0957 -0.0957)" in compact('<svg><g transform="scale(0.09571 -0.09571)"/></svg>')


@pytest.mark.parametrize("colour", sorted({colour for colour, _ in (*_METHODS.values(), *_OTHERS)}))
def test_every_colour_of_a_line_is_seen_on_dark_paper(colour):
    """As WCAG asks of graphics; greys are as faint as they are on white."""
    made = dark(colour)
    light, paper = (luminance([int(c[at : at + 2], 16) for at in (1, 3, 5)]) for c in (made, dark("#ffffff")))
    assert (light + 0.05) / (paper + 0.05) >= 3


def test_captions_tell_of_what_is_drawn_only():
    for kinds, said, not_said in (
        (["plan", "exact"], "dashed", "dotted"),
        (["plan", "reference"], "dotted", "dashed"),
    ):
        words = passes_caption(pd.DataFrame({"kind": kinds}))
        assert said in words
        assert not_said not in words
    assert "Recovered" in chips_caption(pd.DataFrame({"effect": ["adc", "combined", "combined_recovered"]}))
    assert "Combined" not in chips_caption(pd.DataFrame({"effect": ["adc"]}))
