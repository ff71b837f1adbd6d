"""Archives with data files: unpacked once into a folder of our own, in which nothing can reach out of it."""

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from evalmesh.adapters.dataset_layout import is_data
from evalmesh.domain.errors import InvalidInput, ResourceExhausted

EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MOST_BYTES = 64 << 30
_MOST_FILES = 100_000
_PIECE_BYTES = 1 << 20


def is_archive(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(EXTENSIONS)


def unpacked(path: Path, into: Path) -> Path:
    """The folder with the data files of an archive; the same bytes are unpacked once.

    Links, absolute paths and paths that lead upwards are left out, and so is what cannot be read as rows.
    Raises `InvalidInput` for a file that is no archive, `ResourceExhausted` for a full disk.
    """
    with path.open("rb") as file:
        folder = into / hashlib.file_digest(file, "sha256").hexdigest()
    if folder.is_dir():
        return folder
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".") as fresh:
            for target, source in _members(path, Path(fresh) / "files"):
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(source, out, _PIECE_BYTES)
            (Path(fresh) / "files").mkdir(exist_ok=True)
            if not folder.is_dir():
                (Path(fresh) / "files").rename(folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidInput(
            f"'{path}' cannot be unpacked: {error}. Check that the archive is whole and has no password.",
            {"field": "local_path", "value": str(path)},
        ) from error
    except OSError as error:
        raise ResourceExhausted(
            f"'{path}' cannot be unpacked into '{into}' ({(error.strerror or str(error)).lower()}); free space, or set "
            "EVALMESH_HUB_CACHE to another folder."
        ) from error
    return folder


def _members(path: Path, folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    total, count = 0, 0
    for name, size_bytes, source in _zip(path) if path.name.lower().endswith(".zip") else _tar(path):
        parts = name.replace("\\", "/").removeprefix("./").split("/")
        if any(part in {"", ".", ".."} for part in parts) or not is_data("/".join(parts)):
            continue
        total, count = total + size_bytes, count + 1
        if total > _MOST_BYTES or count > _MOST_FILES:
            raise InvalidInput(
                f"'{path}' unpacks to more than {_MOST_BYTES >> 30} GiB or {_MOST_FILES} files; unpack it yourself and "
                "name the folder.",
                {"field": "local_path", "value": str(path)},
            )
        yield folder.joinpath(*parts), source


def _zip(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as source:
                    yield info.filename, info.file_size, source


def _tar(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg() and (source := archive.extractfile(member)) is not None:
                yield member.name, member.size, source
