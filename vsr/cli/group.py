"""The group of commands; each is imported when it is named or listed."""

import importlib
from pathlib import Path
from typing import override

import click

from vsr.cli.base import SETTINGS
from vsr.errors import CancelledError

_COMMANDS = (
    "upscale",
    "batch",
    "pipe",
    "info",
    "verify",
    "jobs",
    "reproduce",
    "eval",
    "compare",
    "models",
    "devices",
    "bench",
    "engine",
    "train",
    "completion",
)


class LazyGroup(click.Group):
    """Finds the command `name` as `command` in the module `vsr.cli.name`."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found = importlib.import_module(f"vsr.cli.{cmd_name}").command
        if not isinstance(found, click.Command):
            msg = f"vsr.cli.{cmd_name}.command is not a click command"
            raise TypeError(msg)
        return found

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.get_command(ctx, name) is not None
        if not known and not name.startswith("-") and not ctx.resilient_parsing:
            hint = (
                f"try `vsr upscale {name}`" if Path(name).suffix else f"use {', '.join(_COMMANDS)}"
            )
            msg = f"no such command {name!r}: {hint}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    @override
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CancelledError from None  # `main` knows which signal it was


def _show_versions(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from vsr.cli.versions import lines  # noqa: PLC0415 - only when asked

        click.echo("\n".join(lines()))
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings=SETTINGS,
    epilog="Example:  vsr upscale movie.mp4 -s 4 -o movie_x4.mkv",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the versions of vsr and of its libraries, and exit.",
)
def group() -> None:
    """Turns any video into a sharper one: exact timing, every stream, true colour."""
