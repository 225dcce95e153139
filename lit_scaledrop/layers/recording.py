"""One pass of a network as a list of steps: what each module and each function between modules was given, and gave.

The steps can be run again, and some of them by other means (:mod:`lit_scaledrop.layers.lowering`). They are those
of any pass only if the way through the network does not depend on numbers, and as long as no attribute of a module
changes: the first is refused, the second noticed. A module that holds no others is one step, whatever it does inside.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lit_scaledrop.layers.bitwise import bitwise
from lit_scaledrop.layers.probing import evaluating, hooked, modules_of

_ROWS = 3
"""of the pass that is recorded: not as many as of those that try the steps, so that a number of rows is noticed"""
_OF_SHAPE = {
    "size", "dim", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "element_size", "__len__",
    "shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_complex", "storage_offset", "ndimension",
    "is_cuda", "is_mkldnn", "is_quantized", "is_sparse", "is_leaf", "is_nested", "names", "grad_fn", "itemsize",
}  # fmt: skip
"""what code may ask of a tensor but for its numbers"""


_OF_SIZES = {"view", "reshape", "expand"}
"""functions whose first size often is a number of rows, ``y.view(y.size(0), -1)``"""


class UnrecordableError(Exception):
    """A network whose passes are no list of steps."""


@dataclass(frozen=True)
class Slot:
    """A tensor among the arguments of a step, by its number."""

    number: int


class Rows:
    """Stands for the number of rows of the first tensor among the arguments of a step."""


@dataclass(eq=False)
class Step:
    """A call.

    Attributes:
        run: module or function.
        args: what it was given, with slots in the place of tensors.
        named: likewise, by name.
        out: slots of the tensors that it gave, in their order.
        takes: slots of the tensors that it was given.
        plain: whether it was given nothing else.
        flat: whether it was given nothing by name, and no slots within lists and the like.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    named: dict[str, Any]
    out: tuple[int, ...]
    takes: tuple[int, ...] = ()
    plain: bool = False
    flat: bool = False

    def __post_init__(self) -> None:
        leaves = pytree.tree_leaves((self.args, self.named))
        self.takes = tuple(leaf.number for leaf in leaves if isinstance(leaf, Slot))
        self.plain = not self.named and all(isinstance(arg, Slot) for arg in self.args)
        nested = sum(isinstance(leaf, Slot | Rows) for leaf in leaves) > sum(isinstance(arg, Slot) for arg in self.args)
        self.flat = not self.named and not nested

    def __call__(self, tensors: list[Any]) -> None:
        """Make the call with what the slots hold."""
        if self.plain:
            made = self.run(*[tensors[number] for number in self.takes])
        elif self.flat:
            made = self.run(*[tensors[arg.number] if type(arg) is Slot else arg for arg in self.args])
        else:
            given = self.args, self.named
            args, named = pytree.tree_map_only(Slot | Rows, lambda mark: self._meant(mark, tensors), given)
            made = self.run(*args, **named)
        all_made = (made,) if isinstance(made, Tensor) else _tensors(made)
        for number, tensor in zip(self.out, all_made, strict=True):
            tensors[number] = tensor

    def _meant(self, mark: Slot | Rows, tensors: list[Any]) -> Any:
        return tensors[mark.number] if isinstance(mark, Slot) else len(tensors[self.takes[0]])


@dataclass
class Recording:
    """Steps of a network.

    Attributes:
        steps: in their order; slot 0 holds the input.
        output: slot of the output.
        shapes: shape of the tensor in each slot without its rows; ``None`` where its rows are not those of the input,
            it is not float32, or not contiguous.
        attributes: those that the network had.
    """

    steps: list[Step]
    output: int
    shapes: list[tuple[int, ...] | None]
    attributes: "Attributes"


def record(network: nn.Module, x: Tensor) -> Recording:
    """Record a deterministic pass of one input; nothing in the network changes but what its code changes itself.

    Args:
        network: in evaluation mode.
        x: inputs, of which the first is taken.

    Raises:
        UnrecordableError: code of the network looks at numbers, keeps tensors, or something in it is compiled.
    """
    if not can_be_parted(network):
        raise UnrecordableError("part of it is compiled")
    rows = x[:1].repeat(_ROWS, *[1] * (x.dim() - 1))
    seen, before = _Seen(rows), Attributes(network)
    hooks = []
    for module in modules_of(network):
        if _is_step(module):
            hooks.append(module.register_forward_pre_hook(seen.enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(seen.leave, with_kwargs=True))
    with bitwise(False), hooked(*hooks), evaluating(network), torch.no_grad(), seen:
        output = network(rows)
    if not isinstance(output, Tensor) or id(output) not in seen.slots:
        raise UnrecordableError("its output is no tensor of its steps")
    if not before.same():
        raise UnrecordableError("a pass changes its attributes")
    if any(_own_tensors(module) != own for module, own in seen.own.items()):
        raise UnrecordableError("a pass lends its modules other weights")
    return Recording(seen.steps, seen.slots[id(output)], seen.shapes, before)


def can_be_parted(network: nn.Module) -> bool:
    """Whether its modules can be looked at one by one: none of them is compiled or scripted."""
    return not any(
        isinstance(module, torch.jit.ScriptModule)
        or module._compiled_call_impl is not None
        or hasattr(module, "_orig_mod")
        for module in modules_of(network)
    )


def _is_step(module: nn.Module) -> bool:
    if type(module) is nn.Identity:  # gives its very input
        return False
    known = type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.Sequential)
    return known or hasattr(module, "packable") or getattr(module, "one_step", False) or not module._modules


class _Seen(TorchFunctionMode):
    """Notes steps: modules that :func:`_is_step`, and functions between them."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.slots: dict[int, int] = {}
        self.shapes: list[tuple[int, ...] | None] = []
        self.alive: list[Any] = []
        self.inside = 0
        self.given: Any = None
        self.own: dict[nn.Module, list[int]] = {}
        self._slot(x)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a function that is called outside of the modules."""
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        self.inside += 1
        try:
            template = self._template((args, kwargs))
            made = func(*args, **kwargs)
        finally:
            self.inside -= 1
        self._note(func, template, made)
        return made

    def enter(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A module begins."""
        if not self.inside:
            self.given = self._template((args, named))
            for within in module.modules():
                self.own[within] = _own_tensors(within)
        self.inside += 1

    def leave(self, module: nn.Module, _args: Any, _named: Any, output: Any) -> None:
        """A module ends."""
        self.inside -= 1
        if not self.inside:
            self._note(module, self.given, output)

    def _note(self, run: Any, template: tuple[Any, Any], made: Any) -> None:
        tensors = [made] if isinstance(made, Tensor) else _tensors(made)
        if not tensors and made is not None:  # but None, as of what writes into a tensor
            name = getattr(run, "__name__", "")
            of = getattr(run, "__self__", None)
            if name in _OF_SHAPE or (name == "__get__" and getattr(of, "__name__", "") in _OF_SHAPE):
                return
            raise UnrecordableError(f"it depends on numbers ({name or type(run).__name__})")
        args, named = template
        if getattr(run, "__name__", "") in _OF_SIZES:
            args = _with_rows(args)
        self.steps.append(Step(run, args, named, tuple(self._slot(tensor) for tensor in tensors)))

    def _slot(self, tensor: Tensor) -> int:
        """A new one; who changes a tensor in place gives a new one, too."""
        plain = tensor.dtype == torch.float32 and tensor.dim() > 0 and tensor.is_contiguous() and len(tensor) == _ROWS
        self.slots[id(tensor)] = len(self.shapes)
        self.shapes.append(tuple(tensor.shape[1:]) if plain else None)
        self.alive.append(tensor)
        return len(self.shapes) - 1

    def _template(self, given: Any) -> Any:
        self.alive.append(given)
        return pytree.tree_map_only(
            Tensor, lambda tensor: Slot(self.slots[id(tensor)]) if id(tensor) in self.slots else tensor, given
        )


class Attributes:
    """What attributes the modules of a network have: which objects, and what is in lists, sets and dictionaries.

    Args:
        network: one whose modules have no hooks.
    """

    def __init__(self, network: nn.Module) -> None:
        self.modules = modules_of(network)
        self.of: list[dict[str, Any]] = [vars(module) for module in self.modules]
        for module in self.modules:
            self.of += module._modules, module._parameters, module._buffers
        self.values, self.sizes = self._look()
        self.hooks = [hooks for module in self.modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self.containers = [
            (value, copy.copy(value))
            for module in self.modules
            for name, value in vars(module).items()
            if isinstance(value, list | dict | set) and not name.startswith("_")
        ]

    def same(self) -> bool:
        """Whether they are still those, and no hooks see what the modules compute."""
        try:
            return (
                not nn.modules.module._has_any_global_hook()
                and not any(self.hooks)
                and self._look() == (self.values, self.sizes)
                and all(value == before for value, before in self.containers)
            )
        except (RuntimeError, ValueError):  # another tensor, which is not compared with a word
            return False

    def _look(self) -> tuple[list[Any], list[int]]:
        return list(chain.from_iterable(map(dict.values, self.of))), list(map(len, self.of))


def _with_rows(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments with :class:`Rows` in the place of the first size, where it is their number."""
    tensor, *sizes = args
    listed = len(sizes) == 1 and isinstance(sizes[0], tuple | list)
    every = list(sizes[0]) if listed else sizes
    if not isinstance(tensor, Slot) or not every or every[0] != _ROWS:
        return args
    every = [Rows(), *every[1:]]
    return (tensor, every) if listed else (tensor, *every)


def _own_tensors(module: nn.Module) -> list[int]:
    """To be compared by identity, as numbers are."""
    return [id(tensor) for own in (module._parameters, module._buffers) for tensor in own.values()]


def _tensors(made: Any) -> Sequence[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(made) if isinstance(leaf, Tensor)]
