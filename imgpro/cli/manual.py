"""`imgpro man` and `imgpro completion`: the manual page and completion for shells, from the commands themselves."""

import sys

import click


@click.command("man")
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual page: every command, setting, file, signal and exit code.

    Example: imgpro man | man -l -
    """
    from imgpro.cli import manual_page

    click.echo(manual_page.manual_page(context.find_root().command), nl=False)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete imgpro's commands and options.

    \b
    bash: source <(imgpro completion bash)           in ~/.bashrc
    zsh:  source <(imgpro completion zsh)            in ~/.zshrc, after compinit
    fish: imgpro completion fish > ~/.config/fish/completions/imgpro.fish

    Example: imgpro completion bash
    """
    from imgpro.cli import completing

    names = completing.names_of(sys.argv[0])
    click.echo(completing.script(shell, context.find_root().command, names), nl=False)
