"""Whatever the bytes of a file are: it is read, or refused by name, within bounds of time and memory."""

import os
import random
import resource
import time

import pytest

from hostile import INDEX, READERS


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, set to extremes, cut out, repeated, or the end lost."""
    new = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(max(1, len(new)))
        match chance.randrange(6):
            case 0 if new:
                new[place] ^= 1 << chance.randrange(8)
            case 1 if new:
                new[place] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                new[place : place + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 4))
            case 3:
                del new[place : place + chance.randrange(1, 40)]
            case 4:
                new[place:place] = new[place : place + chance.randrange(1, 200)]
            case _:
                del new[place:]
    return bytes(new)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_mutations_are_read_or_refused(tmp_path, name, count, record_property):
    """No other exception, less than 60 s and 500 MB for all of them together."""
    make, read, refusal = READERS[name]
    path = tmp_path / name
    make(path)
    read(path)
    content, chance, refused = path.read_bytes(), random.Random(name), 0
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        path.write_bytes(mutated(content, chance))
        try:
            read(path)
        except refusal:
            refused += 1
    record_property("mutations", f"{name}: {refused} of {count} refused, the others read")
    assert refused > count / 10
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000


VERIFIED = ("header.json", "data_batch_1", "labels.npy", "train_32x32.mat", "train-images-idx3-ubyte")
"""Within another file, or found as files and compared with their checksums, before they are decoded."""
SOUGHT = ("part.json", INDEX)
"""Files only count, where they are looked for."""


@pytest.mark.parametrize("name", [name for name in READERS if name not in (*VERIFIED, *SOUGHT)])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_with_a_files_name_is_refused_and_not_waited_for(tmp_path, name, kind):
    path = tmp_path / name
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(READERS[name].refusal, match=name):
        READERS[name].read(path)
