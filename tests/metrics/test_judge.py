"""The judge on blobs: it learns where they are, repeats itself, is kept, and is refused where it errs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganengine.errors import DataError, UserError
from ganengine.metrics import judge as judges
from ganengine.metrics.frechet import fit_gaussian, frechet_distance
from ganengine.metrics.judge import Judge, Labelled, Verdict, read_judge, reduced, train_judge, write_judge
from ganengine.metrics.samples import (
    Evidence,
    class_accuracies,
    class_accuracy,
    class_shares,
    coverage,
    fd_judge,
    label_swap,
)


def blobs(count: int, seed: int, classes: int = 3, side: int = 12) -> Labelled:
    """Return pictures with a bright square in one of some places, in noise."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=source)
    pictures = torch.rand((count, 1, side, side), generator=source) * 0.5 - 1
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        picture[:, 1 + label * 4 : 4 + label * 4, 4:8] += 1.4
    return Labelled(pictures.clamp(-1, 1), labels)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(blobs(300, 0), blobs(60, 1), 3)


def test_it_learns_what_shows(judge: Judge) -> None:
    judge.check()
    assert judge.accuracy >= 0.97
    assert judge.held_out == 60
    other = blobs(50, 2)
    verdict = judge.look(other.pictures)
    assert (verdict.classes == other.labels).float().mean() >= 0.97
    assert verdict.features.shape == (50, judges.FEATURES)


def test_it_repeats_itself(judge: Judge) -> None:
    again = train_judge(blobs(300, 0), blobs(60, 1), 3)
    for name, tensor in judge.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    other = train_judge(blobs(300, 0), blobs(60, 1), 3, seed=1)
    assert not torch.equal(judge.network.classes.weight, other.network.classes.weight)


def test_its_progress_is_shown(judge: Judge) -> None:
    seen: list[int] = []

    def progress(steps: range, count: int) -> list[int]:
        seen.append(count)
        return list(steps)

    train_judge(blobs(130, 0), blobs(10, 1), 3, progress=progress)  # type: ignore[arg-type]
    assert seen == [judges.EPOCHS * (130 // judges.BATCH)]


def test_one_that_errs_is_refused(judge: Judge) -> None:
    poor = Judge(judge.network, 0.9512, 60)
    with pytest.raises(DataError, match=r"right on 95\.1% of 60 held-out.*97\.0%.*--judge-least 0\.951\."):
        poor.check()
    poor.check(0.951)


def test_it_is_kept_whole_or_not_at_all(judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "judges" / "x.safetensors"
    assert read_judge(path) is None
    write_judge(path, judge, {"seed": 0})
    kept = read_judge(path)
    assert kept is not None
    assert (kept.accuracy, kept.held_out) == (judge.accuracy, judge.held_out)
    pictures = blobs(20, 3).pictures
    assert torch.equal(kept.look(pictures).features, judge.look(pictures).features)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-8], b"", whole.replace(b"accuracy", b"accurate")):
        path.write_bytes(damaged)
        assert read_judge(path) is None


def test_large_pictures_are_averaged_down() -> None:
    pictures = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)
    assert reduced(pictures).shape == (1, 1, 32, 32)
    assert float(reduced(pictures)[0, 0, 0, 0]) == pytest.approx((0 + 1 + 64 + 65) / 4)
    assert reduced(pictures[..., :28, :28]) is not None
    assert reduced(pictures[..., :28, :28]).shape[-1] == 28


# ----------------------------------------------------------------------------------------------------------------
# What follows from verdicts


def verdict(classes: list[int], features: torch.Tensor | None = None) -> Verdict:
    return Verdict(torch.tensor(classes), torch.zeros(len(classes), 2) if features is None else features)


REAL = verdict([0, 1])


def test_coverage_counts_classes_of_a_fiftieth() -> None:
    made = verdict([0] * 97 + [1] * 2 + [2])
    assert coverage(Evidence(made, REAL, 10)) == 2
    assert coverage(Evidence(made, REAL, 20)) == 3  # of 20 classes a fifth of 5 % is enough
    assert class_shares(Evidence(made, REAL, 4)).tolist() == pytest.approx([0.97, 0.02, 0.01, 0.0])


def test_class_accuracy_is_of_what_was_asked_for() -> None:
    evidence = Evidence(verdict([0, 1, 2, 0]), REAL, 3, asked=torch.tensor([0, 1, 1, 2]))
    assert class_accuracy(evidence) == 0.5
    assert class_accuracies(evidence).tolist() == [1.0, 0.5, 0.0]


def test_label_swap_counts_verdicts_that_change() -> None:
    evidence = Evidence(verdict([0, 1, 2]), REAL, 3, torch.tensor([0, 1, 2]), lambda: verdict([1, 1, 0]))
    assert label_swap(evidence) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", [class_accuracy, label_swap])
def test_without_a_label_there_is_nothing_asked_for(metric: object) -> None:
    with pytest.raises(UserError, match="takes no label"):
        metric(Evidence(REAL, REAL, 2))  # type: ignore[operator]


def test_fd_judge_is_the_distance_of_features() -> None:
    source = torch.Generator().manual_seed(0)
    made, real = (verdict([0] * 40, torch.randn(40, 2, generator=source) + shift) for shift in (0, 1))
    expected = frechet_distance(fit_gaussian(made.features), fit_gaussian(real.features))
    assert fd_judge(Evidence(made, real, 2)) == expected
    assert fd_judge(Evidence(real, real, 2)) == pytest.approx(0, abs=1e-6)
    assert fd_judge(replace(Evidence(made, real, 2), made=real)) < expected
