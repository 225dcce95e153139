"""A network whose binary layers run as routines of kernels, pass by pass as they are drawn."""

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

from lit_scaledrop.layers.assembly import Lowered
from lit_scaledrop.layers.bits import Digest, Groups, Operation, Routine
from lit_scaledrop.layers.bitwise import filters_of, is_known
from lit_scaledrop.layers.drawn_cases import DrawnCases
from lit_scaledrop.layers.lowering import lower
from lit_scaledrop.layers.prefix import Partition, PrefixTree, Sharing, sharing_now
from lit_scaledrop.layers.probing import known, looked_up, modules_of
from lit_scaledrop.layers.recording import record
from lit_scaledrop.layers.stochastic import StochasticLayer, stochastic_layers


class Recorded:
    """A network as it ran once, for inputs of one size.

    Args:
        network: in evaluation mode.
        x: inputs, of which one is looked at.

    Attributes:
        routines: of its steps those that kernels compute; empty where there is nothing for them to do.

    Raises:
        UnrecordableError: its passes are no list of steps.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network = network
        self._recording = record(network, x)
        self._layers = stochastic_layers(network)
        self._names = {layer: name for name, layer in self._layers.items()}
        self._lower()

    def _lower(self) -> None:
        lowered = lower(self._recording) or []
        self._steps = [RoutineStep(each, self._names) if isinstance(each, Lowered) else each for each in lowered]
        self.routines = [step for step in self._steps if isinstance(step, RoutineStep)]
        last: dict[int, int] = {}
        for place, step in enumerate(self._steps):
            last.update(dict.fromkeys((*step.takes, *step.out), place))
        last.pop(self._recording.output, None)
        self._done = [[slot for slot, end in last.items() if end == place] for place in range(len(self._steps))]
        kept = {id(step) for step in lowered}
        modules = [
            step.run for step in self._recording.steps if id(step) not in kept and isinstance(step.run, nn.Module)
        ]
        self._tensors = list(
            {id(t): t for module in modules for t in module.state_dict(keep_vars=True).values()}.values()
        )
        self._digest = Digest(self._tensors)
        layers = [module for module in modules if hasattr(module, "packable") and not is_known(module)]
        self._filters = [(layer, filters_of(layer)) for layer in layers]

    @looked_up
    def of_now(self) -> bool:
        """Whether the network is what it was; tables of weights and statistics that have changed are made anew."""
        if not self._recording.attributes.same():
            return False
        if not self._digest.same() or any(filters_of(layer) is not filters for layer, filters in self._filters):
            self._lower()
        if self.routines:
            known(modules_of, self.network, self._recording.attributes.modules)
            known(stochastic_layers, self.network, self._layers)
        return bool(self.routines)

    def __call__(self, x: Tensor) -> Tensor:
        """A pass, with the draws that its layers have, or the shared passes that run."""
        tensors: list[Any] = [None] * len(self._recording.shapes)
        tensors[0] = x
        for step, done in zip(self._steps, self._done, strict=True):
            step(tensors)
            for slot in done:
                tensors[slot] = None
        output: Tensor = tensors[self._recording.output]
        return output


@dataclass(eq=False)
class RoutineStep:
    """A routine in the place of steps.

    Args:
        lowered: its operations.
        names: of the layers that draw.
    """

    lowered: Lowered
    names: dict[StochasticLayer, str]
    _shared: WeakKeyDictionary[PrefixTree, dict[Any, tuple[list[Groups], Partition]]] = field(
        default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        of = self.lowered
        self.takes, self.out = of.takes, of.gives
        self.routine = Routine(of.operations, of.shapes, of.inputs, of.outputs)
        self.drawn = [table for each in of.operations for table in _drawn(each)]

    def __call__(self, tensors: list[Any]) -> None:
        """Run it with what the slots hold."""
        of = self.lowered
        inputs = [
            tensors[slot].resolve_neg().contiguous().view(-1, *of.shapes[value])
            for slot, value in zip(of.takes, of.inputs, strict=True)
        ]
        state = sharing_now()
        if state is None:
            made = self.routine(inputs, len(inputs[0]), None, self._cases() if self.drawn else None)
        else:
            groups, state.partition = self._groups(state, inputs)
            made = self.routine(inputs, state.batch, groups)
        for slot, tensor, shape in zip(of.gives, made, of.given, strict=True):
            tensors[slot] = tensor.view(-1, *shape)

    def _cases(self) -> np.ndarray:
        """By what the layers draw: one for all rows, or one for each."""
        draws = [table.layer._planned for table in self.drawn]
        rows = max((draw.shape[0] for draw in draws if draw is not None), default=1)
        if rows == 1:
            pairs = zip(self.drawn, draws, strict=True)
            return np.array([table.case(None if draw is None else draw.item()) for table, draw in pairs], np.int32)
        cases = np.zeros((len(draws), rows), np.int32)
        for row, table, draw in zip(cases, self.drawn, draws, strict=True):
            if draw is None:
                row[:] = table.case(None)
            else:
                row[:] = [table.case(one) for one in draw.flatten().tolist()]
        return cases

    def _groups(self, state: Sharing, inputs: list[Tensor]) -> tuple[list[Groups], Partition]:
        """Of each operation, and the partition behind them."""
        counts = tuple(len(tensor) // state.batch for tensor in inputs)
        kept = self._shared.setdefault(state.tree, {})
        key = state.partition, counts
        if key not in kept:
            kept[key] = self._split(state, counts)
        return kept[key]

    def _split(self, state: Sharing, counts: tuple[int, ...]) -> tuple[list[Groups], Partition]:
        current, tree = state.partition, state.tree
        of_value = {value: state.coarser(count) for value, count in zip(self.lowered.inputs, counts, strict=True)}
        made = []
        for each in self.lowered.operations:
            drawn = _drawn(each)
            for table in drawn:
                current = tree.split(current, self.names[table.layer])
            parts = [of_value[value] for value in (each.x, each.skip) if value >= 0]
            out = current if drawn else max(parts, key=lambda partition: partition.groups)
            of_value[each.out] = out
            sources = [None if part.groups == out.groups else tuple(out.sources(part.groups)) for part in parts]
            draws = [tree.plan.draws[self.names[table.layer]][out.first].flatten().tolist() for table in drawn]
            cases = tuple(tuple(map(table.case, draw)) for table, draw in zip(drawn, draws, strict=True))
            made.append(Groups(out.groups, sources[0], sources[1] if len(sources) > 1 else None, cases))
        return made, current


def _drawn(operation: Operation) -> list[DrawnCases]:
    return [table for table in operation.tables if isinstance(table, DrawnCases)]
