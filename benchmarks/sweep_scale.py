"""Time and memory of a sweep of 10,000 points: planned, all skipped, and reported. No training is run.

python benchmarks/sweep_scale.py [POINTS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from lit_scaledrop.cli.sweep import PLANS
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import Result
from lit_scaledrop.sweep.file import load_sweep
from lit_scaledrop.sweep.points import plan_points

ROOT = Path(__file__).parents[1]
STEP = """
import resource, sys
from lit_scaledrop.__main__ import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"{used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss / 1e6:.2f} GB", file=sys.stderr)
sys.exit(code)
"""


def sweep_file(points: int) -> dict[str, object]:
    """A grid of networks, drop probabilities, learning rates and seeds."""
    probabilities = [round(0.05 + 0.002 * n, 4) for n in range(points // 200)]
    parameters = {
        "row": {"values": [f"{network}/proposed" for network in ("lenet5", "resnet20", "vgg_small", "resnet18")]},
        "model.p": {"values": probabilities},
        "model.lr": {"values": [0.1, 0.03, 0.01, 0.003, 0.001]},
        "seed_everything": {"values": [*range(1, 11)]},
    }
    command = ["${interpreter}", "-m", "lit_scaledrop", "fit", "--profile", "quick", "--run.study=scale", "${args}"]
    return {"method": "grid", "parameters": parameters, "command": command}


def write_results(folder: Path) -> None:
    """A result for each point, of invented numbers."""
    config = load_sweep(Path("scale.yaml"))
    common = {"name": "d", "fingerprint": "d", "source": "d", "train": 1, "val": 1, "test": 1, "stand_in": True}
    training = {"epochs": 1, "seconds": 1.0, "best_epoch": 0, "val_acc": 0.5, "device": "cpu", "precision": "32"}
    evaluation = {"samples": 20, "seed": 0, "execution": "loop", "checkpoint": "best", "seconds": 1.0}
    provenance = {"commit": "0", "command": "scaledrop fit", "started": "x", "finished": "x", "versions": {}}
    for number, point in enumerate(plan_points(config, os.environ, None, (), PLANS["fit"])):
        given = dict(word[2:].split("=", 1) for word in point.argv if word.startswith("--") and "=" in word)
        network, seed = given["row"].split("/")[0], int(given["seed_everything"])
        settings = {"network": network, "p": float(given["model.p"]), "lr": float(given["model.lr"])}
        setup = {"model": {"init_args": settings}, "data": {"init_args": {}}, "evaluation": {}, "trainer": {}}
        measured = [Measurement({"cls/acc": 0.5 + 1e-5 * number, "cls/nll": 1.0, "cls/ece": 0.1})]
        head = (point.result.stem, "scale", "quick", network, "proposed", "Proposed", 1, 1, True, seed, common)
        result = Result(
            *head, training | {"compiled": False}, evaluation, measured, setup, provenance | {"dirty": False}
        )
        path = folder / "quick" / "scale" / point.result.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(result.to_json(), encoding="utf-8")


def measure(name: str, *words: str) -> dict[str, object]:
    """What one command takes in a process of its own."""
    start = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", STEP, *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {"step": name, "seconds": round(time.monotonic() - start, 1), "took": done.stderr.split("\n")[-2]}


def main(points: int) -> None:
    """Measure, and print a line for each step."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("scale.yaml").write_text(yaml.safe_dump(sweep_file(points), sort_keys=False), encoding="utf-8")
        print(json.dumps(measure("planned", "sweep", "scale.yaml", "--dry-run")), flush=True)
        write_results(Path("results"))
        print(json.dumps(measure("planned and skipped", "sweep", "scale.yaml")), flush=True)
        print(json.dumps(measure("reported", "report", "scale")), flush=True)
        print(json.dumps(measure("page", "report", "--html")), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
