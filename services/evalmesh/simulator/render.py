"""Words for an outcome: the same prompt, seed and settings always give the same reply."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from evalmesh.simulator import forms
from evalmesh.simulator.answers import Answer, Option
from evalmesh.simulator.entropy import Draws
from evalmesh.simulator.forms import Form
from evalmesh.simulator.tokens import count_tokens, tokenize

Outcome = Literal["right", "wrong", "unknown"]

_FORMS = {"choice": forms.CHOICE_FORMS, "number": forms.NUMBER_FORMS, "text": forms.TEXT_FORMS}
_THINKING_FROM = 0.5
_WRONG_THOUGHTS_FROM = 0.6
_NO_ANSWER_FROM = 0.3
_CUT_OFF_FROM = 0.4
_THOUSAND = 4


@dataclass(frozen=True, slots=True)
class Style:
    """How replies look."""

    awkwardness: float = 0.5
    """0: one plain wording; 1: everything a correct scorer must cope with."""
    reasoning_content: bool = False
    """Thinking goes into `reasoning_content`, in every reply, and never into the text."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the request allows."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    exact_tokens: int | None = None
    """Pad the reply to this many tokens; an answer that is longer stays whole."""
    exact_is_length: bool = False
    """The padding comes from a request that forbids to end early: the finish reason is `length`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says."""

    text: str
    outcome: Outcome
    finish_reason: Literal["stop", "length"] = "stop"
    reasoning: str = ""
    """Goes into `reasoning_content`."""
    cut: bool = False
    """The request's limits left no room for the answer the model had."""


def render(answer: Answer | None, outcome: Outcome, draws: Draws, style: Style, limits: Limits) -> Reply:
    """The reply, inside the request's limits."""
    if outcome == "unknown" or answer is None:
        reply = Reply(draws.choice(forms.GENERIC), "unknown")
    else:
        reply = _natural(answer, outcome, draws, style)
    if style.reasoning_content:
        reply = replace(reply, reasoning=draws.choice(forms.REASONING))
    return _fit(_pad(reply, limits), answer, limits)


def _natural(answer: Answer, outcome: Outcome, draws: Draws, style: Style) -> Reply:
    if outcome == "right":
        return Reply(_worded(answer, answer.right, draws, style), "right")
    kinds = ["near"] * 4 if answer.wrong else []
    if style.awkwardness >= _NO_ANSWER_FROM or not kinds:
        kinds.append("none")
    if style.awkwardness >= _CUT_OFF_FROM:
        kinds.append("cut off")
    kind = draws.choice(kinds)
    if kind == "near":
        option = draws.choice(answer.wrong)
        text = _worded(answer, option, draws, style)
        # A scorer that asks whether the target occurs must not find it in the words around the answer.
        return Reply(option.value if answer.kind == "text" and _mentions(text, answer) else text, "wrong")
    sentences = forms.NO_ANSWER if kind == "none" else forms.CUT_OFF
    text = _silent(sentences, answer, draws)
    return Reply(text, "wrong", finish_reason="stop" if kind == "none" else "length")


def _silent(sentences: Sequence[str], answer: Answer, draws: Draws) -> str:
    """A sentence that does not happen to contain an accepted answer; dots if all do."""
    fitting = [sentence for sentence in sentences if not _mentions(sentence, answer)]
    return draws.choice(fitting) if fitting else "..."


def _mentions(text: str, answer: Answer) -> bool:
    folded = text.casefold()
    return any(accepted.casefold() in folded for accepted in answer.accepted if accepted)


def _worded(answer: Answer, option: Option, draws: Draws, style: Style) -> str:
    usable = [form for form in _FORMS[answer.kind] if form.level <= style.awkwardness and _fits(form, option)]
    # The plainest wording only, when nothing awkward is wanted; a lone answer has no place for thinking.
    form = draws.choice(usable) if style.awkwardness > 0 else usable[0]
    said = form.template.replace("@", _value(form, option)).replace("~", option.text)
    parts = [] if form.lone else [*_thinking(answer, option, draws, style), said]
    return "\n\n".join(parts) if parts else said


def _fits(form: Form, option: Option) -> bool:
    value = option.value
    if form.needs_text:
        return bool(option.text)
    if form.currency and value.startswith("-"):
        return False
    return not (form.grouped and not (value.isdigit() and len(value) >= _THOUSAND))


def _value(form: Form, option: Option) -> str:
    return f"{int(option.value):,}" if form.grouped else option.value


def _thinking(answer: Answer, option: Option, draws: Draws, style: Style) -> list[str]:
    reasoning = draws.choice(forms.REASONING)
    others = [o for o in (answer.right, *answer.wrong) if o.value != option.value]
    if style.awkwardness >= _WRONG_THOUGHTS_FROM and answer.kind == "number" and others and draws.chance(0.3):
        reasoning += " " + draws.choice(forms.AWKWARD_REASONING).replace("@", draws.choice(others).value)
    if style.reasoning_content or style.awkwardness < _THINKING_FROM or not draws.chance(0.25):
        return [reasoning]
    thought = reasoning
    if others and answer.kind != "text":
        thought += f" Perhaps it is {draws.choice(others).value}? No, that is not it."
    return [f"<think>\n{thought}\n</think>", draws.choice(forms.REASONING)]


@lru_cache(maxsize=256)
def filler(count: int) -> str:
    """Exactly `count` tokens that say nothing."""
    words = forms.FILLER
    return " ".join(words[i % len(words)] for i in range(count))


def _pad(reply: Reply, limits: Limits) -> Reply:
    if limits.exact_tokens is None:
        return reply
    missing = limits.exact_tokens - count_tokens(reply.text) - count_tokens(reply.reasoning)
    finish = "length" if limits.exact_is_length else reply.finish_reason
    if missing <= 0:
        return replace(reply, finish_reason=finish)
    if reply.text.startswith("<think>"):
        text = reply.text.replace("<think>\n", f"<think>\n{filler(missing)}\n", 1)
    else:
        text = f"{filler(missing)}\n\n{reply.text}"
    return replace(reply, text=text, finish_reason=finish)


def _fit(reply: Reply, answer: Answer | None, limits: Limits) -> Reply:
    """Keeps the outcome true when the request allows less than the model wanted to say."""
    if _allowed(reply, limits):
        return reply
    if answer is not None and reply.outcome == "right":
        short = Reply(answer.right.value, "right")
        if _allowed(short, limits):
            return short
        # Cut in the middle, an answer could still look right, or wrong: say nothing instead, and count it wrong.
        reply = Reply(forms.CUT_OFF[0], "wrong", cut=True)
    elif reply.outcome == "wrong":
        reply = Reply(forms.CUT_OFF[0], "wrong")
    return _truncate(reply, limits)


def _allowed(reply: Reply, limits: Limits) -> bool:
    if any(stop in reply.text for stop in limits.stop):
        return False
    # No text has more tokens than characters, so most replies need no counting.
    if limits.max_tokens is None or len(reply.text) + len(reply.reasoning) <= limits.max_tokens:
        return True
    return count_tokens(reply.text) + count_tokens(reply.reasoning) <= limits.max_tokens


def _truncate(reply: Reply, limits: Limits) -> Reply:
    text = reply.text
    finish: Literal["stop", "length"] = reply.finish_reason
    stops = [at for stop in limits.stop if (at := text.find(stop)) >= 0]
    if stops:
        text, finish = text[: min(stops)], "stop"
    reasoning = reply.reasoning
    if limits.max_tokens is not None:
        thoughts = tokenize(reasoning)
        tokens = tokenize(text)
        if len(thoughts) + len(tokens) > limits.max_tokens:
            finish = "length"
        reasoning = "".join(thoughts[: limits.max_tokens])
        text = "".join(tokens[: max(0, limits.max_tokens - len(thoughts))])
    return replace(reply, text=text, reasoning=reasoning, finish_reason=finish)
