"""Words of a sweep that stand for several flags: its grid is a product, and the paper's tables are not.

``--row NETWORK/METHOD`` is a row of Table III, ``--row NETWORK/DATA/METHOD`` one of Table V, ``--variation WHEN/SIGMA``
a condition of Table IV.
"""

import itertools

from lit_scaledrop.methods import METHODS, lookup
from lit_scaledrop.networks import NETWORKS
from lit_scaledrop.networks.segmentation import SEGMENTATION_NETWORKS
from lit_scaledrop.segmentation_methods import SEGMENTATION_METHODS


def expand_rows(words: list[str]) -> list[str]:
    """Replace each ``--row NETWORK/METHOD`` or ``--row NETWORK/DATA/METHOD`` (two words) by what it stands for.

    Raises:
        ValueError: for a row that is none, or an unknown network, data set or method, with the nearest match.

    >>> expand_rows(["fit", "--row", "resnet20/proposed"])
    ['fit', '--model.network=resnet20', '--model.method=proposed']
    >>> expand_rows(["fit", "--row", "segnet/covid_ct.2/fp"])
    ['fit', '--dataset', 'covid_ct.2', '--model.network=segnet', '--model.method=fp']
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word == "--row" else None
        if value is None:
            expanded.append(word)
            continue
        if value.count("/") not in (1, 2):
            raise ValueError(
                "--row takes NETWORK/METHOD, e.g. resnet20/proposed, or NETWORK/DATA/METHOD, e.g. "
                f"unet/skin_lesion/proposed, not {value!r}"
            )
        network, *data, method = value.split("/")
        networks, methods = (SEGMENTATION_NETWORKS, SEGMENTATION_METHODS) if data else (NETWORKS, METHODS)
        expanded += [word for name in data for word in ("--dataset", name)]
        expanded.append(f"--model.network={lookup('network', network, networks)}")
        expanded.append(f"--model.method={lookup('method', method, methods)}")
    return expanded


def expand_variation(words: list[str]) -> list[str]:
    """Replace each ``--variation`` (one word or two) by the flags that it stands for.

    ``none`` stands for nothing, ``eval/X`` for an evaluation with variation, ``train/X`` for a training with it,
    ``both/X`` for both; X is sigma, the standard deviation of p, or the name of a device.

    Raises:
        ValueError: for something else.

    >>> expand_variation(["fit", "--variation", "eval/0.05", "--seed_everything=1"])
    ['fit', '--evaluation.sigma=0.05', '--seed_everything=1']
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != "--variation":
            expanded.append(word)
            continue
        value = value if equals else next(rest, "")
        when, _, source = value.partition("/")
        if value == "none":
            continue
        if when not in ("train", "eval", "both") or not source:
            raise ValueError(
                f"--variation takes none, or eval/X, train/X, both/X, X a sigma or a device, not {value!r}"
            )
        is_sigma = _is_number(source)
        if when != "eval":
            name = "sigma" if is_sigma else "device"
            ours = {name: source, "when": "train"}
            expanded.append("--trainer.callbacks+=lit_scaledrop.callbacks.MTJVariation")
            expanded += [f"--trainer.callbacks.{key}={given}" for key, given in ours.items()]
        if when != "train":
            expanded.append(f"--evaluation.{'sigma' if is_sigma else 'mtj'}={source}")
    return expanded


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def last_value(words: list[str], flag: str) -> str | None:
    """Value of the last ``flag=value`` or ``flag value``; ``None`` if there is none.

    >>> last_value(["--a=1", "--b", "2", "--a", "3"], "--a")
    '3'
    """
    found = None
    for word, after in itertools.zip_longest(words, words[1:]):
        if word == flag:
            found = after
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found
