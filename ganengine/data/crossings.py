"""The data source `crossings`: walkers who meet in the middle of a place and give way, to the left or to the right."""

from __future__ import annotations

import numpy as np

from ganengine import draws
from ganengine.data.options import DataOptions
from ganengine.data.scenes import OBSERVE, PREDICT, SceneDataset
from ganengine.errors import UserError

COUNTS = {"train": 3000, "test": 500}
BLOCK = 250
"""Scenes that are simulated together: as many as the processor's cache holds."""
PEOPLE = (2, 6)
"""Fewest and most walkers of a scene."""
STEP = 0.4
"""Seconds from one point of a path to the next, as pedestrian data has them."""
FINE = 3
"""Steps of the simulation for each of these."""
MEETING = 13.0
"""Step at which walkers reach the middle: the first five of the steps to predict are on the way there."""
SPEEDS = (1.0, 1.5)
"""Slowest and fastest, in metres per second."""
AHEAD = 2.0
"""Seconds that a walker looks ahead."""
ROOM = 1.1
"""Metres that walkers keep between them where they can."""
STRENGTH = 2.6
"""Metres per second squared with which a walker gives way at most."""
RELAXATION = 0.6
"""Seconds in which a walker turns back to the goal."""
SAME_SIDE = 0.9
"""Share of the walkers of a scene who give way to its common side."""
WOBBLE = 0.12
"""Standard deviation of the acceleration that has no reason, in metres per second squared."""


def build(argument: str, options: DataOptions) -> SceneDataset:
    """Draw `crossings` or `crossings:COUNT`: scenes of 2 to 6 walkers, in metres, 8 + 12 steps of 0.4 s.

    To which side a scene gives way is a throw of a coin that no observed step tells: two futures are as likely.

    Raises:
        UserError: the argument is something else.
    """
    if argument and not (argument.isdecimal() and len(argument) < 8 and int(argument) > 0):
        raise UserError(f'crossings: expected crossings:COUNT, a whole number, or crossings alone; got "{argument}".')
    counts = {**COUNTS, **({"train": int(argument)} if argument else {})}
    scenes = {split: _scenes(split, count) for split, count in counts.items()}
    return SceneDataset(scenes, OBSERVE, layout=f"drawn walkers, {OBSERVE} + {PREDICT} steps, in metres")


def _scenes(split: str, count: int) -> list[np.ndarray]:
    """Draw the scenes of a split; the same for any seed of the run, and the first ones for any count."""
    parts = [
        _walk(BLOCK, np.random.default_rng(draws.key(0, "crossings", split, start))) for start in range(0, count, BLOCK)
    ]
    return [scene for part in parts for scene in part][:count]


def _walk(count: int, source: np.random.Generator) -> list[np.ndarray]:
    """Simulate all scenes at once; return each as [people, steps, 2]."""
    most = PEOPLE[1]
    people = source.integers(PEOPLE[0], most + 1, count)
    there = np.arange(most) < people[:, None]
    # Directions that they come from: all around the place, with at least 40 degrees between two.
    turn = source.uniform(0, 2 * np.pi, (count, 1))
    free = 2 * np.pi / people[:, None]
    angle = turn + free * np.arange(most) + source.uniform(-0.5, 0.5, (count, most)) * np.maximum(0, free - 0.7)
    speed = source.uniform(*SPEEDS, (count, most))
    heading = angle + np.pi + source.normal(0, 0.12, (count, most))
    forward = np.stack([np.cos(heading), np.sin(heading)], -1)
    meeting = STEP * (MEETING + source.normal(0, 0.8, (count, most)))
    miss = source.normal(0, 0.15, (count, most))[..., None] * np.stack([-forward[..., 1], forward[..., 0]], -1)
    place = miss - forward * (speed * meeting)[..., None]
    wanted = forward * speed[..., None]
    side = np.where(source.random((count, 1)) < 0.5, 1.0, -1.0)
    side = np.where(source.random((count, most)) < SAME_SIDE, side, -side)[..., None]
    velocity = wanted.copy()
    path = [place]
    fine = STEP / FINE
    for _ in range(OBSERVE + PREDICT - 1):
        for _ in range(FINE):
            push = (wanted - velocity) / RELAXATION + _evasion(place, velocity, side, there)
            push += source.normal(0, WOBBLE / np.sqrt(fine), push.shape)
            velocity = velocity + fine * push
            place = place + fine * velocity
        path.append(place)
    steps = np.stack(path, axis=2)
    return [scene[:number] for scene, number in zip(steps, people, strict=True)]


def _evasion(place: np.ndarray, velocity: np.ndarray, side: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the acceleration by which walkers give way: sideways, the more so the sooner and closer they will meet."""
    x, y = (place[..., None, :, axis] - place[..., :, None, axis] for axis in (0, 1))  # [scenes, walker, other]
    u, v = (velocity[..., None, :, axis] - velocity[..., :, None, axis] for axis in (0, 1))
    closing = -(x * u + y * v) / np.maximum(u * u + v * v, 1e-6)
    time = np.clip(closing, 0, AHEAD)
    closest = (x + u * time) ** 2 + (y + v * time) ** 2
    other = there[:, None] & there[:, :, None] & ~np.eye(there.shape[1], dtype=bool)
    urgent = np.where(other & (closing > 0), np.clip(1 - time / AHEAD, 0, 1) * np.exp(-closest / ROOM**2), 0.0)
    ahead = velocity / np.maximum(np.linalg.norm(velocity, axis=-1, keepdims=True), 1e-6)
    across = np.stack([-ahead[..., 1], ahead[..., 0]], -1)
    return np.asarray(STRENGTH * side * across * np.minimum(1.0, 2 * urgent.max(-1))[..., None])
