"""Error of the predictive mean against the exact distribution: plans of T passes at the cost of their prefix trees.

A small VGG is trained on the handwritten digits. One exact prediction holds the outcome of every mask, so thousands of
plans are evaluated without another forward pass.
"""

from pathlib import Path
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
from lit_scaledrop.posterior.plans import Scheme
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Error against the exact distribution"


def train(epochs: int, limit: int) -> tuple[nn.Module, Tensor]:
    """A VGG-small of an eighth of the width and test images that it has not seen."""
    torch.manual_seed(0)
    module = DigitsDataModule(batch_size=64)
    module.setup("fit")
    network = build_network("vgg_small", get_method("proposed"), width=0.125)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for images, target in module.train_dataloader():
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
    exact, work = posterior(x), posterior.passes(x)
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
                cost.append(_work(posterior, network, plan, x))
            error = torch.stack(squared).mean().sqrt().item()
            rows.append([scheme, samples, error, sum(cost) / len(cost)])
    return rows, work, exact.num_samples


def _work(posterior: PosteriorPredictive, network: nn.Module, plan: MaskPlan, x: Tensor) -> float:
    from lit_scaledrop.posterior.execution import shared_passes

    return shared_passes(posterior._trace(0, x), PrefixTree(network, plan))


def _masks(plan: MaskPlan, names: list[str]) -> list[tuple[float, ...]]:
    return [tuple(row) for row in torch.stack([plan.draws[name].flatten() for name in names], 1).tolist()]


def draw(rows: list[list[Any]], work: float, path: Path) -> None:
    """The figure: error over work, one line a scheme, the exact distribution where its error is zero."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    markers = dict(zip(get_args(Scheme), "os^", strict=True))
    for scheme, marker in markers.items():
        points = [(cost, error) for name, _, error, cost in rows if name == scheme]
        axes.plot(*zip(*points, strict=True), marker=marker, label=f"{scheme}, shared")
    loop = [(samples, error) for name, samples, error, _ in rows if name == "iid"]
    axes.plot(*zip(*loop, strict=True), marker="o", ls=":", color="gray", label="iid, loop")
    axes.axvline(work, color="black", lw=1, label="exact: error 0")
    axes.set(xscale="log", yscale="log", xlabel="cost in passes", ylabel="RMS error of class probabilities")
    axes.legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def bench_schemes(benchmark: Any, options: Any) -> None:
    """Errors of all schemes. The time says nothing about a scheme: the plans are evaluated without forward passes."""
    network, x = train(1 if options.small else 4, 32 if options.small else 360)
    passes, seeds = ([5, 20], 3) if options.small else ([2, 5, 10, 20, 50, 100], 200)
    rows, work, leaves = benchmark.pedantic(errors, (network, x, passes, seeds))
    benchmark.extra_info.update(rows=rows, work=work, leaves=leaves, images=len(x), plans=seeds)


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """The table, and the figure beside it."""
    info = results[0]["extra_info"]
    rows, work = info["rows"], info["work"]
    base = {samples: error for scheme, samples, error, _ in rows if scheme == "iid"}
    text = table(
        ["scheme", "T", "RMS error", "passes of work", "variance of iid's"],
        [[*row, (row[2] / base[row[1]]) ** 2] for row in rows] + [["exact", info["leaves"], 0.0, work, 0.0]],
    )
    path = options.out / "schemes.svg"
    draw(rows, work, path)
    return (
        f"Predictive mean of {info['images']} test digits, {info['plans']} plans each.\n\n{text}\n\n"
        f"![Error against the exact distribution over cost]({path.name})"
    )
