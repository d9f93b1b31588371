"""Entry for `python -m imgpro`, the installed command and the frozen executable."""

import sys


def main() -> None:
    """Run as the workers' parent when the server asks for one, as the command line otherwise."""
    if sys.flags.optimize:
        sys.exit("imgpro: python -O removes checks that imgpro relies on; start it without -O")
    if sys.argv[1:2] == ["__zygote__"]:
        from imgpro.imaging import zygote  # only this process may load the decoders

        zygote.main(int(sys.argv[2]))
        return
    from imgpro.cli.commands import cli  # and it needs no command line

    cli(prog_name="imgpro")


if __name__ == "__main__":
    main()
