"""Mixed precision: a half-precision pass, a scaled loss, and steps that are skipped."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import xpcnn
from xpcnn import layers as L
from xpcnn import ops, random
from xpcnn.layers import tree
from xpcnn.optim import (
    SGD,
    Adam,
    Averaged,
    Constant,
    MixedPrecision,
    NAdam,
    Plateau,
    Step,
    clip_by_global_norm,
)

RNG = np.random.default_rng(5)
WEIGHTS = {
    "0": {"weight": RNG.normal(size=(3, 2)).astype(np.float32)},
    "bias": RNG.normal(size=3).astype(np.float32),
}
BAD = {2: np.inf, 3: np.nan, 8: -np.inf}
"""Steps of which a gradient is not finite."""


def gradients(steps=12):
    """What the backward pass of a loss leaves, times no scale yet."""
    for step in range(steps):
        grads = tree.map(lambda w: RNG.normal(size=w.shape).astype(np.float32), WEIGHTS)
        if step in BAD:
            grads["bias"][1] = BAD[step]
        yield grads


GRADS = [*gradients()]


def on(xp, nested):
    return tree.map(xp.asarray, nested)


def on_host(xp, state):
    """The arrays of a state by dotted name, and its step."""
    flat = tree.flatten(state)
    return {name: a if name == "step" else xp.to_numpy(a) for name, a in flat.items()}


def scaled(optimizer, grads, state):
    """Gradients of the scaled loss."""
    return tree.map(lambda g: g * optimizer.loss_scale(state), grads)


def steps(xp, optimizer, all_grads, weights=WEIGHTS):
    weights = on(xp, weights)
    state = optimizer.init(weights)
    with np.errstate(all="ignore"):
        for grads in all_grads:
            grads = optimizer.unscaled(scaled(optimizer, on(xp, grads), state), state)
            weights, state = optimizer.update(weights, grads, state)
            yield weights, state


OPTIONS = [
    {"init_scale": 4.0, "growth_interval": 2},
    {"init_scale": 2.0**16, "growth_interval": 3, "growth_factor": 4.0, "backoff_factor": 0.25},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("kind, rest", [(SGD, {"momentum": 0.9}), (Adam, {}), (NAdam, {})])
def test_steps_are_those_of_pytorchs_scaler(xp, torch, kind, rest, options):
    """Skipped where a gradient is not finite, with the scale after each step."""
    optimizer = MixedPrecision(kind(0.1, **rest), **options)
    tensors = {n: torch.tensor(w, requires_grad=True) for n, w in tree.flatten(WEIGHTS).items()}
    theirs = getattr(torch.optim, kind.__name__)(tensors.values(), lr=0.1, **rest)
    scaler = torch.amp.GradScaler("cpu", **options)
    scaler.scale(torch.zeros(()))  # which makes its scale
    ran = steps(xp, optimizer, GRADS)
    for step, (grads, (weights, state)) in enumerate(zip(GRADS, ran, strict=True), 1):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(tree.flatten(grads)[name]) * scaler.get_scale()
        scaler.step(theirs)
        scaler.update()
        assert float(optimizer.loss_scale(state)) == scaler.get_scale()
        for name, tensor in tensors.items():
            ours = xp.to_numpy(tree.flatten(weights)[name])
            np.testing.assert_allclose(ours, tensor.detach().numpy(), rtol=2e-5, atol=1e-6)
        assert state["step"] == step and type(state["step"]) is int
        assert int(state["taken"]) == step - sum(bad < step for bad in BAD)


@pytest.mark.parametrize("lr", [0.1, Step(0.1, every=3)], ids=repr)
def test_a_skipped_step_leaves_all_but_the_scale(xp, lr):
    optimizer = MixedPrecision(Adam(lr), init_scale=4.0, growth_interval=100)
    before = on_host(xp, {"weights": on(xp, WEIGHTS), **optimizer.init(on(xp, WEIGHTS))})
    for step, (weights, state) in enumerate(steps(xp, optimizer, GRADS)):
        after = on_host(xp, {"weights": weights, **state})
        same = {name for name, a in after.items() if np.array_equal(a, before[name])}
        if step in BAD:
            assert same == after.keys() - {"step", "scale", "streak"} | (
                {"streak"} if step == 3 else set()  # the step before was skipped too
            )
            assert after["scale"] == 0.5 * before["scale"] and after["streak"] == 0
        else:
            assert same == {"scale"}
        before = after


def test_a_scale_stays_a_number_with_a_reciprocal(xp):
    grows = MixedPrecision(SGD(0.0), init_scale=2.0**126, growth_interval=1)
    shrinks = MixedPrecision(SGD(0.0), init_scale=2.0**-125)
    small = [tree.map(lambda g: 0.0 * g, GRADS[0])] * 4
    scales = [float(state["scale"]) for _, state in steps(xp, grows, small)]
    assert scales == [2.0**127] * 4
    scales = [float(state["scale"]) for _, state in steps(xp, shrinks, [GRADS[2]] * 3)]
    assert scales == [2.0**-126] * 3


@pytest.mark.parametrize("inside", [False, True], ids=["Averaged(Mixed)", "Mixed(Averaged)"])
def test_it_goes_with_an_average(xp, inside):
    """What is skipped leaves the average within alone; one without goes on to the same weights."""
    if inside:
        optimizer = MixedPrecision(Averaged(Adam(0.1), decay=0.5), init_scale=4.0)
        counted = [grads for step, grads in enumerate(GRADS) if step not in BAD]
        *_, (_, expected) = steps(xp, Averaged(Adam(0.1), decay=0.5), counted)
    else:
        optimizer = Averaged(MixedPrecision(Adam(0.1), init_scale=4.0), decay=0.5)
        average = tree.flatten(WEIGHTS)
        ran = steps(xp, MixedPrecision(Adam(0.1), init_scale=4.0), GRADS)
        for t, (weights, _) in enumerate(ran):
            d, flat = min(0.5, (1 + t) / (10 + t)), tree.flatten(weights)
            average = {n: d * a + (1 - d) * xp.to_numpy(flat[n]) for n, a in average.items()}
        expected = {"average": tree.unflatten({n: xp.asarray(a) for n, a in average.items()})}
    *_, (weights, state) = steps(xp, optimizer, GRADS)
    assert float(optimizer.loss_scale(state)) == 0.5
    found = tree.flatten(optimizer.averaged(weights, state))
    for name, average in tree.flatten(expected["average"]).items():
        ours = xp.to_numpy(found[name])
        np.testing.assert_allclose(ours, xp.to_numpy(average), rtol=2e-5, atol=1e-6)
        assert ours.dtype == np.float32


def test_a_state_can_be_put_down_and_taken_up(xp):
    """It is a tree of arrays and one int, the same from step to step."""
    optimizer = Averaged(MixedPrecision(NAdam(0.1), init_scale=4.0, growth_interval=2))
    states = [optimizer.init(on(xp, WEIGHTS))]
    whole = []
    for weights, state in steps(xp, optimizer, GRADS):
        states.append(state)
        whole.append(weights)
    kinds = [
        {name: (a.dtype.name, a.shape) for name, a in on_host(xp, state).items() if name != "step"}
        for state in states
    ]
    assert all(kind == kinds[0] for kind in kinds)
    assert {name for name in kinds[0] if "." not in name} == {"taken", "scale", "streak"}

    stored = {n: copy.deepcopy(a) for n, a in on_host(xp, states[5]).items()}
    state = tree.unflatten({n: a if n == "step" else xp.asarray(a) for n, a in stored.items()})
    weights = whole[4]
    with np.errstate(all="ignore"):
        for grads in GRADS[5:]:
            grads = optimizer.unscaled(scaled(optimizer, on(xp, grads), state), state)
            weights, state = optimizer.update(weights, grads, state)
    for name, a in on_host(xp, {"weights": weights, **state}).items():
        np.testing.assert_array_equal(a, on_host(xp, {"weights": whole[-1], **states[-1]})[name])


def test_under_jit(jax):
    """The step compiles once, whether it skips or not, and reads nothing on the way."""
    xp = jax.numpy
    optimizer = MixedPrecision(
        Averaged(NAdam(Step(0.1, every=3)), decay=0.5), init_scale=4.0, growth_interval=2
    )
    traced = []

    @jax.jit
    def update(weights, grads, state, lr):
        traced.append(True)
        grads, _ = clip_by_global_norm(optimizer.unscaled(grads, state), 1e9)
        return optimizer.update(weights, grads, state, lr)

    weights = tree.map(xp.asarray, WEIGHTS)
    eager = jitted = weights, optimizer.init(weights)
    for step, grads in enumerate(GRADS):
        grads = tree.map(xp.asarray, grads)
        mine, theirs = (scaled(optimizer, grads, state) for _, state in (eager, jitted))
        eager = optimizer.update(eager[0], optimizer.unscaled(mine, eager[1]), eager[1])
        jitted = update(jitted[0], theirs, jitted[1], optimizer.rate(step))
    assert len(traced) <= 2  # a step that is an int, then an array
    for name, a in tree.flatten(jitted[1] | {"weights": jitted[0]}).items():
        expected = tree.flatten(eager[1] | {"weights": eager[0]})[name]
        np.testing.assert_allclose(a, expected, rtol=1e-4, atol=1e-6)


# ---- the half-precision pass --------------------------------------------------------------------


@pytest.fixture
def half_xp(xp):
    if not hasattr(xp.namespace, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    return xp


def test_small_gradients_survive_by_the_scale(half_xp):
    """Of 1e-9 float16 makes 0; scaled, it is there."""
    optimizer = MixedPrecision(SGD(1.0), init_scale=2.0**20)
    params = {"weight": half_xp.asarray(np.asarray([[1.0]], np.float32))}
    state, x = optimizer.init(params), half_xp.asarray(np.asarray([[1e-3]], np.float16))

    def gradient(scale):
        _, pull = L.Linear(1, bias=False).vjp(optimizer.working(params), x)
        dy = half_xp.asarray(np.asarray([[1e-6]], np.float32)) * scale
        return pull(dy)[0]

    assert float(gradient(1.0)["weight"][0, 0]) == 0.0
    grads = optimizer.unscaled(gradient(optimizer.loss_scale(state)), state)
    assert float(grads["weight"][0, 0]) == pytest.approx(1e-9, rel=2e-3)
    assert half_xp.to_numpy(grads["weight"]).dtype == np.float32


MODEL = L.Sequential(L.Conv2d(4, 3, padding=1), L.BatchNorm(), L.ReLU(), L.Flatten(), L.Linear(3))


def train(xp, optimizer, x, y, steps=15):
    """A step as xpcnn.optim has it, of a model with buffers, clipped; the loss is in float32."""
    params, _ = MODEL.init(random.key(0), (2, 4, 4), device=xp.spec)
    weights, buffers = tree.partition(params)
    state, losses = optimizer.init(weights), []
    for _ in range(steps):
        working = optimizer.working(tree.merge(weights, buffers))
        logits, pull = MODEL.vjp(working, x)
        logits = logits if x.dtype == xp.namespace.float32 else as_float32(xp, logits)
        loss, loss_pull = xpcnn.vjp(ops.cross_entropy, logits, y)
        grads, _ = pull(loss_pull(optimizer.loss_scale(state))[0])
        grads, buffers = tree.partition(grads)
        grads, _ = clip_by_global_norm(optimizer.unscaled(grads, state), 1.0)
        weights, state = optimizer.update(weights, grads, state)
        losses.append(float(loss))
    return tree.merge(weights, buffers), state, losses


def as_float32(xp, a):
    return xp.asarray(xp.to_numpy(a).astype(np.float32))


def test_a_model_learns_as_in_float32(half_xp):
    """From a scale that overflows at first; running statistics stay in float32."""
    xp, rng = half_xp, np.random.default_rng(2)
    x = rng.normal(size=(8, 2, 4, 4)).astype(np.float32)
    y = xp.asarray(np.argmax(x[:, 0, 0, :3], axis=1))
    with np.errstate(all="ignore"):
        _, _, wide = train(xp, SGD(0.1, momentum=0.9), xp.asarray(x), y)
        mixed = MixedPrecision(SGD(0.1, momentum=0.9), init_scale=2.0**24)
        params, state, half = train(xp, mixed, xp.asarray(x.astype(np.float16)), y, 30)
    assert {xp.to_numpy(a).dtype.name for a in tree.leaves(params)} == {"float32"}
    skipped = state["step"] - int(state["taken"])
    assert 0 < skipped < 15
    assert half[-1] < 0.1 * half[0]
    np.testing.assert_allclose(half[skipped : skipped + 15], wide, rtol=0.02, atol=0.01)


def test_statistics_do_not_fit_in_half_precision_and_need_not(half_xp):
    """A variance of 160,000, taken and used."""
    x = (np.random.default_rng(0).normal(size=(16, 3, 8, 8)) * 400).astype(np.float16)
    norm, (params, _) = L.BatchNorm(momentum=1.0), L.BatchNorm().init(random.key(0), (3, 8, 8))
    params = on(half_xp, params)
    half = MixedPrecision(SGD()).working(params)
    _, pull = norm.vjp(half, half_xp.asarray(x))
    grads, _ = pull(half_xp.asarray(np.ones_like(x)))
    exact = x.astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(half_xp.to_numpy(grads["running_var"]), exact.var(1, ddof=1), 1e-3)
    used = half | {name: grads[name] for name in ("running_mean", "running_var")}
    for y in (norm(used, half_xp.asarray(x)), L.Frozen(norm).vjp(used, half_xp.asarray(x))[0]):
        assert half_xp.to_numpy(y).dtype == np.float16
        assert half_xp.to_numpy(y).astype(np.float32).std() == pytest.approx(1.0, rel=0.01)


def test_the_working_parameters_are_half_but_for_buffers(half_xp):
    params = on(half_xp, {"0": {**WEIGHTS["0"], "running_mean": WEIGHTS["bias"]}})
    for optimizer in (MixedPrecision(SGD()), Averaged(MixedPrecision(SGD()))):
        working = optimizer.working(params)
        assert half_xp.to_numpy(working["0"]["weight"]).dtype == np.float16
        assert working["0"]["running_mean"] is params["0"]["running_mean"]
    assert SGD().working(params) is params


def test_bfloat16_where_a_library_has_it(half_xp):
    optimizer, params = MixedPrecision(SGD(), dtype="bfloat16"), on(half_xp, WEIGHTS)
    if half_xp.name in ("torch", "jax"):
        dtype = optimizer.working(params)["bias"].dtype
        assert str(dtype).endswith("bfloat16")
        grads = optimizer.unscaled(optimizer.working(params), optimizer.init(params))
        assert half_xp.to_numpy(grads["bias"]).dtype == np.float32
    else:
        with pytest.raises(TypeError, match="has no bfloat16; train in float32 there"):
            optimizer.working(params)


def test_float16_is_missed_where_there_is_none(xp):
    if hasattr(xp.namespace, "float16"):
        pytest.skip(f"{xp.name} has float16")
    with pytest.raises(TypeError, match=r"\(dtype='float16'\): array_api_strict has no float16"):
        MixedPrecision(SGD()).working(on(xp, WEIGHTS))


def test_the_rest_is_the_wrapped_optimizers():
    history = type("History", (), {"column": lambda self, name: [1.0, 1.0]})()
    plateau = MixedPrecision(SGD(Plateau(1.0, patience=0)), init_scale=8.0)
    assert plateau.after(history) == MixedPrecision(SGD(Constant(0.1)), init_scale=8.0)
    assert plateau.rate(5) == 1.0


W = {"weight": np.ones(2, np.float32)}
STATE = MixedPrecision(SGD()).init(W)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (
            lambda: MixedPrecision(Adam),
            TypeError,
            "MixedPrecision(<class 'xpcnn.optim.adam.Adam'>): give an optimizer, such as Adam()",
        ),
        (
            lambda: MixedPrecision(SGD(), dtype="float8"),
            ValueError,
            "MixedPrecision(dtype='float8'): give 'float16' or 'bfloat16'",
        ),
        (
            lambda: MixedPrecision(SGD(), init_scale=0.0),
            ValueError,
            "MixedPrecision(init_scale=0.0): init_scale must lie in [1.17549e-38, 1.70141e+38)",
        ),
        (
            lambda: MixedPrecision(SGD(), growth_factor=0.5),
            ValueError,
            "MixedPrecision(growth_factor=0.5): growth_factor must lie in [1, inf)",
        ),
        (
            lambda: MixedPrecision(SGD(), backoff_factor=1.0),
            ValueError,
            "MixedPrecision(backoff_factor=1.0): backoff_factor must lie in [1.17549e-38, 1)",
        ),
        (
            lambda: MixedPrecision(SGD(), growth_interval=0),
            ValueError,
            "MixedPrecision(growth_interval=0): growth_interval must be at least 1",
        ),
        (
            lambda: MixedPrecision(SGD()).init({"weight": np.ones(2)}),
            TypeError,
            "MixedPrecision.init: 'weight' is float64; give weights in float32, of which "
            "`working` makes half precision",
        ),
        (
            lambda: MixedPrecision(SGD()).init({}),
            ValueError,
            "MixedPrecision.init: weights holds no array; pass at least one",
        ),
        (
            lambda: MixedPrecision(SGD()).update(W, W, {"step": 0}),
            ValueError,
            "MixedPrecision.update: the state lacks ['scale', 'streak', 'taken']; "
            "take it from this optimizer's init",
        ),
        (
            lambda: MixedPrecision(Adam()).update(W, W, STATE),
            ValueError,
            "Adam.update: the state holds ['step'], not ['mean', 'square', 'step']; "
            "take it from this optimizer's init",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
