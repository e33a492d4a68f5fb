"""`vsr completion`: the script that lets a shell complete commands and options."""

from typing import Any

import click

from vsr.cli.base import Argument, Command

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(vsr completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(vsr completion zsh)"',
    "fish": "run once:  vsr completion fish > ~/.config/fish/completions/vsr.fish",
}


@click.command(
    cls=Command,
    params=[
        Argument(["shell"], type=click.Choice(list(_INSTALL)), about="The shell that completes."),
    ],
    examples=tuple(f"{shell}: {line}" for shell, line in _INSTALL.items()),
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only when asked

    shell: str = values["shell"]
    found = get_completion_class(shell)
    if found is None:
        msg = f"click has no completion for {shell}: use one of {', '.join(_INSTALL)}"
        raise click.UsageError(msg, ctx)
    script = found(ctx.find_root().command, {}, "vsr", "_VSR_COMPLETE")
    click.echo(f"# {_INSTALL[shell]}\n{script.source()}")
