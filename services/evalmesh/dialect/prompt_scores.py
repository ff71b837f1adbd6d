"""How likely given texts are, in the forms in which servers tell it: completions that echo, vLLM's and SGLang's own.

Each form becomes `ScoredText`: the tokens of a prompt with what each is worth, from which `judge` takes those of the
continuation as lm-evaluation-harness counts them: white space at the end of the context belongs to the continuation.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from evalmesh.dialect.answer import Answer, Fault, malformed, parse_answer
from evalmesh.dialect.errors import error_in
from evalmesh.dialect.logprobs import ScoredText, read_legacy
from evalmesh.dialect.loose import count_of, mapping_of, mappings_of, number_of
from evalmesh.dialect.shapes import NULL, UNREADABLE, Chunk, ScoredChoice, loads
from evalmesh.dialect.usage import as_domain, read_usage
from evalmesh.domain.completion import ContinuationScore

_TIE = 1e-6
"""Two log probabilities this close are equal: servers round."""
_PIECE = "\ufffd"
"""What a token that is a part of a character is shown as."""

_decode = msgspec.json.Decoder().decode


def echoed(choice: ScoredChoice) -> ScoredText | None:
    """Of completions with `echo` and `logprobs`."""
    found = read_legacy(choice.logprobs)
    if found is None:
        return None
    tops = found.tops or [{}] * len(found.tokens)
    greedy = [
        value is None or not top or value >= max(top.values()) - _TIE
        for value, top in zip(found.values, tops, strict=True)
    ]
    return ScoredText(found.tokens, found.values, greedy, found.offsets)


def prompt_logprobs(choice: ScoredChoice) -> ScoredText | None:
    """Of vLLM's `prompt_logprobs`: for each token its own entry and those of the likeliest, by token id."""
    places = _value(choice.prompt_logprobs)
    if not isinstance(places, list) or not places:
        return None
    tokens: list[str] = []
    values: list[float | None] = []
    greedy: list[bool] = []
    for place in places:
        entries = [one for one in mapping_of(place).values() if isinstance(one, Mapping)]
        # The prompt's own token stands first; it is the last in rank of those that are told.
        own = max(entries, key=lambda one: count_of(one.get("rank")) or 0) if entries else {}
        text, value = own.get("decoded_token"), number_of(own.get("logprob"))
        if place is not None and (not isinstance(text, str) or (value is None and tokens)):
            return None
        tokens.append(text if isinstance(text, str) else "")
        values.append(value)
        best = max((worth for one in entries if (worth := number_of(one.get("logprob"))) is not None), default=0.0)
        greedy.append(value is None or value >= best - _TIE)
    return ScoredText(tokens, values, greedy)


def parse_generated(body: bytes) -> Answer | Fault:
    """SGLang's `/generate` with `return_logprob`: one object, or a list of them."""
    try:
        value = _decode(body)
    except UNREADABLE as error:
        try:
            value = loads(body, error)
        except UNREADABLE as problem:
            return malformed(problem, body)
    if isinstance(value, Mapping) and (said := error_in(Chunk(None, None, value.get("error")), body)) is not None:
        return Fault("reported", said.message, said.code)
    items = mappings_of(value)
    if not items or not all("meta_info" in item for item in items):
        return Fault("malformed", "The answer has no meta_info: " + body[:200].decode("utf-8", "replace"))
    metas = [mapping_of(item.get("meta_info")) for item in items]
    usage = {
        name: sum(count_of(meta.get(name)) or 0 for meta in metas) for name in ("prompt_tokens", "completion_tokens")
    }
    counts = as_domain(read_usage(usage))
    return Answer("", None, "length", counts, [], scored=[_generated(meta) for meta in metas])


def _generated(meta: Mapping[str, Any]) -> ScoredText | None:
    entries = meta.get("input_token_logprobs")
    if not isinstance(entries, list) or not entries:
        return None
    tops = meta.get("input_top_logprobs")
    tops = tops if isinstance(tops, list) and len(tops) == len(entries) else [None] * len(entries)
    tokens: list[str] = []
    values: list[float | None] = []
    greedy: list[bool] = []
    for entry, top in zip(entries, tops, strict=True):
        if not isinstance(entry, list) or len(entry) < 3 or not isinstance(entry[2], str):
            return None
        value = number_of(entry[0])
        others = [worth for one in top or () if isinstance(one, list) and (worth := number_of(one[0])) is not None]
        tokens.append(entry[2])
        values.append(value)
        greedy.append(value is None or value >= max(others, default=value) - _TIE)
    return ScoredText(tokens, values, greedy)


def parse_chat_scores(body: bytes) -> Answer | Fault:
    """A chat with `prompt_logprobs`, which stand beside the choices."""
    answer = parse_answer(body)
    if isinstance(answer, Answer) and answer.choices and answer.choices[0].prompt_logprobs == NULL:
        answer.choices[0].prompt_logprobs = answer.prompt_logprobs
    return answer


def judge(context: str, continuation: str, found: ScoredText | None) -> ContinuationScore | str:
    """The score of one continuation, or what is missing for it."""
    if found is None:
        return "no logprobs of the prompt's tokens"
    begin = len(context.rstrip())
    span = span_of(context + continuation, begin, found.tokens, found.offsets)
    if span is None:
        return "tokens that do not repeat the prompt"
    return _sum(span, continuation, found)


def judge_end(continuation: str, found: ScoredText | None) -> ContinuationScore | str:
    """Likewise where a chat template stands around the texts: the continuation is the end of it all."""
    if found is None:
        return "no logprobs of the prompt's tokens"
    joined = "".join(found.tokens)
    # Many templates trim what is said.
    text = next((one for one in (continuation, continuation.strip()) if one and joined.endswith(one)), "")
    if not text:
        return "tokens that do not end with the continuation"
    span = span_of(joined, len(joined) - len(text), found.tokens, None)
    return "tokens that do not repeat the prompt" if span is None else _sum(span, continuation, found)


def _sum(span: range, continuation: str, found: ScoredText) -> ContinuationScore | str:
    values = [found.values[at] for at in span]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return (
            "no value for the first token of a text, since its tokenizer puts no start token before it "
            "(model_args prefix=TOKEN names one to put there)"
        )
    greedy = all(found.greedy[at] for at in span)
    return ContinuationScore(sum(known), len(span), len(continuation.encode()), greedy)


def span_of(text: str, begin: int, tokens: Sequence[str], offsets: Sequence[int] | None) -> range | None:
    """Positions of the tokens that hold a character of the text from `begin` on.

    Found in the tokens' own text, because some servers put a start token before the prompt and count it in their
    offsets. A token that lies across the border belongs to the continuation.
    """
    at = "".join(tokens).find(text)
    if at >= 0:
        starts, ends = _edges(tokens)
    elif tokens and not tokens[0] and text.endswith(rest := "".join(tokens[1:])):
        # What the first token says is not told (vLLM), as nothing is known of it.
        at = 0
        starts, ends = _edges([text[: len(text) - len(rest)], *tokens[1:]])
    elif (places := _places(text, tokens)) is not None:
        at = 0
        starts, ends = places
    elif offsets is not None and len(offsets) == len(tokens):
        # Tokens that are parts of a character do not join to the text.
        at, starts = 0, list(offsets)
        ends = [*starts[1:], len(text) + 1]
    else:
        return None
    first, last = at + begin, at + len(text)
    inside = [i for i in range(len(tokens)) if ends[i] > first and starts[i] < last]
    return range(inside[0], inside[-1] + 1) if inside else None


def _edges(tokens: Sequence[str]) -> tuple[list[int], list[int]]:
    """Start and end of each token in their joined text.

    A token without text is the beginning of the character that the next one shows; as the first it may be a mark.
    """
    ends = list(accumulate(map(len, tokens)))
    starts = [0, *ends[:-1]]
    for at in range(len(tokens) - 2, 0, -1):
        if not tokens[at]:
            ends[at] = ends[at + 1]
    return starts, ends


def _places(text: str, tokens: Sequence[str]) -> tuple[list[int], list[int]] | None:
    """Start and end of each token in the text, where some are parts of characters; `None` where they do not fit.

    What precedes the text has no place in it.
    """
    for skipped in range(min(len(tokens), 3)):
        if (found := _placed(text, tokens[skipped:])) is not None:
            starts, ends = found
            return [-1] * skipped + starts, [-1] * skipped + ends
    return None


def _placed(text: str, tokens: Sequence[str]) -> tuple[list[int], list[int]] | None:
    starts: list[int] = []
    ends: list[int] = []
    at, run = 0, ""
    """Where the next token begins, and what is shown of the parts before it; each as one character."""
    for token in tokens:
        if at >= len(text) and not run:
            starts.append(at)  # generated after the prompt
            ends.append(at + 1)
            continue
        if not token or _PIECE in token:
            run += _PIECE if token else " "
            continue
        gap = next((n for n in range(_PIECE in run, 3 * len(run) + 1) if text.startswith(token, at + n)), None)
        if gap is None and run and len(text) - at <= 3 * len(run):
            gap = len(text) - at  # The run ends the text, and this was generated.
        if gap is None:
            return None
        starts += [at] * len(run)
        # Parts of which nothing is shown begin the character that this token shows.
        ends += [at + (gap or len(token))] * len(run)
        at, run = at + gap, ""
        starts.append(at)
        at += len(token)
        ends.append(at)
    starts += [at] * len(run)
    ends += [max(len(text), at + 1)] * len(run)
    return (starts, ends) if run or at >= len(text) else None


def _value(raw: msgspec.Raw) -> Any:
    try:
        return _decode(raw)
    except UNREADABLE as error:
        try:
            return loads(bytes(raw), error)
        except UNREADABLE:
            return None
