"""Pictures as the page embeds them: without what is not seen, in few bytes, and drawings in the reader's colours."""

import base64
import io
import re
from urllib.parse import quote

from PIL import Image

_COLOUR = re.compile(r'(fill|stroke|stop-color)(: ?|=")(#[0-9a-fA-F]{6})\b')
_NUMBER = re.compile(r"-?\d+\.\d+")
_EMBEDDED = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
_UNSEEN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_PATH = re.compile(r'(?<=[ \n](?:d|x|y)=")[^"]*|(?<= transform=")[^"]*|(?<= points=")[^"]*')
_SAFE = " !$&'()*+,-./:;<=>?@[]^_`{|}~"
"""Characters of a data URL in double quotes that need no escape; of HTML's own, ``&`` is escaped apart."""
_LIGHT, _DARK = (0xE4, 0xE7, 0xEB), (0x14, 0x17, 0x1B)
"""Ink and paper of the page in dark colours."""
_INK = 0x26
_LEAST = 0.25
"""Relative luminance that a colour has at least on dark paper: more than 4.5 to 1."""


def data_url(image: bytes, form: str) -> str:
    """A picture as a data URL that may stand in double quotes of HTML."""
    if form == "svg":
        return f"data:image/svg+xml,{quote(compact(image.decode()), safe=_SAFE).replace('&', '&amp;')}"
    kind, smaller = _recoded(image)
    return f"data:image/{kind};base64,{base64.b64encode(smaller).decode()}"


def compact(svg: str) -> str:
    """A drawing without what is not seen: to a hundredth of a point, with the light and the dark colour of each.

    >>> compact('<svg><path d="M 1.00049 2.5 " style="fill: #ffffff"/></svg>').partition("</style>")[2]
    '<path d="M1 2.5" style="fill:var(--ffffff)"/></svg>'
    """
    svg = _EMBEDDED.sub(_embedded, _UNSEEN.sub("", svg))
    svg = _PATH.sub(lambda found: _short(found[0]), svg)
    found = dict.fromkeys(colour[3].lower() for colour in _COLOUR.finditer(svg))
    svg = _COLOUR.sub(lambda one: f"{one[1]}{one[2].strip()}var(--{one[3][1:].lower()})", svg)
    svg = re.sub(r"\s+", " ", re.sub(r">\s+<", "><", svg)).strip()
    rules = (
        ":root{fill:light-dark(#262626,#e4e7eb);"
        + "".join(f"--{colour[1:]}:light-dark({colour},{dark(colour)});" for colour in found)
        + "color-scheme:light dark}"
    )
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: f"{tag[1]}<style>{rules}</style>", svg, count=1)


def dark(colour: str) -> str:
    """A colour of light paper as it is on dark: greys are turned round, others made light enough, of the same hue.

    >>> dark("#ffffff"), dark("#262626"), dark("#e69f00")
    ('#14171b', '#e4e7eb', '#e69f00')
    """
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    if max(parts) - min(parts) < 16:
        share = min(max((sum(parts) / 3 - _INK) / (255 - _INK), 0), 1)
        return _hex([round(light + share * (low - light)) for light, low in zip(_LIGHT, _DARK, strict=True)])
    while luminance(parts) < _LEAST:
        parts = [part + max(1, (255 - part) // 12) if part < 255 else part for part in parts]
    return _hex(parts)


def luminance(parts: list[int]) -> float:
    """Relative luminance of WCAG 2.2.

    >>> luminance([255, 255, 255])
    1.0
    """
    shares = [part / 255 for part in parts]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return round(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2], 6)


def _hex(parts: list[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in parts)


def _short(numbers: str) -> str:
    """Coordinates of a path or a transform, in fewer letters."""
    numbers = _NUMBER.sub(lambda one: f"{float(one[0]):.{_digits(one[0])}f}".rstrip("0").rstrip("."), numbers)
    return re.sub(r" ?([MLQCZz(),]) ?", r"\1", " ".join(numbers.split())).replace("-0 ", "0 ")


def _digits(number: str) -> int:
    """Digits behind the point: small numbers are scales, which letters are multiplied by."""
    return 2 if abs(float(number)) >= 1 else 4


def _embedded(found: re.Match[str]) -> str:
    kind, image = _recoded(base64.b64decode(found[1]))
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _recoded(png: bytes) -> tuple[str, bytes]:
    """The same pixels in fewer bytes, as WebP without loss; as they are where that is not smaller or not possible."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            stream = io.BytesIO()
            image.save(stream, "WEBP", lossless=True, quality=100, method=4, exact=True)
    except (OSError, ValueError, KeyError):  # no picture, or a Pillow without WebP
        return "png", png
    return ("webp", stream.getvalue()) if len(stream.getvalue()) < len(png) else ("png", png)
