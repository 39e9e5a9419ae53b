"""`ganengine import`: weights that were trained elsewhere become a run."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganengine import config
from ganengine.config import Budget, Settings
from ganengine.data.dataset import Dataset
from ganengine.errors import CheckpointError, DataError, UserError
from ganengine.plugins import registry, stated
from ganengine.variant import DataSpec, Imported, Variant

if TYPE_CHECKING:
    import numpy as np

    from ganengine.runfolder import RunFolder

USAGE = """usage: ganengine import VARIANT FILE ... [--data DIR] [--out RUN] [OPTIONS]

Make a run of weights that were trained elsewhere, which translate, sample, eval and run --init-from take.

  FILE ...       files of weights (PyTorch's .pth), one for each network
  --data DIR     what sample, eval and resume take where nothing is given; none: the variant's own
  --out RUN      folder of the run; default runs/VARIANT, then -2, -3
  OPTIONS        those of `ganengine run VARIANT`, where the files do not tell or you know better"""


def import_weights(argv: Sequence[str]) -> int:
    """Make a run of files of weights, at step 0."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    words = list(takewhile(lambda word: not word.startswith("-"), argv))
    rest, taken = config.take_options(argv[len(words) :], ("data",))
    variant = _importing(words[0] if words else "")
    if len(words) < 2:
        raise UserError(f"expected files of weights after {variant.name}, and options after those; got no file.")
    paths = [Path(word) for word in words[1:]]
    imported: Imported = variant.builder("importer")({str(path): read_weights(path) for path in paths})
    described = dataclasses.replace(variant, defaults={**variant.defaults, **imported.options})
    # The data is always stated, so that no other word is taken for it.
    settings = config.parse(described, [taken["data"][-1] if taken["data"] else "", *rest], "ganengine import")
    settings = dataclasses.replace(settings, variant=variant).anchored()
    if settings.engine.init_from is not None:
        raise UserError("--init-from: expected weights from the files alone. Leave it out.")
    from ganengine.runfolder import RunFolder

    RunFolder.check_free(settings.engine.out)
    folder = make_run(settings, imported, paths)
    name, plugin = shlex.quote(str(folder)), stated()
    print(f"{imported.summary}: now a run in {folder}.")
    print(f"  use it           ganengine translate {name} IN OUT{plugin}")
    print(
        f"  train it further ganengine run {variant.name} DATA --config {name}/config.yaml --init-from {name}{plugin}"
    )
    return 0


def _importing(name: str) -> Variant:
    able = [known for known, entry in registry().entries["variant"].items() if entry.record.importer]
    listed = f"Variants that import: {', '.join(sorted(able)) or 'none'}."
    if not name:
        raise UserError(f"expected the name of a variant first. {listed}")
    variant = registry().variant(name)
    if variant.importer is None:
        raise UserError(f"{name} does not import weights of others. {listed}")
    return variant


def read_weights(path: Path) -> Any:
    """Return what a file that torch.save wrote holds: tensors and plain values, on the CPU.

    Raises:
        UserError: there is no such file, it is no such file, or it holds code, which is not run.
    """
    import torch

    if not path.is_file():
        raise UserError(f"{path}: expected a file of weights; there is {'a folder' if path.is_dir() else 'none'}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # bytes that are no such file may fail anywhere
        told = str(error)
        if code := re.search(r"GLOBAL ([\w.]+)", told):
            raise UserError(
                f"{path}: expected tensors alone; this file would run code when it is read ({code[1]}), which is "
                "refused. Where you trust it, load it with its own code and save the state_dict() of its model."
            ) from error
        kind = "a TorchScript archive" if "TorchScript" in told else "damaged, or of another kind"
        raise UserError(f"{path}: expected a file that torch.save wrote; it is {kind}.") from error


def make_run(settings: Settings, imported: Imported, paths: Sequence[Path]) -> RunFolder:
    """Write the run: options, and a checkpoint of step 0 in which optimizers and averages are new.

    Raises:
        UserError: the tensors do not fit the networks that the options ask for; nothing is written then.
    """
    from ganengine.checkpoint import Checkpoint, load_tensors, sha256
    from ganengine.data.loader import Loader
    from ganengine.display import Display
    from ganengine.hardware import choose
    from ganengine.players import network_tensors
    from ganengine.runfolder import RunFolder
    from ganengine.session import data_options, open_dataset, set_ops_mode
    from ganengine.trainer import Trainer

    engine = dataclasses.replace(settings.engine, size=data_options(settings.engine).size)
    settings = dataclasses.replace(settings, engine=engine)
    hardware = choose(engine)
    set_ops_mode(engine)
    dataset = (
        open_dataset(settings.variant, engine, registry())[0]
        if engine.data
        else Untold(imported.data(settings.config, data_options(engine).size))
    )
    unseen = dataclasses.replace(settings, engine=dataclasses.replace(engine, preview=0))
    with Loader(dataset, data_options(engine)) as loader:
        trainer = Trainer(unseen, dataset, loader, hardware, registry(), Display(quiet=True))
        given = {name.partition("/")[0] for name in imported.networks}
        tensors = network_tensors({name: net for name, net in trainer.players.items() if name in given})
        try:
            load_tensors(tensors, Checkpoint(paths[0], {}, dict(imported.networks), {}))
        except CheckpointError as error:
            raise UserError(
                f"{error} The files hold: {imported.summary}. Leave out the options that say otherwise."
            ) from error
        trainer.players.start_averages()
        folder = RunFolder.create(engine.out, settings.variant.name)
        try:
            with folder.locked():
                folder.write_config(settings)
                folder.write_environment(hardware, {"imported": {path.name: sha256(path) for path in paths}})
                trainer.train(folder, Budget(max_steps=0))
        except BaseException:
            folder.remove()
            raise
    for name, _ in trainer.players.items():
        if name not in given:
            print(f"{name} is in none of the files: it starts anew.", file=sys.stderr)
    return folder


class Untold(Dataset):
    """What the weights were trained on: its form is known, and that is all.

    Args:
        spec: the form; it counts no samples.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        raise DataError(f"The data of an imported run is not known: there is no sample {index} of {split}.")
