"""Habits of HTTP, of event streams and of their ends."""

import gzip
import json
import zlib

from evalmesh.load.measure.records import Outcome
from tests.kit.habits.what import (
    DONE,
    JSON,
    PIECES,
    SSE,
    USAGE,
    Habit,
    Reply,
    Right,
    answer,
    chunk,
    cut,
    failed,
    json_of,
    sound,
    sound_json,
    stream_of,
    text_chunks,
)

_WHOLE = json.dumps(answer()).encode()
_CUT = cut(failed("truncated", Outcome.TRUNCATED))
_PACKED = failed("malformed", Outcome.MALFORMED)
_NO_COUNTS = Right(tokens=None)
_SPLIT = text_chunks()


def _deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


def _multi_line(value: object) -> bytes:
    """One event in several `data:` lines."""
    return b"".join(b"data: %b\n" % line for line in json.dumps(value, indent=1).encode().split(b"\n")) + b"\n"


def _named(value: object, name: str) -> bytes:
    return f"event: {name}\nid: 3\nretry: 10\ndata: {json.dumps(value)}\n\n".encode()


_ALL = [*_SPLIT, chunk(finish="stop"), USAGE]

FRAMING = (
    Habit("as it should be", sound(), sound_json()),
    Habit("CRLF line ends, cut anywhere", sound(end="\r\n\r\n", cut=7), sound_json(frame="chunked", cut=7)),
    Habit("CR line ends", sound(end="\r\r", cut=5), None),
    Habit("every byte in a chunk of its own", sound(cut=1), sound_json(frame="chunked", cut=1)),
    Habit("no blank behind data:", stream_of(*[f"data:{json.dumps(one)}\n\n".encode() for one in _ALL]), None),
    Habit("comments keep it open", sound(b": keep-alive\n\n", b":\n\n", b"\n"), None),
    Habit("blank lines keep it open", sound(b"\n\n", b"\r\n"), json_of(b"\n\n \n" + _WHOLE, frame="chunked", cut=1)),
    Habit("empty events keep it open", sound(b"data:\n\n", b"data: \n\n", b"data\n\n"), None),
    Habit("names, ids and retries of events", stream_of(*[_named(one, "message") for one in _ALL]), None),
    Habit("an event of many lines", stream_of(*[_multi_line(one) for one in _ALL]), json_of(answer(), cut=9)),
    Habit("a byte order mark", sound(b"\xef\xbb\xbf"), json_of(b"\xef\xbb\xbf" + _WHOLE)),
    Habit("a byte order mark, cut", sound(b"\xef\xbb\xbf", cut=1), json_of(b"\xef\xbb\xbf" + _WHOLE, cut=1)),
    Habit("blanks around JSON", stream_of(*[f"data:   {json.dumps(one)} \n\n".encode() for one in _ALL]),
          json_of(b"  \n" + _WHOLE + b"\n\n")),
    Habit("HTTP/1.0 without a length", sound(version="1.0", frame="close"), sound_json(version="1.0", frame="close")),
    Habit("the end of the connection", sound(frame="close"), sound_json(frame="close")),
    Habit("a length for a stream", sound(frame="length"), sound_json()),
    Habit("chunk extensions", sound(extension=";a=b", cut=40), sound_json(frame="chunked", extension=';q="x"')),
    Habit("100 Continue first", sound(before=b"HTTP/1.1 100 Continue\r\n\r\n"),
          sound_json(before=b"HTTP/1.1 100 Continue\r\n\r\n")),
    Habit("103 Early Hints first", sound(before=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
          sound_json(before=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")),
    Habit("another success", sound(status="201 Created"), sound_json(status="206 Partial Content")),
    Habit("called text/plain", sound(kind="text/plain"), sound_json(kind="text/plain; charset=utf-8")),
    Habit("called the other form", sound(kind=JSON), sound_json(kind=SSE)),
    Habit("called nothing", sound(kind=""), sound_json(kind="")),
    Habit("charsets in capitals", sound(kind="Text/Event-Stream; Charset=UTF-8"),
          sound_json(kind="APPLICATION/JSON; CHARSET=utf8")),
    Habit("whole although a stream was asked for", sound_json(), None),
    Habit("whole, called a stream", sound_json(kind=SSE), None),
    Habit("a stream although none was asked for", None, sound()),
    Habit("a stream, called JSON, unasked", None, sound(kind=JSON)),
    Habit("the whole answer as one event", stream_of(answer()), stream_of(answer(), done=False)),
    Habit("[DONE] and no reason", stream_of(*_SPLIT), None, Right(finish="unknown", tokens=None)),
    Habit("[DONE] with blanks", stream_of(*_SPLIT, b"data: [DONE] \n\n", done=False), None,
          Right(finish="unknown", tokens=None)),
    Habit("[DONE] without its empty line", stream_of(*_ALL, b"data: [DONE]", done=False), None),
    Habit("[DONE] and no line at all", stream_of(*_SPLIT, b"data:[DONE]", done=False), None,
          Right(finish="unknown", tokens=None)),
    Habit("a reason and no [DONE]", stream_of(*_ALL, done=False), None),
    Habit("a reason, then the connection ends", stream_of(*_ALL, done=False, frame="close"), None),
    Habit("garbage behind [DONE]", stream_of(*_ALL, DONE, b"data: {oops\n\n", b"data: bye\n\n", done=False), None),
    Habit("an error behind [DONE]", stream_of(*_ALL, DONE, {"error": {"message": "late", "code": 500}}, done=False),
          None),
    Habit("[DONE] twice", stream_of(*_ALL, DONE), None),
    Habit("garbage behind the reason", stream_of(*_ALL, b"data: {oops\n\n"), None),
    Habit("an error behind the reason", stream_of(*_SPLIT, chunk(finish="stop"), {"error": {"message": "no usage"}}),
          None, _NO_COUNTS),
    Habit("an empty reason in every chunk", stream_of(*[chunk(one, finish="") for one in PIECES], _ALL[-2], USAGE),
          json_of(answer(finish="")), Right(), Right(finish="unknown")),
    Habit("an empty reason, and cut", stream_of(*[chunk(one, finish="") for one in PIECES[:2]], done=False), None,
          _CUT),
    Habit("a reason nobody knows, and cut", stream_of(*[chunk(one, finish="going") for one in PIECES], done=False),
          json_of(answer(finish="going")), _CUT, Right(finish="unknown")),
    Habit("a reason nobody knows, and [DONE]", stream_of(*_SPLIT, chunk(finish="whim"), USAGE), None,
          Right(finish="unknown")),
    Habit("no reason and cut", stream_of(*_SPLIT, done=False), json_of(answer(finish=None)), _CUT,
          Right(finish="unknown")),
    Habit("cut inside an event", stream_of(*_SPLIT, b'data: {"choices": [{"del', done=False), json_of(_WHOLE[:90]),
          _CUT, failed("malformed", Outcome.MALFORMED)),
    Habit("nothing at all", Reply(b"", SSE), Reply(b"", JSON, frame="length"), failed("malformed", Outcome.TRUNCATED)),
    Habit("the reason twice", stream_of(*_SPLIT, chunk(finish="stop"), chunk(finish="stop"), USAGE), None),
    Habit("a reason, then a null", stream_of(*_SPLIT, chunk(finish="length"), chunk(), USAGE), None,
          Right(finish="length")),
    Habit("reason with the last text", stream_of(*_SPLIT[:-1], chunk(PIECES[-1], finish="stop"), USAGE), None),
    Habit("gzip", Reply(gzip.compress(sound().body), SSE, headers=("Content-Encoding: gzip",)),
          Reply(gzip.compress(_WHOLE), headers=("Content-Encoding: gzip",)), fast_right=_PACKED),
    Habit("gzip, cut", Reply(gzip.compress(sound().body), SSE, headers=("content-encoding: GZIP",), cut=11),
          Reply(gzip.compress(_WHOLE), headers=("Content-Encoding: gzip",), cut=11, frame="length"),
          fast_right=_PACKED),
    Habit("deflate", Reply(_deflated(sound().body, 15), SSE, headers=("Content-Encoding: deflate",)),
          Reply(_deflated(_WHOLE, 15), headers=("Content-Encoding: deflate",)), fast_right=_PACKED),
    Habit("raw deflate", Reply(_deflated(sound().body, -15), SSE, headers=("Content-Encoding: deflate",)),
          Reply(_deflated(_WHOLE, -15), headers=("Content-Encoding: deflate",)), fast_right=_PACKED),
    Habit("identity, said", sound(headers=("Content-Encoding: identity",)),
          sound_json(headers=("Content-Encoding: identity",))),
)  # fmt: skip
