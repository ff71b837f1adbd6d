"""Instructions that can be checked: how many of a prompt's a response follows, and whether it follows all of them.

Strict: the response as it is. Loose: as it is, or without its first line, its last line or both, each also without
asterisks; what models say around an answer then does not count (Zhou et al., arXiv:2311.07911, section 3).
"""

from collections.abc import Iterator, Sequence

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.instructions.checks import CHECKS, OF_LANGUAGE
from evalmesh.scoring.markup import strip_thinking

_QUICK_CHARS = 6_000
"""More takes milliseconds."""


def is_quick(sample: Sample, completion: Completion) -> bool:
    """Whether the checks take less than a millisecond or so."""
    return len(completion.text) <= _QUICK_CHARS and not any(one["id"] in OF_LANGUAGE for one in sample.reference)


def score_instructions(sample: Sample, completion: Completion) -> Score:
    """`sample.reference` is a list of `{id, args}`. The response may be empty: then nothing is followed."""
    text = _response(completion.text)
    wanted = sample.reference
    strict = [_follows(one, [text]) for one in wanted]
    variants = list(dict.fromkeys(_variants(text)))[1:]
    loose = [done or _follows(one, variants) for one, done in zip(wanted, strict, strict=True)]
    missed = [one["id"] for one, done in zip(wanted, strict, strict=True) if not done]
    return Score(
        completion.sample_id,
        completion.repeat,
        "scored",
        values={
            "prompt_level_strict": float(all(strict)),
            "inst_level_strict": sum(strict) / len(strict),
            "prompt_level_loose": float(all(loose)),
            "inst_level_loose": sum(loose) / len(loose),
            "instructions": float(len(wanted)),
        },
        answer=text.strip() or None,
        explanation=f"not followed: {', '.join(missed)}" if missed else "all followed",
    )


def _response(text: str) -> str:
    """Without thoughts in tags; what only looks like one, such as the placeholder `[analysis]`, is asked for here."""
    return strip_thinking(text) if text.lstrip().startswith("<") or "</think>" in text else text


def _follows(instruction: dict[str, dict[str, object]], texts: Sequence[str]) -> bool:
    check, _ = CHECKS[str(instruction["id"])]
    return any(text.strip() and check(text, instruction["args"]) for text in texts)


def _variants(text: str) -> Iterator[str]:
    """The text, then what is forgiven."""
    lines = text.split("\n")
    for one in (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))):
        yield one
        yield one.replace("*", "")
