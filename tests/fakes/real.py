"""The real data under DATA, for tests with the mark ``data``."""

import os
from pathlib import Path
from typing import Any

import pytest

REAL = Path(os.environ.get("DATA", "data"))


def needs(folder: str) -> None:
    """Skip the test where the folder is not there."""
    if not (REAL / folder).is_dir():
        pytest.skip(f"no {folder} under DATA")


def real(module: Any, folder: str) -> Any:
    """The data module, set up; the test is skipped where the folder is not there."""
    needs(folder)
    data = module(root=str(REAL))
    data.setup()
    return data
