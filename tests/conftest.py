"""What the tests of running share: miniature CIFAR-10, a tiny training, and one finished run of it."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import type_checks
from stand_ins import FIT, TINY

type_checks.install()  # before the first import of ours

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

# no test may fail because the machine is slow
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def all_commands_imported() -> None:
    """Whatever a test registers, it registers behind the import of every command: the order of tests says nothing."""
    import lit_scaledrop.cli

    for module in pkgutil.iter_modules(lit_scaledrop.cli.__path__, "lit_scaledrop.cli."):
        importlib.import_module(module.name)


@pytest.fixture(scope="session")
def fake_cifar(tmp_path_factory) -> Path:
    from fakes import write_fake_cifar10

    root = tmp_path_factory.mktemp("data")
    write_fake_cifar10(root, n_train=200, n_test=60)
    return root


@pytest.fixture
def place(tmp_path, monkeypatch, fake_cifar) -> Path:
    """An empty current folder with ``tiny.yaml``; DATA is the miniature CIFAR-10, and nobody has a W&B key."""
    prepare(tmp_path, monkeypatch, fake_cifar)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, fake_cifar) -> Path:
    """Folder in which the tiny training has been run once; only for reading."""
    from lit_scaledrop.__main__ import main

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, patch, fake_cifar)
        assert main([*FIT]) == 0
    return folder


def prepare(folder: Path, patch: pytest.MonkeyPatch, data: Path) -> None:
    patch.chdir(folder)
    patch.setenv("DATA", str(data))
    patch.setenv("HOME", str(folder))
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY", "NETRC", "SCALEDROP_TRACEBACK", "PROFILE"):
        patch.delenv(name, raising=False)
    (folder / "tiny.yaml").write_text(TINY)


@pytest.fixture
def run_program():
    """Run ``python ARGS`` in the current folder, for what must die, hang or be seen from the outside."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pytest_terminal_summary(terminalreporter):
    """Count the injected faults of tests/faults; each test notes the one that it has injected."""
    passed, failed = (terminalreporter.stats.get(how, []) for how in ("passed", "failed"))
    faults = [value for report in passed for name, value in report.user_properties if name == "fault"]
    if faults:
        broken = sum("tests/faults/" in report.nodeid for report in failed)
        terminalreporter.write_line(
            f"{len(faults)} injected faults ended in the undisturbed table, {broken} tests failed"
        )
    for report in passed:
        for name, value in report.user_properties:
            if name == "two sweeps":
                terminalreporter.write_line(f"two sweeps on one table: {value}")


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip(f"no Chromium here; looked for {', '.join(NAMES)}")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--hide-scrollbars"])
        yield one
        one.close()


@pytest.fixture(scope="session")
def axe():
    """What axe-core finds wrong on an opened page for those who do not see or point."""
    folders = (os.environ.get("SCALEDROP_AXE", ""), "node_modules/axe-core", "/usr/share/nodejs/axe-core")
    found = [path for folder in folders if folder and (path := Path(folder) / "axe.min.js").is_file()]
    if not found:
        pytest.skip("no axe-core here: npm install axe-core, then SCALEDROP_AXE=node_modules/axe-core")
    source = found[0].read_text(encoding="utf-8")

    def violations(tab):
        tab.evaluate(source)
        said = tab.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(({passes, violations}) => ({passes: passes.length, "
            "violations: violations.map(({id, nodes}) => [id, nodes.slice(0, 3).map((n) => n.html.slice(0, 200))])}))"
        )
        assert said["passes"] > 10
        return said["violations"]

    return violations
