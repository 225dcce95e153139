"""The optuna study behind a search: its sampler, its metric, and its trials as the report knows them.

A trial is sampled in a copy of the study and enters the journal as one line, with its values; it is RUNNING until it is
COMPLETE or PRUNED. One that failed stays RUNNING, with the reason as an attribute, since it is to be trained again; the
sampler counts whatever is RUNNING among the bad ones.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_scaledrop.extras import extra
from lit_scaledrop.results.trials import JournalError, State, Trial
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.journal import Lock, open_storage
from lit_scaledrop.sweep.pruner import build_pruner
from lit_scaledrop.sweep.space import search_space

_STATES: dict[str, State] = {"RUNNING": "chosen", "COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}


class Study:
    """A study in memory, or in a journal once that is opened; needs optuna.

    Args:
        config: sweep file of method `random` or `bayes`.
        seed: of the sampler.
        jobs: trials of a round, which know the rounds before them and nothing of each other.

    Raises:
        ModuleNotFoundError: optuna is missing.
        SweepError: the file has no metric of the validation split, or nothing that can be searched.
    """

    def __init__(self, config: Mapping[str, Any], seed: int, jobs: int) -> None:
        self.optuna, self.method, self.seed, self.jobs = _import_optuna(), config["method"], seed, jobs
        self.goals = _goals(config)
        self.metric = next(iter(self.goals))
        self.goal: Callable[..., float] = max if self.goals[self.metric] == "maximize" else min
        self.space = search_space(config["parameters"])
        self.pruner = build_pruner(config.get("early_terminate"))
        self._study, self._lock = self._create(), Lock()

    def open(self, path: Path, read_only: bool = False) -> None:
        """Continue with the trials of a journal, which is made if it is not there; to read only, a copy in memory.

        Raises:
            JournalError: the file is no journal of optuna.
        """
        if read_only and not (path.exists() and path.stat().st_size):
            return
        lock = Lock(path)
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no file")
            storage = open_storage(path, lock)
            if read_only:
                self._study.add_trials(self.optuna.load_study(study_name=path.stem, storage=storage).trials)
            else:
                self._study, self._lock = self._create(storage=storage, study_name=path.stem, load_if_exists=True), lock
            self.trials()
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            raise JournalError(path, error) from error

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were chosen."""
        return [_as_trial(frozen) for frozen in self._frozen()]

    def sample(self, number: int) -> Any:
        """Optuna's trial `number`: a function of file, seed, number of jobs and the rounds before it."""
        seed = random.Random(f"{self.seed} {number}").getrandbits(32)
        samplers = self.optuna.samplers
        bayes = self.method == "bayes"
        sampler = samplers.TPESampler(seed=seed, constant_liar=True) if bayes else samplers.RandomSampler(seed)
        memory, first = self._create(sampler=sampler), number - number % self.jobs
        memory.add_trials(one if one.number < first else self._running(one) for one in self._frozen()[:number])
        memory.ask({name: one.distribution for name, one in self.space.items() if one.distribution is not None})
        return memory.trials[-1]

    def values(self, sampled: Any) -> dict[str, Any]:
        """Flag values of a sampled trial."""
        return {name: one.value(sampled.params.get(name)) for name, one in self.space.items()}

    def choose(self, number: int, result: Callable[[Trial], str]) -> Trial:
        """The trial `number`: the one that is there, or the next, while no other process can choose.

        Args:
            number: at most the number of trials that are there.
            result: gives the id of a trial's result.
        """
        with self._lock.held():
            if number == len(self._frozen()):
                sampled = self.sample(number)
                values = self.values(sampled)
                attributes = {"values": values, "result": result(Trial(number, values, ""))}
                self._study.add_trial(self._running(sampled, attributes))
            return _as_trial(self._frozen()[number])

    def end(
        self, trial: Trial, scores: Sequence[float], value: float | Sequence[float] | None = None, why: str = ""
    ) -> None:
        """Note how a trial ended, unless another process has done so: finished with a value of each metric, or pruned.

        `scores` after each epoch are noted where the search goes by one metric, as early termination needs them.
        """
        with self._lock.held():
            if not (live := self._live(trial)):
                return
            known = self._frozen()[trial.number].intermediate_values
            for step, score in enumerate(scores if len(self.goals) == 1 else (), 1):
                if step not in known:  # a process may have died between two of them
                    live.report(score, step)
                    live.should_prune()  # notes the score at a rung
            live.set_user_attr("why", why)
            states = self.optuna.trial.TrialState
            self._study.tell(live, value, states.PRUNED if value is None else states.COMPLETE)

    def fail(self, trial: Trial, why: str) -> None:
        """Note why a trial failed, unless another process has finished it."""
        with self._lock.held():
            if live := self._live(trial):
                live.set_user_attr("why", why)

    def contest(self, first: int) -> Any:
        """A trial of optuna that meets those before `first`: report scores to it, and ask it whether it is pruned."""
        rivals = self._create()
        rivals.add_trials(self._frozen()[:first])
        return rivals.ask()

    def _create(self, **options: Any) -> Any:
        return self.optuna.create_study(directions=list(self.goals.values()), pruner=self.pruner, **options)

    def _frozen(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False)

    def _live(self, trial: Trial) -> Any:
        frozen = self._frozen()[trial.number]
        return None if frozen.state.is_finished() else self.optuna.trial.Trial(self._study, frozen._trial_id)

    def _running(self, trial: Any, attributes: dict[str, Any] | None = None) -> Any:
        return self.optuna.trial.create_trial(
            state=self.optuna.trial.TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes,
        )


def _import_optuna() -> Any:
    optuna = extra("optuna", "a search", "; or let W&B's server choose: wandb sweep and wandb agent")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _goals(config: Mapping[str, Any]) -> dict[str, str]:
    """Directions by metric; a search without a metric, or by one of the test set, is refused."""
    asked = config["metrics"] if "metrics" in config else [config.get("metric")]
    goals: dict[str, str] = {}
    for metric in asked if isinstance(asked, list) and asked else [None]:
        if not isinstance(metric, dict) or not str(metric.get("name", "")).startswith("val/"):
            raise SweepError(
                "a search needs 'metric: {name: val/acc, goal: maximize}', or 'metrics:' with several, of the "
                "validation split; nothing is selected on test images"
            )
        goal = metric.get("goal", "minimize")
        if goal not in ("minimize", "maximize"):
            raise SweepError(f"the metric's goal is minimize or maximize, not {goal!r}")
        goals[metric["name"]] = goal
    if len(goals) < len(asked or []):
        raise SweepError(f"metrics: names one twice; there are {', '.join(goals)}")
    if len(goals) > 1 and "early_terminate" in config:
        raise SweepError("early_terminate compares trainings by one metric; leave it out, or search by one")
    return goals


def _as_trial(frozen: Any) -> Trial:
    kept = frozen.user_attrs
    state: State = "failed" if kept.get("why") and not frozen.state.is_finished() else _STATES[frozen.state.name]
    value = frozen.values[0] if frozen.values and len(frozen.values) == 1 else frozen.values
    return Trial(frozen.number, kept["values"], kept["result"], state, value, kept.get("why", ""))
