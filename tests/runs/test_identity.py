"""A run's identity: what changes it, what must not, and the pinned ids of trainings that take hours."""

import inspect
import re
from pathlib import Path

import lightning as L
import pytest
import yaml

from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.methods.classification import METHODS, get_method
from lit_scaledrop.results.provenance import command, commit
from lit_scaledrop.runs.identity import TRAINER_NEUTRAL, TRAINER_SCIENCE, run_identity, science
from lit_scaledrop.sweep.file import load_sweep
from lit_scaledrop.sweep.points import plan_points

ROOT = Path(__file__).parents[2]

# Long trainings are recorded under these. A change here repeats them: raise IDENTITY_VERSION knowingly, or find out
# what changed a hash that should have stayed.
PINNED = {
    "resnet20-irnet-seed1": "af3e8d0c6455",
    "resnet20-proposed-seed1": "edae152b533b",
    "resnet20-dsq-seed1": "d171ca5060f2",
    "vgg_small-fp-seed1": "fad1cf29e77a",
    "vgg_small-proposed-seed1": "dca3098175d6",
    # networks of revision 2, see NETWORK_REVISIONS
    "resnet18-fp-seed1": "8be9b5d49c04",  # before: 4f0e0df7810c
    "resnet18-proposed-seed1": "3b2a0b431716",  # before: 7e3904f2d929
    "resnet20-fp-seed1": "d816ffacacee",  # before: adcfa8b123ca
    "resnet20-mc_dropout_htanh-seed1": "210eaae1a7de",  # before: aeb70d6d367c
}


def plan(*flags: str) -> str:
    return plan_fit(["--config", "tiny.yaml", *flags]).id


def test_pinned_ids_of_table3(place):
    sweep = load_sweep(ROOT / "sweeps" / "table3.yaml")
    points = plan_points(sweep, {"PROFILE": "cpu"}, None, [], lambda flags: plan_fit(flags).result)
    ids = {point.name: point.result.stem for point in points}
    assert len(set(ids.values())) == len(ids) == 26
    assert {name: ids[name] for name in PINNED} == PINNED
    assert points[0].result.parent.as_posix() == "results/cpu/table3"


@pytest.mark.parametrize(
    "flag",
    [
        "--seed_everything=2",
        "--model.method=irnet",
        "--model.network=resnet20",
        "--model.lr=0.02",
        "--model.p=0.3",
        "--model.mask=element",
        "--model.drop_value=average",
        "--model.mask_per=batch",
        "--model.scale_placement=after_norm",
        "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=3",
        "--trainer.precision=bf16-mixed",
        "--trainer.gradient_clip_val=1",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.devices=2",
        "--trainer.check_val_every_n_epoch=2",
        "--trainer.val_check_interval=0.5",
        "--trainer.reload_dataloaders_every_n_epochs=1",
        "--trainer.use_distributed_sampler=false",
        "--trainer.strategy=ddp",
        "--trainer.callbacks+=lit_scaledrop.callbacks.ScaleGradient",
        "--data.batch_size=16",
        "--data.augment=none",
        "--data.split_seed=1",
        "--data=MNISTDataModule",
        "--evaluation.samples=4",
        "--evaluation.checkpoint=last",
        "--evaluation.sigma=0.1",
        "--evaluation.mtj=sot_80nm",
        "--variation=train/0.1",
    ],
)
def test_what_can_change_a_number_changes_the_id(place, flag):
    assert plan(flag) != plan()


TRAINED_WITH_VARIATION = "2f8367005318"  # of --variation=train/0.1 before MTJVariation took a temperature


def test_a_device_is_its_numbers(place):
    """Other numbers under a name or in a file are another run; another name for the same numbers is not."""

    def file(name, threshold):
        constant = {"value": threshold, "unit": "V", "source": "mine", "status": "assumed"}
        Path(name).write_text(yaml.safe_dump({name[0]: {"like": "sot_80nm", "threshold": constant}}))

    file("a.yaml", 0.9)
    file("b.yaml", 0.9)
    for word in ("eval", "train", "both"):
        first = plan(f"--variation={word}/a.yaml")
        assert first == plan(f"--variation={word}/b.yaml:b") != plan(f"--variation={word}/sot_80nm")
        file("a.yaml", 0.91)
        assert plan(f"--variation={word}/a.yaml") != first
        file("a.yaml", 0.9)
    # an argument that came later changes no earlier id
    assert plan("--variation=train/0.1") == TRAINED_WITH_VARIATION
    assert plan("--variation=train/0.1", "--trainer.callbacks.temperature_k=null") == TRAINED_WITH_VARIATION


@pytest.mark.parametrize(
    "flag",
    [
        "--run.study=other",
        "--run.profile=mine",
        "--run.results=elsewhere",
        "--run.runs=elsewhere",
        "--run.tracking=offline",
        "--data.root=elsewhere",
        "--data.eval_batch_size=10",
        "--model.compile_network=true",
        "--model.channels_last=true",
        "--model.momentum=0.9",  # the default, said aloud
        "--model.drop_value=unitary",  # what the method says already
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=auto",
        "--trainer.devices=auto",
        "--trainer.log_every_n_steps=5",
        "--trainer.max_time=00:01:00:00",
        "--trainer.num_sanity_val_steps=2",
        "--trainer.deterministic=true",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.val_check_interval=1.0",
        "--trainer.strategy=auto",
        "--trainer.reload_dataloaders_every_n_epochs=0",
        "--trainer.use_distributed_sampler=true",
        "--trainer.gradient_clip_val=null",
        "--evaluation.sigma=0",
        "--variation=none",
    ],
)
def test_what_cannot_change_a_number_does_not(place, flag):
    assert plan(flag) == plan()


def test_every_setting_of_lightnings_trainer_has_been_thought_of():
    """A new one fails here until somebody says whether it can change a number."""
    theirs = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert theirs - TRAINER_SCIENCE - set(TRAINER_NEUTRAL) == set()
    assert TRAINER_SCIENCE & set(TRAINER_NEUTRAL) == set()


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (["--optimizer=SGD", "--optimizer.lr=1e-9"], "--model.optimizer=sgd|adam"),
        (["--optimizer=torch.optim.AdamW"], "--model.lr"),
        (["--lr_scheduler=ExponentialLR", "--lr_scheduler.gamma=0.9"], "--model.schedule=cosine|constant"),
        (["--config=steps.yaml"], "--model.schedule"),
        (["--trainer.enable_checkpointing=false"], "leaves no checkpoint to evaluate"),
        (["--trainer.barebones=true"], "leaves no checkpoint to evaluate"),
    ],
)
def test_what_would_be_ignored_is_refused(place, flags, instead):
    steps = {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}}
    Path("steps.yaml").write_text(yaml.safe_dump(steps))
    with pytest.raises(ValueError, match=re.escape(instead)):
        plan(*flags)
    assert plan("--trainer.enable_checkpointing=true", "--trainer.barebones=false") == plan()


def test_the_data_says_what_the_model_is_built_for(place):
    """Recorded as it ran, and no part of the identity, which has the data."""
    grey = plan_fit(["--config", "tiny.yaml", "--data=MNISTDataModule", f"--data.root={place}"])
    recorded = grey.recorded(grey.build().data)
    assert recorded["model"]["init_args"]["in_channels"] == 1
    assert grey.config["model"]["init_args"]["in_channels"] == 3
    assert run_identity(recorded, grey.method) == run_identity(grey.config, grey.method) == grey.id


def test_the_two_recipes_of_the_papers_length(place):
    adam, sgd = (plan_fit(["--profile", name]) for name in ("paper", "paper_sgd"))
    recipes = [{**p.config["model"]["init_args"], **p.config["data"]["init_args"]} for p in (adam, sgd)]
    found = [(r["optimizer"], r["augment"], r["crop_scale"]) for r in recipes]
    assert found == [("adam", "resized_crop", [0.5, 1.0]), ("sgd", "crop", [0.08, 1.0])]
    assert [p.config["trainer"]["max_epochs"] for p in (adam, sgd)] == [300, 300]
    assert [p.run.profile for p in (adam, sgd)] == ["paper", "paper_sgd"]


def test_every_method_and_every_zero_has_its_own(place):
    assert len({plan(f"--model.method={method}") for method in METHODS}) == len(METHODS)
    base = {
        "model": {"class_path": "lit_scaledrop.modules.LitClassifier"},
        "data": {"class_path": "datamodules.DigitsDataModule"},
    }
    # 0 is equal to False in Python, and is no "off"
    settings = [{}, {"limit_val_batches": 0}, {"max_epochs": 0}, {"limit_train_batches": 0}]
    assert len({run_identity({**base, "trainer": trainer}, None) for trainer in settings}) == 4
    off = {"overfit_batches": 0.0, "fast_dev_run": False, "sync_batchnorm": False, "callbacks": [], "num_nodes": 1}
    assert run_identity({**base, "trainer": off}, None) == run_identity(base, None)


class OldData:
    def __init__(self, batch_size: int = 128, flip: bool = False, crop_scale: tuple[float, float] = (0.08, 1.0)): ...


class NewData(OldData):
    def __init__(self, flip: bool = True, **kwargs): ...


class NewerBase(OldData):
    def __init__(self, cutout: int = 0, **kwargs): ...


class NewerData(NewerBase):
    def __init__(self, flip: bool = True, mix: float = 0.0, **kwargs): ...


def test_a_new_argument_with_a_default_leaves_finished_runs_alone():
    """Wherever it is added: to the module, to the data, or to a base class of the data."""
    given = {"batch_size": 128, "flip": True, "crop_scale": [0.08, 1.0], "seed": 7}
    model = {"class_path": "lit_scaledrop.modules.LitClassifier", "init_args": {"lr": 0.5, "width": 1.0, "p": None}}
    config = {"model": model, "data": {"class_path": f"{__name__}.NewData", "init_args": given}}
    newer = {"class_path": f"{__name__}.NewerData", "init_args": {**given, "cutout": 0, "mix": 0.0}}
    hashed, later = (science({**config, "data": data}, get_method("fp")) for data in (config["data"], newer))
    assert hashed["model"] == {"class": "LitClassifier", "lr": 0.5}
    assert hashed["data"] == {"class": "NewData", "batch_size": 128, "crop_scale": [0.08, 1.0]}
    assert later["data"] == {**hashed["data"], "class": "NewerData"}
    assert science({**config, "data": {**newer, "init_args": {"cutout": 4}}}, None)["data"]["cutout"] == 4
    assert hashed["method"] == {"activation": "relu"}  # neither label nor reference, nor any default
    assert "start" not in hashed
    assert science({**config, "start": "f00d"}, None)["start"] == "f00d"


def test_command_names_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", f"--config={tmp_path}/a b.yaml", "--root", "/mnt/secret/data", "-c", "relative/x.yaml"]
    assert command(words) == "scaledrop fit '--config=a b.yaml' --root data -c relative/x.yaml"


def test_a_copy_without_its_repository_is_told_its_commit(monkeypatch):
    told = "0123456789" * 4
    monkeypatch.setenv("SCALEDROP_COMMIT", told)
    assert commit() == (told, False)
    monkeypatch.setenv("SCALEDROP_COMMIT", "main")  # no hash: git is asked
    assert commit()[0] != "main"
