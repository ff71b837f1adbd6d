from fractions import Fraction

import pytest

from evalmesh.scoring.numbers import last_number, parse_number, read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-18", -18),
        ("\u221218", -18),
        ("+18", 18),
        ("18.", 18),
        (" **18** ", 18),
        ("018", 18),
        ("1,234", 1234),
        ("1,234,567.50", Fraction(2469135, 2)),
        ("1,000.50", Fraction(2001, 2)),
        ("1{,}000", 1000),
        ("10\u202f000", 10000),
        ("$5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("\\$5.00", 5),
        ("£5", 5),
        ("€5", 5),
        ("$18$", 18),
        ("50%", 50),
        ("50\\%", 50),
        ("50 percent", 50),
        ("18 dollars", 18),
        ("18 km/h", 18),
        ("5kg", 5),
        ("18^\\circ", 18),
        ("18\\text{ cm}^2", 18),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac34", Fraction(3, 4)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("4 and 2/3", Fraction(14, 3)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        (".5", Fraction(1, 2)),
        ("\\text{18}", 18),
        ("1e3", 1000),
        ("1.5 \\times 10^{3}", 1500),
        ("2.5 million", 2500000),
        ("3 thousand dollars", 3000),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "eighteen", "1,2,3", "3:00", "12x", "5 + 3", "1/0", "\\frac{1}{0}", "18 or 19", "5 and 6", "2^10", "9" * 500],
)
def test_what_is_not_one_number_is_none(text):
    assert parse_number(text) is None


GROUPED = [
    "118,000", "118 000", "118\u202f000", "118\u00a0000", "118\u2009000", "118{,}000", "118,\\!000", "118\\,000",
    "118\\ 000", "118\\;000", "118~000", "118'000", "118\u2019000", "1,18,000",
    "\uff11\uff11\uff18\uff10\uff10\uff10", "118\uff0c000", "\uff11\uff11\uff18,\uff10\uff10\uff10", "118 000.00",
]  # fmt: skip


@pytest.mark.parametrize("text", GROUPED)
@pytest.mark.parametrize("sign", ["", "-", "\u2212", "\u2013", "\u2010", "\u2011", "\uff0d", "negative ", "Minus "])
def test_digits_are_grouped_in_every_way_and_no_sign_is_lost(text, sign):
    assert parse_number(sign + text) == (-118000 if sign else 118000)
    assert parse_number(f"{sign}{text} kg") == (-118000 if sign else 118000)


MONEY = [
    "$20.00", "\\$20", "US$20", "US\\$20", "HK$ 20", "Rs. 20", "Rs 20", "Rs.20", "\\text{Rs. }20", "\u20b920",
    "20 \u20ac", "20\u20ac", "\u00a320", "20\u5143", "20 \u5143", "20\u5186", "\u00a520", "20\uc6d0",
    "20 \u0440\u0443\u0431.", "20\u20bd", "USD 20", "20 USD", "INR 20", "20.00 EUR", "20$", "20\\text{ dollars}",
    "20 kr", "$20 per day", "$20/day", "20/\\text{day}", "20 a day",
]  # fmt: skip


@pytest.mark.parametrize("text", MONEY)
def test_money_is_its_amount_in_any_currency(text):
    assert parse_number(text) == 20
    if text[0] not in "2IU":
        assert parse_number("-" + text) == -20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("- 5", -5),
        ("(-5)", -5),
        ("-**5**", -5),
        ("\\approx 18", 18),
        ("\u2248 18", 18),
        ("about 18", 18),
        ("\u7ea618\u5143", 18),
        ("\u8d1f5", -5),
        ("3\u4e07\u5143", 30000),
        ("2.5 \u043c\u043b\u043d", 2500000),
        ("18\u4e2a\u82f9\u679c", 18),
        ("18\uac1c", 18),
        ("18 m/s^2", 18),
        ("18 cm2", 18),
        ("18 km/h", 18),
        ("18\u00b0C", 18),
        ("18^{\\circ}", 18),
        ("18\\,\\text{cm}", 18),
        ("18~\\text{hours}", 18),
        ("18\\quad\\mathrm{cm}^{2}", 18),
        ("[18]", 18),
        ("\u300c18\u300d", 18),
        ("<b>18</b> apples", 18),
        ("**18** *apples*", 18),
        ("\\textbf{\\text{18}}", 18),
        ("\\\\frac{1}{2}", Fraction(1, 2)),
    ],
)
def test_words_and_marks_around_a_number_do_not_change_it(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["12ab", "12\u03c0", "12 pi", "3!", "40_9", "x = 5", "5\u00b12", "\u00b15", "5-year", "2**3"]
)
def test_products_factorials_and_bases_are_no_single_number(text):
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 * 6 = 18 cm^2", "18"),
        ("3 * 6 = 18 cm^{2}", "18"),
        ("18 m s^-2", "18"),
        ("it has 1 250 kg", "1 250"),
        ("\u4e00\u5171\u82b1\u4e8618\u5143\u3002", "18"),
        ("that leaves \u20135", "\u20135"),
        ("between 10\u201312", "12"),
        ("a total of -**5**", "-5"),
        ("so x_1 = 4", "4"),
        ("none", None),
    ],
)
def test_the_last_number_is_no_exponent_and_keeps_its_sign(text, number):
    assert last_number(text) == number
