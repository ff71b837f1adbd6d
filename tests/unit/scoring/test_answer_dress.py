"""What surrounds an answer changes nothing: marks, scripts, languages, signs, sentences."""

import pytest
from judging import judge

DRESSES = [
    ("**", "**"), ("*", "*"), ("***", "***"), ("__", "__"), ("_", "_"), ("`", "`"), ("\\text{", "}"),
    ("\\mathbf{", "}"),
    ("\\textbf{", "}"), ('"', '"'), ("'", "'"), ("(", ")"), ("[", "]"), ("<b>", "</b>"), ("<strong>", "</strong>"),
    ("\u201c", "\u201d"), ("$", "$"), ("\\(", "\\)"), ("\u300c", "\u300d"), ("\u3010", "\u3011"),
]  # fmt: skip
SENTENCES = [
    "Answer: {} apples", "The answer is {} apples per day.", "So she has {} apples", "Therefore, {}.",
    "Answer:\n\n{}", "The final answer is: {}\n\nLet me know if you need 3 more.", "#### {}", "\\boxed{{{}}}",
    "<answer>{}</answer>, 3 left",
]  # fmt: skip


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize(("opening", "closing"), DRESSES)
def test_marks_around_the_number_change_nothing(sentence, opening, closing):
    for number, value in (("18", "18"), ("-18", "-18"), ("1,234.50", "1234.5")):
        assert judge(sentence.format(opening + number + closing), value).values["accuracy"] == 1.0
        assert judge(sentence.format(opening + number + closing), "4").values["accuracy"] == 0.0


@pytest.mark.parametrize(("opening", "closing"), DRESSES)
def test_marks_around_the_unit_or_both_change_nothing(opening, closing):
    for text in (
        f"Answer: 18 {opening}apples{closing}",
        f"The answer is {opening}18 apples{closing}, since 3 + 15 = 18.",
    ):
        assert judge(text, "18").values["accuracy"] == 1.0, text


@pytest.mark.parametrize("letter", ["元", "個", "개", "кг", "Ж", "ευρώ", "あ", "ก"])
def test_letters_of_any_script_may_touch_the_number(letter):
    for text in ("{0}18{0}", "Answer: 18 {0}{0}", "Answer: {0}18", "答案是18{0}\u3002"):
        assert judge(text.format(letter), "18").values["accuracy"] == 1.0, text
    assert judge(f"{letter} -5{letter}{letter}", "-5").values["accuracy"] == 1.0


STATEMENTS = [
    "答案是18元\u3002", "答案\uff1a约18元", "最终答案是 **18**\u3002", "\u3010答案\u301118", "答案应该是18个",
    "答\uff1a小明有18个苹果\u3002",
    "答えは18です\u3002", "答え\uff1a18円", "정답은 18입니다.", "답: 18개",
    "Ответ: 18 рублей.", "Ответ \u2014 18.",
    "La respuesta es 18.", "Respuesta: 18", "La réponse est 18.", "Die Antwort lautet 18.", "A resposta é 18.",
    "La risposta è 18.", "\\text{ANSWER: } \\$18", '{"answer": "18"}', '{"answer": 18, "unit": "cm"}',
    "Answer -> 18", "Answer: Rs. 18", "Answer: US$18",
]  # fmt: skip


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_in_other_languages_and_formats_are_markers(statement):
    score = judge(f"{statement}\n\n3 4", "18")
    assert (score.values["accuracy"], score.extractor) == (1.0, "answer-marker")


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{\\text{The answer is } 18}",
        "\\boxed{\\text{Answer: } 18\\text{ cm}}",
        "\\boxed{8 + 10 = 18}",
        "\\boxed{\\text{Total} = 18}",
        "\\boxed{\\text{The total is } 18}",
    ],
)
def test_a_box_may_hold_a_sentence_or_an_equation(text):
    assert judge(text, "18").values["accuracy"] == 1.0


@pytest.mark.parametrize("sign", ["-", "\u2212", "\u2013", "\u2011", "\uff0d", "negative ", "minus "])
@pytest.mark.parametrize("number", ["5", "7"])
@pytest.mark.parametrize(
    "frame",
    [
        "The answer is {}.",
        "Answer:\n{}",
        "Answer:\n\n**{}**\n",
        "### Answer\n{}",
        "#### {}",
        "\\boxed{{{}}}",
        "It is {}",
    ],
)
def test_no_sign_is_lost(sign, number, frame):
    text = frame.format(sign + number)
    assert judge(text, f"-{number}").values["accuracy"] == 1.0
    assert judge(text, number).values["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("text", "target"),
    [("Answer:\n- 5", "5"), ("Answer:\n* 5", "5"), ("Answer: - 5", "-5"), ("\\boxed{- 5}", "-5"), ("#### - 5", "-5")],
)
def test_a_dash_and_a_blank_are_a_bullet_at_the_start_of_a_line_and_a_minus_elsewhere(text, target):
    assert judge(text, target).values["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("The answer is **18** apples, not 17.", "18"),
        ("So **the answer is 18 apples**.", "18"),
        ("The answer is: **$18**/day", "18"),
        ("**Answer: $18 per day**", "18"),
        ("Answer: `18` apples", "18"),
        ("Therefore, the final answer is: **18**", "18"),
        ("**Final answer: 18**", "18"),
        ("The answer is *exactly* 18.", "18"),
        ("The answer is therefore 18.", "18"),
        ("The correct answer is 18.", "18"),
        ("My answer is 18", "18"),
        ("Final Answer: \\( 18 \\)", "18"),
        ("Final answer: $$18$$", "18"),
        ("Final Answer:\n$$\n18\n$$", "18"),
        ("Final Answer:\n\\[\n\\boxed{18}\n\\]", "18"),
        ("Answer:\n\\[ 18 \\]", "18"),
        ("The answer is\n\n18", "18"),
        ("The answer is $18$ dollars.", "18"),
        ("The answer is 18 ($2 x 9).", "18"),
        ("The answer is 3/4 cup.", "3/4"),
        ("The answer is 3/4 of a cup", "0.75"),
        ("The answer is 1 1/2 hours", "1.5"),
        ("The answer is 18 \u2013 that is all.", "18"),
        ("The answer is 18 \u2014 done", "18"),
        ("The answer is 18 - that is all", "18"),
        ("The answer is 18: nine eggs at $2", "18"),
        ("Answer: 18 = 9 * 2", "18"),
        ("Answer: 9*2 = 18", "18"),
        ("Answer: 9*2=18.", "18"),
        ("The answer is 12 + 6 = 18 apples.", "18"),
        ("Answer: x=18", "18"),
        ("Answer: Total = $18", "18"),
        ("Answer: The total is 18", "18"),
        ("Answer: 18 (eighteen)", "18"),
        ("Answer: eighteen (18)", "18"),
        ("Answer (number only): 18", "18"),
        ("The answer is approximately 18.", "18"),
        ("The answer is about $18.", "18"),
        ("Answer: ~18", "18"),
        ("Answer: \u224818 km", "18"),
        ("ANSWER:18", "18"),
        ("answer=18", "18"),
        ("answer 18", "18"),
        ("The answer is 5,000.", "5000"),
        ("Total: 1,250.75 dollars.", "1250.75"),
        ("so he pays $1,250.", "1250"),
        ("so he pays $1 250.", "1250"),
        ("It took 3 days 12 hours", "12"),
        ("in 2020 500 people", "500"),
        ("1. 5\n2. 18", "18"),
        ("costs $5 100 times: 500", "500"),
        ("he has 5, 100, 200 apples", "200"),
        ("\\boxed{x=18\\text{ cm}}", "18"),
        ("\\boxed{\\frac{36}{2}}", "18"),
        ("\\boxed{\\mathbf{18}}", "18"),
        ("\\boxed{\\$18}", "18"),
        ("\\boxed{\\text{\\$}18}", "18"),
        ("\\boxed{\\text{18 dollars}}", "18"),
        ("\\boxed{18\\%}", "18"),
        ("\\boxed{18.}", "18"),
        ("\\boxed{ 18 }", "18"),
        ("\\boxed{{18}}", "18"),
        ("\\boxed{\\displaystyle 18}", "18"),
        ("\\boxed{\\left(18\\right)}", "18"),
        ("\\boxed{\\$18\\text{ per day}}", "18"),
        ("\\boxed{18 \\text{ (dollars)}}", "18"),
        ("\\boxed{18\\ \\text{(cm)}}", "18"),
        ("\\boxed{\\text{Rs. }18}", "18"),
        ("\\boxed{\\text{Answer} = 18}", "18"),
        ("\\boxed{\\textbf{18}\\text{ cm}}", "18"),
        ("\\boxed{18\\ cm}", "18"),
        ("\\boxed{18\\text{cm}^{-1}}", "18"),
        ("\\boxed{18\\;\\mathrm{m/s}}", "18"),
        ("\\boxed{\\approx 18\\text{ cm}}", "18"),
        ("\\boxed{V = 18\\pi}", "18\\pi"),
        ("\\boxed{A = 36\\pi \\text{ cm}^2}", "36\\pi"),
        ("\\boxed{a = 2, b = 3}", "2,3"),
        ("\\boxed{2 \\text{ and } 3 \\text{ cm}}", "2,3"),
        ("\\boxed{-2 \\text{ and } 2}", "\\pm 2"),
        ("\\boxed{x = 2 \\text{ or } 3}", "2,3"),
        ("\\boxed{x_1 = 2, x_2 = 3}", "2,3"),
        ("\\boxed{x_{1}=2,\\ x_{2}=3}", "2,3"),
        ("\\boxed{x=2; x=3}", "3,2"),
        ("\\boxed{2\\quad\\text{and}\\quad 3}", "2,3"),
        ("\\boxed{\\{2, 3\\}}", "3,2"),
        ("\\boxed{2}\\text{ and }\\boxed{3}", "3"),
        ("\\boxed{\\text{(C)}}", "C"),
        ("\\boxed{\\text{even}}", "\\text{even}"),
        ("\\boxed{even}", "\\text{even}"),
        ("\\boxed{\\text{ Even }}", "even"),
        ("\\boxed{\\text{Tuesday}}", "Tuesday"),
        ("\\boxed{0.\\overline{3}}", "0.\\overline{3}"),
        ("\\boxed{\\overline{AB}}", "\\overline{AB}"),
        ("\\boxed{10 \\frac{1}{2}}", "10.5"),
        ("\\boxed{-\\frac{3}{4}}", "\\frac{-3}{4}"),
        ("\\boxed{-3/4}", "-\\frac{3}{4}"),
        ("\\boxed{\\frac{3}{-4}}", "-\\frac{3}{4}"),
        ("\\boxed{3\\sqrt{2}/2}", "\\frac{3\\sqrt{2}}{2}"),
        ("\\boxed{x^{2} + 2x + 1}", "x^2+2x+1"),
        ("\\boxed{y=x^2}", "x^2"),
        ("\\boxed{(x - 1)^2 + (y + 2)^2 = 9}", "(x-1)^2+(y+2)^2=9"),
        ("\\boxed{x+y=3}", "y = 3 - x"),
        ("\\boxed{x+y=3}", "3"),
        ("\\boxed{\\cot x}", "\\frac{1}{\\tan x}"),
        ("\\boxed{\\sin^2 x + \\cos^2 x}", "1"),
        ("\\boxed{\\log 100}", "2"),
        ("\\boxed{\\log_{10}100}", "2"),
        ("\\boxed{\\ln(e)}", "1"),
        ("\\boxed{e^{i\\pi}}", "-1"),
        ("\\boxed{2^{-1}}", "0.5"),
        ("\\boxed{\\lfloor 2.5 \\rfloor}", "2"),
        ("\\boxed{\\left\\lfloor 2.5\\right\\rfloor}", "2"),
        ("\\boxed{\\lceil 2.5 \\rceil}", "3"),
        ("\\boxed{|{-5}|}", "5"),
        ("\\boxed{\\left| -5 \\right|}", "5"),
        ("\\boxed{a^2-b^2}", "(a-b)(a+b)"),
        ("\\boxed{\\dbinom{5}{2}}", "10"),
        ("\\boxed{10 : 4}", "10:4"),
        ("\\boxed{\\sqrt{-4}}", "2i"),
        ("\\boxed{[2, \\infty)}", "[2,\\infty)"),
        ("\\boxed{x \\geq 2}", "[2,\\infty)"),
        ("\\boxed{x\\ge2}", "x\\geq 2"),
        ("\\boxed{x\\neq 3}", "x \\ne 3"),
        ("\\boxed{\\mathbb{R} \\setminus \\{1\\}}", "\\mathbb{R}\\setminus\\{1\\}"),
        ("\\boxed{(-\\infty,1)\\cup(1,\\infty)}", "(-\\infty,1)\\cup (1,\\infty)"),
        ("\\boxed{f(x) = 2x+3}", "f(x)=2x + 3"),
        ("\\boxed{\\begin{pmatrix}1\\\\-1\\end{pmatrix}}", "\\begin{pmatrix} 1 \\\\ -1 \\end{pmatrix}"),
        ("\\boxed{\\langle 1,2\\rangle}", "\\langle 1, 2 \\rangle"),
        ("\\boxed{60^{\\circ}}", "60"),
        ("\\boxed{60\\degree}", "60^\\circ"),
        ("\\boxed{\\frac{\\pi}{3}}", "\\pi/3"),
        ("\\boxed{1.0\\times10^{3}}", "1000"),
        ("\\boxed{5\\times 10^{-3}}", "0.005"),
        ("\\boxed{12{,}500}", "12500"),
        ("\\boxed{12\\,500\\text{ m}}", "12500"),
        ("\\boxed{\\text{12 500}}", "12500"),
        ("\\boxed{3 + 4i}", "4i+3"),
        ("\\boxed{4_5}", "4_5"),
        ("\\boxed{1010_2}", "1010_{2}"),
    ],
)
def test_an_everyday_right_answer_is_right(text, target):
    assert judge(text, target).values["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("The answer is half.", "0.5"),
        ("The answer is 2,5", "2.5"),
        ("The answer is 1.234.567", "1234567"),
        ("\\boxed{18 \\text{ or } 18}", "18"),
        ("\\boxed{a = 3, b = 2}", "2,3"),
        ("\\boxed{11:30\\text{ a.m.}}", "11:30"),
        ("x18", "18"),
        ("\\boxed{1010_{2}}", "1010"),
        ("\\boxed{x = n}", "x"),
    ],
)
def test_an_everyday_wrong_answer_is_wrong(text, target):
    assert judge(text, target).values["accuracy"] == 0.0
