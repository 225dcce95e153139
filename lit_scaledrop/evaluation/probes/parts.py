"""A measured part of an assessment as a file, written atomically, so that a killed command loses at most one part."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.reading import read_json


@dataclass(frozen=True)
class MeasuredPart:
    """What one part of a probe gave."""

    measurements: list[Measurement]
    suites: dict[str, dict[str, Any]]
    """title, kind, source, fingerprint and number of images of the suites that it looked at"""
    seconds: float

    def write(self, path: Path) -> None:
        """Keep it."""
        record = {**vars(self), "measurements": [one.record() for one in self.measurements]}
        write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_part(path: Path) -> MeasuredPart | None:
    """A part that is kept; ``None`` where there is none or its file is broken, so that it is measured again."""
    try:
        record = read_json(path)
        return MeasuredPart(**{**record, "measurements": [Measurement.of(one) for one in record["measurements"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None
