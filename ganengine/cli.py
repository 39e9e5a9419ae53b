"""`ganengine COMMAND ...`: finds the command, hands it the arguments, turns errors into one message and a status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ganengine.errors import GanengineError, UserError

Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    said = "ganengine"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no run
    try:
        args = add_plugins(args)
        if not args or args[0] in ("-h", "--help"):
            print(usage())
            return 0
        if args[0] == "--version":
            from ganengine import __version__

            print(f"ganengine {__version__}")
            return 0
        said += f" {args[0]}"
        return find(args[0])(args[1:])
    except GanengineError as error:
        print(f"{said}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{said}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{said}: {where}{error.strerror or error}.", file=sys.stderr)
        return UserError.status


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
