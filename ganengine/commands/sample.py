"""`ganengine sample`: draw pictures from a trained run, and what one wants to know of its generator."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import check_outputs
from ganengine.config import Precision, check_ranges
from ganengine.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ganengine.data.batch import Batch
    from ganengine.data.dataset import Dataset
    from ganengine.exploring import Sheet
    from ganengine.trained import Trained
    from ganengine.variant import Prior, View

STEPS = 9
"""Pictures in a row of an interpolation."""
FRAME_MS = 150
"""Milliseconds that a frame of a film stays."""
TOLD = 80
"""Letters of what was asked for in the name of a file."""
MOST_TRAINING = 20_000
"""Training pictures that neighbours are looked for among."""


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    n: int = 16
    """How many samples; of a class grid how many columns, of ways and sweeps how many latents (at most 8)."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    step: int | None = None
    """Step of the checkpoint to draw from; None: the newest. The last one of each stage is kept."""
    view: str | None = None
    """Which view of the variant; None: its first."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Ask for one class, by number or name; none: for no class at all."""
    caption: str | None = None
    """Draw what a sentence says, where the variant takes text: "a red three, left"."""
    captions_file: Path | None = None
    """A text file with a caption in each line: a row for each over the same latents, --n of them (at most 8)."""
    class_grid: bool = False
    """A row for each class over the same latents."""
    interpolate: Literal["linear", "spherical"] | None = None
    """Rows of pictures on the way from one latent to another: linear or spherical."""
    corners: bool = False
    """A square of pictures between four latents."""
    morph: str | None = None
    """Rows from one class to another: 3,7."""
    sweep: str | None = None
    """Named part of the latent to go through: a row for each value, or rows in which a number goes from -2 to 2."""
    ablate: Literal["noise", "label"] | None = None
    """The class grid without noise (z = 0) or without label (y = 0)."""
    neighbours: bool = False
    """Each sample beside the training pictures nearest to it."""
    truncation: float = 1.0
    """Factor on the latents: below 1 samples are likelier and less varied."""
    gif: bool = False
    """Make a film of the previews of the run instead."""
    split: str | None = None
    """Split of the data to take inputs from; None: one that was not trained on, where there is one."""
    out: Path | None = None
    """Folder to write to; None: RUN/drawn."""
    separate: bool = False
    """Write single pictures 000000.png, 000001.png ... instead of one sheet."""
    overwrite: bool = False
    """Replace pictures that are there already."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used on given pictures; running: the training's."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 where the hardware multiplies it fast and pictures differ from those in float32 by less than a
    level of 255 on average."""


KINDS = ("captions_file", "class_grid", "interpolate", "corners", "morph", "sweep", "ablate", "neighbours", "gif")
"""Options of which one at most says what is drawn."""


def sample(argv: Sequence[str]) -> int:
    """Write a sheet of samples, or single ones, of one view."""
    options = parse(_Options, argv, "ganengine sample", "Draw pictures from a trained run.")
    check_ranges(options)
    asked = [name for name in KINDS if getattr(options, name)]
    if options.class_ is not None and {"class_grid", "morph", "ablate", "gif"} & set(asked):
        asked.insert(0, "class")
    if options.caption is not None and {"captions_file", "class_grid", "morph", "ablate", "gif"} & set(asked):
        asked.insert(0, "caption")
    if len(asked) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise UserError(f"expected one thing to draw, got {flags}. Use one of them at a time.")
    if not 0 <= options.truncation <= 10:
        raise UserError(f"--truncation: expected a number from 0 to 10, got {options.truncation}.")
    if options.gif:
        return _film(options)
    import torch

    from ganengine.data.pictures import sheet, to_uint8
    from ganengine.runfolder import RunFolder
    from ganengine.trained import Trained

    folder = RunFolder.open(options.run)
    trained = Trained(
        folder, device=options.device, seed=options.seed, statistics=options.stats, step=options.step,
        precision=options.precision,
    )  # fmt: skip
    if options.class_ is not None:
        asked.insert(0, "class")
    if options.caption is not None:
        asked.insert(0, "caption")
    if asked and not any(view.kind == "sample" for view in trained.sampler.views.values()):
        if asked[0].startswith("caption"):
            raise UserError(
                f"--{asked[0].replace('_', '-')}: expected a run that reads sentences; in this one "
                f"{trained.settings.variant.name} has no network for that and draws what its data has beside the "
                "pictures. Leave the option out."
            )
        raise UserError(
            f"--{asked[0].replace('_', '-')}: expected a variant that makes samples of noise; "
            f"{trained.settings.variant.name} starts from samples of the data. Leave the option out."
        )
    view = trained.sampler.view(("sample",) if asked else ("sample", "grid", "forecast"), options.view)
    if options.split is not None and view.kind == "sample" and view.text is None and not options.neighbours:
        raise UserError("--split: expected a view of samples of the data, got one of noise. Leave the option out.")
    if options.truncation != 1 and view.kind == "forecast":
        raise UserError("--truncation: expected a view of samples, got one of forecasts. Leave the option out.")
    numbers: dict[str, float] = {}
    wholes: dict[str, np.ndarray] = {}  # by what tells apart the sheets of one sweep
    if view.kind != "sample":
        columns = _from_data(trained, view, options)
        singles = columns["output" if "output" in columns else next(iter(columns))]
        wholes[""] = sheet(columns)
    else:
        sheets = _explored(trained, view, options)
        singles = torch.cat([found.pictures for found in sheets.values()])
        for name, found in sheets.items():
            made, prefix = found.pictures, f"{name}_" if len(sheets) > 1 else ""
            wholes[name] = sheet(made, columns=found.columns) if made.dim() == 4 else _points(trained, made)
            numbers |= {f"{prefix}{key}": number for key, number in found.numbers.items()}
    out = options.out or folder.path / "drawn"
    if options.separate and singles.dim() != 4:
        raise UserError("--separate: expected a variant that makes pictures; this one makes points. Leave it out.")
    if options.separate:
        pictures = {out / f"{index:06d}.png": picture for index, picture in enumerate(to_uint8(singles))}
    else:
        words = [f"{trained.sampler.progress.images:09d}", *([_plain(options.view)] if options.view else [])]
        words += [_told(word, options) for word in asked]
        words += [] if options.truncation == 1 else [f"truncation{options.truncation:g}"]
        last = [str(len(singles) // len(wholes)), *([] if options.seed is None else [f"seed{options.seed}"])]
        pictures = {
            out / f"{'-'.join([*words, *([_plain(name)] if name else []), *last])}.png": whole
            for name, whole in wholes.items()
        }
    _write(pictures, numbers, options.overwrite)
    if trained.note:
        print(trained.note, file=sys.stderr)
    return 0


def _told(name: str, options: _Options) -> str:
    """Return an option and its value for the name of a file: class-3, morph-3-8, class-grid."""
    value = getattr(options, "class_" if name == "class" else name)
    if isinstance(value, Path):
        value = value.stem
    # A sweep's sheets are named by what they show.
    words = [name.replace("_", "-"), *([] if value is True or name == "sweep" else [str(value)])]
    return _plain("-".join(words))[:TOLD]


def _plain(word: str) -> str:
    """Return a word as part of the name of a file."""
    return re.sub(r"[^\w.]+", "-", word)


# ----------------------------------------------------------------------------------------------------------------
# What is drawn


def _from_data(trained: Trained, view: View, options: _Options) -> dict[str, Tensor]:
    """Draw a grid or forecast view, which starts from samples of the data."""
    from ganengine.precision import PROBED

    dataset = _dataset(trained)
    split = options.split or dataset.shown_split
    batch = _pictures(trained, dataset, split, options.n, trained.stage.size)
    trained.settle(view, batch.narrow(0, min(PROBED, batch.size)))
    if view.kind == "forecast":
        names = dataset.names(split)
        return {"fans": trained.sampler.fans(view, batch, [names[number] for number in batch.index.tolist()])}
    hardware = trained.hardware
    return trained.sampler.grid(view, batch.to(hardware.device, channels_last=hardware.channels_last), batch.size)


def _explored(trained: Trained, view: View, options: _Options) -> dict[str, Sheet]:
    """Draw a sample view as the options ask; a sweep may have several sheets, which their names tell apart."""
    import torch

    from ganengine import exploring
    from ganengine.latents import one_hot, scaled

    assert view.prior is not None
    prior = view.prior
    classes = trained.spec.classes(view.label)
    if not classes and (options.class_ is not None or options.class_grid or options.morph or options.ablate):
        raise UserError(
            f"{trained.settings.variant.name} takes no class, so --class, --class-grid, --morph and --ablate mean "
            "nothing to it. Leave them out, or train a conditional variant (`ganengine list`)."
        )

    trained.settle(view)
    captions = _captions(trained, view, options)

    def draw(z: Tensor, y: Tensor | None) -> Tensor:
        return trained.sampler.sample(view, z, y)

    def latents(count: int) -> Tensor:
        return scaled(trained.sampler.latents(view, count), prior, options.truncation)

    def weights(count: int) -> Tensor | None:
        if captions is not None:
            return captions[torch.arange(count) % len(captions)]
        if not classes:
            return None
        chosen = torch.arange(count) % classes
        if options.class_ is not None:
            chosen = torch.full((count,), -1 if options.class_ == "none" else _class(trained, options.class_, classes))
        return one_hot(chosen, classes)

    few = min(options.n, 8)
    if options.sweep:
        part = _part(trained, prior, options.sweep)
        return exploring.swept(draw, latents(few), weights(few), prior, part, STEPS)
    if options.captions_file is not None and captions is not None:
        return {"": exploring.by_caption(draw, latents(few), captions)}
    if options.class_grid:
        found = exploring.by_class(draw, latents(few), classes)
    elif options.ablate:
        found = exploring.ablated(draw, latents(few), classes, options.ablate)
    elif options.morph:
        words = [word.strip() for word in options.morph.split(",")]
        if len(words) != 2:
            raise UserError(f'--morph: expected two classes such as 3,7, got "{options.morph}".')
        ends = (_class(trained, words[0], classes), _class(trained, words[1], classes))
        found = exploring.morphed(draw, latents(few), ends, classes, STEPS)
    elif options.interpolate:
        found = exploring.interpolated(draw, latents(2 * few), weights(few), STEPS, options.interpolate, prior)
    elif options.corners:
        found = exploring.cornered(draw, latents(4), weights(1), STEPS, "spherical", prior)
    else:
        made = draw(latents(options.n), weights(options.n))
        found = _neighbours(trained, made) if options.neighbours else exploring.Sheet(made)
    return {"": found}


def _part(trained: Trained, prior: Prior, name: str) -> str:
    """Return the part of the latent that the user named."""
    names = [part.name for part in prior.parts]
    if name in names:
        return name
    if names:
        raise UserError(
            f'--sweep: expected a part of the latent: {", ".join(names)}; got "{name}".{nearest(name, names)}'
        )
    raise UserError(
        f'--sweep: expected a variant whose latent has named parts, got "{name}"; the latent of '
        f"{trained.settings.variant.name} is one piece. Leave the option out, or use --interpolate."
    )


def _captions(trained: Trained, view: View, options: _Options) -> Tensor | None:
    """Return the codes [R, L] of the captions asked for, those of held-out data where none is; None without text."""
    import numpy as np
    import torch

    from ganengine.data.text import LONGEST, encode_all, length_for, plain

    if view.text is None:
        if options.caption is None and options.captions_file is None:
            return None
        raise UserError(
            f"{trained.settings.variant.name} takes no text, so --caption and --captions-file mean nothing to it. "
            "Leave them out, or train a variant that draws what sentences say (`ganengine list`)."
        )
    if options.caption is None and options.captions_file is None:
        dataset = _dataset(trained)
        return _pictures(trained, dataset, options.split or dataset.shown_split, options.n)[view.text][:, 0]
    flag = "--caption" if options.caption is not None else "--captions-file"
    texts = [options.caption] if options.caption is not None else _lines(options.captions_file or Path())
    for text in texts:
        if not 0 < len(plain(text)) <= LONGEST:
            raise UserError(
                f'{flag}: expected a sentence of 1 to {LONGEST} characters, got "{text[:40]}" ({len(text)}).'
            )
    length = max(trained.spec.fields[view.text].shape[-1], length_for(max(len(plain(text)) for text in texts)))
    return torch.from_numpy(encode_all(texts, len(texts), length).astype(np.int64))


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file that hold something."""
    try:
        lines = [line.strip() for line in path.expanduser().read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise UserError(f"--captions-file {path}: expected a text file; it cannot be read ({why}).") from error
    if not any(lines):
        raise UserError(f"--captions-file {path}: expected a caption in each line, got none. Write some.")
    return [line for line in lines if line]


def _neighbours(trained: Trained, made: Tensor) -> Sheet:
    from ganengine.exploring import neighbours

    if made.dim() != 4:
        raise UserError("--neighbours: expected a variant that makes pictures; this one makes points.")
    dataset = _dataset(trained)
    train = _pictures(trained, dataset, "train", min(dataset.splits["train"], MOST_TRAINING))["real"]
    other = dataset.shown_split
    held_out = None if other == "train" else _pictures(trained, dataset, other, min(dataset.splits[other], 1000))
    return neighbours(made, train, None if held_out is None else held_out["real"])


def _points(trained: Trained, points: Tensor) -> np.ndarray:
    """Draw points over those of the data."""
    from ganengine.scatter import scatter

    dataset = _dataset(trained)
    return scatter(points, _pictures(trained, dataset, "train", min(1000, dataset.splits["train"]))["real"])


def _class(trained: Trained, word: str, classes: int) -> int:
    """Return the number of the class that the user named."""
    if word.isdigit() and int(word) < classes:
        return int(word)
    names: list[str] = [] if word.isdigit() else [str(name) for name in getattr(_dataset(trained), "classes", ())]
    if word in names:
        return names.index(word)
    known = f" or one of {', '.join(names[:20])}" if names else ""
    raise UserError(f'class: expected a number from 0 to {classes - 1}{known}; got "{word}".{nearest(word, names)}')


def _dataset(trained: Trained) -> Dataset:
    """Open the data that the run was trained on."""
    from ganengine.plugins import registry
    from ganengine.session import check_data, open_dataset

    check_data(trained.folder, trained.settings.engine.data)
    return open_dataset(trained.settings.variant, trained.settings.engine, registry())[0]


def _pictures(trained: Trained, dataset: Dataset, split: str, count: int, size: int | None = None) -> Batch:
    """Return the first samples of a split, at the run's size unless stated."""
    from ganengine.data.loader import Loader
    from ganengine.session import data_options

    with Loader(dataset, data_options(trained.settings.engine)) as loader:
        return loader.fixed(split, count, size=size)


# ----------------------------------------------------------------------------------------------------------------
# What is written


def _write(pictures: Mapping[Path, np.ndarray], numbers: Mapping[str, float], overwrite: bool) -> int:
    """Write pictures, and numbers beside them in a JSON file of the first one's name; tell where."""
    from ganengine.data.pictures import save_picture
    from ganengine.runfolder import write_whole

    first = next(iter(pictures))
    beside = first.with_suffix(".json")
    check_outputs([*pictures, *([beside] if numbers else [])], overwrite)
    for path, picture in pictures.items():
        save_picture(path, picture)
    if numbers:
        write_whole(beside, (json.dumps({"schema": 1, **numbers}) + "\n").encode())
    print(first if len(pictures) == 1 else f"{len(pictures)} pictures in {first.parent}")
    for name, number in numbers.items():
        print(f"  {name.replace('_', ' ')}: {number:.4f}")
    return 0


def _film(options: _Options) -> int:
    """Make an animation of the previews of a run."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from ganengine.film import write_film
    from ganengine.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    paths = sorted(folder.samples.glob("*.png"))
    if not paths:
        raise UserError(f"{folder.samples}: expected previews to make a film of; there are none. Train with --preview.")
    film = (options.out or folder.path / "drawn") / "film.gif"
    check_outputs([film], options.overwrite)
    try:
        frames = [Image.open(path).convert("RGB") for path in paths]
    except UnidentifiedImageError as error:
        raise UserError(
            f"{folder.samples}: a preview is damaged ({error}). Remove it, and make the film again."
        ) from error
    frames = [frame.resize(frames[-1].size) for frame in frames]  # of a network that grows all are shown in one size
    write_film(film, [np.asarray(frame) for frame in frames], frame_ms=FRAME_MS)
    print(film)
    return 0
