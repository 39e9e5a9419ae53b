"""Is D a feature extractor? A linear classifier on D's features from few labels, beside raw pixels and an untrained D.

    python benches/linear_probe.py runs/dcgan DATA --labels 1000

D's convolutions are tapped, each pooled to 4 x 4 by its maximum (arXiv:1511.06434, section 5.1). DATA has labels and
pictures as the run was trained on; without it the run's own data is taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ganengine.display import bar
from ganengine.errors import GanengineError, UserError
from ganengine.judging import open_labelled
from ganengine.metrics.probe import conv_features, linear_probe
from ganengine.plugins import registry
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained


def probe(run: Path, data: str, labels: int, network: str) -> dict[str, float]:
    """Return the accuracy on held-out pictures of classifiers on pixels, and on the network untrained and trained."""
    trained, before = (Trained(RunFolder.open(run), precision="fp32", untrained=flag) for flag in (False, True))
    if network not in trained.sampler.networks:
        raise UserError(f"--network: expected one of {', '.join(trained.sampler.networks)}, got {network}.")
    engine, variant = trained.settings.engine, trained.settings.variant
    labelled = open_labelled(data or engine.data or variant.data or "", engine, registry(), variant.fields)
    train, test = labelled.train(labels), labelled.held_out()
    sets = {"pixels": [part.pictures.flatten(1) for part in (train, test)]}
    for name, of in (("untrained", before), ("trained", trained)):
        module = of.sampler.networks[network]
        sets[f"{network}, {name}"] = [conv_features(module, part.pictures) for part in (train, test)]
    steps = bar("fitting classifiers")(list(sets), len(sets))
    return {
        name: linear_probe(sets[name][0], train.labels, sets[name][1], test.labels, labelled.num_classes)
        for name in steps
    }


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--labels", type=int, default=1000, help="labelled pictures to learn from")
    parser.add_argument("--network", default="D")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = probe(options.run, options.data, options.labels, options.network)
    except GanengineError as error:
        print(f"linear_probe: {error}", file=sys.stderr)
        return error.status
    if options.json:
        print(json.dumps({"schema": 1, "labels": options.labels, "accuracy": found}))
    else:
        for name, accuracy in found.items():
            print(f"{name:<16} {accuracy:.2%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
