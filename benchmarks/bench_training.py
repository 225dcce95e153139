"""Training images per second: our compiled bf16 step against a plain eager fp32 one, and the two data pipelines."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

from benchmarks.measure import by_group, table
from benchmarks.plain import ResNet
from datamodules import CIFAR10DataModule
from fakes import write_fake_cifar10
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.modules.objective import parameter_groups, scale_regularization
from lit_scaledrop.networks import build_network

TITLE = "Training and data"
CASES = {"network": (("resnet20",), ("resnet20", "resnet18"))}
LAMBDA_SCALE, LAMBDA_WEIGHT = 1e-2, 5e-5


def plain_like(network: torch.nn.Module, name: str, width: float) -> ResNet:
    """The plain network with the weights and probabilities of ours."""
    plain = ResNet(name, width)
    with torch.no_grad():
        # the scale of a block stands in front of its convolution's weight in the plain one
        for convolution, scale in zip(
            plain.convs, (m for m in network.modules() if isinstance(m, ScaleDropout)), strict=True
        ):
            convolution.p = float(scale.p)
        ours = [p for name, p in network.named_parameters() if not name.endswith("scale.scale")]
        theirs = [p for name, p in plain.named_parameters() if not name.endswith(".scale")]
        for target, source in zip(theirs, ours, strict=True):
            target.copy_(source)
    return plain


def our_loss(network: torch.nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The objective of ``LitClassifier``; the term on the weights is the optimizer's decay."""
    return F.cross_entropy(network(x).float(), target) + LAMBDA_SCALE * scale_regularization(network)


def bench_step(interleaved: Any, options: Any, network: str) -> None:
    """Forward, objective, backward, SGD."""
    for fixture in interleaved(_steps(network, options.width, options.batch, options.small)).values():
        fixture.extra_info["images"] = options.batch


def bench_clip(interleaved: Any, options: Any) -> None:
    """The same step of a network with clips, MC-Dropout (HTanh), compiled in bf16: PyTorch's clip and ours."""
    for fixture in interleaved(_clips(options.width, options.batch, options.small)).values():
        fixture.extra_info["images"] = options.batch


def bench_pipeline(interleaved: Any, options: Any, tmp_path: Path) -> None:
    """An epoch of augmented batches."""
    images = 400 if options.small else 10_000
    for fixture in interleaved(_pipelines(images, tmp_path)).values():
        fixture.extra_info["images"] = images // 128 * 128


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """A table of the steps and one of the pipelines; the first case of a group is what the others are held against."""
    steps: list[list[object]] = []
    clips: list[list[object]] = []
    pipelines: list[list[object]] = []
    for cases in by_group(results):
        base = next(iter(cases.values()))["median"]
        for name, case in cases.items():
            numbers = [case["extra_info"]["images"] / case["median"], base / case["median"]]
            if network := (case["params"] or {}).get("network"):
                steps.append([network, name, *numbers])
            else:
                (clips if case["group"].startswith("bench_clip") else pipelines).append([name, *numbers])
    return (
        f"A training step (forward, objective, backward, SGD), batch of {options.batch}, width {options.width:g}.\n\n"
        + table(["network", "implementation", "images/s", "times faster"], steps)
        + "\n\nThe step of ResNet-20 with MC-Dropout (HTanh), compiled in bf16, cross-entropy alone.\n\n"
        + table(["clip", "images/s", "times faster"], clips)
        + "\n\nTraining batches of 128 of CIFAR-10's size: random crop, flip, normalization.\n\n"
        + table(["pipeline", "images/s", "times faster"], pipelines)
    )


def training_step(network: torch.nn.Module, loss: Callable[[], Tensor], bf16: bool = False) -> Callable[[], object]:
    """Loss, backward pass and SGD."""
    optimizer = torch.optim.SGD(parameter_groups(network, LAMBDA_WEIGHT), lr=0.1, momentum=0.9, nesterov=True)

    def run_once() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        optimizer.step()

    return run_once


def _steps(name: str, width: float, batch: int, small: bool) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    ours = build_network(name, get_method("proposed"), width=width).train()
    plain = plain_like(ours, name, width).train()
    x, target = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))

    cases = {"plain, eager fp32": training_step(plain, lambda: plain.loss(x, target, LAMBDA_SCALE))}
    for compiled in (False, True):
        for memory in (torch.contiguous_format, torch.channels_last):
            network = copy.deepcopy(ours).to(memory_format=memory)
            if compiled and not small:  # the trial leaves out what takes minutes
                network.compile(dynamic=False)
            images = x.contiguous(memory_format=memory)
            title = "ours, compiled bf16" if compiled else "ours, eager fp32"
            title += ", channels-last" if memory is torch.channels_last else ""
            cases[title] = training_step(network, partial(our_loss, network, images, target), bf16=compiled)
    return cases


def _clips(width: float, batch: int, small: bool) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    ours = build_network("resnet20", get_method("mc_dropout_htanh"), width=width).train()
    theirs = copy.deepcopy(ours)
    for parent in list(theirs.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Clip):
                setattr(parent, name, torch.nn.Hardtanh(child.min_val, child.max_val))
    x, target = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    cases = {}
    for title, network in (("nn.Hardtanh", theirs), ("ours", ours)):
        if not small:
            network.compile(dynamic=False)
        cases[title] = training_step(network, lambda net=network: F.cross_entropy(net(x).float(), target), bf16=True)  # type: ignore[misc]
    return cases


def _pipelines(images: int, root: Path) -> dict[str, Callable[[], object]]:
    write_fake_cifar10(root, images, 50)
    module = CIFAR10DataModule(root=root, checksums="recorded", batch_size=128, val_fraction=0.0)
    module.setup("fit")
    theirs = _torchvision(module.train_set.images, module.train_set.labels, module)

    def ours() -> None:
        generator = torch.Generator().manual_seed(0)
        drawn, first = module.draw_augmentation(images, generator), 0
        loader = module.train_dataloader()
        loader.finish = None  # as they are: augmented and normalized here
        for batch, _ in loader:
            module.normalized(module.augmented(batch, drawn.part(first, len(batch))))
            first += len(batch)

    def read(loader: DataLoader) -> Callable[[], object]:
        def run_once() -> None:
            for _ in loader:
                pass

        return run_once

    return {
        "torchvision, DataLoader in the process": read(DataLoader(theirs, 128, shuffle=True, drop_last=True)),
        "torchvision, DataLoader with 2 workers": read(
            DataLoader(theirs, 128, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
        ),
        "ours, in the process": ours,
    }


def _torchvision(images: Tensor, labels: Tensor, module: CIFAR10DataModule) -> CIFAR10:
    dataset = CIFAR10.__new__(CIFAR10)  # its constructor wants the published files
    dataset.data, dataset.targets = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
    steps = (RandomCrop(32, 4), RandomHorizontalFlip(), ToTensor(), Normalize(module.mean, module.std))
    dataset.transform = Compose(steps)
    dataset.target_transform = None
    return dataset
