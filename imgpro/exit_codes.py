"""What each exit code of the program means, and what to do about it. Every error of `errors` has one of them."""

from typing import Final

EXIT_CODES: Final = {
    0: ("It worked.", ""),
    1: ("It failed, or a check found something wrong.", "Read the sentence on standard error."),
    2: ("The command line was not understood.", "`imgpro COMMAND --help` shows what it takes."),
    3: (
        "It was done in part: what was left out, or is lost, was named.",
        "Read the lines above; run it again once they are mended.",
    ),
    10: (
        "The data directory is missing, empty where it was not before, or holds what imgpro did not make.",
        "Mount its disk, or name another directory with --data.",
    ),
    11: ("Another imgpro uses this data directory.", "Stop that one; its process id is in the message."),
    65: (
        "The data was written by a newer imgpro, or is damaged.",
        "Start the newer version again, or restore the copy that the message names. See upgrade.md.",
    ),
    69: ("No server answered.", "Start it, or name its address."),
    74: (
        "The disk refused: full, read-only, no locks, an address in use, or a read or write that failed.",
        "The message names the path or the address. See disk-full.md.",
    ),
    78: ("A setting is wrong.", "`imgpro config check` lists every mistake with the form that is expected."),
    130: ("It was interrupted by Ctrl+C; of a server: by a second one while it was stopping.", ""),
}
"""What each exit code of the program means, and what to do about it."""
