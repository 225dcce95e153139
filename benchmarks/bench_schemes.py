"""Error of the predictive mean against the exact distribution: plans of T passes at the cost of their prefix trees.

A small VGG is trained on the handwritten digits. One exact prediction holds the outcome of every mask, so thousands of
plans are evaluated without another forward pass.
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import table
from datamodules import DigitsDataModule
from lit_scaledrop.layers import MaskPlan, stochastic_layers
from lit_scaledrop.layers.prefix import PrefixTree
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.modules.objective import scale_regularization
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.execution import shared_passes, trace
from lit_scaledrop.posterior.plans import Scheme
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Error against the exact distribution"


def train(epochs: int, limit: int, images: int | None) -> tuple[nn.Module, Tensor]:
    """A VGG-small of an eighth of the width, trained on some images, and test images that it has not seen."""
    torch.manual_seed(0)
    module = DigitsDataModule(batch_size=64, limit_train=images)
    module.setup("fit")
    network = build_network("vgg_small", get_method("proposed"), width=0.125)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    loader = module.train_dataloader()
    loader.finish = None  # as they are: augmented and normalized here
    for _ in range(epochs):
        for images, target in loader:
            drawn = module.draw_augmentation(len(images), generator)
            x = module.normalized(module.augmented(images, drawn))
            loss = F.cross_entropy(network(x), target) + 1e-2 * scale_regularization(network)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval(), module.normalized(module.test_set.images[:limit])


def errors(network: nn.Module, x: Tensor, passes: list[int], seeds: int) -> tuple[list[list[Any]], float, int]:
    """Rows of (scheme, T, root mean squared error, work in passes), the work of the exact prediction, its masks."""
    posterior = PosteriorPredictive(network, execution="exact")
    exact, work, segments = posterior(x), posterior.passes(x), trace(network, x[:1])
    names = list(stochastic_layers(network))
    number = {mask: index for index, mask in enumerate(_masks(posterior.plans[0], names))}
    rows = []
    for scheme in get_args(Scheme):
        for samples in passes:
            squared, cost = [], []
            for seed in range(seeds):
                plan = draw_plan(network, samples, seed, scheme)
                leaves = torch.tensor([number[mask] for mask in _masks(plan, names)])
                share = torch.bincount(leaves, minlength=len(number)) / samples
                mean = torch.einsum("s,sbc->bc", share, exact.probs)
                squared.append((mean - exact.mean).square().mean())
                cost.append(shared_passes(segments, PrefixTree(network, plan)))
            error = torch.stack(squared).mean().sqrt().item()
            rows.append([scheme, samples, error, sum(cost) / len(cost)])
    return rows, work, exact.num_samples


def _masks(plan: MaskPlan, names: list[str]) -> list[tuple[float, ...]]:
    return [tuple(row) for row in torch.stack([plan.draws[name].flatten() for name in names], 1).tolist()]


def bench_schemes(benchmark: Any, options: Any) -> None:
    """Errors of all schemes. The time says nothing about a scheme: the plans are evaluated without forward passes."""
    network, x = train(1, 32, 128) if options.small else train(4, 360, None)
    passes, seeds = ([5, 20], 3) if options.small else ([2, 5, 10, 20, 50, 100], 200)
    rows, work, leaves = benchmark.pedantic(errors, (network, x, passes, seeds))
    benchmark.extra_info.update(rows=rows, work=work, leaves=leaves, images=len(x), plans=seeds)


def markdown(results: list[dict[str, Any]], _options: Any) -> str:
    """One row for each scheme and T."""
    info = results[0]["extra_info"]
    rows, work = info["rows"], info["work"]
    base = {samples: error for scheme, samples, error, _ in rows if scheme == "iid"}
    text = table(
        ["scheme", "T", "RMS error", "passes of work", "variance of iid's"],
        [[*row, (row[2] / base[row[1]]) ** 2] for row in rows] + [["exact", info["leaves"], 0.0, work, 0.0]],
    )
    return f"Predictive mean of {info['images']} test digits, {info['plans']} plans each.\n\n{text}"
