"""Folders that are no run, or a damaged one, for every command that takes a run."""

from __future__ import annotations

CONFIG = "expected the options of a run"
NO_RUN = {
    "nowhere": "nowhere: expected the folder of a run; there is no such folder",
    "empty": "empty: expected the folder of a run; it has no config.yaml",
    "file.yaml": "file.yaml: expected the folder of a run; there is no such folder",
    "folded": "folded: expected the folder of a run; it has no config.yaml",
    "damaged": f"damaged/config.yaml: {CONFIG}; it cannot be read",
    "listed": f"listed/config.yaml: {CONFIG}, each as `name: value`; it holds a list",
    "blank": f"{CONFIG}; it cannot be read (it names no variant)",
    "nameless": f"{CONFIG}; it cannot be read (it names no variant)",
    "mapped": f"{CONFIG}; it cannot be read (it names no variant)",
    "tagged": f"{CONFIG}; it cannot be read: it is no YAML (could not determine a constructor",
}
NO_WEIGHTS = {
    "unstarted": "expected a checkpoint to go on from; there is none",
    "strange": 'No variant is called "no-such-gan"',
    "future": 'config.yaml: no option is called "from-the-future"',
    "mistyped": "mistyped/config.yaml: Error parsing --batch: invalid literal for int() with base 10: 'two'",
    "runs/no-meta": "meta.json is missing",
    "runs/no-state": "state.pt is missing",
    "runs/no-networks": "networks.safetensors is missing",
    "runs/cut-state": "state.pt is damaged (its checksum differs",
    "runs/flipped-networks": "networks.safetensors is damaged (its checksum differs",
    "runs/text-meta": "step-000000003: it cannot be read",
    "runs/list-meta": "step-000000003: it cannot be read",
    "runs/newer-meta": "written by a newer ganengine (format 99",
    "runs/other-size": "its tensors do not fit these networks: ",
}

WRONG = {
    **{
        f"{command} {run}{rest}": message
        for command, rest in (("resume", ""), ("sample", ""), ("translate", " square there"), ("eval", ""))
        for run, message in {**NO_RUN, **NO_WEIGHTS}.items()
    },
    **{f"report {run}": message for run, message in NO_RUN.items()},
}
