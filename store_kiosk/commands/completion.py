"""The command that prints a shell's completion script."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands and options.

    For bash, in ~/.bashrc: eval "$(c2rec-kiosk completion bash)"; for zsh the same in ~/.zshrc;
    for fish: c2rec-kiosk completion fish > ~/.config/fish/completions/c2rec-kiosk.fish
    """
    from click.shell_completion import get_completion_class

    name = "c2rec-kiosk"
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this version of click can't complete in {shell}")
    root = ctx.find_root().command
    variable = f"_{name}_complete".replace("-", "_").upper()
    click.echo(found(root, {}, name, variable).source())
