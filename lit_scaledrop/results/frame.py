"""Measurements as rows: one tidy frame of all results, and the only place where names of metrics are taken apart.

A result keeps its numbers by flat names such as `chip/3/cls/acc`, which trackers and kept parts of a measurement
share. Here a name becomes coordinates, `{"condition": "chip", "chip": 3}`, and what was measured there, `cls/acc`.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import pandas as pd

from lit_scaledrop.results.glossary import FAMILIES
from lit_scaledrop.results.result import Result

_PAIRS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "T": ("passes", int),
    "plan": ("plan", int),
    "rotation": ("angle", float),
    "strength": ("strength", float),
    "image": ("image", int),
    "class": ("class", int),
    "bin": ("bin", int),
    "quantile": ("quantile", float),
    "threshold": ("threshold", float),
    "layer": ("layer", str),
}
"""A word that is followed by the value of a coordinate."""
_CONDITIONS = ("nominal", "use", "asymptote", "reused", "separate")
_EFFECTS = {"digital": "", "ideal": "", "adc": "l", "conductance": "lc", "stuck": "lc", "wire": "l", "combined": "c"}
"""What is not ideal on a chip: whether its level and the number of the chip follow."""
_ENERGY = ("execution", "real_layers", "adc")
COORDINATES = (
    *(name for name, _ in _PAIRS.values()), "condition", "chip", "suite", "corruption", "severity", "effect", "level",
    *_ENERGY, "component", "of",
)  # fmt: skip


@lru_cache(maxsize=65536)
def parse(name: str) -> tuple[tuple[tuple[str, Any], ...], str]:
    """Coordinates of a measurement, and what was measured.

    >>> parse("cls/acc")
    ((), 'cls/acc')
    >>> parse("chip/3/uniform/ood/rate")
    ((('condition', 'chip'), ('chip', 3), ('suite', 'uniform')), 'ood/rate')
    >>> parse("corrupted/fog/5/cls/error")
    ((('suite', 'corrupted'), ('corruption', 'fog'), ('severity', 5)), 'cls/error')
    >>> parse("energy/loop/digital/isaac/hw/energy_nj/adc")
    ((('execution', 'loop'), ('real_layers', 'digital'), ('adc', 'isaac'), ('component', 'adc')), 'hw/energy_nj')
    """
    words = name.split("/")
    found: list[tuple[str, Any]] = []
    while len(words) > 1 and words[0] not in FAMILIES:
        word = words.pop(0)
        if word == "bin" and len(words) == 1:  # a count has no other name
            return (*found, ("bin", int(words[0]))), "count"
        if word in _PAIRS and len(words) > 1:
            coordinate, kind = _PAIRS[word]
            found.append((coordinate, kind(words.pop(0))))
        elif word == "chip":
            found += [("condition", "chip"), ("chip", int(words.pop(0)))]
        elif word in _CONDITIONS:
            found.append(("condition", word))
        elif word in _EFFECTS:
            found.append(("effect", word))
            found += [("level", float(words.pop(0)))] if "l" in _EFFECTS[word] else []
            found += [("chip", int(words.pop(0)))] if "c" in _EFFECTS[word] else []
        elif word in ("corrupted", "renormalized"):
            found += [("suite", word), ("corruption", words.pop(0)), ("severity", int(words.pop(0)))]
        elif word == "energy":
            return _energy(words)
        elif word in ("logits", "probs"):
            found += [("of", word), ("class", int(words.pop(0)))]
        else:
            found.append(("suite", word))
    return tuple(found), "/".join(words)


def _energy(words: list[str]) -> tuple[tuple[tuple[str, Any], ...], str]:
    """What follows `energy`: an execution, a treatment of real layers, a converter's model, and a component or none."""
    if words[-2] == "operations":
        return (*zip(_ENERGY, words[:-2], strict=False), ("component", words[-1])), "operations"
    at = words.index("hw") if "hw" in words else len(words) - 1
    component = (("component", words[at + 2]),) if words[at + 1 : at + 2] == ["energy_nj"] and words[at + 2 :] else ()
    return (*zip(_ENERGY, words[:at], strict=False), *component), "/".join(words[at : at + 2])


def measurements(results: Iterable[Result]) -> pd.DataFrame:
    """All numbers of results: columns run (its id), `COORDINATES` (empty where they do not apply), metric, value.

    Rows stand in the order of the results and of the names in them.
    """
    rows = []
    for result in results:
        for name, value in result.metrics.items():
            coordinates, metric = parse(name)
            rows.append({"run": result.id, **dict(coordinates), "metric": metric, "value": value})
    return pd.DataFrame(rows, columns=["run", *COORDINATES, "metric", "value"]).astype({"value": float})
