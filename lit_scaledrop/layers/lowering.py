"""Steps of a recorded network that the kernels for signs compute, as routines; the others stay what they are.

A chain that leads to a binary convolution becomes comparisons (:mod:`lit_scaledrop.layers.chains`). Elsewhere scale,
BatchNorm, the sum with a skip and a clip become one operation: each of them alone would read and write whole maps.
Features are maps of one pixel; a linear layer behind flattened maps is a convolution whose window is as large as they.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lit_scaledrop.layers import bits
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.assembly import Lowered, Part, as_maps, assembled
from lit_scaledrop.layers.bits import Cases, Filters, Geometry, Maps, Operation
from lit_scaledrop.layers.bitwise import filters_of, shape_of
from lit_scaledrop.layers.chains import Chain, is_channelwise, side_by_side, sums_signs
from lit_scaledrop.layers.drawn_cases import few, multiplies_and_adds, of_chain, of_stage, plainly
from lit_scaledrop.layers.recording import Recording, Slot, Step
from lit_scaledrop.layers.shortcut import PadShortcut
from lit_scaledrop.layers.stochastic import StochasticLayer

_FLATTEN = {"flatten", "reshape", "view"}
_SUMS_OF_TWO = {"add", "__add__", "__radd__", "__iadd__", "add_"}
_CLIPS: dict[type[nn.Module], Callable[[Any], tuple[float, float]]] = {
    nn.Hardtanh: lambda clip: (float(clip.min_val), float(clip.max_val)),
    Clip: lambda clip: (float(clip.min_val), float(clip.max_val)),
    nn.ReLU6: lambda _: (0.0, 6.0),
    nn.ReLU: lambda _: (0.0, torch.inf),
}


def lower(recording: Recording) -> list[Step | Lowered] | None:
    """Steps, and in the place of some of them operations; ``None`` where there are none.

    Args:
        recording: of a network in evaluation mode.
    """
    return _Lowering(recording).done()


@dataclass(eq=False)
class _Lowering:
    recording: Recording
    users: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    maker: dict[int, int] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    geometries: dict[Any, Geometry] = field(default_factory=dict)
    weights: dict[int, tuple[Filters, Geometry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, step in enumerate(self.recording.steps):
            for slot in step.takes:
                self.users[slot].append(number)
            for slot in step.out:
                self.maker[slot] = number
        self.users[self.recording.output].append(-1)

    def done(self) -> list[Step | Lowered] | None:
        steps = self.recording.steps
        signs = [number for number in range(len(steps)) if self._multiplies(number)]
        if not signs:
            return None
        parts: dict[int, list[Part]] = defaultdict(list)
        bits_only: set[int] = set()
        for number in signs:
            self._convolution(number, parts, bits_only)
        for number in range(len(steps)):
            if number not in self.taken:
                self._numbers(number, parts)
        for number in bits_only:  # sums that nobody wants as numbers
            parts[number] = [part for part in parts[number] if part.out != steps[number].out[0]]
        return assembled(self.recording, parts, self.taken, self.geometries)

    def _maps(self, slot: int) -> bool:
        """Whether it holds maps, or features."""
        shape = self.recording.shapes[slot]
        return shape is not None and len(shape) in (1, 3)

    def _flat(self, slot: int) -> bool:
        return len(self.recording.shapes[slot] or ()) == 1

    def _shape(self, slot: int) -> Maps:
        return as_maps(self.recording.shapes[slot])

    def _one_to_one(self, number: int) -> bool:
        """Whether a step is a module that makes maps of maps."""
        step = self.recording.steps[number]
        return (
            isinstance(step.run, nn.Module)
            and step.plain
            and len(step.takes) == len(step.args) == len(step.out) == 1
            and self._maps(step.takes[0])
            and self._maps(step.out[0])
        )

    def _multiplies(self, number: int) -> bool:
        if not self._one_to_one(number) or not sums_signs(self._module(number)):
            return False
        return self._flat(self.recording.steps[number].takes[0]) != isinstance(self._module(number), nn.Conv2d)

    def _module(self, number: int) -> nn.Module:
        return self.recording.steps[number].run  # type: ignore[return-value]

    def _module_or_none(self, number: int | None) -> nn.Module | None:
        run = None if number is None else self.recording.steps[number].run
        return run if isinstance(run, nn.Module) else None

    def _only_user(self, slot: int) -> int | None:
        users = self.users[slot]
        return users[0] if len(users) == 1 and users[0] >= 0 else None

    def _convolution(self, number: int, parts: dict[int, list[Part]], bits_only: set[int]) -> None:
        step = self.recording.steps[number]
        filters, geometry = self._weights(number)
        packed = (step.takes[0], number)
        self.geometries[packed] = geometry
        path, slot = self._back(number)
        between = [self._module(each) for each in path if not self._pools(each)]
        pool = next((each for each in path if self._pools(each)), None)
        before = None if pool is None else path.index(pool)
        source = self.maker.get(slot)
        channels = filters.shape[1] * filters.groups
        chain = Chain(self._module_or_none(source), between, channels, before, self._flat(slot))
        if source is not None and path and self._goes_on_as_bits(source, number):
            first, of_first = self._weights(source)
            side = 1 if pool is None else side_by_side(self._module(pool)) or 1  # type: ignore[arg-type]
            lanes = of_chain(chain, lambda found: bits.in_lanes(found, first, geometry))
            from_bits = (self.recording.steps[source].takes[0], source)

            def compared(x: int, out: int) -> Operation:
                return bits.bits(x, out, first, of_first, geometry, lanes, side)

            parts[number].append(Part(compared, from_bits, packed))
            bits_only.add(source)
        else:
            cases = of_chain(chain, plainly)
            parts[number].append(Part(lambda x, out: bits.pack(x, out, geometry, cases), slot, packed))
        flattens = self._flattens(number)
        self.taken.update((*path, number) if flattens is None else (*path, flattens, number))
        parts[number].append(Part(lambda x, out: bits.sums(x, out, filters, geometry), packed, step.out[0]))

    def _weights(self, number: int) -> tuple[Filters, Geometry]:
        """Of a convolution, or of a linear layer as one."""
        if number not in self.weights:
            layer, shape = self._module(number), self._shape(self._begins_at(number))
            filters = filters_of(layer)
            if self._flattens(number) is not None and shape[1:] != (1, 1):
                with torch.no_grad():
                    filters = Filters(layer.binary_weight().unflatten(1, shape))  # type: ignore[operator]
            self.weights[number] = filters, filters.geometry(shape[1:], shape_of(layer))
        return self.weights[number]

    def _flattens(self, number: int) -> int | None:
        """The step that makes features of maps for a linear layer, and for nobody else."""
        slot = self.recording.steps[number].takes[0]
        maker = self.maker.get(slot)
        if maker is None or self._only_user(slot) is None or not self._flat(slot):
            return None
        step = self.recording.steps[maker]
        flattens = type(step.run) is nn.Flatten or getattr(step.run, "__name__", "") in _FLATTEN
        given = self.recording.shapes[step.takes[0]] if len(step.takes) == len(step.out) == 1 else None
        if not flattens or given is None or len(given) != 3:
            return None
        return maker if self.recording.shapes[slot] == (math.prod(given),) else None

    def _begins_at(self, number: int) -> int:
        """The slot of what a convolution, or a linear layer as one, is given."""
        flattens = self._flattens(number)
        return self.recording.steps[number if flattens is None else flattens].takes[0]

    def _goes_on_as_bits(self, source: int, number: int) -> bool:
        """Whether sums of one convolution, which nobody else wants, can go to another: bits of groups share bytes."""
        if not self._multiplies(source) or self._only_user(self.recording.steps[source].out[0]) is None:
            return False
        first, following = self._weights(source)[0], self._weights(number)[0]
        return first.groups == following.groups == 1 and first.shape[0] == following.shape[1]

    def _pools(self, number: int) -> bool:
        module = self._module(number)
        return type(module) is nn.MaxPool2d and side_by_side(module) is not None

    def _back(self, number: int) -> tuple[list[int], int]:
        """Steps of the chain that ends at a convolution, and the slot that it begins at."""
        path: list[int] = []
        pool: int | None = None
        random = False  # whether one of them draws
        slot = self._begins_at(number)
        while slot in self.maker and self._only_user(slot) is not None:
            maker = self.maker[slot]
            if not self._one_to_one(maker) or maker in self.taken:
                break
            module = self._module(maker)
            if pool is None and self._pools(maker):
                pool = maker
            elif not is_channelwise(module) or (isinstance(module, StochasticLayer) and (random or not few(module))):
                break
            random = random or isinstance(module, StochasticLayer)
            path.insert(0, maker)
            slot = self.recording.steps[maker].takes[0]
        if pool is not None and not self._sums_in_front(path, path.index(pool), slot, number):
            path = path[path.index(pool) + 1 :]
            slot = self.recording.steps[pool].out[0]
        return path, slot

    def _sums_in_front(self, path: list[int], before_pool: int, slot: int, number: int) -> bool:
        """Whether squares of sums can be compared: finite numbers of a convolution that nobody else needs."""
        source = self.maker.get(slot)
        return (
            source is not None
            and len(path) > 1
            and self._goes_on_as_bits(source, number)
            # else numbers in front of the pool could be none, which maxima keep
            and all(
                bool(weight.isfinite().all())
                for each in path[:before_pool]
                for weight in self._module(each).parameters()
            )
        )

    def _numbers(self, number: int, parts: dict[int, list[Part]]) -> None:
        """An operation that begins with this step, if it can be one."""
        step = self.recording.steps[number]
        if self._one_to_one(number):
            module, shape = self._module(number), self._shape(step.takes[0])
            size = side_by_side(module) if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) else None
            made: Callable[..., Operation] | None = None
            if size is not None:
                largest = isinstance(module, nn.MaxPool2d)
                made = lambda x, out: bits.pool(x, out, shape, size, largest)  # noqa: E731
            elif type(module) is PadShortcut:
                front, channels = module.added_channels // 2, shape[0] + module.added_channels
                made = lambda x, out: bits.subsample(x, out, shape, module.stride, front, channels)  # noqa: E731
            if made is not None:
                parts[number].append(Part(made, step.takes[0], step.out[0], steps=(number,)))
                self.taken.add(number)
                return
        self._finish(number, parts)

    def _finish(self, number: int, parts: dict[int, list[Part]]) -> None:
        stages: list[tuple[Cases, bool]] = []
        skip: int | None = None
        ends: tuple[float, float] | None = None
        steps, last, main = self.recording.steps, None, None
        slot: int | None = None
        at: int | None = number
        done: list[int] = []
        while at is not None and at not in self.taken:
            step = steps[at]
            if self._one_to_one(at):
                module = self._module(at)
                if type(module) in _CLIPS and ends is None:
                    ends = _CLIPS[type(module)](module)
                elif multiplies_and_adds(module) and len(stages) < bits.STAGES and skip is None and ends is None:
                    stages.append(of_stage(module))  # type: ignore[arg-type]
                else:
                    break
                main = step.takes[0] if main is None else main
            elif self._adds(step) and skip is None and ends is None:
                main = step.takes[0] if main is None else main
                skip = step.takes[0] if slot is not None and slot == step.takes[1] else step.takes[1]
            else:
                break
            last, slot = at, step.out[0]
            at = self._only_user(slot)
            done.append(last)
            self.taken.add(last)
        if last is None or slot is None:
            return
        low, high = ends or (-torch.inf, torch.inf)
        shape = self._shape(slot)
        tables, fused = [stage for stage, _ in stages], [once for _, once in stages]

        def make(x: int, out: int, skip: int = -1) -> Operation:
            return bits.finish(x, out, shape, tables, fused, skip, low, high)

        parts[last].append(Part(make, main, slot, skip, tuple(done)))

    def _adds(self, step: Step) -> bool:
        if isinstance(step.run, nn.Module) or getattr(step.run, "__name__", "") not in _SUMS_OF_TWO:
            return False
        slots = [arg for arg in step.args if isinstance(arg, Slot)]
        if len(slots) != 2 or len(step.args) != 2 or step.named or len(step.out) != 1:
            return False
        shapes = [self.recording.shapes[slot] for slot in (*step.takes, *step.out)]
        return shapes[0] == shapes[1] == shapes[2] and self._maps(step.out[0])
