"""Results of schema 1, whose numbers had flat names such as ``chip/3/cls/acc``: these are taken apart here alone."""

from collections.abc import Callable, Mapping
from typing import Any

from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.measurement import Coordinate

_FAMILIES = frozenset(name.partition("/")[0] for name in METRICS)
"""First words of the names of metrics; what stands in front of them says where they were measured."""
_PAIRS: dict[str, tuple[str, Callable[[str], Coordinate]]] = {
    "T": ("passes", int), "plan": ("plan", int), "rotation": ("angle", float), "strength": ("strength", float),
    "image": ("image", int), "class": ("class", int), "bin": ("bin", int), "chip": ("chip", int),
    "quantile": ("quantile", float), "threshold": ("threshold", float), "layer": ("layer", str),
}  # fmt: skip
"""A word that is followed by the value of a coordinate."""
_CONDITIONS = ("nominal", "use", "asymptote", "reused", "separate")
_EFFECTS = {"digital": "", "ideal": "", "adc": "l", "conductance": "lc", "stuck": "lc", "wire": "l", "combined": "c"}
"""What is not ideal on a chip: whether its level and the number of the chip follow."""
_ENERGY = ("execution", "real_layers", "adc")


def measurements(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Numbers by their flat names as records of schema 2."""
    found: dict[tuple[tuple[str, Coordinate], ...], dict[str, float]] = {}
    for name, value in metrics.items():
        at, metric = parse(name)
        found.setdefault(tuple(at.items()), {})[metric] = value
    return [{**dict(at), "metrics": numbers} for at, numbers in found.items()]


def parse(name: str) -> tuple[dict[str, Coordinate], str]:
    """Coordinates of a measurement, and what was measured.

    Raises:
        ValueError: a word that should be a number is none.

    >>> parse("cls/acc")
    ({}, 'cls/acc')
    >>> parse("chip/3/uniform/ood/rate")
    ({'chip': 3, 'suite': 'uniform'}, 'ood/rate')
    >>> parse("corrupted/fog/5/cls/error")
    ({'suite': 'corrupted', 'corruption': 'fog', 'severity': 5}, 'cls/error')
    >>> parse("energy/loop/digital/isaac/hw/energy_nj/adc")
    ({'execution': 'loop', 'real_layers': 'digital', 'adc': 'isaac', 'component': 'adc'}, 'hw/energy_nj')
    """
    words = name.split("/")
    found: dict[str, Coordinate] = {}
    while len(words) > 1 and words[0] not in _FAMILIES:
        word = words.pop(0)
        if word == "bin" and len(words) == 1:  # a count has no other name
            return {**found, "bin": int(words[0])}, "count"
        if word in _PAIRS and len(words) > 1:
            coordinate, kind = _PAIRS[word]
            found[coordinate] = kind(words.pop(0))
        elif word in _CONDITIONS:
            found["condition"] = word
        elif word in _EFFECTS:
            found["effect"] = word
            found |= {"level": float(words.pop(0))} if "l" in _EFFECTS[word] else {}
            found |= {"chip": int(words.pop(0))} if "c" in _EFFECTS[word] else {}
        elif word in ("corrupted", "renormalized"):
            found |= {"suite": word, "corruption": words.pop(0), "severity": int(words.pop(0))}
        elif word == "energy":
            return _energy(words)
        elif word in ("logits", "probs"):
            found |= {"of": word, "class": int(words.pop(0))}
        else:
            found["suite"] = word
    return found, "/".join(words)


def _energy(words: list[str]) -> tuple[dict[str, Coordinate], str]:
    """What follows `energy`: an execution, a treatment of real layers, a converter's model, and a component or none."""
    if words[-2] == "operations":
        return {**dict(zip(_ENERGY, words[:-2], strict=False)), "component": words[-1]}, "operations"
    at = words.index("hw") if "hw" in words else len(words) - 1
    component = {"component": words[at + 2]} if words[at + 1 : at + 2] == ["energy_nj"] and words[at + 2 :] else {}
    return {**dict(zip(_ENERGY, words[:at], strict=False)), **component}, "/".join(words[at : at + 2])
