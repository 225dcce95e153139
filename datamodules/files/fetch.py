"""Downloads that survive interruption: mirrors in order, resumed by HTTP Range, accepted by md5 only."""

import contextlib
import fcntl
import http.client
import math
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from datamodules.files.integrity import md5_of_file

CHUNK = 1 << 18
RETRIES = 5

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes there will be (None where the server does not say)."""


class DownloadError(RuntimeError):
    """No mirror gave the file; the message says what each of them did."""


def download(
    urls: Sequence[str],
    target: Path,
    md5: str,
    progress: Progress | None = None,
    timeout: float = 30.0,
    most: float = math.inf,
) -> Path:
    """Fetch a file from the first mirror that has it.

    What has arrived is kept in ``target.part`` and gone on from, also in a later call. A broken connection is
    taken up again as long as bytes keep coming. The file appears under its name only when its md5 is right.

    Args:
        urls: Mirrors, tried in order.
        target: Where the file goes.
        md5: Expected md5 in hexadecimal.
        progress: Called after every piece.
        timeout: Seconds without a byte after which a connection counts as broken.
        most: Bytes that the file has at most; what sends more is refused.

    Raises:
        ValueError: If an address is not http or https.
        DownloadError: If every mirror fails.
    """
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"a mirror must be an http or https address, not {url!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures = []
    with _alone(target.parent):
        if target.is_file() and md5_of_file(target) == md5:  # another process has fetched it meanwhile
            return target
        for url in urls:
            failure = _from_mirror(url, part, md5, progress, timeout, most)
            if failure is None:
                os.replace(part, target)
                return target
            failures.append(f"  {url}: {failure}")
    kept = f"\n{part} keeps what arrived; run again to go on from there." if part.exists() else ""
    raise DownloadError(f"could not download {target.name}:\n" + "\n".join(failures) + kept)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder by a lock of the kernel: two processes do not write one file. Where there is none, do without."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another process fetches into {folder}: waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        print(f"{folder} cannot be locked ({error.strerror}): fetch once at a time", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _from_mirror(url: str, part: Path, md5: str, progress: Progress | None, timeout: float, most: float) -> str | None:
    """Complete ``part`` from one mirror; returns what went wrong, or None."""
    failure = ""
    for _ in range(RETRIES):
        before = _size(part)
        try:
            _transfer(url, part, progress, timeout, most)
        except (OSError, http.client.HTTPException) as error:
            failure = str(getattr(error, "reason", "") or error) or type(error).__name__
            if isinstance(error, urllib.error.HTTPError) or _size(part) <= before:
                return failure
            continue
        if _size(part) > most:
            part.unlink()
            return f"it is larger than the {most / 1e6:,.0f} MB that were expected; refused"
        found = md5_of_file(part)
        if found == md5:
            return None
        part.unlink()
        failure = f"md5 {found} instead of {md5}; refused"
        if before == 0:  # otherwise the earlier piece may be at fault: once more from the start
            return failure
    return failure


def _transfer(url: str, part: Path, progress: Progress | None, timeout: float, most: float) -> None:
    """Append what ``part`` lacks, or rewrite it where the server does not resume."""
    have = _size(part)
    headers = {"User-Agent": "lit-scaledrop", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing after what we have; the md5 decides
            return
        raise
    with response:
        if have and not (
            response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        ):
            if response.status == 206:
                raise ConnectionError("the server resumed at another place than asked")
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with part.open("ab" if have else "wb") as stream:
            while piece := response.read(CHUNK):
                stream.write(piece)
                have += len(piece)
                if have > most:
                    break
                if progress is not None:
                    progress(have, total)
    if total is not None and have < min(total, most):
        raise ConnectionError(f"the connection closed after {have:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
