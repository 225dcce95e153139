"""Records of failed points of a sweep, so that a report can name missing cells and the reason.

One file, `RESULTS/PROFILE/STUDY/ID.failed.json`, beside the place of the result. It is written over by the next failure
and removed by the next success; nothing but a report and another sweep of the same table reads it.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.reading import read_json
from lit_scaledrop.results.text import one_line

SUFFIX = ".failed.json"


@dataclass(frozen=True)
class Failure:
    """A point that failed."""

    name: str
    """Of the point in its sweep, e.g. `resnet20-proposed-seed1`."""
    reason: str
    host: str
    finished: str
    """ISO 8601, UTC."""


def failure_path(result: Path) -> Path:
    """Where the failure of the run that should have written `result` is recorded.

    >>> failure_path(Path("results/quick/table3/0123456789ab.json")).name
    '0123456789ab.failed.json'
    """
    return result.with_name(result.stem + SUFFIX)


def write_failure(failure: Failure, result: Path) -> None:
    """Record a failure.

    Raises:
        OSError: the folder cannot be written.
    """
    write_atomic(failure_path(result), json.dumps(asdict(failure), indent=2) + "\n")


def read_failure(result: Path) -> Failure | None:
    """The failure of the run that should have written `result`; ``None`` where there is none that can be read."""
    path = failure_path(result)
    try:
        failure = Failure(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    return failure if failure and all(isinstance(word, str) for word in vars(failure).values()) else None


def forget_failure(result: Path) -> None:
    """The run has succeeded."""
    with contextlib.suppress(OSError):
        failure_path(result).unlink(missing_ok=True)


def load_failures(folder: Path, finished: Iterable[str]) -> list[Failure]:
    """Failures of one profile and study by name, without those of the ids `finished` meanwhile."""
    paths = (path.with_name(path.name.removesuffix(SUFFIX) + ".json") for path in folder.glob(f"*{SUFFIX}"))
    left = {*finished}
    failures = (read_failure(path) for path in paths if path.stem not in left)
    return sorted((failure for failure in failures if failure), key=lambda failure: failure.name)


def notes(failures: Iterable[Failure]) -> list[str]:
    """A sentence a failure, for the foot of a table."""
    return [f"FAILED: {one_line(f.name)}: {one_line(f.reason)}. The same sweep runs it again." for f in failures]
