"""The command that prints a shell's completion script."""

import click


def completion_of(name: str) -> click.Command:
    """Make the command ``completion`` of a command line, by the name that a shell knows it by."""

    @click.command(name="completion")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    @click.pass_context
    def completion(ctx: click.Context, shell: str) -> None:
        from click.shell_completion import get_completion_class

        found = get_completion_class(shell)
        if found is None:
            raise click.ClickException(f"this version of click can't complete in {shell}")
        variable = f"_{name}_complete".replace("-", "_").upper()
        click.echo(found(ctx.find_root().command, {}, name, variable).source())

    completion.help = (
        "Print the script that lets SHELL complete commands and options.\n\n"
        f'For bash, in ~/.bashrc: eval "$({name} completion bash)"; for zsh the same in ~/.zshrc; '
        f"for fish: {name} completion fish > ~/.config/fish/completions/{name}.fish"
    )
    return completion
