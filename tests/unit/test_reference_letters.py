"""Recorded replies to multiple-choice questions: the published letters, and no letter before there is one.

Where we differ from the published letter, a row belongs to one of these:
  several   The reply names several letters ("the answer is (A) and (C)"). The published rule takes one, we none.
  unstated  No sentence says what the answer is. The published rule takes the last capital letter, or draws one.
  absent    The letter that is named is not among the options, or there is none behind "Answer:".
  first     The reply answers several questions. The published rule takes the first answer of the text, we the last.
  text      The reply names an option by its text ("Answer: AC"). The published rule looks for letters in it.
  stricter  The published rule knows fewer ways to say it ("or answer (E)", the option's text) and finds nothing.
"""

import ast
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from evalmesh.scoring.choice import ALPHABET, extract_choice

pytestmark = pytest.mark.shared_data


class Reply(NamedTuple):
    text: str
    labels: str
    choices: tuple[str, ...]
    published: str | None


BBH_TASKS = (
    "date_understanding",
    "geometric_shapes",
    "logical_deduction_five_objects",
    "logical_deduction_three_objects",
    "reasoning_about_colored_objects",
    "salient_translation_error_detection",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_three_objects",
)


def rows_of(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def mmlu_pro(folder: Path, model: str) -> Iterator[Reply]:
    """The recorded rows have no option texts."""
    for row in rows_of(folder / "mmlu_pro" / f"ref_{model}_5shots.jsonl.gz"):
        yield Reply(row["model_outputs"], ALPHABET[: row["n_options"]], (), row["pred"])


def mmmu_pro(folder: Path) -> Iterator[Reply]:
    for row in rows_of(folder / "mmmu_pro" / "ref_gpt-4o_standard10_cot.jsonl.gz"):
        choices = tuple(map(str, ast.literal_eval(row["options"])))
        yield Reply(row["response"], ALPHABET[: len(choices)], choices, row["pred_indexs"])


def bbh(folder: Path) -> Iterator[Reply]:
    for task in BBH_TASKS:
        recorded = json.loads((folder / "bbh" / "ref_code-davinci-002-cot" / f"{task}.json").read_text())["outputs"]
        asked = json.loads((folder / "bbh" / f"{task}.json").read_text())["examples"]
        for output, question in zip(recorded, asked, strict=True):
            choices = tuple(re.findall(r"^\([A-Z]\) (.*)$", question["input"], re.MULTILINE))
            named = re.search(r"the answer is \(([A-Z])\)", output["prediction"])
            yield Reply(output["prediction"], ALPHABET[: len(choices)], choices, named and named[1])


def read(reply: Reply) -> str | None:
    found = extract_choice(reply.text, reply.labels, reply.choices)
    return found and found.answer


SEVERAL = re.compile(r"(?i)answers?(?: is| are|:)[^.\n]{0,40}\(?\b[A-J]\)?(?:,| and| or) \(?[A-J]\b")
STATED = re.compile(r"(?i)answer(?:s)?(?: is|:)")


def reason(reply: Reply, letter: str | None) -> str:
    if SEVERAL.search(reply.text):
        return "several"
    if reply.published is None:
        return "stricter"
    statements = re.findall(r"(?i)answer(?: is|:) ?\(?([A-Z]+)\b", reply.text)
    if statements and statements[-1] not in reply.labels:
        return "absent"
    if letter and len(set(statements)) > 1:
        return "first"
    return "unstated" if not STATED.search(reply.text) else "other"


@pytest.mark.parametrize(
    ("model", "n_equal", "n_published", "reasons"),
    [
        ("Mistral-7B-v0.1", 12_007, 10_781, {"several": 17, "stricter": 5, "first": 2, "absent": 1}),
        ("jamba-1.5-large", 11_884, 11_976, {"unstated": 134, "several": 13, "absent": 1}),
    ],
)
def test_mmlu_pro_letters_are_the_published_ones(shared_data, model, n_equal, n_published, reasons):
    replies = list(mmlu_pro(shared_data, model))
    letters = [read(reply) for reply in replies]
    differ = [(reply, letter) for reply, letter in zip(replies, letters, strict=True) if letter != reply.published]
    assert len(replies) - len(differ) == n_equal
    assert sum(reply.published is not None for reply in replies) == n_published
    assert Counter(reason(*pair) for pair in differ) == reasons


MMMU_PRO_DIFFERENT = {
    "test_Architecture_and_Engineering_392": "the published rule reads the bracket: Answer: G (Stations A and B ...)",
    "test_Architecture_and_Engineering_413": "absent",
    "test_Accounting_13": "absent",
    "validation_Accounting_29": "absent",
    "validation_Materials_19": "unstated: the published rule draws a letter although the reply says Answer: J",
    "test_Physics_16": "several",
    "validation_Music_13": "text",
    "test_Chemistry_362": "several: Answer: A. (D)",
}


def test_mmmu_pro_letters_are_the_published_ones(shared_data):
    """952 of 1,730 are right as published, 953 here."""
    replies = list(mmmu_pro(shared_data))
    letters = [read(reply) for reply in replies]
    rows = rows_of(shared_data / "mmmu_pro" / "ref_gpt-4o_standard10_cot.jsonl.gz")
    gold = [(row["id"], row["answer"], row["if_right"]) for row in rows]
    assert sum(right for _, _, right in gold) == 952
    assert sum(answer == letter for (_, answer, _), letter in zip(gold, letters, strict=True)) == 953
    assert {gold[i][0] for i, reply in enumerate(replies) if letters[i] != reply.published} == set(MMMU_PRO_DIFFERENT)


def test_bbh_letters_are_the_published_ones_where_they_are_options(shared_data):
    replies = list(bbh(shared_data))
    differ = [reply for reply in replies if read(reply) != reply.published]
    assert (len(replies), len(differ)) == (2000, 4)
    assert all(reply.published not in reply.labels for reply in differ)


STATEMENT = re.compile(
    r"(?i)answer|(?:correct|right|best|closest|suitable|fitting|appropriate|likely|accurate|false"
    r"|incorrect|only|supported)\s"
    r"(?:option|choice|statement|solution|match|term|fit|one|diagnosis)"
    r"|(?:match(?:es|ing)|corresponds? to|closest to|consistent with)\s"
    r"|(?:\bis|\bare|\bbe|\bwith|\bby)[: \n*\"(]{1,6}(?:option )?[A-J][).:*\n]"
)


def cuts(reply: Reply, rng: Random) -> Iterator[Reply]:
    """The reply up to the sentence that first says what the answer is, and up to four places before that."""
    statement = STATEMENT.search(reply.text)
    end = statement.start() if statement else len(reply.text)
    if statement:
        end = max(reply.text.rfind("\n", 0, end), reply.text.rfind(". ", 0, end), -1) + 1
    if end >= 40:
        for at in (end, *(rng.randrange(20, end) for _ in range(4))):
            yield reply._replace(text=reply.text[:at])


@pytest.mark.parametrize(
    ("name", "step"), [("Mistral-7B-v0.1", 10), ("jamba-1.5-large", 4), ("mmmu_pro", 3), ("bbh", 4)]
)
def test_a_reply_cut_off_before_its_answer_has_none(shared_data, name, step):
    """At most 1 in 400 gets a letter: less than any rule that guesses."""
    every = {"mmmu_pro": mmmu_pro(shared_data), "bbh": bbh(shared_data)}.get(name) or mmlu_pro(shared_data, name)
    rng = Random(20)
    short = [cut for reply in islice(every, 0, None, step) for cut in cuts(reply, rng)]
    found = [cut for cut in short if read(cut)]
    assert len(short) > 2000
    assert len(found) <= len(short) / 400, (len(found), len(short), [cut.text[-80:] for cut in found[:40]])
