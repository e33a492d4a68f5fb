"""How every command looks: help with sections and examples, `-v`, `-q`, `-` for `_` in names."""

from collections.abc import Sequence
from typing import Any, override

import click

from vsr.cli import console

SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "max_content_width": 100,
}
"""Context settings: both `--tile-pad` and `--tile_pad` are understood."""


class Option(click.Option):
    """An option that belongs to a section of the help text."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Argument(click.Argument):
    """A positional argument with a line of help."""

    def __init__(self, declarations: Sequence[str], *, about: str, **kwargs: Any) -> None:
        super().__init__(declarations, **kwargs)
        self.about = about


class Command(click.Command):
    """A command with sections in its help and with `-v` and `-q`, applied before its body runs."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or []), *_verbosity()]
        kwargs.setdefault("context_settings", SETTINGS)
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        console.configure(-1 if ctx.meta.get("vsr.quiet") else ctx.meta.get("vsr.verbose", 0))
        return super().invoke(ctx)

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, Argument):
                row: tuple[str, str] | None = (param.make_metavar(ctx), param.about)
                name = "Arguments"
            else:
                row, name = param.get_help_record(ctx), getattr(param, "section", "General")
            if row is not None:
                sections.setdefault(name, []).append(row)
        for name, rows in sections.items():
            with formatter.section(name):
                formatter.write_dl(rows, col_max=34)

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(click.Group):
    """Commands in the order in which they were added; one may run where none is named."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"context_settings": SETTINGS, "invoke_without_command": True, **kwargs}
        super().__init__(*args, **kwargs)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _verbosity() -> list[click.Parameter]:
    def remember(ctx: click.Context, param: click.Parameter, value: int) -> None:
        ctx.meta[f"vsr.{param.name}"] = value

    return [
        Option(
            ["-v", "--verbose"],
            section="General",
            count=True,
            expose_value=False,
            callback=remember,
            help="Say what is decided and why; -vv: everything.",
        ),
        Option(
            ["-q", "--quiet"],
            section="General",
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="Say nothing but errors.",
        ),
    ]
