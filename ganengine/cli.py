"""`ganengine COMMAND ...`: finds the command, hands it the arguments, turns errors into one message and a status."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ganengine.errors import GanengineError, UserError, printable
from ganengine.spinning import wait_briefly

Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    said = "ganengine"
    wait_briefly()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no run
    try:
        if "" in args:
            raise UserError("expected words that are not empty; got one that is (a shell variable that is not set?).")
        args = add_plugins(args)
        status = 0
        if not args or args[0] in ("-h", "--help"):
            print(usage())
        elif args[0] == "--version":
            from ganengine import __version__

            print(f"ganengine {__version__}")
        else:
            said += f" {args[0]}"
            status = find(args[0])(args[1:])
        sys.stdout.flush()  # here, where what it does not take can be told
        return status
    except GanengineError as error:
        _tell(f"{said}: {error}")
        return error.status
    except KeyboardInterrupt:
        _tell(f"{said}: interrupted.")
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; nothing more can be said to it.
        _say_no_more()
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _tell(f"{said}: {OUT_OF_MEMORY}")
        return UserError.status
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        try:
            sys.stdout.flush()
        except OSError:
            where = "standard output: "
            _say_no_more()
        _tell(f"{said}: {where}{error.strerror or error}.")
        return UserError.status


def _say_no_more() -> None:
    """Keep what is left for standard output from being tried again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str) -> None:
    """Print a message as one line; what a name may hold to steer a terminal is written out."""
    print(printable(re.sub(r"\s*\n\s*", " ", message)), file=sys.stderr)


OUT_OF_MEMORY = (
    "expected enough memory for this; the machine has no more to give. Use a smaller --batch or --size, smaller "
    "networks, or --accumulate, which takes a batch in parts."
)


def _out_of_memory(error: Exception) -> bool:
    """Whether Python or torch was refused memory; torch is not imported to ask, as it may not be there yet."""
    told = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or ("DefaultCPUAllocator" in told and "memory" in told)
    )


def add_plugins(argv: Sequence[str]) -> list[str]:
    """Load what `--plugin FILE_OR_FOLDER` names, which any command takes, and return the other arguments.

    Raises:
        PluginError: one of them cannot be loaded.
    """
    if not any(word.partition("=")[0] == "--plugin" for word in argv):
        return list(argv)
    from ganengine.config import take_options
    from ganengine.plugins import add_path

    rest, taken = take_options(argv, ("plugin",))
    for path in taken["plugin"]:
        add_path(Path(path))
    return rest


def find(name: str) -> Command:
    """Return the command called `name`.

    Raises:
        PluginError: there is none; the nearest names are offered.
    """
    from ganengine.plugins import registry

    command: Command = registry().get("command", name).load()
    return command


def usage() -> str:
    """Return the help of the command line as a whole."""
    from ganengine.plugins import registry

    commands = {name: entry.record.summary for name, entry in registry().entries["command"].items()}
    lines = ["usage: ganengine COMMAND ...", "", "Install a model plugin, point it at pictures, and train a GAN.", ""]
    width = max(map(len, commands)) + 2
    lines += [f"  {name:<{width}}{summary}" for name, summary in commands.items()]
    lines += ["", "Any command takes --plugin FILE_OR_FOLDER, to add a plugin under development."]
    lines += ["`ganengine COMMAND --help` tells more; `ganengine list` shows what can be trained."]
    return "\n".join(lines)
