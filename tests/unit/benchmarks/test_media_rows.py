"""Media of rows become parts in prompts; their bytes go beside the samples, each once."""

import base64
import hashlib

import pytest

from evalmesh.benchmarks import rows
from evalmesh.benchmarks.base import Benchmark, DatasetInfo, NumberedRow, PromptSettings, RowContext
from evalmesh.benchmarks.media import MediaSink
from evalmesh.benchmarks.samples import MalformedRow, RowSource, choose_shots, iter_samples, render
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.benchmarks.shapes.prompting import with_media
from evalmesh.domain import media
from evalmesh.domain.content import ContentPart, ToolDefinition
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.request import Message
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample

PNG = b"\x89PNG\r\n\x1a\n" + bytes(120)
GIF = b"GIF89a" + bytes(20)
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)
BASE64 = base64.b64encode(PNG).decode()
FILES = {"pictures/a.png": PNG, "b.gif": GIF}


def read_file(name):
    if name not in FILES:
        raise ValueError(f"it names the file {name!r}, which is not there")
    return FILES[name]


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (PNG, [PNG]),
        ({"bytes": WAV, "path": None}, [WAV]),
        ({"bytes": WAV, "path": "not/there.wav"}, [WAV]),
        ({"bytes": None, "path": "pictures/a.png"}, [PNG]),
        ({"url": f"data:image/png;base64,{BASE64}"}, [PNG]),
        (f"data:image/jpeg;base64,{BASE64}", [PNG]),  # what it is, the bytes say
        (BASE64, [PNG]),
        ("pictures/a.png", [PNG]),
        ([PNG, "b.gif", {"bytes": WAV}], [PNG, GIF, WAV]),
        ([PNG, PNG], [PNG, PNG]),
        (None, []),
        ("", []),
        ([], []),
        ([None, PNG], [PNG]),
    ],
)
def test_every_form_of_a_column_becomes_parts(value, found):
    context = RowContext("s", 0, MediaSink(read_file))
    parts = rows.media({"image": value}, "image", context)
    assert [(part.sha256, part.size_bytes) for part in parts] == [(sha(data), len(data)) for data in found]
    assert context.media.size_bytes == sum(map(len, set(found)))
    assert context.media.take() == {sha(data): data for data in found}
    assert context.media.take() == {}


def test_a_column_that_is_missing_has_no_media():
    assert rows.media({}, "image", RowContext("s", 0)) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"<svg>", "begin with 3c 73 76 67 3e, which is no image, sound or film"),
        ("http://127.0.0.1/a.png", "names the address 'http://127.0.0.1/a.png', and nothing is fetched"),
        ({"url": "https://example.org/a.png"}, "nothing is fetched"),
        ({"bytes": None, "path": "file:///etc/passwd"}, "nothing is fetched"),
        ("c.png", "names the file 'c.png', which is not there"),
        ("data:image/png,abc", "is not in base64"),
        ("data:image/png;base64,ab$c", "is not valid base64"),
        ({"array": [0.1], "sampling_rate": 16000}, "holds an object with array, sampling_rate"),
        ({}, "holds an object with nothing"),
        (5, "holds a int"),
    ],
)
def test_what_is_no_medium_is_told_by_column(value, says):
    context = RowContext("s", 0, MediaSink(read_file))
    with pytest.raises(ValueError, match="column 'image'") as caught:
        rows.media({"image": value}, "image", context)
    assert says in str(caught.value)
    assert context.media.take() == {}


def test_a_medium_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(media, "MAX_MEDIA_BYTES", 100)
    with pytest.raises(ValueError, match=r"column 'image': it has 128 bytes; at most 100"):
        rows.media({"image": PNG}, "image", RowContext("s", 0))


KINDS = [
    (b"\xff\xd8\xff\xe0", "image/jpeg"),
    (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    (b"\0\0\0\x1cftypavif", "image/avif"),
    (b"ID3\4", "audio/mpeg"),
    (b"\xff\xfb\x90", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
    (b"\0\0\0\x20ftypisom", "video/mp4"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
]


@pytest.mark.parametrize(("start", "mime"), KINDS)
def test_what_bytes_are_is_told_by_how_they_begin(start, mime):
    part = media.media_part(start + bytes(8))
    assert (part.mime, part.kind) == (mime, mime.partition("/")[0])


def to_sample(row, context):
    pictures = rows.media(row, "image", context)
    return Sample(rows.sample_id(context), context.index, context.subset, rows.text(row, "q"), ("1",), media=pictures)


BENCHMARK = Benchmark("own", 1, "", "", DatasetInfo(), FinalAnswer(), to_sample, few_shot_split="dev", few_shot_num=2)
ROWS = [
    {"q": "What is <image 1>?", "image": [PNG]},
    {"image": [GIF]},  # no question: malformed, and its picture belongs to nobody
    {"q": "And this?", "image": [PNG, WAV]},
]


def source(found=ROWS):
    return RowSource(lambda: (NumberedRow(number, row) for number, row in enumerate(found)))


def test_only_media_of_samples_are_kept():
    rows_ = source()
    samples = list(iter_samples(BENCHMARK, BenchmarkSpec("own"), rows_, "s", None, 1))
    assert isinstance(samples[1], MalformedRow)
    assert rows_.media.take() == {sha(PNG): PNG, sha(WAV): WAV}


@pytest.mark.parametrize("at_random", [False, True])
def test_only_media_of_the_chosen_examples_are_kept(at_random):
    pictures = [b"GIF89a" + bytes([number]) for number in range(50)]
    rows_ = source([{"q": "?", "image": picture} for picture in pictures])
    shots = choose_shots(BENCHMARK, BenchmarkSpec("own", few_shot_random=at_random), rows_, "s", 1)
    assert set(rows_.media.take()) == {part.sha256 for shot in shots for part in shot.media}
    assert len(shots) == 2


def test_prompts_hold_parts_where_the_question_names_them():
    first, _, third = iter_samples(BENCHMARK, BenchmarkSpec("own"), source(), "s", None, 1)
    settings = PromptSettings("Q: {question}", shots=(third,))
    messages = render(BENCHMARK, settings, first).messages
    png, wav = (media.media_part(data) for data in (PNG, WAV))
    assert messages[0].content == (png, wav, ContentPart("text", "Q: And this?"))
    assert messages[2].content == (ContentPart("text", "Q: What is "), png, ContentPart("text", "?"))


def test_markers_without_a_medium_stay_text_and_media_without_a_marker_come_first():
    one, two = (media.media_part(data) for data in (PNG, GIF))
    assert with_media("<image 1>", ()) == "<image 1>"
    assert with_media("a <image 2> b <image 3>", (one, two)) == (
        one,
        ContentPart("text", "a "),
        two,
        ContentPart("text", " b <image 3>"),
    )
    assert with_media("<image 1><image 1>", (one,)) == (one, one)


CALC = ToolDefinition("calc", "Calculates.", {"type": "object"})


def test_a_sample_may_bring_a_conversation_and_tools():
    before = (Message("user", "Hi."), Message("assistant", "Hello."))
    settings = PromptSettings("Q: {question}", system="Be brief.")
    asked = render(BENCHMARK, settings, Sample("s", 0, "s", "1+1?", ("2",), messages=before, tools=(CALC,)))
    assert [message.content for message in asked.messages] == ["Be brief.", "Hi.", "Hello.", "Q: 1+1?"]
    assert asked.tools == (CALC,)
    alone = render(BENCHMARK, settings, Sample("s", 0, "s", "", ("2",), messages=before[:1]))
    assert [message.content for message in alone.messages] == ["Be brief.", "Hi."]


@pytest.mark.parametrize("more", [{"media": (media.media_part(PNG),)}, {"tools": (CALC,)}])
def test_a_plain_text_prompt_has_no_place_for_media_or_tools(more):
    settings = PromptSettings("Q: {question}", kind="completion")
    with pytest.raises(Unimplemented, match="only a model of kind chat"):
        render(BENCHMARK, settings, Sample("s", 0, "s", "x", ("1",), **more))
    turns = tuple(map(Message, ("user", "assistant"), ("Hi.", "Hello.")))
    assert (
        render(BENCHMARK, settings, Sample("s", 0, "s", "x", (), messages=turns)).prompt == "Hi.\n\nHello.\n\nQ: x\n\n"
    )
