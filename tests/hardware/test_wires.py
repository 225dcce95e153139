"""Wires against nodal analysis of the same array."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hardware.cells import Imperfections
from hardware.crossbar import CrossbarLayer
from hardware.mapping import Crossbar
from tests.hardware.nodal import currents

DOCUMENT = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text()
LOW, WINDOW = 1e-6, 1e-6 * 1.1 / 2.1
"""LRS and the window, S, of the default cells: 1 MOhm, TMR 1.1."""


def nodal_matches(cells, x, word_ohm, bit_ohm):
    """Matches that each column reads above a reference column in HRS behind the last one."""
    lrs = (cells * x > 0).T
    siemens = np.where(lrs, LOW, LOW - WINDOW)
    siemens = np.hstack([siemens, np.full((len(siemens), 1), LOW - WINDOW)]) * (x != 0)[:, None]
    read = currents(siemens, word_ohm, bit_ohm)
    return (read[:-1] - read[-1]) / WINDOW


def errors(ohms, word_ohm, bit_ohm, *, rows=128, columns=64, images=6, lit=1.0, matching=0.5, seed=0):
    """Errors of the sums in matches, by nodal analysis and ours."""
    random = np.random.default_rng(seed)
    theirs, ours = [], []
    for _ in range(images):
        x = np.where(random.random(rows) < 0.5, 1.0, -1.0)
        weight = np.where(random.random((columns, rows)) < matching, x, -x)
        x = x * (random.random(rows) < lit)
        exact = (weight @ x + np.abs(x).sum()) / 2
        theirs.append(nodal_matches(weight, x, word_ohm, bit_ohm) - exact)
        layer = CrossbarLayer(
            torch.from_numpy(weight).double(), Crossbar(rows, columns), Imperfections(**ohms)
        ).double()
        sums = layer(torch.from_numpy(x)[None])[0].numpy()
        ours.append((sums + np.abs(x).sum()) / 2 - exact)
    return np.array(theirs), np.array(ours)


def row(name, theirs, ours):
    """A row of the table of docs/hardware.md."""
    cells = [f"{each.mean():.3f} ± {each.std():.3f}" for each in (ours, theirs)]
    return f"| {name} | {' | '.join(cells)} | {np.abs(ours - theirs).max():.3f} |"


@pytest.mark.parametrize(
    ("name", "ohms", "bit_ohm", "columns"),
    [
        ("3, 128 x 128 cells", {"wire_ohm_per_cell": 3.0}, 3, 128),
        ("3 per device", {"wire_ohm_per_device": 3.0}, 6, 64),
    ],
)
def test_other_rows_of_the_document(name, ohms, bit_ohm, columns):
    assert row(name, *errors(ohms, 3, bit_ohm, columns=columns, images=24)) in DOCUMENT


@pytest.mark.parametrize(("ohm", "mean", "spread"), [(1.0, -0.44, 0.09), (3.0, -1.28, 0.29), (10.0, -4.08, 0.93)])
def test_random_signs(ohm, mean, spread):
    theirs, ours = errors({"wire_ohm_per_cell": ohm}, ohm, ohm, images=24)
    assert row(f"{ohm:g}", theirs, ours) in DOCUMENT
    assert theirs.mean() == pytest.approx(mean, abs=0.05)
    assert theirs.std() == pytest.approx(spread, rel=0.1)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.05)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.1)
    # and not only in law: sum by sum, to a tenth of the spread
    assert np.abs(ours - theirs).max() < 0.1 * spread


def test_a_column_drops_by_its_own_matches():
    for matching in (0.1, 0.9):
        theirs, ours = errors({"wire_ohm_per_cell": 3.0}, 3, 3, matching=matching, images=2)
        assert np.abs(ours - theirs).max() < 0.05
    assert theirs.mean() == pytest.approx(-2.9, abs=0.1)  # where half of the cells match it is -1.3


def test_lines_that_are_off_leave_more_to_the_others():
    for lit in (0.3, 0.7):
        theirs, ours = errors({"wire_ohm_per_cell": 3.0}, 3, 3, lit=lit, images=2)
        assert abs((ours - theirs).mean()) < 0.03
        assert (ours - theirs).std() < 0.05


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (64, 128), (5, 3), (1, 1)])
def test_other_shapes(rows, columns):
    theirs, ours = errors({"wire_ohm_per_cell": 3.0}, 3, 3, rows=rows, columns=columns, images=1)
    assert np.abs(ours - theirs).max() < 0.02


def test_ohm_per_device_is_twice_on_the_bit_line():
    theirs, ours = errors({"wire_ohm_per_device": 3.0}, 3, 6)
    assert abs((ours - theirs).mean()) < 0.05
    assert theirs.mean() < 1.7 * errors({"wire_ohm_per_cell": 3.0}, 3, 3)[0].mean()


def test_tiles_and_blocks_of_columns_have_wires_and_references_of_their_own():
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randint(0, 2, shape, generator=generator) * 2.0 - 1 for shape in ((20, 30), (4, 30)))
    weight, x = weight.double(), x.double()
    imperfect = Imperfections(wire_ohm_per_cell=100.0)
    whole = CrossbarLayer(weight, Crossbar(16, 8), imperfect).double()(x)
    parts = [
        sum(
            CrossbarLayer(weight[out, rows], Crossbar(16, 8), imperfect).double()(x[:, rows])
            for rows in (slice(0, 16), slice(16, 30))
        )
        for out in (slice(0, 8), slice(8, 16), slice(16, 20))
    ]
    torch.testing.assert_close(whole, torch.cat(parts, 1))
    assert not torch.allclose(whole, CrossbarLayer(weight, Crossbar(30, 20), imperfect).double()(x))


def test_a_varied_array():
    """Devices and reference column as they were made, not nominal ones."""
    random = np.random.default_rng(3)
    weight = np.where(random.random((40, 60)) < 0.5, 1.0, -1.0)
    x = np.where(random.random(60) < 0.5, 1.0, -1.0)
    imperfect = Imperfections(
        wire_ohm_per_cell=10.0, conductance_cv=0.2, stuck_p=0.02, stuck_ap=0.02, real_reference=True
    )
    made = CrossbarLayer(torch.from_numpy(weight), Crossbar(60, 40), imperfect, torch.Generator().manual_seed(1))
    cells = made.cells[0][0]
    devices = np.where(x > 0, cells.match, cells.miss)
    reference = np.where(x > 0, cells.reference[0], cells.reference[1])
    siemens = (np.vstack([devices, reference]).T + 1 / 1.1) * WINDOW
    read = currents(siemens, 10, 10)
    ours = (made.double()(torch.from_numpy(x)[None])[0].numpy() + 60) / 2
    theirs = (read[:-1] - read[-1]) / WINDOW
    assert np.abs(ours - theirs).max() < 0.02 < 0.2 < np.abs(theirs - (devices - reference).sum(1)).max()


def test_what_wires_are_refused():
    weight = torch.ones(128, 128)
    with pytest.raises(ValueError, match=r"wires would take 2\d % of the read voltage.*smaller tiles"):
        CrossbarLayer(weight, None, Imperfections(wire_ohm_per_cell=30.0))
    with pytest.raises(ValueError, match=r"wires would take .* % of the read voltage"):
        CrossbarLayer(weight, None, Imperfections(wire_ohm_per_cell=1.0, resistance_p_kohm=4.9))
    with pytest.raises(ValueError, match="not as both"):
        Imperfections(wire_ohm_per_cell=1.0, wire_ohm_per_device=1.0)
    with pytest.raises(ValueError, match="wire_ohm_per_cell must be finite"):
        Imperfections(wire_ohm_per_cell=-1.0)
