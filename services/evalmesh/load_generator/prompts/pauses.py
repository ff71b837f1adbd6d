"""Pauses of thought between an answer and the next turn of a conversation."""

from math import log

from evalmesh.load_generator.prompts.base import Context
from evalmesh.load_generator.prompts.draws import Draws

_MOST_TURNS = 1 << 16


class Pauses:
    """Exponentially distributed around the asked mean."""

    def __init__(self, context: Context) -> None:
        asked = context.spec.turns
        self._mean_s = asked.think_mean_s if asked is not None else 0.0
        self._draws = Draws(context.seed, "think")

    def before(self, number: int, turns: int) -> list[float]:
        """Seconds before each turn of conversation `number`; none before the first."""
        if self._mean_s <= 0:
            return [0.0] * turns
        places = (number * _MOST_TURNS + turn for turn in range(1, turns))
        return [0.0, *(-self._mean_s * log(1.0 - self._draws.uniforms(place)[0]) for place in places)]
