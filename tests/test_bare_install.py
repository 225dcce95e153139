"""The core imports and trains with torch, torchvision, lightning, torchmetrics, jsonargparse and numpy alone."""

import subprocess
import sys

PROGRAM = '''
import sys

ABSENT = {"jaxtyping", "beartype", "rich", "wandb", "pandas", "tabulate", "matplotlib", "sklearn", "scipy"}
ABSENT |= {"albumentations", "cv2", "nibabel"}

class Without:
    """A finder that does not find what a bare node lacks."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def find_distributions(self, context):
        for found in getattr(self.finder, "find_distributions", lambda _: [])(context):
            if found.name.lower() not in ABSENT | {"scikit-learn"}:
                yield found

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import torch
import lit_scaledrop.cli, lit_scaledrop.evaluation.evaluate, lit_scaledrop.metrics, lit_scaledrop.posterior, datamodules
from lit_scaledrop.__main__ import main
code = main(["fit", "--profile", "cpu", "--data=CIFAR10DataModule", f"--data.root={sys.argv[1]}",
             "--data.checksums=recorded", "--data.batch_size=64", "--trainer.max_epochs=1", "--model.network=lenet5",
             "--evaluation.samples=2"])
assert code == 0, code
assert not {m.split(".")[0] for m in sys.modules} & ABSENT
'''


def test_fit_without_anything_else_installed(tmp_path, fake_cifar):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(fake_cifar)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wandb is not installed" in done.stderr
    assert len(list(tmp_path.glob("results/cpu/lenet5/*.json"))) == 1
