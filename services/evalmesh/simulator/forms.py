"""How replies are worded, from plain to awkward. `@` stands for the value, `~` for the option's text.

No sentence here has a digit or a lone capital letter, so that none is taken for an answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """One way to say an answer."""

    level: float
    """The awkwardness from which on it is used: 0 for the plainest, up to 1."""
    template: str
    grouped: bool = False
    """Thousands separators; only for whole numbers that have thousands."""
    currency: bool = False
    """Only for numbers that are not negative."""
    lone: bool = False
    """The answer is the whole reply: no reasoning before it."""

    @property
    def needs_text(self) -> bool:
        """Whether the option's text must be speakable."""
        return "~" in self.template


NUMBER_FORMS = (
    Form(0.0, "The answer is @"),
    Form(0.0, "#### @"),
    Form(0.1, "So the final answer is \\boxed{@}."),
    Form(0.2, "The answer is @."),
    Form(0.2, "**@**"),
    Form(0.3, "**Answer: @**"),
    Form(0.3, "@", lone=True),
    Form(0.4, "The answer is @.", grouped=True),
    Form(0.4, "$$\\boxed{@}$$"),
    Form(0.5, "That makes $@.", currency=True),
    Form(0.5, "ANSWER: @"),
    Form(0.5, "In total: @ units."),
    Form(0.6, "**$@**", grouped=True, currency=True),
    Form(0.7, "The answer is @. Every step was checked once more."),
    Form(0.7, "#### $@", grouped=True, currency=True),
    Form(0.8, "\\boxed{@}", grouped=True),
    Form(0.9, "\\boxed{\\$@}", currency=True),
)

CHOICE_FORMS = (
    Form(0.0, "ANSWER: @"),
    Form(0.1, "The answer is (@)."),
    Form(0.2, "The answer is @."),
    Form(0.3, "Answer: **@**"),
    Form(0.3, "@", lone=True),
    Form(0.4, "**@**"),
    Form(0.5, "So the final answer is \\boxed{@}."),
    Form(0.5, "ANSWER: @\n\nThat settles the question."),
    Form(0.6, "**Answer:** (@)"),
    Form(0.7, "The answer is @) ~"),
    Form(0.8, "**@) ~**"),
    Form(0.9, "The correct option is: ~"),
)

TEXT_FORMS = (
    Form(0.0, "ANSWER: @"),
    Form(0.1, "The answer is: @"),
    Form(0.3, "@", lone=True),
    Form(0.4, "Answer: **@**"),
    Form(0.5, "The final answer is \\boxed{@}."),
)

REASONING = (
    "Start with what is given and keep only what the question needs.",
    "Each quantity follows from the one before it, so go through them in order.",
    "First note which facts matter, then combine them step by step.",
    "Reading the question twice shows what is really wanted.",
    "Put the known facts side by side and see what they force.",
    "The wording leaves only one reading that fits everything given.",
    "Work forward from the start and check the result against the wording.",
)

AWKWARD_REASONING = (
    "One could stop at @ here, but that skips part of the question.",
    "At first sight @ looks tempting; it does not survive the check.",
)

NO_ANSWER = (
    "This cannot be settled from what is given, so no result is offered.",
    "More would have to be known before anything could be said here.",
    "It remains unclear what the question wants, and any guess would be empty.",
)

CUT_OFF = (
    "Let us go through it slowly. To begin with, the first thing to see is that the",
    "Before any result can be given, each part needs to be looked at, and the next part is",
)

GENERIC = (
    "This simulated model knows no benchmark question in that prompt, so here are a few words instead.",
    "There is nothing here that this simulated model has learnt, and it says so plainly.",
)

FILLER = (
    "then",
    "the",
    "next",
    "step",
    "follows",
    "from",
    "the",
    "last",
    "and",
    "nothing",
    "else",
    "is",
    "needed",
    "so",
    "we",
    "go",
    "on",
    "with",
    "care",
)
