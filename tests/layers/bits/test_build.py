"""Kernels are compiled once into the user's cache; without a compiler, or a cache, there is a line and a result."""

import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lit_scaledrop.layers.binary import STE, BinaryConv2d
from lit_scaledrop.layers.bits import available, build
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
ROOT = Path(__file__).parents[2]
QUICK = ("-O0", *build.FLAGS[1:])
"""as it is compiled here, where nothing is computed"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "FLAGS", QUICK)
    monkeypatch.setattr(build, "packaged", lambda: None)
    build.library.cache_clear()
    yield tmp_path / "cache" / "lit-scaledrop"
    build.library.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A whole cache."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(build, "FLAGS", QUICK)
        patch.setattr(build, "packaged", lambda: None)
        build.library.cache_clear()
        build.library()
        build.library.cache_clear()
    return folder / "lit-scaledrop"


def files(folder):
    return sorted(path.suffix for path in folder.iterdir())


def test_compiled_once(fresh, monkeypatch):
    assert build.library()
    assert files(fresh) == [".sha256", ".so"]
    build.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)  # no compiler is asked
    assert build.library()


@pytest.mark.parametrize("harm", ["half", "empty", "no digest", "no library", "other digest"])
def test_a_damaged_cache_is_made_anew(fresh, compiled, harm):
    """Half of a library would end the process when it is loaded."""
    shutil.copytree(compiled, fresh)
    library, digest = next(fresh.glob("*.so")), next(fresh.glob("*.sha256"))
    whole = library.read_bytes()
    if harm == "no library":
        library.unlink()
    else:
        library.write_bytes(whole[: {"half": len(whole) // 2, "empty": 0}.get(harm, len(whole))])
    if harm == "no digest":
        digest.unlink()
    if harm == "other digest":
        digest.write_bytes(b"\xff")
    build.library.cache_clear()
    assert build.library()
    assert build._whole(library, digest)


def test_two_at_once(fresh):
    program = "from lit_scaledrop.layers.bits import best_level, available; print(available())"
    # who names a compiler has it used, though there may be kernels beside their source
    env = {**os.environ, "CC": "cc", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(fresh.parent)}

    def start(_):
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)

    with ThreadPoolExecutor() as pool:
        assert [done.stdout for done in pool.map(start, range(2))] == ["True\n"] * 2
    assert files(fresh) == [".sha256", ".so"]


def network():
    torch.manual_seed(0)
    return BinaryConv2d(3, 4, 3, STE(), STE(), padding=1)


NO_COMPILERS = {
    "none": "no-such-compiler",
    "fails": "false",
    "broken": "sh -c 'echo broken >&2; exit 1'",
    "quotes": "cc 'without end",
    "another encoding": r"sh -c 'printf \\351 >&2; exit 1'",
    "makes nothing": "true",
    "makes another library": "cc -Dbits_best=other",
    "big-endian": "cc -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__",
}


@pytest.mark.parametrize("compiler", NO_COMPILERS.values(), ids=NO_COMPILERS)
def test_without_a_compiler(fresh, monkeypatch, caplog, compiler):
    monkeypatch.setenv("CC", compiler)
    net, x = network(), torch.randn(2, 3, 5, 5)
    with caplog.at_level(logging.WARNING):
        made = PosteriorPredictive(torch.nn.Sequential(net, torch.nn.Flatten()), samples=1)
        logits = made(x).logits[0]
        made(x)
    assert len(caplog.records) == 1
    assert "binary convolutions run as float convolutions" in caplog.text
    with torch.no_grad():
        assert torch.equal(logits, net(x).flatten(1))
    assert made.multiplied == ("torch", "there are no compiled kernels here")
    with pytest.raises(ValueError, match="backend 'bits': there are no compiled kernels here"):
        PosteriorPredictive(torch.nn.Sequential(net, torch.nn.Flatten()), samples=1, backend="bits")(x)


@pytest.mark.parametrize("place", ["a file", "a folder without rights", "no home"])
def test_without_a_cache(tmp_path, monkeypatch, place):
    cache = tmp_path / "cache"
    if place == "a file":
        cache.write_text("")
    elif place == "a folder without rights":
        if os.getuid() == 0:
            pytest.skip("root may write everywhere")
        cache.mkdir(mode=0o500)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(build, "FLAGS", QUICK)
    if place == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    build.library.cache_clear()
    try:
        assert build.library()
    finally:
        build.library.cache_clear()


@pytest.mark.parametrize("made", ["of this source", "of another one", "no library", "nobody says of which"])
def test_kernels_that_lie_beside_their_source(fresh, monkeypatch, tmp_path, made):
    """As in a wheel. Others are left where they are, and compiled."""
    source = tmp_path / "kernels.c"
    shutil.copy(build.SOURCE, source)
    digest = build._digest(source) if made == "of this source" else "another"
    named = [] if made == "nobody says of which" else [f'-DSOURCE_DIGEST="{digest}"']
    library = tmp_path / "kernels.abi3.so"
    subprocess.run(["cc", "-O0", "-shared", "-fPIC", *named, "-o", library, source, *build.LIBRARIES], check=True)
    if made == "no library":
        library.write_bytes(b"no library")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh.parent))
    monkeypatch.setattr(build, "FLAGS", QUICK)
    monkeypatch.setattr(build, "SOURCE", source)
    assert build.library()
    assert bool(build.packaged()) == (made == "of this source")
    assert fresh.exists() != (made == "of this source")
    monkeypatch.setenv("CC", "no-such-compiler")  # who names a compiler has it used
    build.library.cache_clear()
    shutil.rmtree(fresh, ignore_errors=True)
    assert build.library() is None
