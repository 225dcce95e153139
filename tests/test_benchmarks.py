"""The benchmarks compare like with like."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import measure
from benchmarks.bench_schemes import errors
from benchmarks.bench_training import our_loss, plain_like
from benchmarks.conftest import options_of
from benchmarks.measure import peak_megabytes, table, take_turns
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("network", ["resnet18", "resnet20"])
def test_the_plain_network_trains_as_ours(network, p):
    torch.manual_seed(0)
    ours = build_network(network, METHODS["proposed"].with_scale(p=p), width=0.125).train()
    for module in ours.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.5, 1.5)
    plain = plain_like(ours, network, 0.125).train()
    for convolution, module in zip(
        plain.convs, (m for m in ours.modules() if isinstance(m, ScaleDropout)), strict=True
    ):
        convolution.scale.data.copy_(module.scale)
    x, target = torch.randn(4, 3, 32, 32), torch.arange(4)
    losses = our_loss(ours, x, target), plain.loss(x, target, 1e-2)
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    grads = [
        [q.grad for name, q in net.named_parameters() if not name.endswith(("scale.scale", ".scale"))]
        for net in (ours, plain)
    ]
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm() + 1e-6
    assert plain.eval()(x).shape == (4, 10)


class Benchmark:
    """What `take_turns` uses of pytest-benchmark's fixture."""

    name, fullname, enabled = "bench_it[1]", "bench_x.py::bench_it[1]", True

    def pedantic(self, run):
        self.stats = Seconds()
        start = time.perf_counter()
        run()
        self.stats.update(time.perf_counter() - start)


class Seconds(list):
    update = list.append


def test_cases_take_turns(monkeypatch):
    order = []

    def wait(name, seconds):
        order.append(name)
        time.sleep(seconds)

    cases = {"short": lambda: wait("s", 0.001), "long": lambda: wait("l", 0.03)}
    monkeypatch.setattr(measure, "_SHORT_S", 0.02)
    fixture = Benchmark()
    timed = take_turns(fixture, 3, cases)
    # once to warm up, then three rounds, and a short one once more before each; that the long one is long is seen first
    assert order == list("sl" + "ssll" + 2 * "ssl")
    assert timed["short"] is fixture
    assert timed["long"] is not fixture
    assert [case.group for case in timed.values()] == ["bench_it[1]"] * 2
    assert [case.fullname for case in timed.values()] == [f"bench_x.py::bench_it[1]::{name}" for name in cases]
    assert [len(case.stats) for case in timed.values()] == [3, 3]
    assert 0.001 <= min(timed["short"].stats) < 0.03 <= min(timed["long"].stats)
    assert timed["short"].extra_info is not timed["long"].extra_info


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The benchmarks in a process of their own: they have their own settings of pytest."""
    pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):  # pytest-benchmark is off in a worker
        environment.pop(name, None)
    words = ("-m", "pytest", "benchmarks", "-q", "--small", "--threads=1", *words)
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def cells(path: Path) -> list[list[str]]:
    """Cells of the Markdown tables of a file, headers first."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_small_benchmarks_run_and_write_their_tables(tmp_path):
    done = run("--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    written = {path.stem for path in tmp_path.glob("*.md")}
    some = {"peers", "exact", "bits", "allocation"}  # need a package, a processor, a compiler, glibc
    assert written | some == some | {"posterior", "memory", "training", "lightning", "schemes", "crossbar"}
    assert ("peers" in written) == (find_spec("torch_uncertainty") is not None)
    for name in written:
        text = (tmp_path / f"{name}.md").read_text()
        assert "Command: `python -m pytest benchmarks -q --small --threads=1`" in text
    header, *rows = cells(tmp_path / "posterior.md")
    assert [row[header.index("execution")] for row in rows] == ["loop", "folded", "shared", "exact"]
    loop, shared = (float(rows[index][header.index("ms/image")]) for index in (0, 2))
    assert float(rows[2][header.index("times faster than loop")]) == pytest.approx(loop / shared, rel=0.02)
    assert len(cells(tmp_path / "schemes.md")) == 8  # a header, three schemes with two T each, the exact distribution


def test_options_of_the_benchmarks_are_checked():
    given = {"small": True, "threads": 1, "repeats": 0}
    with pytest.raises(pytest.UsageError, match="--repeats must be above 0, got 0"):
        options_of(SimpleNamespace(getoption=given.get))
    options = options_of(SimpleNamespace(getoption={**given, "repeats": None, "batch": 7}.get))
    assert (options.batch, options.width, options.repeats) == (7, 0.125, 1)


def test_peak_memory_is_that_of_the_tensors():
    def run():
        first = torch.ones(10**6)
        second = first * 2
        del first
        return second + 1

    assert peak_megabytes(run) == pytest.approx(8, rel=0.01)


def test_errors_of_plans_shrink():
    torch.manual_seed(0)
    network = build_network("lenet5", METHODS["proposed"], in_channels=1, width=0.5)
    for module in network.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.2, 1.8)
    rows, work, leaves = errors(network.eval(), torch.randn(4, 1, 32, 32), [4, 40], 20)
    error = {(scheme, samples): value for scheme, samples, value, _ in rows}
    assert leaves == 8
    # products of the two convolutions once, of the linear layers behind one, two and three random bits 2, 4 and 8 times
    convolutions = 25 * 3 * 28**2 + 75 * 8 * 10**2
    linear = [200 * 60, 60 * 42, 42 * 10]
    once = convolutions + sum(linear)
    assert work == pytest.approx((convolutions + 2 * linear[0] + 4 * linear[1] + 8 * linear[2]) / once)
    assert 0 < error["iid", 40] < error["iid", 4]
    assert error["systematic", 40] < error["iid", 40] / 2
    assert table(["a"], rows[:1]).startswith("| a |\n|---|\n| iid | 4 | 0.0")
