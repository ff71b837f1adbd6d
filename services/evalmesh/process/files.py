"""Files that appear whole: who finds one under its name finds all of it, whoever else writes it at the same time."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def appearing(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A new file that takes its name when the block ends well, and is gone when it does not. Raises `OSError`.

    What bore the name before, a link included, is replaced and not written through. `mode` is subject to the umask.
    Two writers of one name, in one process or in several, never meet: the last one to end wins.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        try:
            yield file
            file.flush()
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
