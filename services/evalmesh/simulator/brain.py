"""From a prompt to a reply: recognise, decide, word, and cut to the request's limits."""

import hashlib
import random
from dataclasses import dataclass

from evalmesh.simulator import logprobs
from evalmesh.simulator.answers import Answer, answer_of
from evalmesh.simulator.entropy import Draws, unit
from evalmesh.simulator.knowledge import Knowledge, Match
from evalmesh.simulator.logprobs import ScoredToken
from evalmesh.simulator.render import Limits, Outcome, Reply, render
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.skill import is_right
from evalmesh.simulator.tokens import count_tokens

_MAX_REMEMBERED = 16_384


_LOOKS = frozenset({"Hi", "1 + 1 ="})


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, understood."""

    digest: bytes
    """Of the text; stands for prompts that are no sample."""
    n_tokens: int
    match: Match | None
    answer: Answer | None
    is_look: bool = False
    """Whether it is what an endpoint asks to see whether anybody is there."""

    @property
    def names(self) -> tuple[str, ...]:
        """As faults name it, the most specific name first."""
        if self.match is None:
            return (self.digest.hex(),)
        return (self.match.known.key, self.match.known.sample.id)


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """An echoed prompt with log probabilities."""

    tokens: list[ScoredToken]
    outcome: Outcome | None
    """Whether the model believes the target; only for the prompt that ends with the target, so once per sample."""


class Brain:
    """The simulated model: pure but for its memory of prompts."""

    def __init__(self, settings: SimulatorSettings, knowledge: Knowledge) -> None:
        self._settings = settings
        self._knowledge = knowledge
        self._questions: dict[bytes, Question] = {}

    def understand(self, text: str) -> Question:
        """Which sample a text asks about. Texts seen before are not searched again."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        question = self._questions.get(digest)
        if question is None:
            match = self._knowledge.match(text)
            answer = answer_of(match) if match is not None else None
            question = Question(digest, count_tokens(text), match, answer, is_look=text.strip() in _LOOKS)
            if len(self._questions) >= _MAX_REMEMBERED:
                self._questions.clear()
            self._questions[digest] = question
        return question

    def outcome(self, question: Question, seed: int) -> Outcome:
        """Right or wrong, by the skill rule."""
        if question.match is None:
            return "unknown"
        known = question.match.known
        return "right" if is_right(self._settings.skill, known.benchmark, known.sample.id, seed) else "wrong"

    def reply(self, question: Question, seed: int, limits: Limits) -> Reply:
        """What the model says."""
        answer = question.answer
        outcome = self.outcome(question, seed)
        if answer is not None and question.match is not None and question.match.contested and outcome == "wrong":
            # Copies of this question disagree on the target: only silence is wrong for all of them.
            answer = Answer(answer.kind, answer.right, (), answer.accepted)
        return render(answer, outcome, self._draws("reply", question, seed), self._settings.style, limits)

    def score(self, text: str, question: Question, seed: int) -> ScoredPrompt:
        """Log probabilities of a prompt's tokens."""
        words = (self._settings.skill.seed, question.digest.hex())
        match = question.match
        place = logprobs.continuation_of(match, text) if match is not None else None
        if match is None or place is None:
            return ScoredPrompt(logprobs.score_tokens(text, None, None, *words), None)
        index, start = place
        outcome = self.outcome(question, seed)
        targets = [ord(letter) - ord("A") for letter in match.known.sample.target if len(letter) == 1]
        believed = targets[0] if targets else 0
        if outcome == "wrong":
            others = [i for i in range(len(match.known.sample.choices)) if i not in targets]
            believed = self._draws("belief", question, seed).choice(others) if others else -1
        place_of = (start, None) if index == believed else (None, start)
        tokens = logprobs.score_tokens(text, *place_of, *words)
        return ScoredPrompt(tokens, outcome if targets[:1] == [index] else None)

    def output_tokens(self, question: Question, seed: int) -> int | None:
        """How long a reply should be, where the settings say so."""
        wanted = self._settings.output_tokens
        return None if wanted is None else max(1, round(wanted.draw(self.rng("length", question, seed, 0))))

    def rng(self, purpose: str, question: Question, seed: int, tries: int) -> random.Random:
        """Randomness for times and lengths, fixed per prompt, seed and try."""
        start = unit(self._settings.skill.seed, purpose, question.digest.hex(), seed, tries)
        return random.Random(start)  # noqa: S311 - reproducible simulation, no secret

    def _draws(self, purpose: str, question: Question, seed: int) -> Draws:
        return Draws(self._settings.skill.seed, purpose, *question.names, seed)
