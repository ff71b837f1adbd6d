"""Short answers of one or several spans: exact match and F1 of words, as DROP defines them.

Dua et al., "DROP: A Reading Comprehension Benchmark Requiring Discrete Reasoning Over Paragraphs", arXiv:1903.00161,
section 5. A span becomes a set of words: parted at blanks and hyphens, in lower case, without articles and (but for
numbers, which are compared as numbers) without punctuation. Spans of both sides are paired so that their F1 is highest;
a span that holds a number is worth nothing beside one that holds another. Of several accepted answers the best counts.
"""

import re
import string
from collections.abc import Sequence

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.final_answer import no_answer
from evalmesh.scoring.markup import strip_emphasis, strip_thinking

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PARTED = re.compile(r"[ \-\n\t]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARKER = re.compile(r"(?:^|[^a-z])(?:final )?answer(?: is)?\s*:\s*", re.IGNORECASE)
_MOST_SPANS = 64
"""Of an answer; no accepted answer of the data sets we know has more than a tenth of it."""
_QUICK_CHARS = 2_000


def is_quick(completion: Completion) -> bool:
    """Whether `score_short_answer` takes a millisecond or so."""
    return len(completion.text) <= _QUICK_CHARS


def answer_of(text: str) -> str:
    """The rest of the line after the last `Answer:`, else the whole reply."""
    text = strip_emphasis(strip_thinking(text)).strip()
    marks = list(_MARKER.finditer(text))
    return text[marks[-1].end() :].partition("\n")[0].strip() if marks else text


def spans_of(answer: str) -> tuple[str, ...]:
    """An answer's parts, which semicolons part."""
    return tuple(part.strip() for part in answer.split(";", _MOST_SPANS) if part.strip())


def score_short_answer(sample: Sample, completion: Completion) -> Score:
    """`exact_match` and `f1`; `sample.reference` is a list of accepted answers, each a list of spans."""
    answer = answer_of(completion.text)
    spans = spans_of(answer)
    if not spans:
        none = no_answer(completion)
        return Score(
            none.sample_id,
            none.repeat,
            none.state,
            {"exact_match": 0.0, "f1": 0.0},
            explanation=none.explanation,
            outcome=none.outcome,
        )
    exact, f1 = max(compare(spans, accepted) for accepted in sample.reference)
    return Score(
        completion.sample_id,
        completion.repeat,
        "scored",
        values={"exact_match": exact, "f1": f1},
        answer=answer,
        extractor="short_answer",
        explanation=f"{answer[:80]!r} against {' | '.join(sample.target)[:200]!r}",
    )


def compare(predicted: Sequence[str], accepted: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1, this one to two digits as the official figures have it."""
    ours, theirs = [normalized(one) for one in predicted], [normalized(one) for one in accepted]
    exact = set(ours) == set(theirs) and len(ours) == len(theirs)
    worth = [[_f1(set(a.split()), set(b.split())) for b in ours] for a in theirs]
    found = sum(worth[row][column] for row, column in best_pairs(worth))
    # As the official script rounds, whose numbers are numpy's: an exact half goes to the even digit.
    return float(exact), round(100 * (found / max(len(ours), len(theirs)))) / 100


def normalized(span: str) -> str:
    """What is compared of a span."""
    return " ".join(filter(None, map(_word, _PARTED.split(span))))


def _word(text: str) -> str:
    text = text.lower()
    number = _number(text) or _number(text := text.translate(_PUNCTUATION))
    return number or " ".join(_ARTICLE.sub(" ", text).split())


def _number(text: str) -> str:
    try:
        return str(float(text))
    except ValueError:
        return ""


def _f1(accepted: set[str], predicted: set[str]) -> float:
    numbers = {word for word in accepted if _number(word)}
    if numbers and not numbers & predicted:
        return 0.0
    common = len(accepted & predicted)
    precision = common / len(predicted) if predicted else 1.0
    recall = common / len(accepted) if accepted else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def best_pairs(worth: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Rows with columns, each in one pair at most, of the greatest sum; in the order of the rows.

    Augmenting paths over a dual solution (Kuhn, "The Hungarian Method", 1955), one row after the other.
    """
    if len(worth) > len(worth[0]):
        return sorted((row, column) for column, row in best_pairs(list(zip(*worth, strict=True))))
    n_rows, n_columns = len(worth), len(worth[0])
    of_row, of_column = [0.0] * (n_rows + 1), [0.0] * (n_columns + 1)
    taken = [0] * (n_columns + 1)
    """Row by column, from 1 on; 0: none."""
    for row in range(1, n_rows + 1):
        taken[0], column = row, 0
        least, seen, before = [float("inf")] * (n_columns + 1), [False] * (n_columns + 1), [0] * (n_columns + 1)
        while taken[column]:
            seen[column], at = True, taken[column]
            for other in range(1, n_columns + 1):
                if not seen[other]:
                    slack = -worth[at - 1][other - 1] - of_row[at] - of_column[other]
                    if slack < least[other]:
                        least[other], before[other] = slack, column
            following = min((other for other in range(1, n_columns + 1) if not seen[other]), key=least.__getitem__)
            step = least[following]
            for other in range(n_columns + 1):
                if seen[other]:
                    of_row[taken[other]] += step
                    of_column[other] -= step
                else:
                    least[other] -= step
            column = following
        while column:
            taken[column], column = taken[before[column]], before[column]
    return sorted((row - 1, column - 1) for column, row in enumerate(taken) if column and row)
