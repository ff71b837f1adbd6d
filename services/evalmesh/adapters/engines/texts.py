"""What a request says, as the model's tokens: conversations, prompts, and texts whose likelihood is asked for.

For engines that hold the tokenizer themselves, one of Hugging Face's. Texts to be scored are cut into tokens as
lm-evaluation-harness cuts them (`loglikelihood` and `loglikelihood_rolling` of its HFLM), so that numbers can be held
against its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.adapters.engines.options import EngineArgs
from evalmesh.domain.content import ToolCall, ToolDefinition, media_of
from evalmesh.domain.request import Message, Request


class CannotSay(Exception):
    """The request holds what this model cannot be told: a sentence."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that are scored, and those before them; together at most one more than the context holds."""

    before: Sequence[int]
    scored: Sequence[int]


class Texts:
    """Reads requests with one tokenizer."""

    def __init__(self, tokenizer: Any, args: EngineArgs) -> None:
        """Raises `OSError` for a template's file."""
        self._tokenizer = tokenizer
        self._template = _template(args.chat_template)
        self._variables = dict(args.chat_template_kwargs)
        if args.enable_thinking is not None:
            self._variables["enable_thinking"] = args.enable_thinking
        bos = args.add_bos_token
        self._special: dict[str, bool] = {} if bos is None else {"add_special_tokens": bos}

    def variables(self, also: Mapping[str, Any]) -> dict[str, Any]:
        """Of the chat template: the engine's, and over them those of one request."""
        return {**self._variables, **also}

    def prompt(self, request: Request, variables: Mapping[str, Any]) -> list[int]:
        """Of a chat or completion request. Raises `CannotSay`."""
        if request.kind == "completion":
            return self._tokens(request.prompt, self._special)
        return self._tokens(self._conversation(request, variables), {"add_special_tokens": False})

    def _conversation(self, request: Request, variables: Mapping[str, Any]) -> str:
        if self._template is None and not getattr(self._tokenizer, "chat_template", None):
            raise CannotSay(
                "The model's tokenizer has no chat template; give one with model.args.chat_template, or ask for "
                "completions (eval_type completion)."
            )
        try:
            text = self._tokenizer.apply_chat_template(
                [_turn(message) for message in request.messages],
                tools=[as_tool(tool) for tool in request.tools] or None,
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
                **variables,
            )
        except Exception as error:  # templates are programs, and raise what they like
            raise CannotSay(f"The chat template does not take the conversation: {error}") from error
        return str(text)

    def _tokens(self, text: str, special: Mapping[str, bool]) -> list[int]:
        return list(self._tokenizer.encode(text, **special))

    def continuations(self, request: Request, most: int) -> Iterator[list[Piece]]:
        """What each continuation of a log-likelihood request is scored by; `most`: tokens that the context holds."""
        for context, continuation in request.pairs:
            if request.rolling:
                tokens = self._tokens(continuation, {"add_special_tokens": False})
                yield list(windows(tokens, self._prefix(), most))
            else:
                before, scored = self._pair(context, continuation)
                cut = max(0, len(before) + len(scored) - most - 1)
                yield [Piece(before[cut:], scored[max(0, cut - len(before)) :])] if scored else []

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Spaces at the end of the context go over to the continuation, whose first token most often holds one."""
        stripped = context.rstrip()
        context, continuation = stripped, context[len(stripped) :] + continuation
        if not context:
            scored = self._tokens(continuation, {"add_special_tokens": False})
            prefix = self._prefix()
            return (scored[:1], scored[1:]) if scored[:1] == [prefix] else ([prefix], scored)
        whole, before = self._tokens(context + continuation, self._special), self._tokens(context, self._special)
        return before, whole[len(before) :]

    def _prefix(self) -> int:
        """Stands before a text that has nothing before it."""
        for name in ("bos_token_id", "eos_token_id"):
            if (token := getattr(self._tokenizer, name, None)) is not None:
                return int(token)
        raise CannotSay("The model's tokenizer has neither a start nor an end token to stand before a text.")


def windows(tokens: Sequence[int], prefix: int, most: int) -> Iterator[Piece]:
    """Every token once: in the first window after `prefix`, in later ones after as much as there is room for."""
    at = 0
    while at < len(tokens):
        end = min(at + most, len(tokens))
        yield Piece(tokens[max(0, end - most - 1) : at] if at else [prefix], tokens[at:end])
        at = end


def _template(given: str) -> str | None:
    """A file with a template, or a template itself, which has tags and would be a strange name of a file."""
    if not given:
        return None
    return given if "{" in given else Path(given).read_text(encoding="utf-8")


def _turn(message: Message) -> dict[str, Any]:
    if media := media_of(message.content):
        raise CannotSay(f"The conversation holds {media[0].kind}, and this engine takes text only.")
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    """Templates write the arguments out themselves, from values."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def as_tool(tool: ToolDefinition) -> dict[str, Any]:
    """As templates, and OpenAI's API, have it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
