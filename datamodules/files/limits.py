"""Limits on the memory that an untrusted file may take."""

import os


def largest() -> int:
    """Bytes that one picture or volume may take; ``SCALEDROP_LIMIT_GB`` says more.

    Raises:
        ValueError: The variable is no number above 0.
    """
    text = os.environ.get("SCALEDROP_LIMIT_GB", "4")
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not gigabytes > 0:
        raise ValueError(f"SCALEDROP_LIMIT_GB is a number of GB above 0, not {text!r}")
    return int(gigabytes * 1e9)


def too_large(what: str, size: float) -> str:
    """Words for something that needs more than is allowed; empty if it does not.

    >>> too_large("its picture", 1e9)
    ''
    >>> too_large("its picture", 5e12)
    'its picture needs 5,000.0 GB, more than the 4 that one file may; SCALEDROP_LIMIT_GB=5001 allows it'
    """
    allowed = largest()
    if size <= allowed:
        return ""
    return (
        f"{what} needs {size / 1e9:,.1f} GB, more than the {allowed / 1e9:g} that one file may; "
        f"SCALEDROP_LIMIT_GB={int(size / 1e9) + 1} allows it"
    )
