"""Downloads and the ``scaledrop data`` command against a server on this machine."""

import dataclasses
import http.server
import io
import tarfile
import threading

import pytest

from datamodules import (
    DATAMODULES,
    EVALUATION_SETS,
    SEGMENTATION_DATAMODULES,
    CIFAR10DataModule,
    MNISTDataModule,
    Textures,
)
from datamodules.files.fetch import DownloadError, download
from datamodules.files.fileset import Download
from datamodules.files.integrity import Checksum, md5_of, md5_of_file, parse_record
from fakes import write_fake_cifar10, write_fake_mnist, write_fake_pictures
from lit_scaledrop.cli.data import main

CONTENT = bytes(range(256)) * 4000
MD5 = md5_of(CONTENT)
DEAD = "http://127.0.0.1:9/data.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; resumes and breaks off as the server is told to."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None:
            self.send_error(404)
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if self.server.breaks:
            end = start + self.server.breaks.pop(0)
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.ranges, server.breaks = {"data.bin": CONTENT}, [], True, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "data.bin"


def part(target):
    return target.with_name("data.bin.part")


def test_full_download_reports_progress(server, target):
    seen = []
    assert download([f"{server.url}/data.bin"], target, MD5, lambda *state: seen.append(state)) == target
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [have for have, _ in seen] == sorted({have for have, _ in seen})
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_download_goes_on_from_a_part(server, target, ranges):
    server.ranges = ranges
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:300_000])
    seen = []
    download([f"{server.url}/data.bin"], target, MD5, lambda *state: seen.append(state))
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/data.bin", "bytes=300000-")]
    assert seen[0][0] > 300_000 if ranges else seen[0][0] <= 300_000


def test_broken_connection_is_taken_up_again(server, target):
    server.breaks = [300_000, 200_000]
    download([f"{server.url}/data.bin"], target, MD5)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=500000-"]


def test_mirror_that_gives_nothing_more_keeps_the_part_for_the_next_call(server, target):
    server.breaks = [300_000, 0]
    with pytest.raises(DownloadError, match=r"closed after 300,000 of 1,024,000 bytes(.|\n)*run again to go on"):
        download([f"{server.url}/data.bin"], target, MD5)
    assert part(target).read_bytes() == CONTENT[:300_000]
    download([f"{server.url}/data.bin"], target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("/data.bin", "bytes=300000-")


def test_interruption_keeps_the_part_for_the_next_call(server, target):
    def interrupt(have, total):
        if have >= 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download([f"{server.url}/data.bin"], target, MD5, interrupt)
    have = part(target).stat().st_size
    assert 500_000 <= have < len(CONTENT)
    assert not target.exists()
    download([f"{server.url}/data.bin"], target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={have}-"


def test_dead_mirrors_are_passed_over(server, target):
    mirrors = [DEAD, f"{server.url}/not-here.bin", f"{server.url}/data.bin"]
    download(mirrors, target, MD5)
    assert target.read_bytes() == CONTENT
    target.unlink()
    with pytest.raises(DownloadError) as caught:
        download(mirrors[:2], target, MD5)
    assert "127.0.0.1:9/data.bin: " in str(caught.value)
    assert "not-here.bin: Not Found" in str(caught.value)


def test_wrong_md5_is_refused_and_the_next_mirror_starts_afresh(server, target):
    server.files["altered.bin"] = CONTENT[:-1] + b"x"
    mirrors = [f"{server.url}/altered.bin", f"{server.url}/data.bin"]
    with pytest.raises(DownloadError, match=f"md5 {md5_of(server.files['altered.bin'])} instead of {MD5}; refused"):
        download(mirrors[:1], target, MD5)
    assert not part(target).exists()
    assert not target.exists()
    download(mirrors, target, MD5)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("there", [b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"x", CONTENT])
def test_part_of_another_file_is_replaced_and_a_complete_one_accepted(server, target, there):
    target.parent.mkdir()
    part(target).write_bytes(there)
    download([f"{server.url}/data.bin"], target, MD5)
    assert target.read_bytes() == CONTENT


def test_only_http_addresses(target):
    with pytest.raises(ValueError, match="must be an http or https address, not 'file:///etc/passwd'"):
        download(["file:///etc/passwd"], target, MD5)


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """Miniature data, published on the server as the real data is on the net; gives the originals' root."""
    origin = tmp_path / "origin"
    cifar10 = write_fake_cifar10(origin, n_train=50, n_test=20)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(cifar10, arcname=cifar10.name)
    server.files["cifar-10-python.tar.gz"] = stream.getvalue()
    item = Download("cifar-10-python.tar.gz", md5_of(stream.getvalue()), (f"{server.url}/cifar-10-python.tar.gz",))
    publish(monkeypatch, CIFAR10DataModule, cifar10, (item,))
    mnist = write_fake_mnist(origin, n_train=50, n_test=20)
    packed = {path.name: path.read_bytes() for path in sorted(mnist.glob("train*.gz")) + sorted(mnist.glob("t10k*.gz"))}
    server.files.update(packed)
    items = [Download(f"MNIST/raw/{name}", md5_of(data), (f"{DEAD}/{name}",)) for name, data in packed.items()]
    publish(monkeypatch, MNISTDataModule, mnist, tuple(items))
    return origin


def publish(monkeypatch, module, folder, downloads):
    record = parse_record((folder / "checksums.md5").read_bytes())
    checksums = {name: Checksum(record[name].md5) for name in module.files.files}
    files = dataclasses.replace(module.files, files=checksums, downloads=downloads)
    monkeypatch.setattr(module, "files", files)


def test_get_downloads_verifies_and_unpacks(published, tmp_path, capsys):
    root = tmp_path / "root"
    assert main(["get", "cifar10", "--root", str(root)]) == 0
    assert "state present, train 45, val 5, test 20" in capsys.readouterr().out
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]
    assert main(["list", "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["data", "set", "state", "train", "val", "test", "fingerprint", "source", "where"]
    states = dict(line.split()[:2] for line in lines[1:-1])
    assert list(states) == [*DATAMODULES, *SEGMENTATION_DATAMODULES, *EVALUATION_SETS]
    assert {name for name, state in states.items() if state == "present"} == {"digits", "cifar10", "phantom"}
    assert set(states.values()) == {"present", "absent"}
    assert lines[-1].startswith(f"To get one: scaledrop data get NAME --root {root}")
    pictures = "breast_ultrasound, skin_lesion, ph2, covid_ct, ct_volumes"
    evaluated = "cifar10_c, cifar100, tiny_imagenet, textures, places365"
    assert f"(NAME: mnist, svhn, stl10, {pictures}, {evaluated})" in lines[-1]


def test_what_has_terms_to_accept_is_not_fetched(tmp_path, capsys):
    assert main(["get", "breast_ultrasound", "--root", str(tmp_path)]) == 1
    assert "has terms to be accepted first" in capsys.readouterr().err


def test_get_tries_given_mirrors_first(published, server, tmp_path, capsys):
    root = tmp_path / "root"
    assert main(["get", "mnist", "--root", str(root)]) == 1
    assert "could not download train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert main(["get", "mnist", "--root", str(root), "--mirror", f"{server.url}/mnist/"]) == 0
    assert "train 45, val 5, test 20" in capsys.readouterr().out
    assert ("/mnist/train-images-idx3-ubyte.gz", None) in server.requests


def test_get_downloads_and_unpacks_an_archive_of_pictures(server, tmp_path, capsys, monkeypatch):
    folder, root = tmp_path / "dtd" / "images", tmp_path / "root"
    write_fake_pictures(folder, ("banded", "braided"))
    archive = tmp_path / "dtd-r1.0.1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "dtd/images")
    server.files[archive.name] = archive.read_bytes()
    item = Download(archive.name, md5_of_file(archive), (f"{server.url}/{archive.name}",))
    monkeypatch.setattr(Textures, "files", dataclasses.replace(Textures.files, download=item))
    assert main(["get", "textures", "--root", str(root)]) == 0
    assert "data set textures, state present, train , val , test 4" in capsys.readouterr().out
    assert [path.name for path in root.iterdir()] == ["dtd"]  # the archive is gone
    assert main(["get", "textures", "--root", str(tmp_path), "--from", str(archive)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_get_imports_and_refuses(published, tmp_path, capsys, monkeypatch):
    root = tmp_path / "root"
    monkeypatch.setenv("DATA", str(root))
    assert main(["get", "cifar10", "--from", str(published)]) == 0
    assert main(["get", "mnist", "--from", str(published / "MNIST" / "raw")]) == 0
    assert main([]) == 0
    assert "(NAME: svhn," in capsys.readouterr().out
    batch = published / "cifar-10-batches-py" / "test_batch"
    batch.write_bytes(batch.read_bytes() + b" ")
    assert main(["get", "cifar10", "--from", str(published), "--root", str(tmp_path / "other")]) == 1
    assert f"{batch} is altered" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_list_says_what_is_corrupt(published, capsys):
    batch = published / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1])
    assert main(["--root", str(published)]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cifar10"))
    assert line.split()[1] == "corrupt"
    assert f"{batch} is altered: md5" in line


def test_interrupted_get_says_that_it_goes_on(published, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lit_scaledrop.cli.data.download", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["get", "cifar10", "--root", str(tmp_path / "root")]) == 130
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["get", "cifar"], 2, "unknown data set 'cifar'; did you mean 'cifar10'?"),
        (["get", "zzz"], 2, "unknown data set 'zzz'; known are digits, mnist, cifar10"),
        (["get"], 2, "NAME"),
        (["fetch"], 2, "invalid choice"),
        (["get", "mnist", "--from", "/nowhere/x.tar"], 1, "there is no /nowhere/x.tar"),
        (["get", "mnist", "--mirror", "ftp://example.org/"], 1, "must be an http or https address"),
    ],
)
def test_wrong_command_lines(arguments, status, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DATA", str(tmp_path))
    assert main(arguments) == status
    assert message in capsys.readouterr().err


def test_get_digits_has_nothing_to_do(capsys):
    assert main(["get", "digits"]) == 0
    assert "nothing to get" in capsys.readouterr().out


def test_terminal_gets_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Data sets" in shown
    assert "absent" in shown
