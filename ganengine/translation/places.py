"""Which pictures there are to translate, and what each result is called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ganengine.data.archives import File, is_archive
from ganengine.data.files import Folder, is_picture, no_pictures
from ganengine.errors import UserError


@dataclass(frozen=True)
class Job:
    """One picture to translate."""

    file: File
    """Where it is."""
    name: str
    """Its path below IN, which keys its draws: moving the folder changes nothing."""
    result: str
    """The path of its result below OUT."""


@dataclass(frozen=True)
class Plan:
    """What there is to do."""

    jobs: tuple[Job, ...]
    target: Path
    """The folder or the zip file that results go to."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What is not looked at, by path, and why."""

    @property
    def packed(self) -> bool:
        """Whether results go into one zip file."""
        return self.target.suffix.lower() == ".zip" and not self.target.is_dir()

    @property
    def outputs(self) -> list[Path]:
        """The files that will be written."""
        return [self.target] if self.packed else [self.target / job.result for job in self.jobs]

    def as_arrays(self) -> Plan:
        """Return the plan with results that are .npy files."""
        jobs = (replace(job, result=f"{os.path.splitext(job.result)[0]}.npy") for job in self.jobs)
        return replace(self, jobs=tuple(jobs))


def plan(source: Path, target: Path) -> Plan:
    """Find the pictures of `source`, and name their results: relative paths are kept, the suffix becomes .png.

    Args:
        source: a picture, a folder, or a zip file, read in place.
        target: a folder, a name that ends in .zip, or for one picture a name that ends in .png.

    Raises:
        UserError: there is no such file or folder, no picture in it, two results would have one name, or one that of
            its own picture.
        DataError: the zip file is refused, or the folder cannot be read.
    """
    if source.resolve() == target.resolve() and source.is_file():
        raise UserError(f"{target}: expected another OUT than IN, which is still to be read.")
    if source.is_file() and not is_archive(source):
        if target.suffix.lower() == ".png" and not target.is_dir():
            return _apart(Plan((Job(source, source.name, target.name),), target.parent))
        if is_picture(target.name) and not target.is_dir():
            raise UserError(
                f"{target}: expected a .png file or a folder to write to, or a .zip file; nothing else is written."
            )
        return _apart(Plan((Job(source, source.name, f"{source.stem}.png"),), target))
    if not source.exists():
        raise UserError(f"{source}: expected a picture or a folder of pictures; there is none.")
    if is_picture(target.name) and not target.is_dir():
        raise UserError(f"{target}: expected a folder or a .zip file to write to, as {source} may hold many pictures.")
    folder = Folder(source)
    listing = folder.listing()
    pictures: Sequence[str] = listing.pictures
    if not pictures:
        raise no_pictures(folder)
    if target.is_dir() and target.resolve() != source.resolve():
        # OUT may lie inside IN: earlier results are not translated again.
        pictures = [name for name in pictures if not (source / name).resolve().is_relative_to(target.resolve())]
        if not pictures:
            raise UserError(f"{source}: expected pictures beside those in {target}; there are none.")
    jobs = tuple(Job(folder.file(name), name, result) for name, result in _results(source, pictures).items())
    return _apart(Plan(jobs, target, {f"{source}/{name}": reason for name, reason in listing.left_out.items()}))


def _apart(found: Plan) -> Plan:
    """Return the plan, unless a result would take the place of the picture that it is made of."""
    for job in found.jobs:
        if (
            not found.packed
            and isinstance(job.file, Path)
            and (found.target / job.result).resolve() == job.file.resolve()
        ):
            raise UserError(
                f"{found.target / job.result}: expected another place than that of the picture itself. Use another OUT."
            )
    return found


def _results(source: Path, names: Sequence[str]) -> dict[str, str]:
    """Return what the result of each name is called; of namesakes all but a .png keep their suffix too."""
    stems = [os.path.splitext(name)[0] for name in names]
    shared = {stem for stem, count in Counter(stems).items() if count > 1}
    results: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, stem in zip(names, stems, strict=True):
        result = f"{name if stem in shared and not name.endswith('.png') else stem}.png"
        if result in taken:
            raise UserError(f"{source}: {name} and {taken[result]} would both become {result}. Rename one of them.")
        taken[result] = name
        results[name] = result
    return results
