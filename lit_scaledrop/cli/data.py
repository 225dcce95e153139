"""The ``scaledrop data`` command: which data sets are there, and how to get the others."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datamodules import (
    DATAMODULES,
    EVALUATION_SETS,
    SEGMENTATION_DATAMODULES,
    DatasetCorruptError,
    DatasetNotFoundError,
    EvaluationSet,
    ImageDataModule,
    SegmentationDataModule,
)
from datamodules.files.fetch import DownloadError, Progress, download
from datamodules.files.fileset import Download, FileSet
from datamodules.files.source_folders import SourceFolders
from datamodules.files.tree import Tree
from lit_scaledrop.cli.command import call
from lit_scaledrop.naming import nearest

DataSet = type[ImageDataModule] | type[SegmentationDataModule] | type[EvaluationSet]
COLUMNS = ("data set", "state", "train", "val", "test", "fingerprint", "source", "where")


def main(argv: Sequence[str]) -> int:
    """Run ``scaledrop data``: ``list``, which is the default, or ``get NAME``.

    Returns:
        Exit status: 0 done, 1 failed (or ``list`` met corrupt data), 2 a wrong command line, 130 interrupted.
    """
    action, rest = (argv[0], argv[1:]) if argv and argv[0] in ("list", "get") else ("list", argv)
    usage = "%(prog)s [list] [--root ROOT]\n       %(prog)s get NAME [--root ROOT] [--from PATH] [--mirror URL ...]"
    if rest and not rest[0].startswith("-") and action == "list":
        return _fail(f"argument list | get: invalid choice: {rest[0]!r}", status=2)
    try:
        if action == "get":
            return call(get, rest, "scaledrop data", usage, known={"name": _known()})
        return call(list_all, rest, "scaledrop data", usage)
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)


def _known() -> dict[str, DataSet]:
    """Every data set, as registered at this moment."""
    return {**DATAMODULES, **SEGMENTATION_DATAMODULES, **EVALUATION_SETS}


def folder(root: str | None) -> Path:
    """Folder of the data."""
    return Path(root or os.environ.get("DATA") or "data").expanduser()


def inspect(data: DataSet, root: Path) -> tuple[str, ...]:
    """Load, or at least verify, one data set and describe it.

    Returns:
        One text for each of ``COLUMNS``; the state is ``present``, ``absent``, or ``corrupt``. Sets that are only
        evaluated on have no training part, and no fingerprint before their images are chosen.
    """
    where = "(embedded)" if data.files is None else str(root)
    try:
        return (data.name, "present", *_contents(data, root), where)
    except (DatasetNotFoundError, DatasetCorruptError) as error:
        if isinstance(error, DatasetCorruptError):
            return (data.name, "corrupt", *[""] * 5, str(error).splitlines()[0])
        return (data.name, "absent", *[""] * 5, where)


def _contents(data: DataSet, root: Path) -> tuple[str, ...]:
    """Columns from the counts to the source."""
    if issubclass(data, EvaluationSet):
        count, source = data().describe(root)
        return ("", "", f"{count:,}", "", source)
    module = data(root=str(root))
    module.setup()
    return (*(f"{count:,}" for count in module.sizes().values()), module.fingerprint(), module.source)


def list_all(*, root: str | None = None) -> int:
    """List and verify the data sets, or download one of them.

    Args:
        root: folder of the data; default: the environment variable DATA, else data/.
    """
    where = folder(root)
    rows = [inspect(data, where) for data in _known().values()]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*COLUMNS, title="Data sets")
        for row in rows:
            table.add_row(*row)
        Console(markup=False, emoji=False).print(table)
    else:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if absent := [row[0] for row in rows if row[1] != "present"]:
        print(f"To get one: scaledrop data get NAME --root {where}    (NAME: {', '.join(absent)})")
    return int(any(row[1] == "corrupt" for row in rows))


def get(name: str, *, root: str | None = None, from_: Path | None = None, mirror: list[str] | None = None) -> int:
    """Download or import one data set.

    Args:
        name: of a data set.
        root: folder of the data; default: the environment variable DATA, else data/.
        from_: import this archive or folder.
        mirror: try these URLs first, each of the file itself or of its folder.
    """
    where = folder(root)
    if name not in (known := _known()):
        hint = nearest(name, known, ";", 0.4)
        return _fail(f"unknown data set {name!r}{hint} known are {', '.join(known)}", status=2)
    files = known[name].files
    if files is None:
        print(f"{name} comes with an installed package; there is nothing to get")
        return 0
    if isinstance(files, SourceFolders):
        return _fail(f"{name} has terms to be accepted first, so it is not downloaded.\n{files.remedy(where)}")
    try:
        if from_ is not None:
            files.install(from_.expanduser(), where)
        else:
            _download_all(files, where, mirror or ())
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes", status=130)
    except (DatasetNotFoundError, DatasetCorruptError, DownloadError, ValueError, OSError) as error:
        return _fail(str(error))
    row = inspect(known[name], where)
    print(", ".join(f"{title} {cell}" for title, cell in zip(COLUMNS, row, strict=True)))
    return int(row[1] != "present")


def _download_all(files: FileSet | Tree, root: Path, mirrors: Sequence[str]) -> None:
    most = 1.1e6 * files.megabytes + 1e6
    for item in files.downloads:
        target = root / item.path
        with _progress(target.name) as progress:
            download([*_addresses(mirrors, item), *item.urls], target, item.md5, progress, most=most)
        if item.path in files.archives:
            files.install(target, root)
            target.unlink()  # its verified content is there


def _addresses(mirrors: Sequence[str], item: Download) -> list[str]:
    """The address of a file on each mirror, which is that of the file itself or of a folder."""
    file = item.path.rpartition("/")[2]
    return [url if url.endswith("/" + file) else f"{url.rstrip('/')}/{file}" for url in mirrors]


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """A bar on a terminal; a line every tenth of the way elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda have, total: bar.update(task, completed=have, total=total)
        return
    shown = -1

    def line(have: int, total: int | None) -> None:
        nonlocal shown
        if total and have * 10 // total > shown:
            shown = have * 10 // total
            print(f"{title}: {have:,} of {total:,} bytes", file=sys.stderr)

    yield line


def _fail(message: str, status: int = 1) -> int:
    print(f"scaledrop data: {message}", file=sys.stderr)
    return status
