"""vLLM's own parsers, which take thinking and calls of tools out of what a model wrote."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalmesh.adapters.engines.engine import EngineError
from evalmesh.adapters.engines.texts import as_tool
from evalmesh.domain.content import ToolCall
from evalmesh.domain.request import Request


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer in its parts."""

    text: str
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class Reading:
    """One request and the parser of its answer."""

    def __init__(self, parser: Any, request: Any) -> None:
        """`request`: as vLLM's server would have it."""
        self._parser = parser
        self._request = parser.adjust_request(request)

    @property
    def sampling(self) -> dict[str, Any]:
        """What the parser needs: marks that are special tokens must be seen, and a tool that must be called is."""
        wanted = {"skip_special_tokens": self._request.skip_special_tokens}
        forced = self._request.structured_outputs
        return wanted if forced is None else {**wanted, "structured_outputs": forced}

    def generating(self, prompt: Sequence[int], template: Mapping[str, Any]) -> dict[str, Any]:
        """For `generate`: guided decoding begins where thinking ends."""
        if self._parser.reasoning_parser is None:
            return {}
        return {
            "reasoning_ended": self._request.resolve_reasoning_ended(self._parser, list(prompt)),
            "reasoning_parser_kwargs": {"chat_template_kwargs": dict(template)},
        }

    def read(self, text: str, token_ids: Sequence[int], prompt: Sequence[int]) -> Parsed:
        """The answer in its parts."""
        self._parser.set_prompt_token_ids(list(prompt))
        reasoning, content, calls = self._parser.parse(
            text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
        )
        thinks = self._parser.reasoning_parser is not None
        return Parsed(
            content or "",
            reasoning,
            self._parser.count_reasoning_tokens(token_ids) if thinks else None,
            tuple(ToolCall(call.id or f"call_{at}", call.name, call.arguments) for at, call in enumerate(calls or ())),
        )


class Parsers:
    """Those that the options name; for any number of requests at once."""

    def __init__(self, reasoning: str, tools: str, tokenizer: Any, model_config: Any) -> None:
        """Raises `EngineError` for a name vLLM does not know, or a parser that does not fit the tokenizer."""
        self.reads_tools = bool(tools)
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._parser = _find(reasoning, tools, tokenizer) if reasoning or tools else None

    def begin(self, request: Request, template: Mapping[str, Any]) -> Reading | None:
        """`None`: the answer is taken as it is."""
        if self._parser is None or request.kind != "chat":
            return None
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: PLC0415

        tools: dict[str, Any] = {"tools": [as_tool(tool) for tool in request.tools]} if request.tools else {}
        if request.tools and request.tool_choice:
            named = request.tool_choice not in ("auto", "none", "required")
            choice = {"type": "function", "function": {"name": request.tool_choice}} if named else request.tool_choice
            tools["tool_choice"] = choice
        asked = ChatCompletionRequest(
            model="", messages=[{"role": "user", "content": ""}], chat_template_kwargs=dict(template), **tools
        )
        parser = self._parser(
            self._tokenizer, asked.tools, chat_template_kwargs=dict(template), model_config=self._model_config
        )
        return Reading(parser, asked)


def check_names(reasoning: str, tools: str) -> None:
    """Raises `EngineError` for one that vLLM does not know; costs no time where none is named."""
    if not reasoning and not tools:
        return
    from vllm.reasoning import ReasoningParserManager  # noqa: PLC0415
    from vllm.tool_parsers import ToolParserManager  # noqa: PLC0415

    for option, name, manager in (
        ("reasoning_parser", reasoning, ReasoningParserManager),
        ("tool_call_parser", tools, ToolParserManager),
    ):
        known = manager.list_registered()
        if name and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}."
            raise EngineError(
                f"model.args.{option} is {name!r}, which vLLM does not know; {advice}", f"model.args.{option}"
            )


def _find(reasoning: str, tools: str, tokenizer: Any) -> Any:
    from vllm.parser import ParserManager  # noqa: PLC0415

    check_names(reasoning, tools)
    try:
        return ParserManager.get_parser(
            tool_parser_name=tools or None,
            reasoning_parser_name=reasoning or None,
            enable_auto_tools=bool(tools),
            tokenizer=tokenizer,
        )
    except Exception as error:
        raise EngineError(f"The parser does not fit this model: {error}", "model.args.reasoning_parser") from error
