"""Results without training: Tables VII and VIII."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from lit_scaledrop.methods.method import Method
from lit_scaledrop.results import provenance
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.schema import Data, EvaluationRecord, Training


def identity(*what: Any) -> str:
    """Twelve hexadecimal digits for what is counted and with which constants."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Count:
    """What was counted of a network with a method."""

    study: str
    """table, a folder name"""
    id: str
    """of :func:`identity`"""
    network: str
    method: str
    resolved: Method
    """the method with its options, named as in the table"""
    measurements: list[Measurement]
    config: dict[str, Any]
    """what they follow from"""
    started: datetime
    """when the count began, UTC"""

    def result(self, profile: str, words: list[str], commit: tuple[str, bool]) -> Result:
        """The record; ``words`` are the command line behind ``scaledrop cost``."""
        method = self.resolved
        return Result(
            id=self.id,
            study=self.study,
            profile=profile,
            network=self.network,
            method=self.method,
            label=method.label,
            bits_w=method.bits_w,
            bits_a=method.bits_a,
            bayesian=method.bayesian,
            seed=0,
            data=cast(Data, {}),
            training=cast(Training, {}),
            evaluation=cast(EvaluationRecord, {}),
            measurements=self.measurements,
            config=self.config,
            provenance=provenance.of_run(commit, self.id, ["cost", *words], self.started),
        )
