"""Where a network has chains: a look at one pass, at what each module gives and who else wants it."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lit_scaledrop.layers.bits import can_be_compared
from lit_scaledrop.layers.bitwise import bitwise, channels_last, filters_of
from lit_scaledrop.layers.chains import Chain, is_channelwise, side_by_side, sums_signs
from lit_scaledrop.layers.probing import evaluating, hooked
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Float


def find_chains(network: nn.Module, x: Float[Tensor, "1 ..."]) -> list[Chain]:
    """The chains of a network, by a look at one deterministic pass; nothing in it changes.

    Args:
        network: one that :func:`can_be_parted`. Hooks that watch it see the pass.
        x: one input.
    """
    seen = _look(network, x)
    chains = []
    for source, output in seen.outputs.items():
        if output.dim() != 4 or output.dtype != torch.float32 or channels_last(output):
            continue
        between: list[nn.Module] = []
        module = seen.only_user(output)
        pool, before_pool, once = None, 0, seen.calls[source] == 1
        while module is not None:
            if pool is None and sums_signs(source) and type(module) is nn.MaxPool2d and side_by_side(module):
                pool, before_pool = module, len(between)
            # a layer that draws begins one: it has a draw for each row, and whoever runs it may bring the rows
            elif is_channelwise(module) and not (between and isinstance(module, StochasticLayer)):
                between.append(module)
            else:
                break
            module = seen.only_user(seen.outputs[module])
        if module is None or not sums_signs(module) or seen.outputs[module].dtype != torch.float32:
            continue
        # numbers can be compared where they are pooled already; sums are while they are packed
        if between and (not before_pool or (once and can_be_compared(filters_of(source), filters_of(module)))):
            chains.append(Chain(source, between, module, pool, before_pool, once))
    # of those that end alike the longest, and rather one of integers than one of their maxima
    chains.sort(key=lambda chain: (len(chain.between), sums_signs(chain.source)))
    return list({chain.consumer: chain for chain in chains}.values())


def can_be_parted(network: nn.Module) -> bool:
    """Whether something may stand for its modules: none of them is compiled or scripted."""
    return not any(
        isinstance(module, torch.jit.ScriptModule)
        or module._compiled_call_impl is not None
        or hasattr(module, "_orig_mod")
        for module in network.modules()
    )


class _Seen(TorchFunctionMode):
    """Which module gives a tensor, and who uses it: modules that hold no others, and functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[nn.Module, Tensor] = {}
        self.users: dict[int, list[nn.Module]] = {}
        self.other_uses: set[int] = set()
        self.calls: Counter[nn.Module] = Counter()
        self.inside = 0
        self.alive: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what functions between the modules use."""
        if not self.inside:
            leaves = pytree.tree_leaves((args, kwargs))
            self.other_uses.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
            self.alive.append(leaves)
        return func(*args, **(kwargs or {}))

    def enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A unit begins."""
        if not self.inside:
            self.alive.append((inputs, named))
            for tensor in inputs:
                self.users.setdefault(id(tensor), []).append(module)
            within = pytree.tree_leaves(([part for part in inputs if not isinstance(part, Tensor)], named))
            self.other_uses.update(id(leaf) for leaf in within if isinstance(leaf, Tensor))
        self.inside += 1

    def leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """A unit ends."""
        self.inside -= 1
        if not self.inside:
            self.calls[module] += 1
            self.alive.append(output)
            if isinstance(output, Tensor):
                self.outputs[module] = output

    def only_user(self, tensor: Tensor) -> nn.Module | None:
        """The module that takes a tensor, if nobody else does and it runs once."""
        users = self.users.get(id(tensor), [])
        if len(users) != 1 or id(tensor) in self.other_uses or self.calls[users[0]] != 1:
            return None
        return users[0] if users[0] in self.outputs else None


def _look(network: nn.Module, x: Tensor) -> _Seen:
    seen = _Seen()
    hooks = []
    for module in network.modules():
        unit = hasattr(module, "packable") or not any(module.children())
        if unit and type(module) is not nn.Identity:  # which gives its very input
            hooks.append(module.register_forward_pre_hook(seen.enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(seen.leave))
    with bitwise(False), hooked(*hooks), evaluating(network), torch.no_grad(), seen:
        output = network(x)
    kept = [vars(module) for module in network.modules()]  # what forward has put there, for others to see
    seen.other_uses.update(id(leaf) for leaf in pytree.tree_leaves((output, kept)))
    return seen
