"""The same convolution by JAX and by ONNX Runtime, where they are installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

LIBRARIES = ("jax", "onnxruntime")


def elsewhere(
    library: str, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, **options: int
) -> Callable[[], np.ndarray]:
    """A convolution by one of `LIBRARIES`, compiled, on arrays in C order."""
    arrays = [np.ascontiguousarray(a) for a in (x, w, b) if a is not None]
    return _jax(arrays, **options) if library == "jax" else _onnx(arrays, **options)


def _jax(arrays: list[np.ndarray], stride: int, padding: int, groups: int) -> Callable:
    import jax

    @jax.jit
    def conv(x, w, b=None):
        y = jax.lax.conv_general_dilated(
            x, w, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups
        )
        return y if b is None else y + b[:, None, None]

    arrays = [jax.numpy.asarray(a) for a in arrays]
    return lambda: conv(*arrays).block_until_ready()


def _onnx(arrays: list[np.ndarray], stride: int, padding: int, groups: int) -> Callable:
    import onnx
    import onnxruntime

    names = ["x", "w", "b"][: len(arrays)]
    node = onnx.helper.make_node(
        "Conv", names, ["y"], strides=[stride] * 2, pads=[padding] * 4, group=groups
    )
    described = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "conv",
        [described("x", onnx.TensorProto.FLOAT, arrays[0].shape)],
        [described("y", onnx.TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(a, n)
            for a, n in zip(arrays, names, strict=True)
            if n != "x"
        ],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": arrays[0]})[0]
