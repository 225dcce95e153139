"""A forward pass without side effects, to find out shapes, order and inputs of layers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Of = TypeVar("Of")
Found = TypeVar("Found")
_found: ContextVar[dict[tuple[Any, Any], Any] | None] = ContextVar("found", default=None)


@contextmanager
def looking_once() -> Iterator[None]:
    """A block in which no network changes, so that each of its properties is looked up once, for one thread."""
    before = _found.get()
    token = _found.set({} if before is None else before)
    try:
        yield
    finally:
        _found.reset(token)


def looked_up(look: Callable[[Of], Found]) -> Callable[[Of], Found]:
    """Let :func:`looking_once` keep what a function finds in a network, if it is anything; nobody may change that."""

    @wraps(look)
    def lookup(network: Of) -> Found:
        found = _found.get()
        if found is None:
            return look(network)
        key = lookup, network
        kept: Found = found.get(key) or look(network)
        if kept:
            found[key] = kept
        return kept

    return lookup


def known(look: Callable[[Of], Found], network: Of, found: Found) -> None:
    """Let :func:`looking_once` keep what is known already of a network, as if it had been looked up."""
    kept = _found.get()
    if kept is not None:
        kept[look, network] = found


@looked_up
def modules_of(network: nn.Module) -> list[nn.Module]:
    """``list(network.modules())`` in a third of the time, which counts where every prediction looks at all of them.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.ReLU()))
    >>> modules_of(network) == list(network.modules())
    True
    """
    return list(_holders(network))


def name_of(module: nn.Module, network: nn.Module) -> str:
    """Its name in a network that has it, as ``network.named_modules()`` gives it.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.ReLU()))
    >>> name_of(network[1][0], network)
    '1.0'
    """
    names: list[str] = []
    holder: nn.Module | None = module
    while holder is not None and holder is not network:
        holder, name = _holders(network)[holder]
        names.insert(0, name)
    return ".".join(names)


@looked_up
def _holders(network: nn.Module) -> dict[nn.Module, tuple[nn.Module | None, str]]:
    """Modules in the order of ``network.modules()``, each with the one that holds it and its name there."""
    found: dict[nn.Module, tuple[nn.Module | None, str]] = {}
    waiting: list[tuple[nn.Module | None, nn.Module | None, str]] = [(network, None, "")]
    while waiting:
        module, holder, name = waiting.pop()
        if module is not None and module not in found:
            found[module] = holder, name
            if module._modules:
                waiting += [(within, module, child) for child, within in reversed(module._modules.items())]
    return found


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """The networks in evaluation mode; afterwards each module is what it was."""
    training = [module for network in networks for module in modules_of(network) if module.training]
    for network in networks if training else ():
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def hooked(*handles: RemovableHandle) -> Iterator[None]:
    """Hooks that are there in the block, and removed behind it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def probe(network: nn.Module, images: Tensor, layers: Iterable[nn.Module], look: Callable[..., Any]) -> None:
    """Run one deterministic pass; BatchNorm, modes and the random stream stay as they are.

    Args:
        network: any network.
        images: input, brought to the network's device and type.
        layers: those of the network that are looked at.
        look: called with each of them and the tuple of its inputs, before it runs.
    """
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    with hooked(*hooks), evaluating(network), torch.no_grad():
        network(images.to(next(network.parameters())))
