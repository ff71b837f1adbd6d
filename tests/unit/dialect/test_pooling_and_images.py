"""Vectors, scores and images: what is read of answers in one piece."""

import base64
import json
import struct

import pytest

from evalmesh.dialect.answer import Answer, Fault
from evalmesh.dialect.images import parse_images, speaks_only_bytes
from evalmesh.dialect.pooling import parse_embeddings, parse_ranking, short_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def packed(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def vectors(*data: object, **more: object) -> bytes:
    return json.dumps({"object": "list", "data": list(data), **more}).encode()


def at(index: object, embedding: object) -> dict:
    return {"index": index, "embedding": embedding}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (vectors(at(0, [1, 2.5]), at(1, [3, 4])), ((1.0, 2.5), (3.0, 4.0))),
        (vectors(at(1, [3, 4]), at(0, [1, 2.5])), ((1.0, 2.5), (3.0, 4.0))),
        (vectors(at(0, packed(1, 2.5)), at(1, packed(3, 4))), ((1.0, 2.5), (3.0, 4.0))),
        (vectors(at(0, packed(1, 2.5)), at(1, [3, 4])), ((1.0, 2.5), (3.0, 4.0))),
        (vectors({"embedding": [1]}, {"embedding": [2]}), ((1.0,), (2.0,))),
        (vectors(at("0", ["1e-3"])), ((0.001,),)),
        (vectors(at(0, [[1, 2]])), ((1.0, 2.0),)),  # llama.cpp's, of one vector per text
        (b"\xef\xbb\xbf" + vectors(at(0, [1])), ((1.0,),)),
    ],
)
def test_vectors_come_in_the_order_of_their_inputs(body, expected):
    answer = parse_embeddings(body)
    assert isinstance(answer, Answer), answer
    assert answer.embeddings == expected


def test_tokens_of_embeddings_are_counted():
    answer = parse_embeddings(vectors(at(0, [1]), usage={"prompt_tokens": 7, "total_tokens": 7}))
    assert isinstance(answer, Answer)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 7


@pytest.mark.parametrize(
    "body",
    [
        vectors(at(0, [1, None])),
        vectors(at(0, [])),
        vectors(at(0, [1, float("nan")])),
        vectors(at(0, "not base64!")),
        vectors(at(0, base64.b64encode(b"odd").decode())),
        vectors(at(0, packed(float("inf")))),
        vectors(at(0, [1]), at(0, [2])),
        vectors(at(0, [1]), at(2, [2])),
        vectors(at(-1, [1])),
        vectors("text"),
        b'{"object": "list"}',
        b"<html>",
        b"",
        b"[]",
    ],
)
def test_what_holds_no_vectors_is_malformed(body):
    found = parse_embeddings(body)
    assert isinstance(found, Fault)
    assert found.kind == "malformed"


def ranked(*results: object, **more: object) -> bytes:
    return json.dumps({"results": list(results), **more}).encode()


JINA = [{"index": 2, "relevance_score": 0.9, "document": {"text": "c"}}, {"index": 0, "relevance_score": 0.5}]


@pytest.mark.parametrize(
    ("body", "scores", "tokens"),
    [
        (ranked(*JINA, {"index": 1, "relevance_score": -3}, usage={"total_tokens": 9}), (0.5, -3.0, 0.9), 9),
        (ranked(*JINA, {"index": 1, "relevance_score": "0.1"}), (0.5, 0.1, 0.9), None),
        (
            ranked({"index": 0, "relevance_score": 1}, meta={"billed_units": {"search_units": 1}}),
            (1.0,),
            None,
        ),
        (ranked({"index": 0, "relevance_score": 1}, meta={"tokens": {"input_tokens": 4}}), (1.0,), 4),
        (b'[{"index": 1, "score": 0.2}, {"index": 0, "score": 0.7}]', (0.7, 0.2), None),
    ],
    ids=["jina", "texts", "cohere", "cohere-tokens", "tei"],
)
def test_scores_come_in_the_order_of_the_documents(body, scores, tokens):
    answer = parse_ranking(body)
    assert isinstance(answer, Answer), answer
    assert answer.scores == scores
    assert (None if answer.usage is None else answer.usage.input_tokens) == tokens


@pytest.mark.parametrize(
    "body",
    [
        ranked({"index": 0}),
        ranked({"index": 1, "relevance_score": 1}),
        ranked(JINA[0], JINA[0]),
        b"{}",
        b"<html>",
        b"7",
    ],
)
def test_what_holds_no_ranking_is_malformed(body):
    found = parse_ranking(body)
    assert isinstance(found, Fault)
    assert found.kind == "malformed"


@pytest.mark.parametrize("parse", [parse_embeddings, parse_ranking, parse_images])
def test_errors_in_place_of_an_answer_are_reported(parse):
    found = parse(b'{"error": {"message": "model is loading", "code": 503}}')
    assert isinstance(found, Fault)
    assert (found.kind, found.code) == ("reported", "503")
    assert "loading" in found.message


@pytest.mark.parametrize(
    ("body", "inputs", "dimensions", "said"),
    [
        (vectors(at(0, [1, 2])), 1, None, None),
        (vectors(at(0, [1, 2])), 1, 2, None),
        (vectors(at(0, [1, 2])), 2, None, "1 results for 2 inputs"),
        (vectors(at(0, [1, 2]), at(1, [1])), 2, None, "different lengths"),
        (vectors(at(0, [1, 2])), 1, 3, "ignores dimensions=3"),
    ],
)
def test_an_answer_fits_what_was_asked(body, inputs, dimensions, said):
    answer = parse_embeddings(body)
    assert isinstance(answer, Answer)
    found = short_of(answer, inputs, dimensions)
    assert (found is None) == (said is None)
    if said is not None:
        assert said in found.message
        assert found.final


def test_images_are_bytes():
    encoded = base64.b64encode(PNG).decode()
    data = [{"b64_json": encoded, "revised_prompt": "A red square."}, {"b64_json": f"data:image/png;base64,{encoded}"}]
    answer = parse_images(json.dumps({"created": 1, "data": data, "usage": {"input_tokens": 3}}).encode())
    assert isinstance(answer, Answer)
    assert (answer.media, answer.text) == ([PNG, PNG], "A red square.")
    assert answer.usage is not None
    assert answer.usage.input_tokens == 3


def test_an_image_by_address_is_refused_with_the_way_out():
    found = parse_images(b'{"data": [{"url": "http://169.254.169.254/image.png"}]}')
    assert isinstance(found, Fault)
    assert found.final
    assert "response_format=b64_json" in found.message
    assert "169.254" not in found.message


@pytest.mark.parametrize("body", [b'{"data": []}', b'{"data": [{}]}', b'{"data": [{"b64_json": "%%%"}]}', b"{}", b"<"])
def test_what_holds_no_image_is_malformed(body):
    found = parse_images(body)
    assert isinstance(found, Fault)
    assert found.kind == "malformed"


def test_models_that_refuse_to_be_asked_for_bytes_are_known():
    assert speaks_only_bytes("gpt-image-1")
    assert speaks_only_bytes("openai/gpt-image-1-mini")
    assert not speaks_only_bytes("dall-e-3")
