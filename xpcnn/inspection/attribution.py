"""What in an image decided: gradients of a class's logit, as they are in inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import ops
from .._check import require_axes
from .._xp import Array, device_of, index_dtype, namespace, product
from ..layers import Layer, tree
from ..layers.base import Shape
from ..layers.tree import Tree
from ..ops._op import in_float32
from .activations import features, require_layer, watched
from .scores import codes

Classes = Array | Sequence[int] | None
"""A class for each image (N,); None for those predicted."""


def saliency(model: Layer, params: Tree, x: Array, classes: Classes = None) -> Array:
    """How much each pixel of images x (N, C, H, W) sways a logit: (N, H, W), at least 0.

    It is the largest |d logit / d x| of the pixel's channels, for the logit of `classes` (N,), by
    default of the class that is predicted. Batches are normalised by running statistics, and
    nothing is dropped.

    Raises ValueError where x is not such images, the model gives no logits (N, K) of them, and for
    classes of another number or outside 0 to K - 1; TypeError for an x that is not floating.

    >>> import numpy as np
    >>> from xpcnn.layers import Flatten, Linear, Sequential
    >>> model, weight = Sequential(Flatten(), Linear(2, bias=False)), np.asarray([[1, -2], [0, 4]])
    >>> saliency(model, {"1": {"weight": weight * 1.0}}, np.ones((1, 1, 1, 2)), [0])
    array([[[1., 2.]]])

    Source: Simonyan, Vedaldi & Zisserman, "Deep inside convolutional networks", 2013.
    """
    chosen = _chosen("saliency", model, x, classes)
    logits, pull = model.vjp(params, x, wrt=("x",))
    _, dx = pull(chosen(logits))
    xp = namespace(x)
    return xp.max(xp.abs(dx), axis=1)


def grad_cam(
    model: Layer, params: Tree, x: Array, classes: Classes = None, layer: str | None = None
) -> Array:
    """Where in images x (N, C, H, W) a layer found what speaks for a class: (N, H, W), at least 0.

    The channels of the layer's output are summed, each weighed by the average of the gradient that
    the logit of `classes` (N,) has with respect to it; what is below 0 is left out, and the rest
    resized to the image bilinearly. `classes` are by default those predicted; `layer` is a dotted
    name as `features` gives it, by default the last whose output has more than one place.

    Raises what `saliency` does, and ValueError for a layer that is not there or has no such output.

    >>> import numpy as np
    >>> from xpcnn import models, random
    >>> model = models.classic()
    >>> params, _ = model.init(random.key(0), (1, 8, 8))
    >>> grad_cam(model, params, np.ones((2, 1, 8, 8), np.float32), layer="4").shape
    (2, 8, 8)

    Source: Selvaraju et al., "Grad-CAM", 2017.
    """
    chosen = _chosen("grad_cam", model, x, classes)
    name = _spatial_layer(layer, _out_shapes(model, tuple(x.shape[1:])))
    outputs: dict[str, Array] = {}
    gradients: dict[str, Array] = {}
    logits, pull = watched(model, outputs, gradients).vjp(params, x, wrt=("x",))
    pull(chosen(logits))
    heat = in_float32(_weighed, outputs[name], gradients[name])
    return ops.interpolate(heat, size=tuple(x.shape[2:]), mode="bilinear")[:, 0, ...]


def spatial_layers(model: Layer, in_shape: Sequence[int]) -> list[str]:
    """The layers that Grad-CAM can look at, by dotted name in the order of computing.

    Those are they whose output for images of `in_shape` (C, H, W) is (N, C, H, W) of more than one
    place. Raises what `Layer.plan` does.

    >>> from xpcnn import models
    >>> spatial_layers(models.classic(), (1, 8, 8))
    ['0', '1', '2', '3', '4', '5']

    Source: Selvaraju et al., "Grad-CAM", 2017.
    """
    return _spatial(_out_shapes(model, tuple(in_shape)))


def _spatial(shapes: Mapping[str, Shape]) -> list[str]:
    return [name for name, shape in shapes.items() if len(shape) == 3 and product(shape[1:]) > 1]


def _weighed(maps: Array, gradient: Array) -> Array:
    """The sum of the maps (N, C, H, W), weighed by their gradients' averages: (N, 1, H, W)."""
    xp = namespace(maps)
    weights = xp.mean(gradient, axis=(2, 3), keepdims=True)
    return ops.relu(xp.sum(weights * maps, axis=1, keepdims=True))


def _chosen(call: str, model: Layer, x: Array, classes: Classes) -> Callable[[Array], Array]:
    """What makes, of logits (N, K), the gradient that is 1 at each image's class and 0 elsewhere.

    Raises ValueError or TypeError where these classes, images and model do not fit each other.
    """
    require_layer(call, model)
    xp = namespace(x)
    require_axes(call, "x", tuple(x.shape), "NCHW")
    if xp.isdtype(x.dtype, ("bool", "integral")):
        raise TypeError(f"{call}: x must be floating, not {x.dtype}; scale it as for training")
    _, out_shape = model.plan(tuple(x.shape[1:]))
    if len(out_shape) != 1:
        raise ValueError(
            f"{call}: the model must give logits (N, K); for each image it gives {out_shape}"
        )
    given = None if classes is None else codes(call, "classes", classes, *out_shape, x.shape[0])

    def one_hot(logits: Array) -> Array:
        xp, device = namespace(logits), device_of(logits)
        if given is None:
            places = xp.argmax(logits, axis=1)
        else:
            places = xp.asarray(given.tolist(), dtype=index_dtype(xp), device=device)
        numbers = xp.arange(logits.shape[1], dtype=places.dtype, device=device)
        return xp.astype(xp.reshape(places, (-1, 1)) == numbers, logits.dtype)

    return one_hot


def _out_shapes(model: Layer, in_shape: Shape) -> dict[str, Shape]:
    """The shape of each layer's output for one sample, by name; nothing is computed."""
    blank = tree.map(lambda one: np.broadcast_to(0.0, one.shape), model.plan(in_shape)[0])
    seen = features(model, blank, np.zeros((0, *in_shape)))
    return {name: tuple(y.shape[1:]) for name, y in seen.items()}


def _spatial_layer(layer: str | None, shapes: Mapping[str, Shape]) -> str:
    """The layer of this name, or the last one, of those whose output is images."""
    spatial = _spatial(shapes)
    if not spatial:
        raise ValueError(
            "grad_cam: no layer of the model gives (N, C, H, W) of more than one place; Grad-CAM "
            "needs one, and saliency does not"
        )
    if layer is None:
        return spatial[-1]
    if layer not in spatial:
        fault = f"gives {shapes[layer]} for each image" if layer in shapes else "is not there"
        raise ValueError(
            f"grad_cam: layer={layer!r} {fault}; the layers that give more than one place are "
            f"{', '.join(spatial)}"
        )
    return layer
