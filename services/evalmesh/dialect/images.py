"""Images that a model makes: `/images/generations`. Only bytes are taken: what an answer points at is not fetched."""

from collections.abc import Mapping

import msgspec

from evalmesh.dialect.answer import Answer, Fault, malformed
from evalmesh.dialect.errors import error_in
from evalmesh.dialect.loose import mapping_of, mappings_of
from evalmesh.dialect.shapes import UNREADABLE, Chunk, loads
from evalmesh.dialect.usage import as_domain, read_usage
from evalmesh.domain.media import decode_base64

_decode = msgspec.json.Decoder().decode
_BY_ADDRESS = (
    "The endpoint answers with the address of an image, and evalmesh fetches nothing that a model points at; ask it "
    "for the bytes (response_format=b64_json, which is sent unless model.args.extra_body takes it out)."
)


def speaks_only_bytes(model: str) -> bool:
    """Whether the model always answers with bytes and refuses to be asked for them, as OpenAI's newer ones do."""
    return model.rpartition("/")[2].startswith(("gpt-image", "chatgpt-image"))


def parse_images(body: bytes) -> Answer | Fault:
    """The images in `Answer.media`; the text is the prompt as the server revised it, where it did."""
    try:
        value = _decode(body)
    except UNREADABLE as error:
        try:
            value = loads(body, error)
        except UNREADABLE as problem:
            return malformed(problem, body)
    found: Mapping[str, object] = mapping_of(value)
    data = found.get("data")
    said = error_in(Chunk([] if isinstance(data, list) else None, None, found.get("error")), body) if found else None
    if said is not None:
        return Fault("reported", said.message, said.code)
    entries = mappings_of(data)
    if not entries:
        return Fault("malformed", "The answer has no images: " + body[:200].decode("utf-8", "replace"))
    images: list[bytes] = []
    for one in entries:
        encoded = one.get("b64_json") or one.get("base64")
        if not isinstance(encoded, str):
            return Fault("malformed", _BY_ADDRESS, final=True) if one.get("url") else _no_bytes("no bytes")
        try:
            images.append(decode_base64(encoded))
        except ValueError as error:
            return _no_bytes(str(error))
    revised = entries[0].get("revised_prompt")
    text = revised if isinstance(revised, str) else ""
    return Answer(text, None, "stop", as_domain(read_usage(found.get("usage"))), [], media=images)


def _no_bytes(why: str) -> Fault:
    return Fault("malformed", f"An image of the answer cannot be read: {why}.", final=True)
