"""Files that a model is written to, and read back from: weights alone, TorchScript, torch.export, ONNX."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from ganengine.errors import UserError
from ganengine.export.model import Model

ABOUT = "ganengine"
"""The one key of what a file says about itself: several would come in any order."""
Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Exporter:
    """One format: what a file of it holds, and how to read that back to see that it is right."""

    suffix: str
    """Of files of this format, with its dot."""
    write: Callable[[Model], bytes]
    """Return the file. The command puts it in its place, once it has been read and compared with the run."""
    read: Callable[[bytes, Model], Call]
    """Return a function of the model's inputs, made of the file alone where that is possible."""


def _about(model: Model) -> str:
    return json.dumps(model.about, sort_keys=True)


# ----------------------------------------------------------------------------------------------------------------
# Weights alone


def _write_weights(model: Model) -> bytes:
    import safetensors.torch

    tensors = {name.removeprefix("networks."): tensor for name, tensor in model.module.state_dict().items()}
    whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    file: bytes = safetensors.torch.save(whole, metadata={ABOUT: _about(model)})
    return file


def _read_weights(file: bytes, model: Model) -> Call:
    import safetensors.torch

    tensors = {f"networks.{name}": tensor for name, tensor in safetensors.torch.load(file).items()}
    return lambda *inputs: torch.func.functional_call(model.module, tensors, inputs, strict=True)


SAFETENSORS = Exporter(".safetensors", _write_weights, _read_weights)


# ----------------------------------------------------------------------------------------------------------------
# Graphs


def _write_script(model: Model) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is checked afterwards, by inputs of another size
        made = torch.jit.trace(model.module, model.examples, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(made, file, _extra_files={ABOUT: _about(model)})
    return file.getvalue()


def _read_script(file: bytes, model: Model) -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        loaded: Call = torch.jit.load(io.BytesIO(file))  # type: ignore[no-untyped-call]
    return loaded


TORCHSCRIPT = Exporter(".pt", _write_script, _read_script)


def exported(model: Model) -> Any:
    """Return torch.export's program of a model, without the names of the source files that it came from."""
    shapes = {name: dict.fromkeys(free, Dim.DYNAMIC) for name, free in model.axes.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes")  # recurrent layers keep a list of their weights
        program = torch.export.export(model.module, model.examples, dynamic_shapes=shapes)
    for graph in (part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)):
        for node in graph.nodes:
            node.meta.pop("stack_trace", None)
    return program


def _write_program(model: Model) -> bytes:
    file = io.BytesIO()
    torch.export.save(exported(model), file, extra_files={ABOUT: _about(model)})
    return file.getvalue()


def _read_program(file: bytes, model: Model) -> Call:
    loaded: Call = torch.export.load(io.BytesIO(file)).module()
    return loaded


PT2 = Exporter(".pt2", _write_program, _read_program)


def _write_onnx(model: Model) -> bytes:
    _need_onnx()
    with _quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported(model),
            (),
            input_names=list(model.axes),
            output_names=["made"],
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props[ABOUT] = _about(model)
        _name_axes(program.model.graph, model)
        file: bytes = program.model_proto.SerializeToString()
    return file


def _name_axes(graph: Any, model: Model) -> None:
    """Call free axes by the model's names for them, in which torch.export has symbols of its own."""
    import onnx_ir

    names = {
        str(given.shape[axis].value): name
        for given, free in zip(graph.inputs, model.axes.values(), strict=True)
        for axis, name in free.items()
    }
    symbol = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    values = [*graph.inputs, *(value for node in graph.all_nodes() for value in node.outputs)]
    for value in (value for value in values if value.shape is not None):
        sides = [
            side if isinstance(side, int) else symbol.sub(lambda at: names[at[0]], str(side.value))
            for side in value.shape
        ]
        value.shape = onnx_ir.Shape(sides)


def _read_onnx(file: bytes, model: Model) -> Call:
    _need_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def call(*inputs: Tensor) -> Tensor:
        given = {name: x.numpy() for name, x in zip(model.axes, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return call


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger to errors: torch tells of packages that play no part here."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--format onnx: expected onnx, onnxscript and onnxruntime; {error.name} is not installed. Install the "
            "extra: pip install 'ganengine[export]'."
        ) from error


ONNX = Exporter(".onnx", _write_onnx, _read_onnx)
