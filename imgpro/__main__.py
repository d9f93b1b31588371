"""Entry for `python -m imgpro`, the installed command and the frozen executable."""

import os
import sys


def main() -> None:
    """Run as the workers' parent or beside the server when that asks for it, as the command line otherwise."""
    _fill_standard_descriptors()
    if sys.flags.optimize:
        sys.exit("imgpro: python -O removes checks that imgpro relies on; start it without -O")
    if sys.argv[1:2] == ["__zygote__"]:
        from imgpro.imaging import zygote  # only this process may load the decoders

        zygote.main(int(sys.argv[2]))
        return
    if sys.argv[1:2] == ["__side__"]:
        from imgpro.store import desk  # it loads what it is asked to do

        # A server whose program was exchanged while it runs may say something else there, or nothing.
        numbers = [number for word in sys.argv[3:] for number in word.split(",") if number.isdecimal()]
        desk.main(int(sys.argv[2]), set(map(int, numbers)))
        return
    from imgpro.cli.commands import cli  # and it needs no command line

    cli(prog_name="imgpro")


def _fill_standard_descriptors() -> None:
    """Open what whoever started us left closed: the next file, a database perhaps, would become our standard error."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(fd, True)
    # Python has none of them then, and much of what is called asks them what they are.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
