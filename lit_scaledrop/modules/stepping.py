"""Several optimizer steps in one call of Lightning: one after the other, or replayed from one CUDA graph.

Lightning takes about a millisecond of the host for a step, and so do the launches of a small network's kernels; on a
fast GPU the step itself takes no longer. A module that takes many steps a call is asked once for all of them, and a
step that is captured once (masks, forward, loss, backward, optimizer) is one launch. The numbers are those of single
steps: on a CPU to the last bit.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear

Capture = Literal["auto", "off"]
#: steps a call on CUDA, where nobody asks for another number
ON_CUDA = 50
#: steps in front of a capture: they compile kernels and make the optimizer's state
WARM_UP = 3
_EVERY_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")


def steps_per_call(trainer: L.Trainer, asked: int | None) -> int:
    """How many steps a call of ``training_step`` takes.

    Args:
        trainer: about to fit.
        asked: number that was asked for; ``None`` takes :data:`ON_CUDA` on a GPU and one elsewhere, and one where
            something has to be done at each step.

    Raises:
        ValueError: if more than one is asked for and something has to be done at each step.
    """
    steps = asked or (ON_CUDA if trainer.strategy.root_device.type == "cuda" else 1)
    if steps == 1 or not (reasons := _reasons_for_single_steps(trainer)):
        return steps
    if asked:
        raise ValueError(
            f"model.steps_per_call={asked} cannot be combined with {', '.join(reasons)}: remove one of them"
        )
    print(f"scaledrop: steps are taken one by one, because of {', '.join(reasons)}", file=sys.stderr, flush=True)
    return 1


def _reasons_for_single_steps(trainer: Any) -> list[str]:
    own = [type(callback).__name__ for callback in trainer.callbacks if _acts_on_every_step(callback)]
    settings = {
        "several processes": trainer.world_size > 1,
        "trainer.limit_train_batches": trainer.fast_dev_run or trainer.limit_train_batches not in (None, 1.0),
        "trainer.overfit_batches": bool(trainer.overfit_batches),
        "trainer.max_steps": trainer.max_steps not in (None, -1),
        "trainer.val_check_interval": trainer.val_check_interval not in (None, 1.0),
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches > 1,
        "trainer.gradient_clip_val": bool(trainer.gradient_clip_val),
        "trainer.precision=16-mixed": getattr(trainer.precision_plugin, "scaler", None) is not None,
        "data that come one batch at a time": not hasattr(trainer.datamodule, "draw_augmentation"),
    }
    return [name for name, there in settings.items() if there] + own


def _acts_on_every_step(callback: Callback) -> bool:
    """Whether a callback does something at each step that several in a row would leave out."""
    if getattr(callback, "every_step", False):
        return True
    return any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in _EVERY_STEP)


class ZeroGradientError(RuntimeError):
    """Binary weights get no gradient; the message says which."""


def require_gradients(network: nn.Module) -> None:
    """Refuse to train binary weights whose gradient is zero or missing, as a compiler once left it, without a word.

    Raises:
        ZeroGradientError: naming the layers.
    """
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, BinaryConv2d | BinaryLinear)]
    flat = [n for n, m in layers if m.weight.requires_grad and (m.weight.grad is None or not bool(m.weight.grad.any()))]
    if flat:
        raise ZeroGradientError(
            f"the binary weights of {', '.join(flat[:3])} ({len(flat)} of {len(layers)} layers) have a gradient of "
            f"zero and would never change: try --model.compile_network=false or --model.capture=off"
        )


class Stepper:
    """Takes optimizer steps, and captures one as a CUDA graph where it may.

    Args:
        network: that is trained.
        objective: loss of images and targets; whatever it adds up it adds in place.
        optimizer: of all parameters.
        capture: ``"auto"``: a graph on CUDA, after :data:`WARM_UP` steps; ``"off"``: never.
        device: where the images are.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        capture: Capture,
        device: torch.device,
    ) -> None:
        self.network, self.objective, self.optimizer, self.device = network, objective, optimizer, device
        self.capturing = capture == "auto" and device.type == "cuda"
        self.taken = 0
        self._graph: Any = None
        self._inputs: tuple[Tensor, ...] = ()

    def step(self, images: Tensor, target: Tensor) -> None:
        """One step on a batch."""
        if self._graph is not None and self._inputs[0].shape == images.shape:
            for held, given in zip(self._inputs, (images, target), strict=True):
                held.copy_(given)
            self._graph.replay()
        elif self.capturing and self.taken == WARM_UP:
            self._capture(images, target)
        elif self.capturing:
            with _side_stream():
                self._take(images, target)
        else:
            self._take(images, target)
        if self.device.type == "cuda" and self.taken in (0, WARM_UP):
            require_gradients(self.network)
        self.taken += 1

    def _take(self, images: Tensor, target: Tensor) -> None:
        kind = self.device.type
        self.optimizer.zero_grad(set_to_none=True)
        # no cache: it would hand the casts of old weights to the next step
        mixed = torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        )
        with mixed:
            loss = self.objective(images, target)
        with torch.autocast(kind, enabled=False):
            loss.backward()
        self.optimizer.step()

    def _capture(self, images: Tensor, target: Tensor) -> None:
        """Record a step, which does not run it, and replay it; a step that cannot be captured is taken."""
        self._inputs = images.clone(), target.clone()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._take(*self._inputs)
        except RuntimeError as error:
            torch.cuda.synchronize()
            self.capturing = False
            print(
                f"scaledrop: the step cannot be captured as a CUDA graph ({str(error).splitlines()[0]}): training "
                f"continues without one; --model.capture=off avoids the attempt",
                file=sys.stderr,
                flush=True,
            )
            self._take(images, target)
            return
        self._graph = graph
        graph.replay()


@contextmanager
def _side_stream() -> Iterator[None]:
    """Work in the block runs on a stream of its own, as that in front of a capture has to."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def settle_rates(optimizer: torch.optim.Optimizer, on_device: bool, device: torch.device) -> None:
    """Hold the learning rates in tensors on the device, which a captured step reads, or as numbers.

    A checkpoint may come from the other kind of device.
    """
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, device=device) if on_device else rate
