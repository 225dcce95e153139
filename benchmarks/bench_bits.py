"""Signs multiplied as bits, against PyTorch: the same numbers, faster. Convolutions, passes, and all masks at once.

And against ONNX Runtime on the exported deterministic network, and where the time of a pass goes.
"""

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.bench_training import our_loss, training_step
from benchmarks.measure import by_group, table
from lit_scaledrop.cli.memory import keep_freed_memory
from lit_scaledrop.deploy.inference import freeze
from lit_scaledrop.deploy.program import export_onnx
from lit_scaledrop.layers import exact
from lit_scaledrop.layers.binary import BinaryConv2d
from lit_scaledrop.layers.bits import LEVELS, Filters, Shape, available, best_level, conv2d
from lit_scaledrop.layers.bits.operation import BITS, FINISH, PACK, POOL, SUBSAMPLE, SUMS
from lit_scaledrop.layers.bitwise import multiplies_signs, shape_of
from lit_scaledrop.layers.exact import native_bfloat16
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Signs as bits"
_PADDED = Shape(before=(1, 1), behind=(1, 1))
_KINDS = (torch.float32, torch.bfloat16)
_OF_VGG = ((128, 128, 32), (128, 256, 16), (256, 256, 16), (256, 512, 8), (512, 512, 8))
"""channels in and out of the binary convolutions of VGG-small, and the side of their inputs"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Networks, batches and threads."""
    small = metafunc.config.getoption("small")
    if "network" in metafunc.fixturenames:
        metafunc.parametrize("network", ("vgg_small",) if small else ("vgg_small", "resnet18", "resnet20"))
        metafunc.parametrize("images", (2,) if small else (50, 1))
    metafunc.parametrize("threads", (1,) if small else (1, 2))


@pytest.fixture(autouse=True)
def kernels(threads: int) -> Any:
    """Threads of torch, which the kernels have as well; memory as our commands keep it."""
    if not available():
        pytest.skip("no C compiler: there are no kernels")
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


def bench_convolutions(interleaved: Any, options: Any) -> None:
    """All binary convolutions of VGG-small in a row, in turns with those of floats."""
    torch.manual_seed(0)
    cases = []
    for channels, filters, side in _OF_VGG:
        weight = torch.randn(max(1, int(filters * options.width)), max(1, int(channels * options.width)), 3, 3).sign()
        x = torch.randn(options.batch, weight.shape[1], side, side)
        cases.append((torch.where(x >= 0, 1.0, -1.0), weight, Filters(weight)))
        assert torch.equal(F.conv2d(cases[-1][0], weight, padding=1), conv2d(x, cases[-1][2], _PADDED))

    @torch.no_grad()
    def floats(kind: torch.dtype = torch.float32) -> None:
        for x, weight, _ in in_type[kind]:
            F.conv2d(x, weight, padding=1)

    @torch.no_grad()
    def bits() -> None:
        for x, _, filters in cases:
            conv2d(x, filters, _PADDED)

    in_type = {kind: [(x.to(kind), weight.to(kind), of) for x, weight, of in cases] for kind in _KINDS}
    runs = {"float32": floats, "bits": bits}
    if native_bfloat16():
        runs["bfloat16"] = lambda: floats(torch.bfloat16)
    interleaved(runs)


def bench_planes(interleaved: Any, options: Any) -> None:
    """The same convolutions of codes of four bits, as four planes of signs whose sums are added up, with weights."""
    torch.manual_seed(0)
    cases = []
    for channels, filters, side in _OF_VGG:
        weight = torch.randn(max(1, int(filters * options.width)), max(1, int(channels * options.width)), 3, 3).sign()
        codes = torch.randint(0, 16, (options.batch, weight.shape[1], side, side))
        planes = torch.cat([(codes >> k & 1) * 2.0 - 1 for k in range(4)])
        # a bit is half of its sign and a half, which the border has not
        constant = F.conv2d(torch.full_like(codes[:1].float(), 7.5), weight, padding=1)
        cases.append((codes.float(), weight, Filters(weight), planes, constant))

    def in_planes(filters: Filters, planes: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
        each = conv2d(planes, filters, _PADDED).unflatten(0, (4, -1))
        return constant + (each[0] / 2 + each[1]).add_(each[2], alpha=2).add_(each[3], alpha=4)

    @torch.no_grad()
    def floats(kind: torch.dtype = torch.float32) -> None:
        for x, weight, *_ in in_type[kind]:
            F.conv2d(x, weight, padding=1)

    @torch.no_grad()
    def bits() -> None:
        for _, _, filters, planes, constant in cases:
            in_planes(filters, planes, constant)

    for x, weight, *rest in cases:
        assert torch.equal(in_planes(*rest), F.conv2d(x, weight, padding=1))
    in_type = {kind: [(x.to(kind), weight.to(kind)) for x, weight, *_ in cases] for kind in _KINDS}
    runs = {"float32": floats, "bits": bits}
    if native_bfloat16():
        runs["bfloat16"] = lambda: floats(torch.bfloat16)
    interleaved(runs)


def bench_training(interleaved: Any, options: Any) -> None:
    """A compiled training step of ResNet-20 in float32, and what of it the binary convolutions forward are."""
    torch.manual_seed(0)
    net = build_network("resnet20", get_method("proposed"), width=options.width).train()
    net = net.to(memory_format=torch.channels_last)
    images = 8 if options.small else 128
    x, target = torch.randn(images, 3, 32, 32).to(memory_format=torch.channels_last), torch.randint(10, (images,))
    given: list[tuple[Any, torch.Tensor]] = []
    layers = [module for module in net.modules() if isinstance(module, BinaryConv2d)]
    hooks = [layer.register_forward_pre_hook(lambda at, args: given.append((at, args[0].sign()))) for layer in layers]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    cases = [(layer, signs, layer.binary_weight().detach()) for layer, signs in given]
    if not options.small:
        net.compile(dynamic=False)

    @torch.no_grad()
    def floats() -> None:
        for layer, signs, weight in cases:
            F.conv2d(signs, weight, None, layer.stride, layer.padding)

    @torch.no_grad()
    def bits() -> None:
        for layer, signs, weight in contiguous:
            conv2d(signs, Filters(weight), shape_of(layer))

    contiguous = [(layer, signs.contiguous(), weight.contiguous()) for layer, signs, weight in cases]
    step = training_step(net, lambda: our_loss(net, x, target))
    interleaved({"step": step, "float32": floats, "bits": bits})


def in_float32(run: Callable[[], object]) -> Callable[[], object]:
    """A run in which PyTorch multiplies signs in float32, as it does without our care, where bfloat16 is quicker."""

    def wrapped() -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exact, "native_bfloat16", lambda: False)
            return run()

    return wrapped


def bench_passes(interleaved: Any, options: Any, network: str, images: int) -> None:
    """One pass, 20 passes with shared prefixes, and all masks where they can be enumerated."""
    torch.manual_seed(0)
    net = build_network(network, get_method("proposed"), width=options.width).eval()
    x = torch.randn(images, 3, 32, 32)
    floats, runs = PosteriorPredictive(net, 1, backend="torch"), {"bits": PosteriorPredictive(net, 1, backend="bits")}
    assert torch.equal(floats(x).logits, runs["bits"](x).logits)
    cases: dict[str, Callable[[], object]] = {"float32": in_float32(lambda: floats(x))}
    if native_bfloat16():
        runs["torch"] = floats
    for backend in ("torch", "bits"):
        runs[f"T = 20, {backend}"] = PosteriorPredictive(net, 20, execution="shared", backend=backend)
        if network == "vgg_small":
            runs[f"all masks, {backend}"] = PosteriorPredictive(net, execution="exact", backend=backend)
    interleaved(cases | {name: lambda run=run: run(x) for name, run in runs.items()})


def bench_onnxruntime(interleaved: Any, options: Any, network: str, images: int, threads: int, tmp_path: Path) -> None:
    """The network without masks, exported, beside one pass in bits."""
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = build_network(network, get_method("proposed"), width=options.width).eval()
    x = torch.randn(images, 3, 32, 32)
    posterior = PosteriorPredictive(net, 1, backend="bits")
    export_onnx(freeze(net), torch.randn(2, 3, 32, 32), False, tmp_path / "net.onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", settings, providers=["CPUExecutionProvider"])
    given = {"images": x.numpy()}
    interleaved({"onnxruntime": lambda: session.run(None, given), "bits": lambda: posterior(x)})


_PARTS = {"pack": (PACK,), "multiply": (SUMS, BITS), "finish": (FINISH, POOL, SUBSAMPLE)}
"""operations of each part"""


def bench_parts(interleaved: Any, options: Any, network: str, images: int) -> None:
    """Where the time of a pass goes."""
    torch.manual_seed(0)
    net = build_network(network, get_method("proposed"), width=options.width).eval()
    x, posterior = torch.randn(images, 3, 32, 32), PosteriorPredictive(net, 1, backend="bits")
    products: Counter[str] = Counter()
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d) and multiplies_signs(module)]
    hooks = [layer.register_forward_hook(lambda at, _, y: products.update(all=_products(at, y))) for layer in layers]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    stem = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    convolve, first, rounds = stem._conv_forward, [0.0], []

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        result = convolve(*args)
        first[0] += time.perf_counter() - start
        return result

    def run() -> None:
        routine.spent, before = None, first[0]
        posterior(x)  # untimed, as warm as where it runs again and again
        routine.spent, first[0] = spent, before
        start = time.perf_counter()
        posterior(x)
        rounds.append(time.perf_counter() - start)

    stem._conv_forward = timed  # type: ignore[method-assign]
    posterior(x)
    (recorded,) = posterior._multiplier.recorded.values()
    assert recorded is not None, "what is timed went another way"
    (routine,) = (each.routine for each in recorded.routines)
    routine.spent = spent = np.zeros(len(routine.operations), np.int64)
    first[0] = 0.0
    (fixture,) = interleaved({"parts": run}, warm=False).values()
    seconds = {"first layer": first[0] / len(rounds)}
    for part, kinds in _PARTS.items():
        seconds[part] = sum(spent[k] for k, of in enumerate(routine.operations) if of.kind in kinds) / 1e9 / len(rounds)
    fixture.extra_info.update(seconds=seconds, whole=sum(rounds) / len(rounds), products=products["all"], limit=limit())


def _products(layer: nn.Module, output: Any) -> int:
    weight: Any = layer.weight
    return output.numel() * weight[0].numel()


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """Convolutions first, then networks."""
    convolutions: list[list[object]] = []
    planes: list[list[object]] = []
    passes: list[list[object]] = []
    others: list[list[object]] = []
    steps: list[list[object]] = []
    parts: list[list[object]] = []
    many = ("T = 20, torch", "T = 20, bits", "all masks, torch", "all masks, bits")
    for cases in by_group(results):
        of_planes = "bench_planes" in next(iter(cases.values()))["fullname"]
        parameters = next(iter(cases.values()))["params"]
        where = [parameters[name] for name in ("network", "images", "threads") if name in parameters]
        if "parts" in cases:
            found = cases["parts"]["extra_info"]
            shares = [seconds / found["whole"] for seconds in found["seconds"].values()]
            rate = found["products"] / found["seconds"]["multiply"] / parameters["threads"]
            row = [*where, 1000 * found["whole"], *(f"{share:.0%}" for share in (*shares, 1 - sum(shares)))]
            parts.append([*row, rate / 1e9, f"{rate / found['limit']:.0%}"])
            continue
        bits = cases["bits"]["median"]
        if "onnxruntime" in cases:
            theirs = cases["onnxruntime"]["median"]
            others.append([*where, 1000 * theirs, 1000 * bits, theirs / bits])
            continue
        one = cases["float32"]["median"]
        if "step" in cases:
            step = cases["step"]["median"]
            steps.append([*where, 1000 * step, 1000 * one, 1000 * bits, step / (step - one + bits)])
            continue
        brain = next((cases[name]["median"] / bits for name in ("bfloat16", "torch") if name in cases), None)
        if "network" in parameters:
            shown = [cases[name]["median"] / one if name in cases else None for name in many]
            passes.append([*where, 1000 * one, one / bits, brain, *shown])
        else:
            to = planes if of_planes else convolutions
            to.append([*where, 1000 * one, 1000 * bits, one / bits, brain])
    place = ["network", "images", "threads"]
    faster = ["bits: times faster than float32", "than bfloat16"]
    of_convolutions = table(["threads", "float32, ms", "bits, ms", *faster], convolutions)
    of_codes = table(["threads", "float32, ms", "bits, ms", *faster], planes)
    of_passes = table([*place, "a pass in float32, ms", *faster, *many], passes)
    of_others = table([*place, "ONNX Runtime, ms", "bits, ms", "times faster"], others)
    columns = ["a step in float32, ms", "of it these convolutions, ms", "in bits, ms", "a step would be faster by"]
    of_steps = table(["threads", *columns], steps)
    names = ["first layer", "pack", "multiply", "finish", "the rest"]
    names = [*names, "10^9 products/s and core", "of the limit"]
    of_parts = table([*place, "a pass in bits, ms", *names], parts)
    return (
        f"Kernels for {LEVELS[best_level()]}; backend 'torch' multiplies signs in "
        f"{'bfloat16' if native_bfloat16() else 'float32'} on this processor; width {options.width:g}; the logits are "
        "equal bit for bit; freed memory is kept, as our commands do; "
        f"median of {options.repeats} interleaved rounds.\n\n"
        f"The five binary convolutions of VGG-small, batch of {options.batch}, with packing:\n\n{of_convolutions}\n\n"
        "The same with activations of four bits, as the segmentation networks have them, in four planes:\n\n"
        f"{of_codes}\n\n"
        "Whole predictions. The columns on the right, T = 20 with shared prefixes and all 32 masks, are in float32 "
        f"passes of the same network, images and threads:\n\n{of_passes}\n\n"
        f"The exported network without masks in ONNX Runtime, against one pass in bits:\n\n{of_others}\n\n"
        "Training: the binary convolutions forward of a compiled step of ResNet-20, batch of 128, channels last; in "
        "bits with weights that are packed anew, of contiguous maps, which the kernels need. PyTorch keeps them: they "
        f"are all that could be won.\n\n{of_steps}\n\n"
        f"Where the time of a pass goes. {_LIMITS[best_level()]} The limit is what a core reaches that does these in "
        'registers and nothing else; "multiply" also gathers windows, corrects borders, and compares and pools in bits '
        f"or writes numbers.\n\n{of_parts}"
    )


_LIMITS = (
    "Plain C counts 64 products at a time.",
    "AVX2 has no population count: 256 products take eight vector operations (XOR, two AND, a shift, two table "
    "look-ups, two sums).",
    "AVX-512 with VPOPCNTDQ takes three vector operations for 512 products (XOR, count, sum).",
)


@cache
def limit() -> float:
    """Products a second of one core that does nothing but multiply signs in registers (``limit.c``), the best of 20."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "limit.so"
        compiler = shutil.which("cc") or "gcc"
        source = Path(__file__).with_name("limit.c")
        subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", made, source], check=True)
        library = ctypes.CDLL(str(made))
    library.limit.restype = ctypes.c_int64
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        products = library.limit(best_level(), ctypes.c_int64(1 << 18))
        best = max(best, products / (time.perf_counter() - start))
    return best
