"""Rules of the whole search: neither the label, nor the script around it, nor emphasis changes what is read."""

from hypothesis import given, settings
from hypothesis import strategies as st

from evalmesh.scoring.choice import extract_choice

LABELS = "ABCDEFGHIJ"
EXPLICIT = ("letter", "boxed", "answer-marker")

statements = st.sampled_from(
    (
        "ANSWER: {}",
        "The answer is {}.",
        "**Answer:** {}",
        "答案是{}。",
        "故选{}。",
        "答えは{}です。",
        "정답은 {}입니다.",
        "Ответ: {}",
    )
)
dressings = st.sampled_from(
    (
        "{}",
        "({})",
        "[{}]",
        "**{}**",
        "*{}*",
        "`{}`",
        '"{}"',
        "“{}”",
        "「{}」",
        "$\\text{{{}}}$",
        "<b>{}</b>",
        "**({})**",
    )
)
before = st.sampled_from(("", "因此\uff0c", "そして、", "그래서 ", "Итак, ", "Άρα ", "Tin is light.\n\n", "锡很轻。\n"))
after = st.sampled_from(
    ("", "。", " 因为它重。", "だ", " 네", " да", " ξδ", "\n锡很轻。", "\n\nTin is light, zinc is not heavy.")
)
reasoning = st.sampled_from(
    (
        "Let us weigh them. A cup of tin is light, and zinc is not much heavier than tin. I know of no lighter one. ",
        "Option A is light. Option B is heavy for its size, and option C is not. Compare D and E with each other. ",
        "锡很轻\uff0c锌也不重。我们再比较 A 和 B 两个选项\uff0c看看哪一个更重。",
        "Consider each option:\n\nA) tin: light and soft.\n\nB) lead: heavy and soft.\n\nC) zinc: not heavy.\n\n",
    )
)


@settings(max_examples=150, deadline=None)
@given(label=st.sampled_from(LABELS), statement=statements, dressing=dressings, lead=before, trail=after)
def test_statement_dressing_and_script_leave_the_label_alone(label, statement, dressing, lead, trail):
    text = lead + statement.format(dressing.format(label)) + trail
    found = extract_choice(text, LABELS)
    assert found is not None
    assert found.answer == label


@settings(max_examples=150, deadline=None)
@given(
    reason=reasoning,
    statement=st.sampled_from(
        ("ANSWER: {}", "The answer is {}.", "I choose {} here.", "It must be {}, I think.", "故选{}。")
    ),
    label=st.sampled_from(LABELS),
    tenth=st.integers(1, 9),
)
def test_a_reply_that_breaks_off_is_credited_by_explicit_rules_alone(reason, statement, label, tenth):
    whole = reason + statement.format(label)
    cut = whole[: len(whole) * tenth // 10]
    found = extract_choice(cut, LABELS)
    if found is not None:
        assert cut.rstrip().endswith(label)  # only what stood at the very end, and was said
        assert len(cut) > len(reason)
    limited = extract_choice(whole, LABELS, cut=True)
    assert limited is None or limited.extractor in EXPLICIT


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=120), label=st.sampled_from("BCDEFGHJ"))
def test_swapping_two_labels_in_any_text_swaps_them_in_what_is_read(text, label):
    """With A for another label, whatever surrounds it: no rule knows one letter from another."""
    text = f"{text} ({label}) {text}. The answer is {label}"
    swap = str.maketrans(f"A{label}", f"{label}A")
    one, other = extract_choice(text, LABELS), extract_choice(text.translate(swap), LABELS)
    assert (one and one.answer.translate(swap)) == (other and other.answer)


@given(st.text(alphabet="ABCDI ().,:*\n答案是选不或orand notisanwe", max_size=60))
def test_no_text_breaks_the_search(text):
    found = extract_choice(text, "ABCD", ("tin", "lead", "zinc", "A dog"))
    assert found is None or found.answer in "ABCD"
