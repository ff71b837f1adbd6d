"""Perplexities: what is asked, what a document is worth, and what a corpus is."""

import dataclasses
import math

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import RowContext
from evalmesh.benchmarks.rules import metric_rules
from evalmesh.benchmarks.samples import render
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.benchmarks.wikitext import detokenized
from evalmesh.domain.completion import Completion, ContinuationScore
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Needs
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.score import Score
from evalmesh.scoring.statistics import t_interval
from evalmesh.scoring.tally import finish, tally_shard

WIKITEXT = registry.get("wikitext")
PAGE = ' \n = Robert Boulter = \n \n Boulter , an actor , had a role in 2 @,@ 000 plays ( as " Craig " ) . \n'


def page(text=PAGE, index=0):
    return WIKITEXT.to_sample({"page": text}, RowContext("wikitext-2-raw-v1", index))


def judged(sample, *logprobs):
    scores = tuple(ContinuationScore(logprob, 7) for logprob in logprobs)
    return WIKITEXT.shape.score_fast(sample, Completion(sample.id, 0, "", continuations=scores))


def metrics(rows, on_error="exclude"):
    rules = metric_rules(WIKITEXT, 1)
    sums = tally_shard(rules, [[row] for row in rows])
    return {rule.name: finish(rule, sums[rule.name], on_error) for rule in rules}


def test_the_whole_text_is_predicted_as_people_write_it():
    one = render(WIKITEXT, WIKITEXT.prompt_settings(BenchmarkSpec("wikitext"), ()), page())
    assert (one.kind, one.prompt, one.messages, one.rolling) == ("loglikelihood", "", (), True)
    assert one.continuations == (
        '\n= Robert Boulter =\n\nBoulter, an actor, had a role in 2,000 plays (as "Craig").\n',
    )
    assert WIKITEXT.needs("completion") == Needs("wikitext", "loglikelihood", logprobs=True)


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("a 3 @-@ year @.@ plan", "a 3-year.plan"),
        ("the boys ' names", "the boys' names"),
        ("it 's 5 \N{DEGREE SIGN} C", "it's 5\N{DEGREE SIGN}C"),
        ("= = Life = = \n = = = Early = = =", "== Life ==\n=== Early ==="),
        ("[ a ] and { b }", "[a] and {b}"),
        ("up to N men : yes ; no ! really ?", "up to 1 men: yes; no! really ?"),
    ],
)
def test_what_stands_apart_is_joined(raw, written):
    assert detokenized(raw) == written


def test_a_document_is_worth_its_bits_per_byte_and_per_word_of_the_text_as_published():
    found = judged(page(), -40.0)
    n_bytes, n_words = len(PAGE.encode()), len(PAGE.split()) + 2
    assert dict(found.values) == pytest.approx(
        {
            "bits_per_byte": 40 / math.log(2) / n_bytes,
            "bits_per_word": 40 / math.log(2) / n_words,
            "bytes": n_bytes,
            "words": n_words,
        }
    )
    assert "7 tokens" in found.explanation


def test_a_corpus_is_worth_its_sums_and_long_documents_count_by_their_length():
    texts, logprobs = ("a b c", "d e f g h i j k l", "m n"), (-6.0, -9.0, -7.0)
    found = metrics([judged(page(text, n), logprobs[n]) for n, text in enumerate(texts)])
    n_bytes, n_words = sum(map(len, texts)), 3 + 9 + 2
    assert found["bits_per_byte"].value == pytest.approx(22 / math.log(2) / n_bytes)
    assert found["byte_perplexity"].value == pytest.approx(math.exp(22 / n_bytes))
    assert found["word_perplexity"].value == pytest.approx(math.exp(22 / n_words))
    # By documents: the linearised error of a ratio, in nats, and its ends as perplexities.
    ratio, n = 22 / n_words, len(texts)
    words = [3, 9, 2]
    squares = sum((-one - ratio * w) ** 2 for one, w in zip(logprobs, words, strict=True))
    stderr = math.sqrt(n / (n - 1) * squares) / n_words
    low, high = t_interval(ratio, stderr, n - 1)
    assert found["word_perplexity"].ci95 == pytest.approx((math.exp(low), math.exp(high)))
    assert found["word_perplexity"].stderr == pytest.approx(math.exp(ratio) * stderr)


@pytest.mark.parametrize("on_error", ["exclude", "zero", "fail"])
def test_what_has_no_score_is_counted_and_never_a_perfect_prediction(on_error):
    scored = [judged(page("a b c", 0), -2.0), judged(page("d e f", 1), -1.0)]
    alone = metrics(scored)["bits_per_byte"]
    found = metrics([*scored, Score("x", 0, "errored", reason="away")], on_error)["bits_per_byte"]
    assert (found.value, found.ci95, found.n_errored, found.bounds) == (alone.value, alone.ci95, 1, None)


def test_one_document_has_no_interval_and_none_no_value():
    (one, none) = (metrics(rows)["word_perplexity"] for rows in ([judged(page(), -40.0)], []))
    assert (one.value > 1, one.ci95, none.value) == (True, None, None)


@pytest.mark.parametrize(
    ("logprobs", "says"), [((), "of 0 texts, expected 1"), ((-1.0, -2.0), "of 2 texts"), ((-math.inf,), "finite")]
)
def test_what_cannot_be_judged_is_unscored_with_its_reason(logprobs, says):
    found = judged(page(), *logprobs)
    assert (found.state, says in found.reason) == ("unscored", True)


@pytest.mark.parametrize(
    ("row", "says"), [({"pages": "x"}, "is missing"), ({"page": " "}, "no text"), ({"page": 3}, "no text")]
)
def test_a_row_without_a_page_is_named(row, says):
    with pytest.raises(ValueError, match=f"column 'page'.*{says}"):
        WIKITEXT.to_sample(row, RowContext("wikitext-2-raw-v1", 0))


@pytest.mark.parametrize("wish", [{"system_prompt": "Be good."}, {"prompt_template": "{text}"}, {"few_shot_num": 1}])
def test_what_would_have_no_effect_is_refused(wish):
    with pytest.raises(InvalidInput, match=f"benchmarks.wikitext.{next(iter(wish))} "):
        validate_spec(WIKITEXT, dataclasses.replace(BenchmarkSpec("wikitext"), **wish))
