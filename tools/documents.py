"""``python tools/documents.py``: the parts of README and docs that come from files."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lit_scaledrop.report.table import section_cells
from lit_scaledrop.report.tables import build
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.glossary import METRICS, TRAINING
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import load_results

_COLUMNS = ("topology", "method", "bits", "accuracy", "paper", "difference", "nll", "ece", "epochs", "seconds")


def refresh(text: str, results_dir: Path) -> str:
    """A document with its generated parts made anew.

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
            raise ValueError(f"the document lacks the mark {end}")
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
        lines += [*shown.to_markdown(index=False, disable_numparse=True).splitlines(), "", *section.caption]
    return lines


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
    return [f"| `{name}` | {entry.description} |" for name, entry in (TRAINING | METRICS).items()]


PARTS: dict[str, Callable[[Path], list[str]]] = {"table3": _table3, "placement": _placement, "glossary": _glossary}

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        write_atomic(document, refresh(document.read_text(), root / "results"))
    print("README.md and docs/ are up to date", file=sys.stderr)
