"""Which data sources the engine brings, and how a user's word becomes one of them."""

from __future__ import annotations

import os
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

WHERE = "ganengine.data"
SOURCES = [
    DataSource(
        name="captions",
        summary="Pictures and sentences about them: captions.json, a list of {image, split, captions: [...]}.",
        fields=("real", "captions"),
        optional=("embedding",),
        build=f"{WHERE}.captions:build",
        recognise=f"{WHERE}.captions:recognise",
    ),
    DataSource(
        name="classes",
        summary="A folder for each class, as cat/x.png and dog/y.png, with or without train/ val/ test/ above them.",
        fields=("real", "label"),
        build=f"{WHERE}.classes:build",
        recognise=f"{WHERE}.classes:recognise",
    ),
    DataSource(
        name="idx",
        summary="Files as MNIST has them: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., .gz or not.",
        fields=("real",),
        optional=("label",),
        build=f"{WHERE}.idx:build",
        recognise=f"{WHERE}.idx:recognise",
    ),
    DataSource(
        name="npz",
        summary="Arrays of numpy: x_train, y_train, x_test ...; images, labels; arr_0.",
        fields=("real",),
        optional=("label",),
        build=f"{WHERE}.npz:build",
        recognise=f"{WHERE}.npz:recognise",
    ),
    DataSource(
        name="images",
        summary="A folder or zip file of pictures, all folders below it included; train/ val/ test/ are splits.",
        fields=("real",),
        build=f"{WHERE}.images:build",
        recognise=f"{WHERE}.images:recognise",
    ),
    DataSource(
        name="unpaired",
        summary="Folders trainA trainB testA testB of any names and counts, or pairs, shuffled against each other.",
        fields=("A", "B"),
        build=f"{WHERE}.unpaired:build",
        recognise=f"{WHERE}.unpaired:recognise",
        aligned=False,
    ),
    DataSource(
        name="pairs",
        summary="Pictures A|B side by side, or folders A/ and B/ with the same names; with or without splits.",
        fields=("A", "B"),
        build=f"{WHERE}.pairs:build",
        recognise=f"{WHERE}.pairs:recognise",
    ),
    DataSource(
        name="tracks",
        summary="A table of tracks (.csv: track, step, lon, lat or x, y), cut into steps observed and to predict.",
        fields=("observed", "future"),
        build=f"{WHERE}.tracks:build",
        recognise=f"{WHERE}.tracks:recognise",
    ),
    DataSource(
        name="crossings",
        summary="Walkers who meet and give way to either side, drawn; or crossings:COUNT.",
        fields=("observed", "future"),
        build=f"{WHERE}.crossings:build",
    ),
    DataSource(
        name="ring",
        summary="Points of 8 Gaussians on a circle, or ring:MODES,COUNT.",
        fields=("real", "label"),
        build=f"{WHERE}.points:ring",
    ),
    DataSource(
        name="grid25",
        summary="Points of 25 Gaussians on a grid, or grid25:COUNT.",
        fields=("real", "label"),
        build=f"{WHERE}.points:grid25",
    ),
    DataSource(
        name="glyphs",
        summary="Digits drawn from fonts, or glyphs:letters, or glyphs:CHARACTERS.",
        fields=("real", "label"),
        build=f"{WHERE}.glyphs:Glyphs",
    ),
    DataSource(
        name="captioned-glyphs",
        summary="Coloured digits at the left, middle or right, and sentences that say so; or captioned-glyphs:COUNT.",
        fields=("real", "captions", "label"),
        build=f"{WHERE}.captioned_glyphs:CaptionedGlyphs",
    ),
    DataSource(
        name="torchvision",
        summary="A data set of torchvision: torchvision:NAME[,FOLDER][,download].",
        fields=("real",),
        optional=("label",),
        build=f"{WHERE}.torchvision:build",
    ),
]


def open_data(
    argument: str,
    fields: tuple[str, ...],
    options: DataOptions,
    sources: Mapping[str, DataSource],
    *,
    aligned: bool = True,
) -> Dataset:
    """Open what a user named: a path, recognised by its layout, or `NAME` or `NAME:ARGUMENT` of a data source.

    Where several sources read a path, the one registered last is taken, and one whose fields are not aligned before the
    others where that is asked for; `NAME:PATH` chooses another.

    Args:
        argument: the user's word.
        fields: what the variant needs; a source that lacks one is refused before anything is decoded.
        options: how pictures are to be read.
        sources: all registered ones, by name.
        aligned: whether the fields of a sample must show the same thing.

    Raises:
        DataError: no such folder or source, fields that the data does not give, or data that is not usable as it is.
        PluginError: a source does not give what its record states.
    """
    path = Path(os.path.expanduser(argument))  # pathlib's raises where there is no such user
    if argument and path.exists():
        source, word = _recognise(path, fields, sources, aligned), str(path)
    else:
        name, _, word = argument.partition(":")
        if name not in sources:
            raise _unknown(argument, path, sources)
        source = sources[name]
        _check_fields(source, fields, aligned)
    builder = load_object(source.build, f"data source {source.name}")
    with _cleaning_up():
        dataset: Dataset = builder(word, options)
    lacking = [name for name in source.fields if name not in dataset.spec.fields]
    if lacking:
        raise PluginError(
            f"data source {source.name}: its record states {_list(source.fields)}, but what it built gives "
            f"{_list(dataset.spec.fields)}. Correct the record or the builder."
        )
    if not set(fields) <= set(dataset.spec.fields):
        raise DataError(
            f"{argument}: the variant needs {_list(fields)}, the data gives {_list(dataset.spec.fields)}. "
            f"{' '.join(dataset.notes) or 'Add what is missing, or choose other data.'}"
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


def _recognise(path: Path, fields: tuple[str, ...], sources: Mapping[str, DataSource], aligned: bool) -> DataSource:
    """Return the source that reads `path` and gives `fields`."""
    readers = [source for source in reversed(list(sources.values())) if source.recognise]
    able = [source for source in readers if set(fields) <= set(_all_fields(source)) and (source.aligned or not aligned)]
    able.sort(key=lambda source: source.aligned != aligned)
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
        gives = " or ".join(f"{_list(_all_fields(source))} ({source.name})" for source in known)
        raise DataError(f"{path}: the variant needs {_list(fields)}, the data gives {gives}.{''.join(faults)}")
    # One that gives little else, of these the first that was registered: it says why it cannot read this.
    return min(reversed(able), key=lambda source: (source.aligned != aligned, len(_all_fields(source))))


def _all_fields(source: DataSource) -> tuple[str, ...]:
    return (*source.fields, *source.optional)


def _check_fields(source: DataSource, needs: tuple[str, ...], aligned: bool) -> None:
    gives = _all_fields(source)
    if not set(needs) <= set(gives):
        raise DataError(
            f"The variant needs {_list(needs)}, the data source {source.name} gives {_list(gives)}. "
            f"Choose data that gives {_list(field for field in needs if field not in gives)} too."
        )
    if aligned and not source.aligned:
        raise DataError(
            f"The variant needs {_list(needs)} of the same thing, the data source {source.name} draws each by itself. "
            f"Give a folder of pairs, or use a variant for unpaired pictures."
        )


def _unknown(argument: str, path: Path, sources: Mapping[str, DataSource]) -> DataError:
    """Return the error for a word that is neither a path nor a source, with the nearest of both."""
    if not argument:
        return DataError(f"Expected a folder or a data source ({_list(sources)}), got nothing.")
    beside = [str(path.with_name(p.name)) for p in path.parent.iterdir() if p.exists()] if path.parent.is_dir() else []
    if any(mark in argument for mark in "/\\~."):
        return DataError(f"{argument}: no such folder.{nearest(str(path), beside)}")
    return DataError(
        f'"{argument}": no such folder, and no data source of that name.'
        f"{nearest(argument.partition(':')[0], [*beside, *sources])} Data sources: {_list(sources)}."
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
