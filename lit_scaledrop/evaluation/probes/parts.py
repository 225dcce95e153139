"""A measured part of an assessment as a file: whole or not there, so that a killed command loses one part at most."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_scaledrop.results.result import write_atomic


@dataclass(frozen=True)
class MeasuredPart:
    """What one part of a probe gave."""

    metrics: dict[str, float]
    """finite numbers by their keys, without the part's name"""
    suites: dict[str, dict[str, Any]]
    """title, kind, source, fingerprint and number of images of the suites that it looked at"""
    seconds: float

    def __post_init__(self) -> None:
        if bad := [name for name, value in self.metrics.items() if not math.isfinite(value)]:
            raise ValueError(f"{', '.join(bad)} came out as no finite number: find out why the network diverged")

    def write(self, path: Path) -> None:
        """Keep it."""
        write_atomic(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read_part(path: Path) -> MeasuredPart | None:
    """A part that is kept; ``None`` where there is none or its file is broken, so that it is measured again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return MeasuredPart(**record)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
