"""From requests to tokens and from tokens to text: the tokenizer, its chat template, and what lm-eval agreed on."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from evalmesh.adapters.engines.engine import EngineError
from evalmesh.adapters.engines.options import EngineArgs
from evalmesh.domain.content import ToolDefinition, media_of
from evalmesh.domain.request import GenerationConfig, Message, Request

_MARK = "evalmesh-probe"
_MOST_SAID = 400
_BEFORE = 6
"""Tokens of the prompt that are looked at to tell whether the answer begins with a blank."""


class Refused(Exception):
    """This request cannot be answered as it is: a sentence for whoever asked."""


def load_tokenizer(name: str, args: EngineArgs) -> Any:
    """That of the model, or the one that the options name. Raises `EngineError`."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and only in the child

    code: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
    if args.revision and not args.tokenizer:
        code["revision"] = args.revision
    if args.add_bos_token is not None:
        code["add_bos_token"] = args.add_bos_token
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer or name, **code)
    except Exception as error:
        raise EngineError(
            f"The tokenizer of {args.tokenizer or name!r} cannot be loaded: {said_by(error)}; --model-args "
            "tokenizer=FOLDER names another.",
            "model.args.tokenizer" if args.tokenizer else "model.model",
        ) from error
    if args.chat_template:
        tokenizer.chat_template = _template(args.chat_template)
    return tokenizer


def _template(given: str) -> str:
    """The text of a template, or of the file that has it."""
    if "{" in given:
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"model.args.chat_template is {given!r}, which is neither a template nor a file that can be read: {error}",
            "model.args.chat_template",
        ) from error


def said_by(error: Exception) -> str:
    """The first lines of what a library says, as one."""
    text = " ".join(str(error).split())
    return f"{text[:_MOST_SAID]}…" if len(text) > _MOST_SAID else text or type(error).__name__


class Texts:
    """One tokenizer. Its methods may be called in several threads."""

    def __init__(self, tokenizer: Any, args: EngineArgs, *, forces_calls: bool = False) -> None:
        """`forces_calls`: whether the engine can make the model call a tool."""
        self._tokenizer = tokenizer
        self._forces_calls = forces_calls
        self._add_bos = args.add_bos_token
        self._variables = dict(args.chat_template_kwargs)
        if args.enable_thinking is not None:
            self._variables["enable_thinking"] = args.enable_thinking
        self._lock = threading.RLock()
        self._pieces: dict[int, str] = {}
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._bos: int | None = bos
        self.prefix: int | None = bos if bos is not None else eos
        """What stands before a text that nothing stands before, as in lm-eval: BOS, else EOS."""
        self._prefix_text = tokenizer.decode([self.prefix]) if self.prefix is not None else None
        self.chats = bool(tokenizer.chat_template)
        """Whether there is a chat template."""
        self.takes_tools = self.chats and self._shows(tools=True)
        self._takes_system = self.chats and self._shows(tools=False)

    def _shows(self, *, tools: bool) -> bool:
        """Whether the template says a tool, or a system message, that it is given."""
        ask = {"role": "user", "content": "x"}
        tool = {"type": "function", "function": {"name": _MARK, "description": _MARK, "parameters": {}}}
        turns = [ask] if tools else [{"role": "system", "content": _MARK}, ask]
        try:
            return _MARK in self._render(turns, [tool] if tools else None, self._variables)
        except Exception:  # noqa: BLE001 - templates are programs of others: whatever they raise is a no
            return False

    # Prompts

    def prompt(self, request: Request, config: GenerationConfig) -> list[int]:
        """Tokens of a chat or of a text. Raises `Refused`."""
        if request.kind != "chat":
            return self.encode(request.prompt) or self._prefixed()
        if not self.chats:
            raise Refused(
                "The tokenizer has no chat template; give one with --model-args chat_template=FILE, or ask in plain "
                "text with --request-kind completion."
            )
        turns = [_turn(message) for message in request.messages]
        tools = self._tools(request)
        if not self._takes_system:
            turns = _folded(turns)
        try:
            text = self._render(turns, tools, self.variables(config))
        except Exception as error:
            # Templates are programs of others.
            said = " ".join(str(error).split()) or type(error).__name__
            kind = "refuses" if isinstance(error, TemplateError) else "fails with"
            raise Refused(f"The chat template {kind} these messages: {said}") from error
        with self._lock:
            return list(self._tokenizer.encode(text, add_special_tokens=False))

    def variables(self, config: GenerationConfig) -> dict[str, Any]:
        """Of the chat template: those of the engine, and over them those of the request. Raises `Refused`."""
        given = config.extra_body.get("chat_template_kwargs") or {}
        if not isinstance(given, Mapping):
            raise Refused(f"extra_body.chat_template_kwargs is {given!r}; give an object.")
        found = {**self._variables, **given}
        if config.reasoning_effort is not None:
            found.setdefault("reasoning_effort", config.reasoning_effort)
        return found

    def _render(self, turns: list[dict[str, Any]], tools: Any, variables: Mapping[str, Any]) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                turns, tools=tools, add_generation_prompt=True, tokenize=False, **variables
            )
        )

    def _tools(self, request: Request) -> list[dict[str, Any]] | None:
        if not request.tools or request.tool_choice == "none":
            return None
        if not self.takes_tools:
            raise Refused("The chat template takes no tools; give one that does with --model-args chat_template=FILE.")
        if request.tool_choice not in ("", "auto") and not self._forces_calls:
            raise Refused(
                f"tool_choice {request.tool_choice!r} needs decoding that is held to a form, which this engine does "
                "not have here; use auto, or --engine vllm with --model-args tool_call_parser=NAME."
            )
        return [as_tool(tool) for tool in request.tools]

    def encode(self, text: str) -> list[int]:
        """As the tokenizer does it by itself, or as `add_bos_token` says; never a second start token."""
        starts = bool(self._prefix_text) and text.startswith(self._prefix_text or "")
        with self._lock:
            if starts or self._add_bos is False:
                return list(self._tokenizer.encode(text, add_special_tokens=False))
            ids = list(self._tokenizer.encode(text))
        if self._add_bos and self._bos is not None and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
        return ids

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both, cut where lm-eval cuts them, so that the sums are the same. Raises `Refused`."""
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        if context:
            before = self.encode(context)
            return before, self.encode(context + continuation)[len(before) :]
        with self._lock:
            after = list(self._tokenizer.encode(continuation, add_special_tokens=False))
        prefix = self._prefixed()
        return (prefix, after[1:]) if after[:1] == prefix else (prefix, after)

    def _prefixed(self) -> list[int]:
        if self.prefix is None:
            raise Refused("The prompt is empty, and the tokenizer has neither a BOS nor an EOS token to begin with.")
        return [self.prefix]

    def windows(self, text: str, context: int) -> list[tuple[list[int], list[int]]]:
        """Pairs that predict every token of the text once, each with as much before it as there is room for."""
        tokens = self.encode(text)
        first = tokens[:context]
        found = [(self._prefixed(), first)] if first else []
        done = len(first)
        while done < len(tokens):
            end = min(len(tokens), done + context)
            found.append((tokens[end - context - 1 : done], tokens[done:end]))
            done = end
        return found

    # Answers

    def decode(self, tokens: Sequence[int], *, keep_special: bool = False) -> str:
        """Plain text of them."""
        with self._lock:
            return str(
                self._tokenizer.decode(
                    list(tokens), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False
                )
            )

    def answer(self, prompt: Sequence[int], said: Sequence[int], *, keep_special: bool = False) -> str:
        """The text of what was said: what all has more than the prompt, for some tokenizers drop a first blank."""
        before = list(prompt[-_BEFORE:])
        start = self.decode(before, keep_special=keep_special)
        whole = self.decode([*before, *said], keep_special=keep_special)
        return whole[len(start) :] if whole.startswith(start) else self.decode(said, keep_special=keep_special)

    def piece(self, token: int) -> str:
        """The text of one token; bytes that are no character are U+FFFD."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self.decode([token], keep_special=True)
        return found


def as_tool(tool: ToolDefinition) -> dict[str, Any]:
    """As OpenAI's API, and so templates, have it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _turn(message: Message) -> dict[str, Any]:
    if media := media_of(message.content):
        raise Refused(f"This engine takes text only, and a message holds {media[0]}.")
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _arguments(text: str) -> Any:
    """Templates write JSON of what they are given; what is none is given as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _folded(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What system messages say stands before the next user message, for templates that know no system."""
    found: list[dict[str, Any]] = []
    held: list[str] = []
    for turn in turns:
        if turn["role"] == "system":
            held.append(turn["content"])
            continue
        if held and turn["role"] == "user":
            turn = {**turn, "content": "\n\n".join([*held, turn["content"]])}  # noqa: PLW2901
            held = []
        found.append(turn)
    return [*found, *({"role": "user", "content": text} for text in held)]
