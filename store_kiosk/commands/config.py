"""The commands that tell how this kiosk is set up, and whether that can be so."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.home.settings import (
    Settings,
    find_settings,
    read_document,
    settings_path,
    variable,
    without_password,
)
from c2rec.store_kiosk.commands.options import JSON, WrongUsageError, echo_json
from c2rec.store_kiosk.config import (
    configurable,
    options_of,
    read_table,
    read_tables,
    unknown_tables,
    unknown_variables,
    variable_troubles,
)
from c2rec.store_kiosk.render import SCHEMA, plain


class _Value(NamedTuple):
    """A setting or an option, and where it comes from."""

    table: str | None
    """The command whose option it is; None for a setting."""
    name: str
    value: object
    source: str
    """``flag``, ``environment``, ``file`` or ``default``."""
    where: str | None
    """The flag, the variable, the file; None for a default."""


@click.group()
def config() -> None:
    """Tell how this kiosk is set up, and whether it can be so."""


@config.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", required=False)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS]…")
@JSON
@click.pass_context
def show(ctx: click.Context, command: str | None, flags: tuple[str, ...], *, as_json: bool) -> None:
    """Tell every setting and option, or those of COMMAND, and where each comes from.

    A flag of the command goes before the environment, that before kiosk.toml, and that before the
    default. With FLAGS it tells what COMMAND would do with them. Passwords in addresses are not
    shown.
    """
    home: Path = ctx.obj
    commands = _commands(ctx)
    if command is not None and command not in commands:
        raise WrongUsageError(f"{command} is no command; allowed: {', '.join(commands)}")
    for trouble in _troubles(home, commands, only=command):
        click.echo(plain(f"Warning: {trouble}"), err=True)
    if command is None:
        values = [_home_value(ctx), *_settings(home)]
        for each in commands.values():
            values += _options(ctx, each, ())
    else:
        values = _options(ctx, commands[command], flags)
    if as_json:
        rows = [each._asdict() for each in values]
        echo_json({"schema": SCHEMA, "home": str(home), "values": rows})
    else:
        click.echo("\n".join(map(plain, _lines(values))))


@config.command()
@JSON
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> None:
    """Check kiosk.toml and the environment, for all commands; exits with 1 where they can't be so.

    Run it before a changed file goes to many kiosks.
    """
    home: Path = ctx.obj
    troubles = list(_troubles(home, _commands(ctx)))
    path = settings_path(home)
    if as_json:
        echo_json({"schema": SCHEMA, "file": str(path), "troubles": troubles})
    else:
        there = "can be used" if path.is_file() else "isn't there, and need not be"
        click.echo("\n".join(map(plain, troubles or [f"{path} {there}"])))
    ctx.exit(1 if troubles else 0)


def _commands(ctx: click.Context) -> dict[str, click.Command]:
    root = ctx.find_root().command
    return configurable(root.commands) if isinstance(root, click.Group) else {}


def _troubles(
    home: Path, commands: Mapping[str, click.Command], *, only: str | None = None
) -> Iterator[str]:
    """What is wrong with the file and the environment, of all commands or of one."""
    try:
        tables = read_tables(home)
    except IdentityError as error:
        yield str(error)
        tables = {}
    else:
        try:
            find_settings(home)
        except IdentityError as error:
            yield str(error)
    path = settings_path(home)
    if lost := unknown_tables(tables, commands, path):
        yield lost
    for name, command in commands.items():
        if only in (None, name):
            yield from read_table(command, tables.get(name, {}), path).troubles
            yield from variable_troubles(command)
    if only is None:
        for name in unknown_variables(commands):
            yield f"the variable {name} is no setting and no option; see: c2rec-kiosk config show"


def _home_value(ctx: click.Context) -> _Value:
    root = ctx.find_root()
    source = root.get_parameter_source("home")
    if source is ParameterSource.COMMANDLINE:
        return _Value(None, "home", str(ctx.obj), "flag", "--home")
    if source is ParameterSource.ENVIRONMENT:
        return _Value(None, "home", str(ctx.obj), "environment", "C2REC_HOME")
    return _Value(None, "home", str(ctx.obj), "default", None)


def _settings(home: Path) -> list[_Value]:
    """Every setting; one that is wrong is told as it stands in the file."""
    try:
        document = read_document(home) or {}
    except IdentityError:
        document = {}
    values = []
    for field in fields(Settings):
        default = None if field.name == "repository" else field.default
        value: object = default
        source, where = "default", None
        if field.name in document:
            value, source, where = document[field.name], "file", str(settings_path(home))
        if given := os.environ.get(variable(field.name)):
            value, source, where = given, "environment", variable(field.name)
        values.append(_Value(None, field.name, _plain_value(value), source, where))
    return values


def _options(ctx: click.Context, command: click.Command, flags: tuple[str, ...]) -> list[_Value]:
    """Every option of a command, as it would be run with flags."""
    home: Path = ctx.obj
    try:
        table = read_tables(home).get(command.name or "", {})
    except IdentityError:
        table = {}
    path = settings_path(home)
    found = read_table(command, table, path).values
    # an option that has to be given is shown as not given
    made = command.make_context(
        command.name, [*flags], ctx.find_root(), resilient_parsing=not flags, default_map=found
    )
    values = []
    for name, option in options_of(command).items():
        source = made.get_parameter_source(str(option.name))
        value = _plain_value(made.params.get(str(option.name)))
        if source is ParameterSource.COMMANDLINE:
            values.append(_Value(command.name, name, value, "flag", max(option.opts, key=len)))
        elif source is ParameterSource.ENVIRONMENT:
            values.append(_Value(command.name, name, value, "environment", str(option.envvar)))
        elif source is ParameterSource.DEFAULT_MAP:
            values.append(_Value(command.name, name, value, "file", str(path)))
        else:
            values.append(_Value(command.name, name, value, "default", None))
    return values


def _plain_value(value: Any) -> object:
    """A value as JSON has it, without a password."""
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, tuple):
        return [_plain_value(each) for each in value]
    return value if isinstance(value, int | float | bool | None) else without_password(str(value))


def _lines(values: list[_Value]) -> Iterator[str]:
    width = max(len(each.name) for each in values)
    shown = [_text(each.value) for each in values]
    column = min(max(map(len, shown)), 40)
    table: str | None = None
    for each, text in zip(values, shown, strict=True):
        if each.table != table:
            table = each.table
            if each is not values[0]:
                yield ""
            yield f"[{table}]"
        where = f"{each.source} {each.where}" if each.where else each.source
        yield f"{each.name:<{width}}  {text:<{column}}  {where}"


def _text(value: object) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)
