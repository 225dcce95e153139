"""Files of others: single attacks, each with the right value beside it; seeded mutations are in `test_mutations.py`."""

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datamodules.classification.cifar10 import decode_batch
from datamodules.files.integrity import DatasetCorruptError
from datamodules.pictures import opened, picture_paths, read_pictures
from datamodules.segmentation.ct_volumes import read_nifti
from hardware.constants import PresetError, read_yaml
from hostile import ID, RESUMABLE, nifti
from lit_scaledrop.deploy.container import MAGIC, PackedError, read_packed
from lit_scaledrop.evaluation.checkpoint import CheckpointError, read_checkpoint
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.result import InvalidResultError
from lit_scaledrop.results.store import is_finished, read_result
from lit_scaledrop.results.text import cell, one_line, plain
from lit_scaledrop.results.yaml_text import load_yaml
from lit_scaledrop.runs.run import Run, resume_checkpoint
from lit_scaledrop.sweep.file import SweepError, build_command, load_sweep
from stand_ins import RESULT

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("signs", "tensors"),
    [
        ([["s", [10**9]]], []),
        ([["s", [2 * 10**10]]], []),
        ([["s", [10**30]]], []),
        ([["s", [-5]]], []),
        ([], [["w", "float32", [10**30]]]),
        ([], [["w", "float32", [-1, -1]]]),
        ([], [["w", "float32", "ab"]]),
    ],
)
def test_a_packed_header_says_no_more_than_the_file_holds(tmp_path, signs, tensors):
    import hashlib
    import struct
    import zlib

    header = {"about": {}, "tensors": tensors, "signs": signs, "sha256": hashlib.sha256(b"").hexdigest()}
    front = zlib.compress(json.dumps(header).encode())
    (tmp_path / "a.packed").write_bytes(MAGIC + struct.pack("<I", len(front)) + front)
    with pytest.raises(PackedError, match=r"a\.packed is damaged"):
        read_packed(tmp_path / "a.packed")


@pytest.mark.parametrize("text", [BOMB, "a: &a {k: &b [*a, *b]}", "a: &a [*a]"])
def test_aliases_stand_for_no_more_than_a_machine_holds(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="more than 100,000 values"):
        load_yaml(text)
    with pytest.raises(SweepError, match=r"s\.yaml: it holds more than 100,000 values"):
        load_sweep(path)
    with pytest.raises(PresetError, match=r"s\.yaml is no YAML: it holds more than 100,000 values"):
        read_yaml(path)
    assert load_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("merges", [9])
def test_merged_maps_are_counted_as_well(merges):
    text = "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, merges)
    )
    with pytest.raises(ValueError, match="more than 100,000 values"):
        load_yaml(text)


def test_a_config_of_aliases_is_refused(tmp_path):
    from argparse import ArgumentError

    from lit_scaledrop.cli.fit import plan_fit

    (tmp_path / "c.yaml").write_text(f"model:\n  init_args:\n    x: {{{', '.join(BOMB.split(chr(10))[:-1])}}}\n")
    with pytest.raises((ArgumentError, ValueError), match="more than 100,000 values"):
        plan_fit(["--profile", "quick", "--config", str(tmp_path / "c.yaml")])


class Strided:
    """An array of objects over a buffer of the file, which NumPy's own classes would build."""

    def __reduce__(self):
        return np.ndarray, ((4,), np.dtype("O"), b"\x41" * 64, 0, (8,))


@pytest.mark.parametrize("data", [Strided(), np.array([object], dtype=object), np.zeros((2, 3072), np.float32), [1, 2]])
def test_a_batch_builds_no_array_that_the_file_describes(data):
    content = pickle.dumps({b"data": data, b"labels": [1, 2]}, protocol=2)
    with pytest.raises(DatasetCorruptError, match="b is no CIFAR-10 batch"):
        decode_batch("b", lambda _: content, 10)


def test_a_batch_remembers_no_more_than_it_holds():
    content = b"\x80\x02}r\xf0\xff\xff\x7f."  # puts an empty dictionary into place 2,147,483,632
    with pytest.raises(DatasetCorruptError, match="it remembers more"):
        decode_batch("b", lambda _: content, 10)


@pytest.mark.parametrize("protocol", [3, 4])
def test_batches_of_each_protocol_are_read(protocol):
    images = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    content = pickle.dumps({b"data": images, b"labels": [1, 2]}, protocol=protocol)
    found, labels = decode_batch("b", lambda _: content, 10)
    assert torch.equal(found, torch.from_numpy(images).reshape(2, 3, 32, 32))
    assert labels.tolist() == [1, 2]


ODD_CHECKPOINTS = {
    "epoch x": {"epoch": "x"},
    "epoch -1": {"epoch": -1},
    "callbacks a list": {"callbacks": []},
    "best_model_path None": {"callbacks": {"c": {"best_model_path": None}}},
    "no optimizer": {"optimizer_states": []},
    "an optimizer of nothing": {"optimizer_states": [{"state": {}, "param_groups": []}]},
    "no loops": {"loops": None},
    "loops that are none": {"loops": {"fit_loop": 5}},
    "no release": {"pytorch-lightning_version": "x"},
    "not a number": {"state_dict": {"w": torch.tensor([float("nan"), 1.0])}},
    "another network": {"state_dict": {"w": torch.zeros(3)}},
    "weights that are none": {"state_dict": {"w": "x"}},
    "hyper-parameters": {"hyper_parameters": []},
}


@pytest.mark.parametrize("name", ODD_CHECKPOINTS)
def test_an_odd_checkpoint_is_moved_aside_and_the_previous_one_taken(tmp_path, name, capsys):
    """The same command goes on from the sound one with most epochs."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    sound = {"epoch": 1, "state_dict": {"w": torch.zeros(2)}, "hyper_parameters": {}, **RESUMABLE}
    sound["callbacks"] = {"c": {"best_model_path": "best-epoch=1.ckpt"}}
    torch.save(sound, folder / "best-epoch=1.ckpt")
    torch.save({**sound, "epoch": 2} | ODD_CHECKPOINTS[name], folder / "last.ckpt")
    chosen = resume_checkpoint(tmp_path, shapes=lambda: {"w": torch.Size([2])})
    assert chosen is not None
    assert read_checkpoint(chosen)["epoch"] == 1
    assert (folder / "last.ckpt.damaged").exists()
    assert "renamed to last.ckpt.damaged" in capsys.readouterr().err


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * 50_000_000)
    with pytest.raises(CheckpointError, match=r"a\.ckpt is no checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "break_",
    [
        lambda header: header.__setitem__("srow_x", [0, 0, 0, 0]),
        lambda header: [header.__setitem__(f"srow_{axis}", [0, 0, 0, 0]) for axis in "xyz"],
        lambda header: header["dim"].__setitem__(slice(1, 4), 32767),
        lambda header: header["dim"].__setitem__(1, -3),
        lambda header: header["dim"].__setitem__(2, 0),
        lambda header: header.__setitem__("datatype", 128),
        lambda header: header.__setitem__("datatype", 77),
    ],
)
def test_an_odd_volume_is_named(tmp_path, break_):
    import nibabel

    nifti(tmp_path / "v.nii")
    content = bytearray((tmp_path / "v.nii").read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    break_(header)
    content[:348] = header.binaryblock
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(
        DatasetCorruptError,
        match=r"v\.nii (is no readable NIfTI file|does not say how|says that it has .* voxels|holds .* voxels)",
    ):
        read_nifti(tmp_path / "v.nii")


def test_a_limit_is_stated_and_can_be_lifted(tmp_path, monkeypatch):
    from PIL import Image

    Image.new("RGB", (200, 100)).save(tmp_path / "p.png")
    monkeypatch.setenv("SCALEDROP_LIMIT_GB", "0.00001")
    with pytest.raises(DatasetCorruptError, match=r"p\.png is no readable picture: it needs .* SCALEDROP_LIMIT_GB="):
        read_pictures([tmp_path / "p.png"])
    nifti(tmp_path / "v.nii")
    monkeypatch.setenv("SCALEDROP_LIMIT_GB", "1e-7")
    with pytest.raises(DatasetCorruptError, match="SCALEDROP_LIMIT_GB=1 allows it"):
        read_nifti(tmp_path / "v.nii")
    monkeypatch.delenv("SCALEDROP_LIMIT_GB")
    assert read_pictures([tmp_path / "p.png"]).shape == (1, 3, 32, 32)
    assert read_nifti(tmp_path / "v.nii")[0].shape == (3, 5, 4)


def test_a_picture_of_pillows_own_limit_is_named(tmp_path, monkeypatch):
    from PIL import Image

    Image.new("L", (300, 300)).save(tmp_path / "p.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetCorruptError, match=r"p\.png is no picture .* 2,000 pixels"), opened(tmp_path / "p.png"):
        pass


def test_sixteen_bits_and_their_copy_of_eight_are_one_picture(tmp_path):
    from PIL import Image

    ramp = np.linspace(0, 65535, 1024).reshape(32, 32)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.rint(np.rint(ramp) / 257).astype(np.uint8)).save(tmp_path / "flat.png")
    deep, flat = read_pictures([tmp_path / "deep.png", tmp_path / "flat.png"]).int()
    assert (deep - flat).abs().max() <= 1
    (tmp_path / "x.png").mkdir()
    assert len(picture_paths(tmp_path)) == 2


@pytest.mark.parametrize("content", ["[" * 100_000, RESULT.replace(ID, "1" * 12)])
def test_a_result_that_is_none_or_another_runs_is_moved_aside(tmp_path, content):
    path = tmp_path / f"{ID}.json"
    path.write_text(content)
    with pytest.raises(InvalidResultError, match=r"is no valid result .*delete it and repeat"):
        read_result(path)
    assert not is_finished(path)
    assert path.with_name(f"{ID}.json.broken").exists()
    path.write_text(RESULT)
    assert is_finished(path)


@pytest.mark.parametrize(
    "name", ["my study", "..", ".", "été", ".hidden", "a\nb", "-s", "a::b", "a/b", "", "x" * 101, "a;b", "$(x)"]
)
def test_names_of_folders_are_checked_when_they_are_parsed(name):
    for field in ("study", "profile"):
        with pytest.raises(ValueError, match=f"run.{field} must be a plain folder name"):
            Run(**{field: name})
    assert Run(study="table3", profile="paper_sgd").study == "table3"


def test_a_file_system_without_fsync_is_written_to(tmp_path, monkeypatch):
    def none(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", none)
    write_atomic(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match=r"broken: '.*b'"):
        write_atomic(tmp_path / "b", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_what_was_killed_long_ago_is_tidied(tmp_path):
    old, new = tmp_path / ".t.md.0123abcd.tmp", tmp_path / ".t.md.4567abcd.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    write_atomic(tmp_path / "t.md", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "t.md"]


def test_words_of_others_are_plain():
    assert plain("a\x1b[31mb\udcff\u202ec") == "a?[31mb??c"
    assert one_line("a\n# T <b>x</b> | y") == r"a # T &lt;b>x&lt;/b> \| y"
    assert [cell(name) for name in ("=1+1", "@x", "+1", "a\n.png", "\udcff.png")] == [
        "'=1+1", "'@x", "'+1", "a?.png", "?.png"
    ]  # fmt: skip


def test_what_a_variable_holds_is_not_expanded(monkeypatch):
    command = {"command": ["x", "fit", "${envvar:X}", "${args}"]}
    assert build_command(command, {"a": 1}, {"X": "${args}"}) == ["x", "fit", "${args}", "--a=1"]
    with pytest.raises(SweepError, match="needs the environment variable home"):
        build_command({"command": ["fit", "${envvar:home}", "${args}"]}, {}, {})


@pytest.mark.parametrize("content", ['{"schema": 9}', "folder", "[" * 100_000, "pipe", "{"])
def test_a_sweep_goes_on_beside_a_bad_result(tmp_path, monkeypatch, capfd, content):
    """Three other points run; the bad one fails, or is moved aside and run again."""
    from lit_scaledrop.cli.sweep import main as sweep

    monkeypatch.chdir(tmp_path)
    body = f"""
import sys, pathlib
path = pathlib.Path("results/quick/s", sys.argv[2].split("=")[1].zfill(12) + ".json")
path.write_text({RESULT!r}.replace({ID!r}, path.stem))
"""
    Path("child.py").write_text(body)
    config = {"method": "grid", "parameters": {"n": {"values": [1, 2, 3, 4]}}}
    Path("s.yaml").write_text(yaml.safe_dump(config | {"command": ["${interpreter}", "child.py", "fit", "${args}"]}))
    path = Path("results/quick/s", "2".zfill(12) + ".json")
    path.parent.mkdir(parents=True)
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}.get(content, lambda: path.write_text(content))()

    def plan(flags):
        return Path("results/quick/s", flags[-1].split("=")[1].zfill(12) + ".json")

    assert sweep(["s.yaml", "--dry-run"], plan) == 0
    repaired = content in ("[" * 100_000, "{")
    assert sweep(["s.yaml"], plan) == (0 if repaired else 1)
    said = capfd.readouterr().out
    assert ("4 done, 0 skipped, 0 failed" if repaired else "3 done, 0 skipped, 1 failed") in said
