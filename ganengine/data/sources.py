"""Which data sources the engine brings, and how a user's word becomes one of them."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ganengine.errors import DataError, PluginError, nearest
from ganengine.variant import DataSource, load_object

if TYPE_CHECKING:
    from ganengine.data.dataset import Dataset
    from ganengine.data.options import DataOptions

SOURCES = [
    DataSource(
        name="images",
        summary="A folder or zip file of pictures, all folders below it included; train/ val/ test/ are splits.",
        fields=("real",),
        build="ganengine.data.images:build",
        recognise="ganengine.data.images:recognise",
    ),
    DataSource(
        name="pairs",
        summary="Pictures A|B side by side, or folders A/ and B/ with the same names; with or without splits.",
        fields=("A", "B"),
        build="ganengine.data.pairs:build",
        recognise="ganengine.data.pairs:recognise",
    ),
]


def open_data(
    argument: str, fields: tuple[str, ...], options: DataOptions, sources: Mapping[str, DataSource]
) -> Dataset:
    """Open what a user named: a path, recognised by its layout, or `NAME` or `NAME:ARGUMENT` of a data source.

    Where several sources read a path, the one registered last is taken; `NAME:PATH` chooses another.

    Args:
        argument: the user's word.
        fields: what the variant needs; a source that lacks one is refused before anything is decoded.
        options: how pictures are to be read.
        sources: all registered ones, by name.

    Raises:
        DataError: no such folder or source, fields that the data does not give, or data that is not usable as it is.
        PluginError: a source does not give what its record states.
    """
    path = Path(argument).expanduser()
    if argument and path.exists():
        source, word = _recognise(path, fields, sources), str(path)
    else:
        name, _, word = argument.partition(":")
        if name not in sources:
            raise _unknown(argument, path, sources)
        source = sources[name]
        _check_fields(source.name, source.fields, fields)
    builder = load_object(source.build, f"data source {source.name}")
    with _cleaning_up():
        dataset: Dataset = builder(word, options)
    lacking = [name for name in source.fields if name not in dataset.spec.fields]
    if lacking:
        raise PluginError(
            f"data source {source.name}: its record states {_list(source.fields)}, but what it built gives "
            f"{_list(dataset.spec.fields)}. Correct the record or the builder."
        )
    return dataset


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """Let SIGTERM end a builder as Ctrl-C does, by an exception: it takes away then what it has half made."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    try:
        ours = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        if ours:
            signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread: the caller handles signals
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _recognise(path: Path, fields: tuple[str, ...], sources: Mapping[str, DataSource]) -> DataSource:
    """Return the source that reads `path` and gives `fields`."""
    readers = [source for source in reversed(list(sources.values())) if source.recognise]
    able = [source for source in readers if set(fields) <= set(source.fields)]
    known: list[DataSource] = []
    faults: list[str] = []
    for source in readers:
        try:
            if load_object(source.recognise or "", f"data source {source.name}")(path):
                known.append(source)
        except Exception as error:  # a plugin at fault does not keep the others from being used
            faults.append(f" Data source {source.name} failed to look at it: {error}")
    for source in able:
        if source in known:
            return source
    if not able and not known:
        raise DataError(f"{path}: no data source reads this; there are: {_list(sources)}.{''.join(faults)}")
    if not able:
        gives = " or ".join(f"{_list(source.fields)} ({source.name})" for source in known)
        raise DataError(f"{path}: the variant needs {_list(fields)}, the data gives {gives}.{''.join(faults)}")
    return able[-1]  # the first that was registered: it says why it cannot read this


def _check_fields(name: str, gives: tuple[str, ...], needs: tuple[str, ...]) -> None:
    if not set(needs) <= set(gives):
        raise DataError(
            f"The variant needs {_list(needs)}, the data source {name} gives {_list(gives)}. "
            f"Choose data that gives {_list(field for field in needs if field not in gives)} too."
        )


def _unknown(argument: str, path: Path, sources: Mapping[str, DataSource]) -> DataError:
    """Return the error for a word that is neither a path nor a source, with the nearest of both."""
    if not argument:
        return DataError(f"Expected a folder or a data source ({_list(sources)}), got nothing.")
    beside = [str(path.with_name(p.name)) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    if any(mark in argument for mark in "/\\~."):
        return DataError(f"{argument}: no such folder.{nearest(str(path), beside)}")
    return DataError(
        f'"{argument}": no such folder, and no data source of that name.'
        f"{nearest(argument.partition(':')[0], [*beside, *sources])} Data sources: {_list(sources)}."
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
