"""The script of ``scaledrop completion bash``, run by bash."""

import contextlib
import re
import shutil
import subprocess

import pytest

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.commands import COMMANDS
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.networks import NETWORKS

PROGRAM = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); PATH=/nowhere
_scaledrop
printf '%s\\n' "${COMPREPLY[@]}"
"""
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "scaledrop.bash"
    with path.open("w") as file, contextlib.redirect_stdout(file):
        assert main(["completion", "bash"]) == 0
    return path


def tab(script, *words):
    """What bash offers behind words, by itself: it could start no program, which is what would take time."""
    done = subprocess.run(
        ["bash", "--norc", "-c", PROGRAM, "bash", str(script), *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], set(COMMANDS)),
        (["fi"], {"fit", "figure8"}),
        (["fit", "--model.met"], {"--model.method"}),
        (["fit", "--model.method", ""], {*METHODS, *SEGMENTATION_METHODS}),
        (["fit", "--model.network", "=", "res"], {name for name in NETWORKS if name.startswith("res")}),
        (["fit", "--run.tracking", "="], {"auto", "online", "offline", "disabled"}),
        (["fit", "--images", ""], set()),  # a folder
        (["fit", "--images", "pictures", "--mas"], {"--masks", "--mask-names", "--mask-classes"}),
        (["evaluate", "resn"], {"resnet20-proposed"}),
        (["evaluate", "x.ckpt", "--sc"], {"--scheme"}),
        (["evaluate", "x.ckpt", "--scheme", ""], {"iid", "stratified", "systematic"}),
        (["sweep", "table3"], {"table3", "table3-beyond"}),
        (["chip", "e"], {"effects"}),
        (["chip", "report", "lab.yaml", "--recal"], {"--recalibrate"}),
        (["predict", "--ck"], {"--ckpt_path"}),
        (["nothing", ""], set()),
    ],
)
def test_bash_completes(script, words, offered):
    assert tab(script, "scaledrop", *words) == offered


def test_every_flag_of_every_command_is_offered(script, capsys):
    for command in COMMANDS:
        with contextlib.suppress(SystemExit):
            main([command, "--help"])
        named = set(re.findall(r"^  (--[\w.-]*\w)", capsys.readouterr().out, re.MULTILINE))
        assert named <= tab(script, "scaledrop", command, "--"), command


def test_words_mean_nothing_else_to_bash(script):
    for words in re.findall(r'words="(.*?)"', script.read_text()):
        assert re.fullmatch(r"[\w .,+/-]*", words)


def test_an_unknown_shell(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "fish"])
    assert "choose from 'bash'" in capsys.readouterr().err
