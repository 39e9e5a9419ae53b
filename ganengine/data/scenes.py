"""Scenes: points that move together, each as a path of observed steps and one of those that follow."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ganengine.data.dataset import Dataset, hash_record
from ganengine.variant import DataSpec, FieldSpec

OBSERVE, PREDICT = 8, 12
"""Steps that are known and steps to predict, unless something else is asked for."""


class SceneDataset(Dataset):
    """Scenes of any number of people (or storms, or cars), with `observe` known steps and those that follow.

    Fields `observed` [people, observe, 2] and `future` [people, steps, 2], ragged, in the units of the data, relative
    to the middle of the people at the last observed step. `scale` of both is the root mean square length of a training
    step, or 1 where nothing moves.

    Args:
        scenes: by split, each [people, steps, 2].
        observe: how many steps are known.
        layout: what was recognised, in words.
        names: by split, of each scene; None: numbers.
    """

    def __init__(
        self,
        scenes: Mapping[str, Sequence[np.ndarray]],
        observe: int,
        *,
        layout: str,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.observe, self.layout = observe, layout
        self.mirrors = False
        self.scenes = {split: [_centred(scene, observe) for scene in members] for split, members in scenes.items()}
        self._names = names
        every = next(scene for members in self.scenes.values() for scene in members)
        train = self.scenes.get("train") or [every]
        steps = np.concatenate([np.diff(scene, axis=1).reshape(-1, 2) for scene in train])
        self.scale = float(np.sqrt(np.square(steps, dtype=np.float64).sum(1).mean())) or 1.0
        fields = {"observed": observe, "future": every.shape[1] - observe}
        self.spec = DataSpec(
            {name: FieldSpec("points", (n, 2), ragged=True, scale=self.scale) for name, n in fields.items()},
            self.splits.get("train", 0),
        )

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(members) for split, members in self.scenes.items()}

    @functools.cached_property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for members in self.scenes.values():
            for scene in members:
                digest.update(scene.tobytes())
        people = {split: [len(scene) for scene in members] for split, members in self.scenes.items()}
        return hash_record([people, self.observe, digest.hexdigest()])

    def names(self, split: str) -> list[str]:
        return super().names(split) if self._names is None else list(self._names[split])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        scene = self.scenes[split][index]
        return {"observed": scene[:, : self.observe], "future": scene[:, self.observe :]}


def _centred(scene: np.ndarray, observe: int) -> np.ndarray:
    return np.asarray(scene - scene[:, observe - 1].mean(axis=0), np.float32)
