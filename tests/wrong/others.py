"""Commands that there are not, and wrong use of `bench`, `diagnose` and `doctor`."""

from __future__ import annotations

WRONG = {
    "''": "expected words that are not empty",
    "'\x1b[31mtrain'": 'No command is called "\\x1b[31mtrain"',
    "'two\nlines'": 'No command is called "two lines"',
    "trian": 'No command is called "trian". Did you mean translate or run',
    "--verson": 'No command is called "--verson"',
    "-v": 'No command is called "-v"',
    "Run pix2pix": 'No command is called "Run". Did you mean run',
    "pix2pix DATA": 'No command is called "pix2pix"',
    "RUN": "No command is called",
    "--plugin nowhere.py list": "--plugin nowhere.py: expected a Python file or a folder; it does not exist",
    "--plugin": "--plugin: expected a value after it, got nothing",
    "bench opps": 'expected ganengine bench ops or train, got "opps". Did you mean ops',
    "bench --quick": 'expected ganengine bench ops or train, got "--quick"',
    "bench ops null": "Unrecognized options: null",
    "bench ops --op": "Missing value for argument '--op'",
    "bench ops --op nul": "invalid choice 'nul' for argument '--op'",
    "bench ops --device gpu": '--device: expected auto, cpu, cuda or cuda:N, got "gpu"',
    "bench ops --device cuda:99": '"cuda:99" is not there',
    "bench ops --slow": "Unrecognized options: --slow",
    "diagnose nothing": 'expected one of d-optimum, modes, got "nothing"',
    "diagnose modes": "expected names of variants",
    "diagnose modes pix2pix --out made": "The variant needs A, B, the data source ring gives real, label",
    "diagnose modes nope --out made": 'No variant is called "nope"',
    "diagnose modes pix2pix --minutes -1": "--minutes: expected a number above 0, got -1.0",
    "diagnose d-optimum --seed x": "Error parsing --seed",
    "doctor more": "Unrecognized options: more",
    "doctor --deep": "Unrecognized options: --deep",
    "doctor --json=x": "Unrecognized options: x",
}
