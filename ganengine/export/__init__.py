"""What a trained run can make, as a module of torch and as a file for other programs."""

from __future__ import annotations

import os

from torch import nn


def load_view(
    run: str | os.PathLike[str], view: str | None = None, *, step: int | None = None, seed: int | None = None
) -> nn.Module:
    """Load what a run can make as a module in eval mode on the CPU: tensors in, tensors out.

    Of a view that draws samples it takes z [N, *shape], and y where there are classes (weights [N, K]) or captions
    (codes [N, L]); of one that translates, images [N, C, H, W] in [-1, 1] of any size. It makes what `ganengine sample`
    and `ganengine translate --precision fp32` make, but for noise that stays on in use: that is one draw here, for all
    pictures the same, where `translate` draws by each picture's path.

    Args:
        run: folder of the run.
        view: its name; None: the first of the variant that draws samples or translates.
        step: of the checkpoint to use; None: the newest whole one.
        seed: of noise inside the networks; None: the run's own.

    Raises:
        UserError: there is no such run, or its variant is not installed. The module raises it for inputs that do not
            fit.
        PluginError: there is no such view.
        CheckpointError: there is no such checkpoint, or it does not fit.
    """
    from ganengine.export.model import model_of
    from ganengine.trained import load_plain

    return model_of(load_plain(run, step=step, seed=seed), view).module
