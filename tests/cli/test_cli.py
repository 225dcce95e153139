"""The command line: commands, profiles, overrides, and what happens to bad input."""

import csv
import errno
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.commands import COMMANDS
from lit_scaledrop.cli.flags import expand_configs
from stand_ins import FIT


def refused(capsys, *words: str) -> str:
    """Run a command that must fail; its one message."""
    assert main([*words]) in (1, 2)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    message = err[err.index("error: ") :]
    assert err.count("error: ") == 1
    assert "Namespace(" not in message
    assert "Subtypes" not in message
    assert "accuracy" not in out
    assert not [path for path in Path().rglob("*.json") if path.is_file()]
    return message


def test_help_lists_every_command(capsys):
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        listed = capsys.readouterr().out.split("commands:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in listed.splitlines()] == [*COMMANDS]


def test_help_is_quick_because_it_imports_nothing_heavy():
    program = (
        "import sys; from lit_scaledrop.__main__ import main; main(['--help']); "
        "heavy = {'torch', 'lightning', 'numpy', 'pandas', 'wandb', 'rich'}; "
        "print({name.split('.')[0] for name in sys.modules} & heavy)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_project_may_have_folders_of_our_names(tmp_path, monkeypatch, run_program):
    for name in ("datamodules", "hardware"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    out, err = (process := run_program("-m", "lit_scaledrop", "data", "list")).communicate()
    assert process.returncode == 0, err
    assert "cifar10" in out


def test_console_script_is_python_m():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="scaledrop")
    assert entry.value == "lit_scaledrop.__main__:main"
    script = Path(sys.executable).with_name("scaledrop")
    commands = [[str(script)]] if script.exists() else []
    commands.append([sys.executable, "-m", "lit_scaledrop"])
    outputs = {subprocess.run([*c, "--help"], capture_output=True, text=True, check=True).stdout for c in commands}
    assert len(outputs) == 1
    assert main(["--help"]) == 0


def test_help_of_predict_is_that_of_ones_own_pictures(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    said = capsys.readouterr().out
    assert "--images IMAGES" in said
    assert "--window WINDOW" in said
    assert "--trainer" not in said
    assert "on the test set of its data; its flags are those of `scaledrop test --help`" in " ".join(said.split())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("lit-scaledrop")


def test_unknown_command(capsys):
    assert main(["evalaute"]) == 2
    assert "unknown command 'evalaute'; did you mean 'evaluate'?" in capsys.readouterr().err


def test_profiles_and_packaged_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = expand_configs(["fit", "--profile", "quick", "--model.p=0.2"])
    assert words[0] == "fit"
    assert words[-1] == "--model.p=0.2"
    files = words[2:-1:2]
    assert [Path(file).name for file in files] == ["classify.yaml", "quick.yaml"]
    assert all(yaml.safe_load(Path(file).read_text()) for file in files)
    # one's own file goes before the packaged one of that name
    Path("classify.yaml").write_text("seed_everything: 5\n")
    assert expand_configs(["fit", "--config=classify.yaml"]) == ["fit", "--config", "classify.yaml"]


def test_flags_override_yaml_and_profiles(place, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*FIT, "--profile=quick", "--config=tiny.yaml", "--model.lr=0.5", "--data.flip=false", "--print_config"])
    assert not stop.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["lr"] == 0.5
    assert config["model"]["init_args"]["width"] == 0.5
    assert config["data"]["init_args"]["flip"] is False
    assert config["data"]["class_path"] == "datamodules.CIFAR10DataModule"
    assert config["seed_everything"] == 1
    assert config["trainer"]["num_sanity_val_steps"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model.method=proposd"], "unknown method 'proposd'; did you mean 'proposed'? Known: bnn, "),
        (["--model.network=lenet"], "unknown network 'lenet'; did you mean 'lenet5'? Known: lenet5, "),
        (["--data=CIFAR10DataModul"], "unknown data 'CIFAR10DataModul'; did you mean 'CIFAR10DataModule'? Known: "),
        (["--data=datamodules.CIFARDataModule"], "did you mean 'CIFAR10DataModule'?"),
        (["--data=mnits"], "did you mean 'mnist'?"),
        (
            ["--data=clinic.ClinicDataModule"],
            "data 'clinic.ClinicDataModule' cannot be imported (No module named 'clinic')"
            ": give MODULE.NAME of a class or function in the current folder or an installed package",
        ),
        (
            ["--data=fractions.Fractoin"],
            "cannot be imported (module 'fractions' has no attribute 'Fractoin')",
        ),
        (["--data=fractions.Fraction"], "fractions.Fraction does not correspond to a subclass of LightningDataModule"),
        (
            ["--data=photos/"],
            "--data is a name, and photos/ a folder: --images photos/ reads its images, one folder",
        ),
        (["--profile=cpu", "--dataset=photos"], "--dataset is a name, and photos a folder: --images photos reads"),
        (["--profile=quik"], "profile 'quik'; did you mean 'quick'? Known: cpu, gpu, long, paper, paper_sgd, quick"),
        (["--model.p=1.5"], "p (drop probability) is a probability and must lie in [0, 1], got 1.5"),
        (["--model.p=-0.1"], "must lie in [0, 1], got -0.1"),
        (["--model.method=fp", "--model.p=0.5"], "method 'FP' has no Scale-Dropout"),
        (["--model.width=0"], "width must be above 0, got 0.0"),
        (["--model.optimizer=sdg"], "--model.optimizer takes 'adam', 'sgd', not 'sdg'"),
        (["--model.methd=fp"], "unknown flag '--model.methd'; did you mean '--model.method'?"),
        (["--modle.method=fp"], "unknown flag '--modle.method'; did you mean '--model.method'?"),
        (["--data.batchsize=4"], "unknown flag '--data.batchsize'; did you mean '--data.batch_size'?"),
        (["--run.studdy", "a"], "unknown flag '--run.studdy'; did you mean '--run.study'?"),
        (["--data.batch_size=0"], "batch_size must be at least 1, not 0"),
        (["--trainer.max_epochs=two"], "--trainer.max_epochs takes int, not 'two'"),
        (["--model.scale_start=[0.3]"], "--model.scale_start takes [2 values], not '[0.3]'"),
        (["--model.p=[0.3,0.1]"], "--model.p takes float or [3 values], not '[0.3, 0.1]'"),
        (["--trainer.callbacks+=Foo"], "--trainer.callbacks: 'Foo' cannot be imported as a class"),
        (["--evaluation.samples=0"], "evaluation.samples (T) must be at least 1, got 0"),
        (["--evaluation.quantile=2"], "evaluation.quantile must lie in [0, 1], got 2.0"),
        (["--run.study=a/b"], "run.study must be a plain folder name"),
        (["--data.val_fraction=0"], "the validation split chooses the checkpoint"),
        (["--trainer.limit_val_batches=0"], "the validation split chooses the checkpoint"),
        (["--trainer.max_epochs=0"], "the validation split chooses the checkpoint"),
        (
            ["--trainer.check_val_every_n_epoch=3"],
            "with trainer.check_val_every_n_epoch=3 and trainer.max_epochs=2: lower",
        ),
        (["--trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch must be above 0"),
        (["--trainer.limit_train_batches=0"], "trainer.limit_train_batches must be above 0"),
        (["--trainer.max_steps=0"], "trainer.max_steps must be above 0"),
        (
            ["--trainer.limit_train_batches=3", "--trainer.val_check_interval=4"],
            "with trainer.val_check_interval=4 and trainer.limit_train_batches=3: lower",
        ),
        (
            ["--trainer.max_steps=3", "--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=4"],
            "with trainer.val_check_interval=4 and trainer.max_epochs=2, trainer.max_steps=3: lower",
        ),
        # 180 images in batches of 32, which only the data says
        (
            ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=11"],
            "5 batches an epoch and the first validation after batch 11: lower",
        ),
        (["--trainer.val_check_interval=6"], "with trainer.val_check_interval=6 and 5 batches an epoch: lower"),
        (["--trainer.max_steps=4"], "trainer.max_steps=4, 5 batches an epoch and the first validation after batch 5"),
        (["--trainer.max_time=5"], "trainer.max_time takes DD:HH:MM:SS, not '5'"),
        (["--config=missing.yaml"], "File does not exist"),
        (["--data.limit_train=10"], "10 training images on 1 process(es) do not fill one batch of 32"),
        (["--data.root=nowhere"], "data set 'cifar10' not found under nowhere.\nTo get it:\n  scaledrop data get"),
        (["--trainer.accelerator=gpu", "--trainer.devices=99"], "gpu"),
        (["--trainer.devices=-2"], "the trainer refuses its settings: `devices` selected with `CPUAccelerator`"),
        (["--data.val_fraction=0.9999"], "val_fraction 0.9999 leaves no training image of 'cifar10': lower it"),
        (["--ckpt_path=missing.ckpt"], "no checkpoint missing.ckpt"),
        (["--run.tracking=online"], "online tracking needs a W&B API key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_message(place, capsys, words, says):
    Path("photos").mkdir()
    message = refused(capsys, *FIT, *words)
    assert says in message
    assert len(message) < 600
    assert not list(place.rglob("*.ckpt"))


def test_misspelt_key_and_broken_yaml(place, capsys):
    text = Path("tiny.yaml").read_text()
    for changed, says in (
        (text.replace("network:", "netwrk:"), "unknown flag '--model.netwrk'; did you mean '--model.network'?"),
        (text.replace("max_epochs:", "max_epoch:"), "unknown flag '--trainer.max_epoch'; did you mean"),
        (text + "  : [", "--config other.yaml is no valid YAML: while parsing a block mapping"),
    ):
        Path("other.yaml").write_text(changed)
        assert says in refused(capsys, "fit", "--config", "other.yaml")


def test_altered_data_is_refused(place, capsys, fake_cifar):
    shutil.copytree(fake_cifar, "data")
    path = Path("data/cifar-10-batches-py/data_batch_3")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "data_batch_3 is altered: md5 " in refused(capsys, *FIT, "--data.root=data")


def test_a_training_needs_no_fsync(place, monkeypatch):
    """Some file systems have none: neither for results nor for checkpoints."""

    def none(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", none)
    assert main([*FIT, "--trainer.max_epochs=1"]) == 0
    assert len(list(place.glob("results/quick/tiny/*.json"))) == 1


@pytest.mark.parametrize("flag", ["--run.results", "--run.runs"])
def test_folder_that_cannot_be_written(place, capsys, flag):
    Path("file").write_text("precious")
    assert "cannot write to file/quick/tiny" in refused(capsys, *FIT, f"{flag}=file")
    assert Path("file").read_text() == "precious"


def test_traceback_on_request(place, capsys, monkeypatch):
    monkeypatch.setenv("SCALEDROP_TRACEBACK", "1")
    assert main([*FIT, "--evaluation.samples=0"]) == 1
    assert "Traceback" in capsys.readouterr().err


# --- validate, test, predict ---


@pytest.fixture
def checkpoint(place, finished) -> str:
    (path,) = finished.glob("runs/quick/tiny/*/checkpoints/last.ckpt")
    shutil.copy(path, "last.ckpt")
    return "last.ckpt"


def test_flags_win_over_the_checkpoint(checkpoint, monkeypatch):
    """LightningCLI alone lets the checkpoint's hyper-parameters override the flags."""
    seen = []
    from lit_scaledrop.modules.classifier import LitClassifier

    monkeypatch.setattr(LitClassifier, "on_test_start", lambda self: seen.append(self), raising=False)
    assert main(["test", "--config=tiny.yaml", f"--ckpt_path={checkpoint}", "--model.p=0.9"]) == 0
    (model,) = seen
    assert model.hparams["p"] == 0.9
    assert {float(layer.p) for layer in model.modules() if hasattr(layer, "drop_value")} == {torch.tensor(0.9).item()}
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())


def test_validate_gives_the_accuracy_of_the_training(checkpoint, finished, capsys):
    (path,) = finished.glob("results/quick/tiny/*.json")
    training = json.loads(path.read_text())["training"]
    before = set(Path().iterdir())
    assert main(["validate", "--config=tiny.yaml", f"--ckpt_path={checkpoint}"]) == 0
    assert str(training["logged"]["val/acc"]) in capsys.readouterr().out
    assert set(Path().iterdir()) == before  # nothing is left where the command was called


def test_predict_writes_probabilities_in_order(checkpoint, capsys):
    assert main(["predict", "--config=tiny.yaml", f"--ckpt_path={checkpoint}", "--out=p.csv"]) == 0
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    names = [name for name in rows[0] if name.startswith("p(")]
    assert names[0] == "p(airplane)"
    for row in rows:
        values = [float(row[name]) for name in names]
        assert sum(values) == pytest.approx(1, abs=1e-4)
        assert values.index(max(values)) == int(row["predicted"])
    from datamodules import CIFAR10DataModule

    data = CIFAR10DataModule(checksums="recorded")
    data.setup()
    assert [int(row["label"]) for row in rows] == data.test_set.labels.tolist()
    accuracy = sum(row["label"] == row["predicted"] for row in rows) / 60
    assert f"60 images, accuracy {100 * accuracy:.2f} %: p.csv" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_network_is_needed(place, capsys, command):
    assert "add --ckpt_path FILE" in refused(capsys, command, "--config=tiny.yaml")


def test_a_model_of_the_package_is_no_checkpoint_of_a_run(place, capsys):
    said = refused(capsys, "test", "--config", "tiny.yaml", "--ckpt_path=lenet5-proposed")
    assert "lenet5-proposed is a packaged model" in said
    assert "`scaledrop evaluate lenet5-proposed --data NAME` measures it" in said


@pytest.mark.parametrize("command", ["fit", "test"])
def test_checkpoint_of_another_network(checkpoint, capsys, command):
    for other, says in (("--model.width=0.2", "first network.stem.0.weight"), ("--model.method=fp", "tensors differ")):
        message = refused(capsys, command, "--config=tiny.yaml", f"--ckpt_path={checkpoint}", other)
        assert "last.ckpt belongs to another network: " in message
        assert says in message


@pytest.mark.parametrize("words", [["fit"], ["test", "--ckpt_path=last.ckpt"], ["predict", "--ckpt_path=last.ckpt"]])
def test_data_must_be_named(place, capsys, words):
    assert "error: --data must be given, directly or by --profile quick, " in refused(capsys, *words)


def test_damaged_checkpoint(checkpoint, capsys):
    os.truncate(checkpoint, 5000)
    assert "last.ckpt is no checkpoint, or it is damaged" in refused(
        capsys, "test", "--config=tiny.yaml", "--ckpt_path=last.ckpt"
    )


@pytest.mark.parametrize("command", [["data", "--root=."], ["--help"]])
def test_a_reader_who_has_seen_enough_is_no_error(tmp_path, command):
    words = [sys.executable, "-u", "-m", "lit_scaledrop", *command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
