"""Renders one chat template, in a process of its own: a template is a program that somebody else wrote.

Frames on both pipes are a length of four bytes and JSON. The first
one in holds the template, each further one messages; each is answered by `text` or `error`. What takes too long is
ended by the kernel, in the middle of whatever it does; so is what outlives its parent, at the end of its input.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalmesh.load_generator.prompts.chat_template import LENGTH, RENDER_CPU_S

RENDER_S = 20.0
"""For a machine that is too busy to give it processor time."""
MOST_CHARS = 16 << 20
_MEMORY_BYTES = 1 << 30


class _Generation(Extension):
    """Some templates mark the assistant's part for training; here it is text like any other."""

    tags = {"generation"}  # noqa: RUF012 - the name and form that Jinja asks for

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> None:
    """Until the end of the input."""
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    given, out = sys.stdin.buffer, sys.stdout.buffer
    template: Template | None = None
    special: dict[str, str] = {}
    while (frame := _read(given)) is not None:
        # The default action of both signals is the end of the process.
        signal.setitimer(signal.ITIMER_PROF, RENDER_CPU_S)
        signal.setitimer(signal.ITIMER_REAL, RENDER_S)
        try:
            if template is None:
                template, special = _compile(frame["source"]), frame["special"]
                answer = {"text": ""}
            else:
                answer = {"text": _render(template, frame["messages"], special)}
        except MemoryError:
            answer = {"error": "it takes more memory than a template may have"}
        except Exception as error:  # noqa: BLE001 - whatever a template raises is its complaint
            answer = {"error": str(error)[:2000]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        data = json.dumps(answer).encode()
        out.write(LENGTH.pack(len(data)) + data)
        out.flush()


def _read(given: IO[bytes]) -> dict[str, Any] | None:
    head = given.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    frame: dict[str, Any] = json.loads(given.read(LENGTH.unpack(head)[0]))
    return frame


def _render(template: Template, messages: list[Any], special: Mapping[str, str]) -> str:
    pieces: list[str] = []
    chars = 0
    for piece in template.generate(
        messages=messages, tools=None, documents=None, add_generation_prompt=True, **special
    ):
        chars += len(piece)
        if chars > MOST_CHARS:
            raise ValueError(f"it writes more than {MOST_CHARS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _compile(source: str) -> Template:
    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    return environment.from_string(source)


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    """Jinja's own filter escapes HTML, which no model expects."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


if __name__ == "__main__":
    main()
