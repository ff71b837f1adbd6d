"""Shared prefixes: texts of exactly `prefix_tokens` that many prompts begin with, so that servers can reuse them."""

from evalmesh.load_generator.prompts import draws
from evalmesh.load_generator.prompts.base import Context


class Prefixes:
    """The prefixes of one load test; which one a prompt has is drawn uniformly."""

    def __init__(self, context: Context) -> None:
        spec = context.spec
        self._choose = draws.Draws(context.seed, "prefix choice")
        texts = draws.Draws(context.seed, "prefix")
        count = max(1, spec.prefix_count) if spec.prefix_tokens else 0
        self._texts = [context.writer.part(texts, number, spec.prefix_tokens) for number in range(count)]

    def of(self, number: int) -> str:
        """The prefix of a prompt; empty where none are asked for."""
        texts = self._texts
        if len(texts) < 2:
            return texts[0] if texts else ""
        return texts[int(self._choose.uniforms(number)[draws.PREFIX] * len(texts))]
