"""The parser all commands share, and options as flags. Imports nothing heavy: `--help` must be instant.

An option is said once: as an annotated attribute of a plain class (`eval/options.py`, `perf/options.py`). The config
model, which is pydantic's and slow to load, inherits that class and so has type, bounds and default of each option;
`add_options` makes the flags of the same attributes.
"""

import argparse
import os
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from evalmesh.cli.defaults import layers, merged
from evalmesh.cli.exits import BAD_INPUT, HELP
from evalmesh.cli.foreign import FOREIGN_FLAGS

_METAVARS: Mapping[Any, str] = {int: "N", dict: "K=V,..."}


@dataclass(frozen=True, slots=True)
class Flag:
    """What the command line says about an option beyond its name, type, choices and default."""

    help: str
    metavar: str | tuple[str, ...] | None = None
    group: str = ""
    """Heading in the help, of this option and those that follow."""
    also: tuple[str, ...] = ()
    """Other names of the flag."""
    nargs: int | str | None = None
    env: str = ""
    """Variable that counts where the flag is not said."""
    commas: bool = False
    """Several values may be one word with commas, as those of numbers and choices always may."""


class PlaceOptions:
    """Where the platform of a command is, and what it leaves behind."""

    server: Annotated[
        str | None,
        Flag(
            "a running platform (default: EVALMESH_SERVER, else one is started here)",
            "HOST:PORT",
            group="platform",
            env="EVALMESH_SERVER",
        ),
    ] = None
    work_dir: Annotated[str, Flag("where results and the platform's data go", "DIR")] = "./outputs"
    debug: Annotated[bool, Flag("tracebacks, warnings of the services as they come, and verbose logs")] = False


class Parser(ArgumentParser):
    """Suggests the nearest flag or command for a mistyped one; takes no abbreviations."""

    meant: Mapping[str, str] = {}
    """Words of other tools, and the commands that do the same here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", RawDescriptionHelpFormatter)
        super().__init__(*args, **options)

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Ends with the exit code for wrong input."""
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        flag = flags[0] if flags else words[0]
        hint = self._hint(flag) or f"See `{self.prog} --help`."
        # Only the name of a flag is repeated: what follows it may be a key.
        self.error(f"there is no {'flag' if flags else 'argument'} {flag!r}. {hint}")

    def _hint(self, flag: str) -> str:
        shown = [name for name, action in self._option_string_actions.items() if action.help is not SUPPRESS]
        name = flag.lstrip("-").replace("_", "-").lower()
        foreign = FOREIGN_FLAGS.get(self.prog, {}).get(name)
        if foreign is not None and f"--{name}" not in shown:
            return (
                f"Use {foreign}." if foreign.startswith(("-", "evalmesh ")) else f"{foreign[0].upper()}{foreign[1:]}."
            )
        near = get_close_matches(f"--{name}" if flag.startswith("-") else flag, shown, n=1, cutoff=0.6)
        return f"Did you mean {near[0]}?" if near else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        near = [self.meant[value]] if isinstance(value, str) and value in self.meant else []
        near += get_close_matches(str(value), map(str, action.choices or ()), n=1, cutoff=0.5)
        if action.choices is None or value in action.choices:
            return
        message = f"{value!r} is none of {', '.join(map(str, action.choices))}."
        raise argparse.ArgumentError(action, f"{message} Did you mean {near[0]}?" if near else message)

    def error(self, message: str) -> NoReturn:
        """As argparse does, without the pages of usage."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}\n")


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of a flag that takes a whole number within bounds."""

    def read(text: str) -> int:
        bounds = f"of {low} or more" if high is None else f"from {low} to {high}"
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not allowed; give a whole number {bounds}")
        return value

    return read


def add_command(commands: Any, name: str, text: str) -> Parser:
    """The parser of one command, or of one action of a command."""
    parser: Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=HELP)
    parser.set_defaults(parser=parser)
    return parser


def add_actions(parser: Parser) -> Any:
    """Makes the command one of several actions."""
    return parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)


def add_options(
    parser: ArgumentParser, options: type, only: Mapping[str, str] | None = None, *, said_only: bool = False
) -> None:
    """Adds the flags of the options that a class declares.

    Args:
        parser: Gets them.
        options: The class; what it inherits is left out, and so is what has no `Flag`.
        only: Names of those that are wanted, without groups; a text replaces the option's own help.
        said_only: Leave out of the namespace what was not said, which a config file may say.
    """
    group: Any = parser
    # Where the platform is holds for every command; those with a config find it in there.
    set_once = {} if said_only or options is not PlaceOptions else merged(layers("", options.__annotations__))
    for name, hint in options.__annotations__.items():
        flag = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Flag)), None)
        if flag is None or (only is not None and name not in only):
            continue
        if flag.group and only is None:
            group = parser.add_argument_group(flag.group)
        own, usual = f"--{name.replace('_', '-')}", set_once.get(name, getattr(options, name, None))
        default = (os.environ.get(flag.env) if flag.env else None) or (SUPPRESS if said_only else usual)
        text = (only or {}).get(name) or flag.help
        settings = _settings(get_args(hint)[0], flag, usual)
        group.add_argument(
            *sorted([own, *flag.also], key=len),
            **settings,
            dest=name,
            default=[] if settings.get("action") == "extend" and default == {} else default,
            help=f"{text} (default: {_shown(usual)})" if usual and usual is not True else text,
        )


def is_duration(flag: Flag) -> bool:
    """Whether the option is a time in seconds, which may be written with a unit."""
    return flag.metavar == "S"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings(hint: Any, flag: Flag, usual: Any) -> dict[str, Any]:
    """What argparse must know to read values of a type: `int`, `list[str] | None`, `Literal["a", "b"]`, ..."""
    kinds = [hint] if get_origin(hint) in {list, dict, Literal} else [*(get_args(hint) or [hint])]
    kinds = [one for one in kinds if one is not NoneType]
    if kinds == [bool]:
        return {"action": "store_true" if usual is False else BooleanOptionalAction}
    settings: dict[str, Any] = {"nargs": flag.nargs}
    # A union of several is left to the config.
    kind = kinds[0] if len(kinds) == 1 else str
    if get_origin(kind) is list:
        # `1,2` is several values: the config takes them apart, and says what is wrong with one.
        return settings | {"nargs": flag.nargs or "+", "metavar": flag.metavar or _METAVARS.get(get_args(kind)[0])}
    if is_duration(flag) and kind is float:
        return settings | {"metavar": flag.metavar}
    if get_origin(kind) is Literal:
        return settings | {"choices": get_args(kind), "metavar": flag.metavar}
    if get_origin(kind) is dict and flag.nargs == "+":
        settings["action"] = "extend"
    settings["metavar"] = flag.metavar or _METAVARS.get(get_origin(kind) or kind)
    return settings | {"type": kind} if kind in {int, float} else settings


def add_foreign(parser: ArgumentParser, names: Iterable[str]) -> None:
    """Flags of EvalScope that are not ours: taken, so that the config can say what to use instead."""
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="?", const=True, default=SUPPRESS, help=SUPPRESS)


def config_flag(parser: ArgumentParser) -> None:
    """The file whose keys are the options."""
    text = "YAML or JSON file with these options as keys, - for standard input; flags win over it"
    parser.add_argument("-c", "--config", metavar="FILE", help=text)


def add_looks(actions: Any, what: str, metavar: str) -> None:
    """The actions that runs and load tests have alike; `what` is also where the id goes."""
    words = what.replace("_", " ")
    listing = add_command(actions, "list", f"list {words}s, newest first")
    listing.add_argument("--limit", type=whole(1), default=20, metavar="N", help="at most this many (default: 20)")
    form_flag(listing)
    add_options(listing, PlaceOptions)
    for name, text in (
        ("watch", f"follow a {words} until it ends"),
        ("cancel", f"end a {words}; what is finished stays"),
    ):
        one = add_command(actions, name, text)
        one.add_argument(what, metavar=metavar, help="id, part of one, name, outputs folder, latest")
        add_options(one, PlaceOptions)


def form_flag(parser: ArgumentParser, *others: str) -> None:
    """How something is printed."""
    parser.add_argument("--format", choices=("table", "json", *others), default="table")


def output_flags(parser: ArgumentParser, *forms: str) -> None:
    """How and where to something is printed."""
    names = ("table", "json", "csv", "markdown", "html", *forms)
    parser.add_argument("--format", choices=names, help="how it is printed (default: table, or what FILE ends in)")
    parser.add_argument("--output", metavar="FILE", help="write it there instead of to standard output")
