"""Checks of the record that a plugin hands over."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args, get_type_hints

from ganengine.config import parse
from ganengine.testing.subject import Subject, require
from ganengine.variant import Variant

KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def is_complete(subject: Subject) -> None:
    """Check names, texts, builders and presets."""
    variant = subject.variant
    require(bool(KEBAB.fullmatch(variant.name)), 'expected a name in kebab case, such as "wgan-gp".')
    require(bool(variant.summary.strip()), "expected a summary of one sentence, which `ganengine list` shows.")
    require(bool(variant.fields), "expected the fields of a batch that the losses read; there are none.")
    families = get_args(get_type_hints(Variant)["family"])
    require(variant.family in families, f'family: expected one of {", ".join(families)}, got "{variant.family}".')
    silent = undocumented(variant.config)
    require(not silent, f"option(s) {', '.join(silent)} have no docstring below them, so --help tells nothing of them.")
    for what in (*Variant.BUILDERS, *(what for what in Variant.OPTIONAL if getattr(variant, what))):
        built = variant.builder(what)
        require(callable(built), f"{what}: expected a function, got a {type(built).__name__}.")
    for preset in variant.presets:
        parse(variant, ["--preset", preset], f"preset {preset}")
    require(not subject.settings.engine.data, "smallest: leave `data` out, the checks bring theirs.")


def undocumented(config: type) -> list[str]:
    """Return the fields of a dataclass that no string literal stands below, its base classes' included."""
    silent = []
    for cls in config.__mro__:
        if not dataclasses.is_dataclass(cls):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        body = getattr(definition, "body", [])
        for statement, following in zip(body, [*body[1:], None], strict=True):
            told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and not told:
                silent.append(statement.target.id)
    return silent


def is_torch_free(subject: Subject) -> None:
    """Import the plugin's module in a fresh process, call its hook, and look whether torch came along."""
    module = subject.origin.module.partition(":")[0]
    code = (
        f"import importlib, sys; plugin = importlib.import_module({module!r}); "
        "list(getattr(plugin, 'ganengine_variants', list)()); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path(module))},
    )
    require(done.returncode == 0, f'its module "{module}" does not import in a fresh process:\n{done.stderr}')
    require(
        done.stdout.split()[-1] == "False",
        f'importing "{module}" imports torch, which makes `ganengine list` and every --help slow. '
        'Move what needs torch into other modules and name them as "module:function".',
    )


def _search_path(module: str) -> list[str]:
    """Return where this process finds modules, and where a plugin given as a single file lies."""
    file = getattr(sys.modules.get(module), "__file__", None)
    own = [str(Path(file).parent)] if file and "." not in module and Path(file).stem == module else []
    return [*own, *(path for path in sys.path if path)]
