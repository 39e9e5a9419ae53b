"""`ganengine COMMAND ...`: finds the command, hands it the arguments, turns errors into one message and a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from ganengine.errors import GanengineError, PluginError, nearest
from ganengine.variant import load_object

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("train a variant on a folder of pictures", "ganengine.commands.run:run"),
    "resume": ("go on with a run, exactly", "ganengine.commands.run:resume"),
    "sample": ("draw pictures from a trained run", "ganengine.commands.sample:sample"),
    "translate": ("translate pictures, any size", "ganengine.commands.translate:translate"),
    "eval": ("measure a run on held-out data", "ganengine.commands.evaluate:evaluate"),
    "list": ("what is installed", "ganengine.commands.installed:show_list"),
    "info": ("one variant: options, presets, fields", "ganengine.commands.installed:show_info"),
    "plugins": ("plugins doctor: which are left out, and why", "ganengine.commands.installed:plugins"),
    "data": ("data inspect: what is in a folder", "ganengine.commands.data:data"),
    "doctor": ("versions, kernels, devices, fast paths", "ganengine.commands.doctor:doctor"),
}
"""Built-in commands: name -> (what it does, "module:function")."""

Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    if args[0] == "--version":
        from ganengine import __version__

        print(f"ganengine {__version__}")
        return 0
    try:
        return find(args[0])(args[1:])
    except GanengineError as error:
        print(f"ganengine {args[0]}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("ganengine: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def find(name: str) -> Command:
    """Return the command called `name`: a built-in one, or one that a plugin adds.

    Raises:
        PluginError: there is none; the nearest names are offered.
    """
    if name in COMMANDS:
        command: Command = load_object(COMMANDS[name][1], f"command {name}")
        return command
    added = _added()
    if name in added:
        command = load_object(added[name][1], f"command {name}")
        return command
    known = {**COMMANDS, **added}
    raise PluginError(
        f'expected a command, got "{name}".{nearest(name, known)} Commands: {", ".join(known)}. See `ganengine --help`.'
    )


def usage() -> str:
    """Return the help of the command line as a whole."""
    lines = ["usage: ganengine COMMAND ...", "", "Install a model plugin, point it at pictures, and train a GAN.", ""]
    commands = {**COMMANDS, **_added()}
    width = max(map(len, commands)) + 2
    lines += [f"  {name:<{width}}{summary}" for name, (summary, _) in commands.items()]
    lines += ["", "`ganengine COMMAND --help` tells more; `ganengine list` shows what can be trained."]
    return "\n".join(lines)


def _added() -> dict[str, tuple[str, str]]:
    from ganengine.plugins import registry

    entries = registry().entries["command"]
    return {name: (entry.record.summary, entry.record.build) for name, entry in entries.items()}
