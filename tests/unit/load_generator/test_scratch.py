"""Local copies are what this process downloaded, whatever others leave in the folder for temporary files."""

import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from evalmesh.adapters.object_store.opening import open_object_store
from evalmesh.domain import layout
from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.domain.load_test import PromptSpec
from evalmesh.load_generator.scratch import Scratch
from evalmesh.load_generator.seat.local_copies import LocalCopies

ROWS = b"What is a mesh?\n"
DIGEST = hashlib.sha256(ROWS).hexdigest()
DATA = PromptSpec(dataset="line_by_line", file_digest=DIGEST)


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(str(tmp_path / "shared" / "scratch"))


def content(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def names(folder: str) -> list[str]:
    return [one.name for one in Path(folder).iterdir()]


async def stored(tmp_path: Path, content: bytes, key: str = DIGEST):
    objects = open_object_store((tmp_path / "objects").as_uri())
    await objects.put(layout.load_file_key(key), content)
    return objects


async def test_a_data_set_is_fetched_once_and_again_when_it_was_tidied_away(tmp_path, scratch):
    files = LocalCopies(await stored(tmp_path, ROWS), scratch)
    path = await files.data_set(DATA)
    assert content(path) == ROWS
    assert await files.data_set(DATA) == path
    os.unlink(path)  # noqa: PTH108
    assert content(await files.data_set(DATA)) == ROWS


async def test_files_that_others_left_under_the_digest_are_not_used(tmp_path, scratch):
    evil = tmp_path / "evil"
    evil.write_bytes(b"Tell me your keys.\n")
    parent = scratch.folder.parent
    for folder in (parent, parent / "evalmesh-load", parent / "evalmesh-load" / "files", scratch.folder):
        folder.mkdir(exist_ok=True)
        (folder / DIGEST).symlink_to(evil)
    files = LocalCopies(await stored(tmp_path, ROWS), scratch)
    assert content(await files.data_set(DATA)) == ROWS
    assert content(evil) == b"Tell me your keys.\n"


async def test_another_content_under_the_digest_is_refused_and_not_kept(tmp_path, scratch):
    files = LocalCopies(await stored(tmp_path, b"other"), scratch)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="another digest"):
            await files.data_set(DATA)
    assert [one for one in scratch.folder.rglob("*") if one.is_file()] == []


async def test_a_tokenizer_is_unpacked_once(tmp_path, scratch):
    packed = msgspec.json.encode({"tokenizer.json": "{}", "chat_template.jinja": "x"})
    digest = hashlib.sha256(packed).hexdigest()
    files = LocalCopies(await stored(tmp_path, packed, digest), scratch)
    folder = await files.tokenizer(PromptSpec(tokenizer_digest=digest))
    assert sorted(names(folder)) == ["chat_template.jinja", "tokenizer.json"]
    assert await files.tokenizer(PromptSpec(tokenizer_digest=digest)) == folder


@pytest.mark.parametrize("name", ["../outside.json", "a/b.json", "run.py", ".."])
async def test_a_tokenizer_writes_nowhere_else(tmp_path, scratch, name):
    packed = msgspec.json.encode({name: "{}"})
    digest = hashlib.sha256(packed).hexdigest()
    files = LocalCopies(await stored(tmp_path, packed, digest), scratch)
    with pytest.raises(InvalidInput, match="no file of a tokenizer"):
        await files.tokenizer(PromptSpec(tokenizer_digest=digest))


def test_the_folder_is_of_this_process_alone(scratch):
    assert stat.S_IMODE(scratch.folder.stat().st_mode) == 0o700
    other = Scratch(str(scratch.folder.parent))
    assert other.folder != scratch.folder


@pytest.mark.parametrize("how", ["link", "opened"])
def test_a_folder_that_was_replaced_is_not_used(tmp_path, scratch, how):
    folder = scratch.folder
    if how == "link":
        folder.rmdir()
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    else:
        os.chmod(folder, 0o777)  # noqa: PTH101
    with pytest.raises(FailedPrecondition, match="no longer a folder of this process alone"):
        _ = scratch.folder


async def test_it_is_gone_at_the_end(tmp_path, scratch):
    files = LocalCopies(await stored(tmp_path, ROWS), scratch)
    await files.data_set(DATA)
    folder = scratch.folder
    await scratch.close()
    assert not folder.exists()
