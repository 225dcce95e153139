"""What a newcomer adds first, added to a copy of the code: each in at most three places, as CONTRIBUTING.md says."""

import shutil
from pathlib import Path

import pytest

from lit_scaledrop.results.store import read_result

ROOT = Path(__file__).parents[1]
LAYER, BASE = "lit_scaledrop/layers/scale_dropout.py", "lit_scaledrop/modules/base.py"
# an option of Scale-Dropout: what a dropped scale becomes is a number of the user's
OPTION = [
    (LAYER, "(0.0, 0.0),\n    ) -> None:\n        super().__init__()", "(0.0, 0.0),\n        level: float = 1.0,\n"
     "    ) -> None:\n        super().__init__()\n        self.level = level"),
    (LAYER, "else torch.ones_like(self.scale)", "else torch.full_like(self.scale, self.level)"),
    (LAYER, "    @classmethod\n    def arguments", "    level: float = 1.0\n\n    @classmethod\n    def arguments"),
    (BASE, "        lambda_scale: float", "        scale_level: float | None = None,\n        lambda_scale: float"),
]  # fmt: skip
STRIPES = '''
import torch
from datamodules.classification.base import ImageDataModule
from datamodules.loading import ImageArrays


class StripesDataModule(ImageDataModule):
    """Lying and standing stripes."""

    name, class_names, stand_in = "stripes", ("lying", "standing"), True
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def load(self):
        lying = (torch.arange(32) % 4 < 2).float()[:, None].expand(3, 32, 32) * 255
        labels = torch.arange(200) % 2
        images = torch.stack([lying.mT if label else lying for label in labels]).to(torch.uint8)
        return ImageArrays(images, labels, images[:40], labels[:40], "generated")
'''
ENTRIES = "DATAMODULES: dict[str, type[ImageDataModule]]"
DATA = [
    ("datamodules/classification/stripes.py", "", STRIPES),
    (
        "datamodules/__init__.py",
        ENTRIES,
        "from datamodules.classification.stripes import StripesDataModule\n\n" + ENTRIES,
    ),
    ("datamodules/__init__.py", "(DigitsDataModule, ", "(StripesDataModule, DigitsDataModule, "),
]
SURPRISE = '''

def surprise(mean: Mean, target: Target) -> PerExample:
    """Probability that the target does not have."""
    return 1 - mean.gather(-1, target[:, None])[:, 0]
'''
METRIC = [
    ("lit_scaledrop/functional/uncertainty.py", None, SURPRISE),
    ("lit_scaledrop/metrics/classification.py", "def uncertainty_metrics(", "class Surprise(_TargetMetric):\n"
     '    """Mean of what is lacking to a certain prediction."""\n\n    higher_is_better = False\n\n'
     "    def _values(self, predictive: Predictive, target: Target) -> PerExample:\n"
     "        return uncertainty.surprise(predictive.mean, target)\n\n\ndef uncertainty_metrics("),
    ("lit_scaledrop/metrics/classification.py", '        "cls/acc": Accuracy(num_classes=num_classes),',
     '        "cls/acc": Accuracy(num_classes=num_classes),\n'
     '        "cls/surprise": Surprise(num_classes=num_classes),'),
    ("lit_scaledrop/results/glossary.py", '        "cls/nll": MetricEntry(', '        "cls/surprise": MetricEntry('
     '"Mean probability that the right class lacks, 0 to 1.", False, "1", "surprise"),\n'
     '        "cls/nll": MetricEntry('),
]  # fmt: skip
TABLE_SPEC = """
from lit_scaledrop.report.measures import mean_columns, percent
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import number, text

MEASURES = {"surprise": percent("cls/surprise", "surprise (%)")}


def columns(frame, runs, comparable):
    return {"topology": text("topology"), **mean_columns(MEASURES), "paper": number("paper", "paper (%)", ".2f")}


SURPRISES = TableSpec("Surprises", MEASURES, columns, renamed={"percent": "paper"})
"""
TABLE = [
    ("lit_scaledrop/report/tables/surprises.py", "", TABLE_SPEC),
    ("lit_scaledrop/report/paper/surprises.csv", "", "topology,method,bits_w,bits_a,bayesian,percent,source\n"
     "LeNet-5,Proposed,1,1,yes,12.5,nobody\n"),
    ("lit_scaledrop/report/tables/__init__.py", None, "\nfrom lit_scaledrop.report.tables.surprises import SURPRISES\n"
     '\nTABLES["surprises"] = Table("surprises.csv", SURPRISES.report)\n'),
]  # fmt: skip
LOOK = """
import torch
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.modules import LitClassifier

layers = [m for m in LitClassifier("lenet5", p=1.0, scale_level=0.25).network.modules() if isinstance(m, ScaleDropout)]
x = torch.ones(1, layers[0].num_features)
assert layers and layers[0].train()(x).unique().tolist() == [0.25]
"""


@pytest.mark.slow  # a training in a copy of the code
def test_each_takes_at_most_three_places(tmp_path, monkeypatch, run_program):
    for package in ("lit_scaledrop", "datamodules", "hardware"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for edits in (OPTION, DATA, METRIC, TABLE):
        assert len({path for path, _, _ in edits}) <= 3
        for path, old, new in edits:
            file = tmp_path / path
            if old == "":
                assert not file.exists()
                file.write_text(new)
            elif old is None:
                file.write_text(file.read_text() + new)
            else:
                assert file.read_text().count(old) == 1, (path, old)
                file.write_text(file.read_text().replace(old, new))
    monkeypatch.chdir(tmp_path)

    def works(*arguments):
        out, err = (process := run_program(*arguments, PYTHONPATH=str(tmp_path), HOME=str(tmp_path))).communicate()
        assert process.returncode == 0, err
        return out

    works("-c", LOOK)
    words = ["--data=StripesDataModule", "--model.network=lenet5", "--model.width=0.25", "--trainer.max_epochs=1"]
    words += ["--run.study=surprises", "--run.tracking=disabled", "--trainer.accelerator=cpu", "--evaluation.samples=3"]
    works("-m", "lit_scaledrop", "fit", "--profile=quick", *words, "--model.scale_level=0.25")
    (path,) = tmp_path.glob("results/quick/surprises/*.json")
    result = read_result(path)
    assert (result.data["name"], result.config["model"]["init_args"]["scale_level"]) == ("stripes", 0.25)
    assert 0 < result.metrics["cls/surprise"] < 1
    assert f"{100 * result.metrics['cls/surprise']:.2f}" in (
        shown := works("-m", "lit_scaledrop", "report", "surprises", "--profile=quick")
    )
    assert "12.50" in shown
    assert "stripes" in works("-m", "lit_scaledrop", "data", "list")
