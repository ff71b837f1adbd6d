"""Files that appear whole, whoever writes them at the same time."""

import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from evalmesh.process.files import appearing


def test_threads_that_write_one_file_at_the_same_time_leave_one_whole_text_and_nothing_else(tmp_path):
    path = tmp_path / "generation"
    start = threading.Barrier(8)

    def write(text: bytes) -> None:
        start.wait()
        for _ in range(40):
            with appearing(path) as file:
                file.write(text)
            assert len(path.read_bytes()) == 64

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [bytes([65 + number]) * 64 for number in range(8)]))
    assert len(set(path.read_bytes())) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["generation"]


def test_a_file_whose_writer_fails_is_never_there_and_the_old_one_stays(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"):
        _fail_while_writing(path)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path):
    other, path = tmp_path / "other", tmp_path / "token"
    other.write_text("theirs")
    path.symlink_to(other)
    with appearing(path, 0o600) as file:
        file.write(b"ours")
    assert (other.read_text(), path.read_text(), path.is_symlink()) == ("theirs", "ours", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _fail_while_writing(path):
    with appearing(path) as file:
        file.write(b"ne")
        raise OSError("the disk is full")
