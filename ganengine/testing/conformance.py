"""The conformance kit: what every variant promises, one check for each promise.

`check_variant("NAME")` runs them all on the CPU, at the variant's smallest form, on data made from nothing; it takes
seconds. A plugin's tests call it, and so will `ganengine plugins test NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganengine.data.dataset import Dataset
from ganengine.errors import GanengineError
from ganengine.testing import game, record, repeat, views
from ganengine.testing.subject import Subject, machine_kept


@dataclass(frozen=True)
class Check:
    """One promise of the contract."""

    name: str
    summary: str
    """What holds when the check passes."""
    run: Callable[[Subject], None]
    """Raises an AssertionError that says what was expected, what came and what to do."""


CHECKS = (
    Check("record", "the record is complete, and every option has a help text", record.is_complete),
    Check("builds", "networks, losses, schedule and views fit together at the smallest form", game.builds),
    Check("views", "views have the stated shape and range, and repeat", views.have_shape_and_range),
    Check("batch-mates", "a translated picture does not depend on those beside it", views.ignore_batch_mates),
    Check("phases", "each phase changes its parameter groups and nothing else", game.phases_change_their_groups),
    Check("gradients", "every trainable parameter gets a gradient in some phase", game.everything_is_trained),
    Check("logits", "discriminators return logits: no sigmoid before a loss", game.logits_stay_logits),
    Check("deterministic", "two runs of one seed are equal bit for bit", repeat.is_deterministic),
    Check("resume", "N steps, save, load, M steps equal N + M steps bit for bit", repeat.resumes_exactly),
    Check("torch-free", "the module of the plugin imports without torch", record.is_torch_free),
)
"""All checks, in the order in which they run: a later one relies on the earlier ones."""


@dataclass(frozen=True)
class Report:
    """What `check_variant` found."""

    variant: str
    passed: tuple[str, ...]
    """Names of the checks."""


def check_variant(name: str, *, data: Dataset | str | None = None) -> Report:
    """Check that an installed variant keeps the plugin contract.

    Args:
        name: of the variant, as in `ganengine run NAME`.
        data: what to train on: a data set, or the user's word for one (a folder, the name of a data source). None:
            synthetic data with the fields that the variant declares.

    Returns:
        The checks that passed, which are all of them.

    Raises:
        AssertionError: one did not; the message names the variant, the check and what to do.
        PluginError: no variant has that name.

    Determinism: the number of threads, the mode of the ops and the global generators are left as they were.
    """
    with machine_kept():
        subject = Subject(name, data)
        for check in CHECKS:
            try:
                check.run(subject)
            except AssertionError as error:
                raise AssertionError(f'Variant "{name}", check "{check.name}" ({check.summary}): {error}') from error
            except (GanengineError, SystemExit) as error:
                raise AssertionError(
                    f'Variant "{name}", check "{check.name}" ({check.summary}): the engine refuses it. {error}'
                ) from error
            except Exception as error:
                raise AssertionError(
                    f'Variant "{name}", check "{check.name}" ({check.summary}): its code raised '
                    f"{type(error).__name__}: {error}. The traceback above leads to the line."
                ) from error
    return Report(name, tuple(check.name for check in CHECKS))
