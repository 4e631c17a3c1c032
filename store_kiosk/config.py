"""Options of the commands in ``HOME/kiosk.toml`` and in the environment.

An option's value comes from the command line, else from the variable ``C2REC_<COMMAND>_<OPTION>``,
else from the table of its command in kiosk.toml, else it is the default::

    [serve]
    port = 9000                       # as --port; C2REC_SERVE_PORT goes before it
    allow-host = ["kiosk.example"]    # an option that is repeatable

What is wrong in a command's own table stops that command, and no other. Imports nothing that a
command line hasn't loaded already.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from c2rec.runtime.home.settings import Settings, read_document, variable, without_password

_FOREIGN = ("C2REC_KEYS", "C2REC_REQUIRE_", "C2REC_HM_", "C2REC_HOME")
"""Variables, by their beginning, that are nobody's option here."""


class Table(NamedTuple):
    """What kiosk.toml says of a command's options."""

    values: dict[str, Any]
    """By the name of click's parameter, as TOML has them."""
    troubles: list[str]
    """What is wrong, a sentence each."""


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that can be set, by their names without dashes."""
    return {option_name(each): each for each in command.params if isinstance(each, click.Option)}


def configurable(commands: Mapping[str, click.Command]) -> dict[str, click.Command]:
    """The commands that have options of their own."""
    return {name: each for name, each in commands.items() if options_of(each)}


def option_name(option: click.Option) -> str:
    """The longest name of an option, without dashes before it."""
    return max(option.opts, key=len).lstrip("-")


def option_variable(command: str, option: click.Option) -> str:
    """The variable of the environment for an option."""
    return f"C2REC_{command}_{option_name(option)}".upper().replace("-", "_")


def name_variables(command: click.Command) -> None:
    """Let every option of a command come from the environment."""
    for option in options_of(command).values():
        if option.envvar is None:
            option.envvar = option_variable(command.name or "", option)


def read_tables(home: Path) -> dict[str, Any]:
    """The tables of kiosk.toml, by the names of commands, unchecked.

    Raises:
        IdentityError: the file can't be read, or is no TOML.
    """
    document = read_document(home) or {}
    return {name: value for name, value in document.items() if isinstance(value, dict)}


def read_table(command: click.Command, table: Mapping[str, Any], path: Path) -> Table:
    """Check what kiosk.toml says of a command's options.

    Args:
        command: whose options.
        table: its table, parsed.
        path: of the file, for messages.
    """
    known, found = options_of(command), Table({}, [])
    context = click.Context(command, info_name=command.name)
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            allowed = ", ".join(known) or "nothing"
            found.troubles.append(
                f"{path}: [{command.name}] {key} is no option; allowed: {allowed}"
            )
        elif trouble := _trouble(known[name], value, context):
            found.troubles.append(f"{path}: [{command.name}] {key} is {_shown(value)}; {trouble}")
        else:
            found.values[str(known[name].name)] = value
    return found


def unknown_tables(tables: Mapping[str, Any], commands: Mapping[str, object], path: Path) -> str:
    """Say which tables are no command's; empty where all are."""
    lost = [f"[{name}]" for name in tables if name not in commands]
    if not lost:
        return ""
    return f"{path}: {', '.join(lost)} is no command's; allowed: {', '.join(commands)}"


def variable_troubles(command: click.Command) -> Iterator[str]:
    """Say what is wrong with the variables of the environment for a command's options."""
    context = click.Context(command, info_name=command.name)
    for option in options_of(command).values():
        value = option.value_from_envvar(context)
        try:
            if value is not None:
                option.type_cast_value(context, value)
        except click.BadParameter as error:
            given = os.environ.get(str(option.envvar))
            yield without_password(f"{option.envvar} is {given!r}: {error.message}")


def unknown_variables(commands: Mapping[str, click.Command]) -> list[str]:
    """Variables that look like settings or options, and are none: a slip of the pen."""
    known = {variable(name) for name in Settings.__dataclass_fields__}
    for command in commands.values():
        known |= {str(option.envvar) for option in options_of(command).values()}
    return sorted(
        name
        for name in os.environ
        if name.startswith("C2REC_") and name not in known and not name.startswith(_FOREIGN)
    )


def named_by_source(error: click.BadParameter) -> click.BadParameter:
    """The error, with the variable that a wrong value came from, where it came from one."""
    option, context = error.param, error.ctx
    if isinstance(option, click.Option) and context is not None:
        source = context.get_parameter_source(str(option.name))
        if source is ParameterSource.ENVIRONMENT:
            return click.BadParameter(error.message, context, param_hint=str(option.envvar))
    return error


def _trouble(option: click.Option, value: object, context: click.Context) -> str | None:
    """What is wrong with an option's value in TOML; None where nothing is."""
    if option.multiple:
        if not isinstance(value, list):
            return f"allowed: a list, each {_allowed(option)}"
        values = value
    else:
        values = [value]
    if not all(_is_typed(option, each) for each in values):
        return f"allowed: {'a list, each ' if option.multiple else ''}{_allowed(option)}"
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        return f"allowed: {_allowed(option)}; {error.message}"
    return None


def _is_typed(option: click.Option, value: object) -> bool:
    if option.is_flag:
        return isinstance(value, bool)
    if isinstance(option.type, click.types.IntParamType):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(option.type, click.types.FloatParamType):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(option.type, click.Path):  # relative to what, where a service starts it?
        return isinstance(value, str) and value.startswith("/")
    return isinstance(value, str)


def _allowed(option: click.Option) -> str:
    kind = option.type
    if option.is_flag:
        return "true or false"
    if isinstance(kind, click.IntRange | click.FloatRange):
        whole = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        return f"{whole}, {kind.min} to {kind.max}"
    if isinstance(kind, click.types.IntParamType):
        return "a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return "a number"
    if isinstance(kind, click.Choice):
        return " or ".join(f'"{choice}"' for choice in kind.choices)
    if isinstance(kind, click.Path):
        return "an absolute path, in quotes"
    return "a text, in quotes"


def _shown(value: object) -> str:
    text = without_password(repr(value))
    return text if len(text) <= 80 else text[:79] + "…"
