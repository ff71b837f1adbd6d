"""Prompts with images: random ones of any size, or those of a folder."""

import base64
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.domain.load_test import ImageSpec
from evalmesh.load_generator.prompts import draws
from evalmesh.load_generator.prompts.base import Context, Dataset, Later, LoadPrompt, Row, Skipped
from evalmesh.load_generator.prompts.datasets.random_text import RandomTexts

_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif"}
_PATCH_PIXELS = 28
"""Side of the coloured squares of a random image: what many vision models take for one token."""
_MOST_PIXELS = 1 << 26
_QUESTION = "Describe the image."


class _Painter:
    """Random images as data URLs: squares of random colours, so that no two are alike and all are quickly packed."""

    def __init__(self, context: Context) -> None:
        try:
            from PIL import Image  # noqa: PLC0415 - an extra, and 50 ms
        except ImportError as error:
            raise FailedPrecondition(
                "Random images need the package 'pillow': pip install 'evalmesh[perf]'."
            ) from error
        self._image = Image
        self._asked = asked = context.spec.images or ImageSpec()
        if asked.width < 1 or asked.height < 1 or asked.width * asked.height > _MOST_PIXELS or asked.count < 1:
            raise InvalidInput(
                f"prompts.images asks for {asked.count} images of {asked.width} x {asked.height} pixels; give at least "
                f"1 of each, and at most {_MOST_PIXELS} pixels.",
                {"field": "prompts.images"},
            )
        patch = context.number("patch", _PATCH_PIXELS, 1)
        self._squares = (-(-asked.width // patch), -(-asked.height // patch))
        self._pixels = draws.Draws(context.seed, "image")

    def urls(self, number: int) -> list[str]:
        """The images of prompt `number`."""
        return [self._url(number * self._asked.count + place) for place in range(self._asked.count)]

    def _url(self, place: int) -> str:
        columns, lines = self._squares
        size = columns * lines * len(self._asked.mode)
        colours = self._pixels.words(place, (size + 1) // 2).tobytes()[:size]
        small = self._image.frombytes(self._asked.mode, self._squares, colours)
        image = small.resize((self._asked.width, self._asked.height), self._image.Resampling.NEAREST)
        packed = io.BytesIO()
        image.save(packed, "PNG", compress_level=1)
        return _data_url(packed.getvalue(), "png")


def _random_vl(context: Context) -> Callable[[int], LoadPrompt]:
    texts, painter = RandomTexts(context), _Painter(context)
    context.note("Tokens of images are the server's to count; lengths are those of the texts.")

    def prompt(number: int) -> LoadPrompt:
        text = texts.text(number, texts.length(number))
        return LoadPrompt(messages=(_message(text, painter.urls(number)),), images=True)

    return prompt


def _folder(context: Context) -> Iterator[Row]:
    context.note("Tokens of images are the server's to count.")
    path, question = context.file(), context.spec.args.get("prompt", _QUESTION)
    for name, read in _folder_files(path) if path.is_dir() else _packed_files(path):
        kind = _TYPES.get(Path(name).suffix.lower())
        if kind is None:
            yield Skipped("which are no images")
        else:
            yield Later(_shown(str(question), read, kind))


def _shown(question: str, read: Callable[[], bytes], kind: str) -> Callable[[int], LoadPrompt]:
    return lambda _: LoadPrompt(messages=(_message(question, [_data_url(read(), kind)]),), images=True)


def _folder_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.name, file.read_bytes


def _packed_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    try:
        with zipfile.ZipFile(path) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    yield entry.filename, lambda entry=entry: packed.read(entry)  # type: ignore[misc]
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidInput(
            f"The data set 'image_folder' reads a folder or a ZIP file of images: {error}.",
            {"field": "prompts.file_digest"},
        ) from error


def _message(text: str, urls: list[str]) -> dict[str, object]:
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


DATASETS = (
    Dataset(
        "random_vl", "Random words and random images (`prompts.images`).", make=_random_vl, apis=("chat", "responses")
    ),
    Dataset(
        "image_folder",
        "A folder or ZIP file of images; `prompt` asks about each.",
        rows=_folder,
        apis=("chat", "responses"),
    ),
)
