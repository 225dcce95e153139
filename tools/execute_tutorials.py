"""``python tools/execute_tutorials.py [NAME ...]``: run the notebooks of docs/tutorials anew and write their outputs.

Needs the extra ``notebooks``. Kept are the outputs alone: no counts, times of cells or versions, which always change.
"""

import base64
import io
import resource
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"


def fewer_colours(picture: str) -> str:
    """A PNG file in base64 with 64 colours: a third of the bytes."""
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(64).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def execute(path: Path) -> None:
    """Run a notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", coalesce_streams=True).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
                if "metadata" in output:
                    output.metadata = {}
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = fewer_colours(output.data["image/png"])
    nbformat.write(notebook, path)


def _of_kernels() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    for tutorial in sorted(TUTORIALS.glob("*.ipynb")):
        if not sys.argv[1:] or any(name in tutorial.name for name in sys.argv[1:]):
            before = _of_kernels()
            execute(tutorial)
            print(f"{tutorial.name}: {tutorial.stat().st_size:,} bytes, {_of_kernels() - before:.0f} s of CPU")
