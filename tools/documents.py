"""``python tools/documents.py``: regenerate the parts of README and docs that come from files, and the badges."""

import re
import sys
import tomllib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from lit_scaledrop.report.table import section_cells
from lit_scaledrop.report.tables import build
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.glossary import METRICS, TRAINING
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import load_results

_COLUMNS = ("topology", "method", "bits", "accuracy", "paper", "difference", "nll", "ece", "epochs", "seconds")
_FRONT = ("FP", "MC-Dropout (HTanh)", "IR-Net", "MC-Dropout (IR-Net)", "Proposed")


def refresh(text: str, results_dir: Path) -> str:
    """A document with its generated parts regenerated.

    Args:
        text: document with ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` around each part of :data:`PARTS` in it.
        results_dir: folder of the results.

    Raises:
        ValueError: if a part's end is missing or its results are.
    """
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if begin not in text:
            continue
        head, rest = text.split(begin, 1)
        if end not in rest:
            raise ValueError(f"the document lacks the marker {end}")
        text = head + begin + "".join(f"{line}\n" for line in make(results_dir)) + end + rest.split(end, 1)[1]
    return text


def _sound(results_dir: Path, study: str) -> list[Result]:
    results, problems = load_results(results_dir, "cpu", study)
    if problems or not results:
        raise ValueError(f"no sound results in {results_dir}/cpu/{study}: {problems}")
    return results


def _table3(results_dir: Path) -> list[str]:
    lines: list[str] = []
    for section in build("table3", _sound(results_dir, "table3")).sections:
        headers = {name: column.header for name, column in section.columns.items()}
        rows = section_cells(section)[section.frame.n.notna().to_numpy()]
        shown = rows[[headers[name] for name in _COLUMNS if name in headers]]
        lines += [*shown.to_markdown(index=False, disable_numparse=True).splitlines(), "", *section.caption, ""]
    return lines[:-1]


def _placement(results_dir: Path) -> list[str]:
    rows = []
    results = _sound(results_dir, "ablation-placement")
    for result in results:
        arguments = result.config["model"]["init_args"]
        rows.append(
            {
                "mask in training": f"per {arguments['mask_per']}",
                "scale": arguments["scale_placement"].replace("_norm", " BatchNorm"),
                "data gradient on alpha": f"{result.training['logged']['grad/alpha_data']:.2e}",
                "validation accuracy (%)": f"{100 * result.training['val_acc']:.2f}",
                "test accuracy, T = 20 (%)": f"{100 * result.metrics['cls/acc']:.2f}",
                "test NLL": f"{result.metrics['cls/nll']:.3f}",
                "mutual information (nats)": f"{result.metrics['unc/mutual_information']:.4f}",
            }
        )
    frame = pd.DataFrame(rows).sort_values(["mask in training", "scale"], ascending=[True, False])
    commits = {result.provenance["commit"][:7] for result in results}
    data = {f"{result.data['name']} {result.data['fingerprint']}" for result in results}
    named = f"Data {', '.join(sorted(data))}; n = 1 each; commit {', '.join(sorted(commits))}"
    table = frame.to_markdown(index=False, disable_numparse=True).splitlines()
    return [*table, "", f"{named}; {results[0].training['device']}."]


def _glossary(_results_dir: Path) -> list[str]:
    rows = [f"| `{name}` | {entry.description} |" for name, entry in (TRAINING | METRICS).items()]
    return ["| key | meaning |", "|---|---|", *rows]


def _front(results_dir: Path) -> list[str]:
    """Rows of the README's table: for each method on ResNet-20 the profile that has trained longest."""
    rows: dict[str, tuple[int, str]] = {}
    for profile in ("cpu", "long"):
        results, problems = load_results(results_dir, profile, "table3")
        if problems:
            raise ValueError(f"{results_dir}/{profile}/table3: {problems}")
        for section in build("table3", results).sections if results else ():
            for row in section.frame[section.frame.n.notna()].to_dict("records"):
                name, epochs = str(row["method"]), int(row["epochs"])
                if row["topology"] == "ResNet-20" and name in _FRONT and epochs >= rows.get(name, (0, ""))[0]:
                    rows[name] = epochs, _front_row(row)
    head = ["method", "W/A", "accuracy (%)", "paper (%)", "NLL", "ECE", "epochs", "n"]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(rows[name][1] for name in _FRONT if name in rows)]


def _front_row(row: dict[Hashable, Any]) -> str:
    spread = f" ± {row['accuracy_std']:.2f}" if row["n"] > 1 else ""
    paper = f"{row['paper']:.2f}" if pd.notna(row["paper"]) else ""
    cells = [row["method"], f"{row['bits_w']:.0f}/{row['bits_a']:.0f}", f"{row['accuracy']:.2f}{spread}", paper]
    cells += [f"{row['nll']:.3f}", f"{row['ece']:.3f}", f"{row['epochs']:.0f}", f"{row['n']:.0f}"]
    return f"| {' | '.join(cells)} |"


def _claim(results_dir: Path) -> list[str]:
    """The speed of binary arithmetic, from the benchmark's file."""
    text = (results_dir.parent / "benchmarks" / "results" / "bits.md").read_text()
    (level,) = re.findall(r"^Kernels for (\S+);", text, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    (vgg,) = (row for row in rows if row[:3] == ["vgg_small", "50", "1"] and len(row) == 10)
    name = {"avx2": "AVX2", "avx512": "AVX-512"}.get(level, level)
    return [
        f"Weights and activations are multiplied as bits: on one core with {name}, **the exact predictive",
        "distribution of a binary VGG-small, over all 32 outcomes of its random bits, takes "
        f"{float(vgg[9]):.2f} of the time",
        f"of one float32 pass** of the same network, and a single pass is {float(vgg[4]):.1f} times faster",
        "([bits](benchmarks/results/bits.md)).",
    ]


def _equal(results_dir: Path) -> list[str]:
    """Proposed against MC-Dropout at equal precision and training."""
    found = {result.method: result for result in _sound(results_dir, "table3") if result.network == "resnet20"}
    ours, other = (found[method].metrics for method in ("proposed", "mc_dropout_irnet"))
    return [
        "At equal precision and training, on the same binary network, Proposed and MC-Dropout reach an accuracy of "
        f"{100 * ours['cls/acc']:.1f}",
        f"and {100 * other['cls/acc']:.1f} % and an NLL of {ours['cls/nll']:.3f} and {other['cls/nll']:.3f}; the "
        "paper's out-of-distribution (OOD) rule rejects",
        f"{100 * ours['ood/rate']:.0f} and {100 * other['ood/rate']:.0f} % of the clean test images, one training "
        "each.",
    ]


def badges(root: Path) -> dict[str, tuple[str, str]]:
    """Name, left and right words of each badge: facts of this checkout, for which no server is asked."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (torch,) = (found[1] for line in project["dependencies"] if (found := re.match(r"torch>=([\d.]+)", line)))
    (paper,) = set(re.findall(r"arxiv\.org/abs/([\d.]+\d)", (root / "CITATION.cff").read_text()))
    return {
        "python": ("Python", project["requires-python"].replace(">=", "≥ ")),
        "torch": ("PyTorch", f"≥ {torch}"),
        "license": ("license", project["license"]),
        "paper": ("paper", f"arXiv {paper}"),
    }


def badge(left: str, right: str) -> str:
    """A badge as SVG; its words are text, as wide in every font."""
    widths = [sum(3.5 if letter in "il.- " else 7.0 for letter in word) for word in (left, right)]
    first, whole = widths[0] + 12, sum(widths) + 24
    words = "".join(
        f'<text x="{x:.0f}" y="14" textLength="{width:.0f}" lengthAdjust="spacingAndGlyphs">{word}</text>'
        for word, width, x in ((left, widths[0], 6), (right, widths[1], first + 6))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole:.0f}" height="20" role="img" '
        f'aria-label="{left} {right}"><rect width="{whole:.0f}" height="20" rx="3" fill="#33557f"/>'
        f'<path d="M3 0h{first - 3:.0f}v20h-{first - 3:.0f}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3z" fill="#444"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{words}</g></svg>\n'
    )


def _badges(results_dir: Path) -> list[str]:
    shown = badges(results_dir.parent).items()
    return [f"![{left} {right}](docs/badges/{name}.svg)" for name, (left, right) in shown]


PARTS: dict[str, Callable[[Path], list[str]]] = {
    "badges": _badges,
    "claim": _claim,
    "front": _front,
    "equal": _equal,
    "table3": _table3,
    "placement": _placement,
    "glossary": _glossary,
}

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        write_atomic(document, refresh(document.read_text(), root / "results"))
    for badge_name, said in badges(root).items():
        write_atomic(root / "docs" / "badges" / f"{badge_name}.svg", badge(*said))
    print("README.md and docs/ are up to date", file=sys.stderr)
