"""Training images per second: our compiled bf16 step against a plain eager fp32 one, and the two data pipelines."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

from benchmarks.measure import interleaved, table
from benchmarks.plain import ResNet
from datamodules import CIFAR10DataModule, write_fake_cifar10
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.objective import scale_regularization, weight_regularization

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
    """The objective of ``LitClassifier``."""
    task = F.cross_entropy(network(x).float(), target)
    return task + LAMBDA_SCALE * scale_regularization(network) + LAMBDA_WEIGHT * weight_regularization(network)


def run(options: Any) -> str:
    """Markdown for both."""
    rows: list[list[object]] = []
    for name in ("resnet20", "resnet18"):
        seconds = interleaved(_steps(name, options.width, options.batch), options.repeats)
        base = seconds["plain, eager fp32"]
        rows += [[name, case, options.batch / value, base / value] for case, value in seconds.items()]
    seconds, images = _pipelines(400 if options.small else 10_000, options.repeats)
    base = seconds["torchvision, DataLoader in the process"]
    pipelines = [[case, images / value, base / value] for case, value in seconds.items()]
    return (
        f"A training step (forward, objective, backward, SGD), batch of {options.batch}, width {options.width:g}.\n\n"
        + table(["network", "implementation", "images/s", "times faster"], rows)
        + "\n\nTraining batches of 128 of CIFAR-10's size: random crop, flip, normalization.\n\n"
        + table(["pipeline", "images/s", "times faster"], pipelines)
    )


def _steps(name: str, width: float, batch: int) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    ours = build_network(name, get_method("proposed"), width=width).train()
    plain = plain_like(ours, name, width).train()
    eager = build_network(name, get_method("proposed"), width=width).train()
    x, target = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    ours.compile(dynamic=False)

    def step(network: torch.nn.Module, loss: Callable[[], Tensor], bf16: bool) -> Callable[[], object]:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)

        def run_once() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                value = loss()
            value.backward()
            optimizer.step()

        return run_once

    return {
        "plain, eager fp32": step(plain, lambda: plain.loss(x, target, LAMBDA_SCALE, LAMBDA_WEIGHT), False),
        "ours, eager fp32": step(eager, lambda: our_loss(eager, x, target), False),
        "ours, compiled bf16": step(ours, lambda: our_loss(ours, x, target), True),
    }


def _pipelines(images: int, repeats: int) -> tuple[dict[str, float], int]:
    with tempfile.TemporaryDirectory() as root:
        write_fake_cifar10(root, images, 50)
        module = CIFAR10DataModule(root=root, checksums="recorded", batch_size=128, val_fraction=0.0)
        module.setup("fit")
        theirs = _torchvision(module.train_set.images, module.train_set.labels, module)

        def ours() -> None:
            generator = torch.Generator().manual_seed(0)
            for batch, _ in module.train_dataloader():
                module.normalized(module.augmented(batch, generator))

        def read(loader: DataLoader) -> Callable[[], object]:
            def run_once() -> None:
                for _ in loader:
                    pass

            return run_once

        cases = {
            "torchvision, DataLoader in the process": read(DataLoader(theirs, 128, shuffle=True, drop_last=True)),
            "torchvision, DataLoader with 2 workers": read(
                DataLoader(theirs, 128, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
            ),
            "ours, in the process": ours,
        }
        return interleaved(cases, repeats), images // 128 * 128


def _torchvision(images: Tensor, labels: Tensor, module: CIFAR10DataModule) -> CIFAR10:
    dataset = CIFAR10.__new__(CIFAR10)  # its constructor wants the published files
    dataset.data, dataset.targets = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
    dataset.transform = Compose([
        RandomCrop(32, 4), RandomHorizontalFlip(), ToTensor(), Normalize(module.mean, module.std),
    ])  # fmt: skip
    dataset.target_transform = None
    return dataset
