"""Optimizers: PyTorch's steps on every library, and nothing given is changed."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from xpcnn.layers import tree
from xpcnn.optim import (
    LARS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Cosine,
    Lion,
    NAdam,
    RMSprop,
    Step,
    clip_by_global_norm,
)

SHAPES = {"0.weight": (4, 3, 2, 2), "0.bias": (4,), "1.weight": (4,), "10.weight": (2, 5)}
OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, weight_decay=0.3),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, weight_decay=0.3),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.3),
    Adam(),
    Adam(0.1, betas=(0.7, 0.9), eps=0.01, weight_decay=0.3),
    Adam(0.1, betas=(0.0, 0.0)),
    AdamW(),
    AdamW(0.1, betas=(0.7, 0.9), eps=0.01, weight_decay=0.3),
    NAdam(),
    NAdam(0.1, betas=(0.7, 0.9), eps=0.01, weight_decay=0.3, momentum_decay=0.1),
    RMSprop(),
    RMSprop(0.1, alpha=0.8, eps=0.01, weight_decay=0.3, momentum=0.9),
    RMSprop(0.1, alpha=0.8, eps=0.01, weight_decay=0.3, momentum=0.9, centered=True),
    Adagrad(),
    Adagrad(0.1, weight_decay=0.3, initial_accumulator_value=0.5, eps=0.01),
]
"""Those that PyTorch has."""
OTHERS = [
    Lion(0.1),
    Lion(0.1, betas=(0.6, 0.8), weight_decay=0.3),
    LARS(),
    LARS(0.1, momentum=0.8, trust_coefficient=0.5, weight_decay=0.3),
]
STEPS = 20


def draw(dtype=np.float64):
    rng = np.random.default_rng(7)
    return [
        {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
        for _ in range(1 + STEPS)
    ]


def nested(xp, flat):
    return tree.unflatten({name: xp.asarray(leaf) for name, leaf in flat.items()})


def run(xp, optimizer, flat_weights, flat_grads, **options):
    weights = nested(xp, flat_weights)
    state = optimizer.init(weights)
    for flat in flat_grads:
        weights, state = optimizer.update(weights, nested(xp, flat), state, **options)
    return weights, state


def run_torch(torch, optimizer, weights, grads):
    """The same steps by torch.optim, which takes our options under our names."""
    options = dataclasses.asdict(optimizer)
    exempt = options.pop("exempt")
    tensors = {name: torch.tensor(w, requires_grad=True) for name, w in weights.items()}
    groups = [
        {"params": [t for t in tensors.values() if t.ndim >= 2]},
        {"params": [t for t in tensors.values() if t.ndim < 2]}
        | ({"weight_decay": 0.0} if exempt else {}),
    ]
    theirs = getattr(torch.optim, type(optimizer).__name__)(groups, **options)
    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
    try:
        for grad in grads:
            for name, tensor in tensors.items():
                tensor.grad = torch.tensor(grad[name])
            theirs.step()
    finally:
        torch.set_default_dtype(torch.float32)
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("exempt", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_are_those_of_pytorch(xp, torch, optimizer, exempt):
    optimizer = dataclasses.replace(optimizer, exempt=exempt)
    weights, *grads = draw()
    got, state = run(xp, optimizer, weights, grads)
    assert state["step"] == STEPS
    for name, expected in run_torch(torch, optimizer, weights, grads).items():
        np.testing.assert_allclose(
            xp.to_numpy(tree.flatten(got)[name]), expected, rtol=1e-12, atol=1e-12
        )


def sign_steps(optimizer, w, grads):
    """Lion, as the paper's Algorithm 2 has it."""
    (beta1, beta2), m = optimizer.betas, np.zeros_like(w)
    decay = 0.0 if optimizer.exempt and w.ndim < 2 else optimizer.weight_decay
    for g in grads:
        w = w - optimizer.lr * (np.sign(beta1 * m + (1 - beta1) * g) + decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w


def trusting_steps(optimizer, w, grads):
    """LARS, as the paper's Algorithm 1 has it; tensors that are exempt go as in SGD."""
    spared, v = optimizer.exempt and w.ndim < 2, np.zeros_like(w)
    decay = 0.0 if spared else optimizer.weight_decay
    for g in grads:
        length, slope = np.linalg.norm(w), np.linalg.norm(g)
        ratio = 1.0 if spared else optimizer.trust_coefficient * length / (slope + decay * length)
        v = optimizer.momentum * v + optimizer.lr * ratio * (g + decay * w)
        w = w - v
    return w


@pytest.mark.parametrize("exempt", [False, True])
@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_steps_are_those_of_the_papers(xp, optimizer, exempt):
    optimizer = dataclasses.replace(optimizer, exempt=exempt)
    steps = sign_steps if isinstance(optimizer, Lion) else trusting_steps
    weights, *grads = draw()
    got, _ = run(xp, optimizer, weights, grads)
    for name, w in weights.items():
        expected = steps(optimizer, w, [grad[name] for grad in grads])
        assert np.abs(expected - w).max() > 1e-3
        np.testing.assert_allclose(
            xp.to_numpy(tree.flatten(got)[name]), expected, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("w, g", [(0.0, 2.0), (2.0, 0.0), (0.0, 0.0)])
def test_lars_without_a_norm_steps_as_sgd(xp, w, g):
    """Nothing is divided by 0, and a layer of zeros leaves them."""
    weights, grads = ({"weight": np.full((2, 2), value)} for value in (w, g))
    got, _ = run(xp, LARS(0.5, weight_decay=0.25), weights, [grads])
    expected = w - 0.5 * (g + 0.25 * w)
    np.testing.assert_allclose(xp.to_numpy(got["weight"]), np.full((2, 2), expected))


def test_the_variance_of_rmsprop_is_never_negative(xp):
    """Of equal gradients it is 0, and by rounding may come out as less."""
    grads = [{"weight": np.full(3, 0.1, np.float32)}] * 200
    weights = {"weight": np.zeros(3, np.float32)}
    got, state = run(xp, RMSprop(centered=True, alpha=0.3), weights, grads)
    square, mean = (xp.to_numpy(state[name]["weight"]) for name in ("square", "mean"))
    assert (square - mean * mean < 0).all()
    assert np.isfinite(xp.to_numpy(got["weight"])).all()


@pytest.mark.parametrize("optimizer", [OPTIMIZERS[10], OPTIMIZERS[14], *OTHERS[1::2]], ids=repr)
def test_half_precision_is_computed_in_float32(optimizer):
    """A float16 has no eps of 1e-8, and 0 / 0 where a gradient is 0."""
    weights, grads, *_ = draw(np.float16)
    grads = {name: g * (np.abs(g) > 0.5) for name, g in grads.items()}
    optimizer = dataclasses.replace(optimizer, lr=0.5)

    def first_step(dtype):
        given = ({name: a.astype(dtype) for name, a in flat.items()} for flat in (weights, grads))
        w, g = (tree.unflatten(flat) for flat in given)
        with np.errstate(divide="raise", invalid="raise"):
            new, state = optimizer.update(w, g, optimizer.init(w))
        return tree.flatten({"weights": new} | state)

    half, wide = first_step(np.float16), first_step(np.float32)
    assert half.pop("step") == 1
    for name, leaf in half.items():
        np.testing.assert_array_equal(leaf, wide[name].astype(np.float16), strict=True)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *OTHERS], ids=repr)
def test_a_state_can_be_put_down_and_taken_up(xp, optimizer):
    """It is a tree of arrays and one int, and holds all there is to know."""
    weights, *grads = draw(np.float32)
    got, state = run(xp, optimizer, weights, grads[:3])
    assert type(state["step"]) is int and next(iter(state)) == "step"
    stored = {
        name: {key: np.array(xp.to_numpy(leaf)) for key, leaf in tree.flatten(part).items()}
        for name, part in state.items()
        if name != "step"
    }
    assert all(a.shape in ((), SHAPES[n]) for part in stored.values() for n, a in part.items())
    again = {"step": state["step"]} | {name: nested(xp, part) for name, part in stored.items()}
    first, second = (optimizer.update(got, nested(xp, grads[3]), one) for one in (state, again))
    for ours, expected in zip(first, second, strict=True):
        for name, leaf in tree.flatten(expected).items():
            np.testing.assert_array_equal(
                *(a if name == "step" else xp.to_numpy(a) for a in (tree.flatten(ours)[name], leaf))
            )


@pytest.mark.parametrize("lr", [None, 0.1, np.float64(0.1), np.array(0.1)], ids=repr)
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *OTHERS], ids=repr)
def test_float32_stays_float32(xp, optimizer, lr):
    weights, *grads = draw(np.float32)
    got, state = run(xp, optimizer, weights, grads[:2], lr=lr)
    averages = [leaf for name in state if name != "step" for leaf in tree.leaves(state[name])]
    assert {str(xp.to_numpy(leaf).dtype) for leaf in [*tree.leaves(got), *averages]} == {"float32"}
    assert type(state["step"]) is int


def test_options_are_held_as_python_floats():
    optimizer = Adam(np.float64(0.1), betas=[np.float32(0.5), 0], eps=1, weight_decay=np.int64(1))
    options = [optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay]
    assert optimizer == Adam(0.1, (0.5, 0.0), 1.0, 1.0)
    assert {type(option) for option in options} == {float}


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *OTHERS], ids=repr)
def test_nothing_given_is_changed(optimizer):
    weights, grads = ({"0": {"weight": a["0.weight"]}} for a in draw()[:2])
    _, state = optimizer.update(weights, grads, optimizer.init(weights))
    given = weights, grads, state
    kept = copy.deepcopy(given)
    first = optimizer.update(*given)
    np.testing.assert_equal(given, kept)
    np.testing.assert_equal(optimizer.update(*given), first)


def test_trees_are_matched_by_name():
    weights, grads = ({"2": a["0.bias"], "10": a["1.weight"]} for a in draw()[:2])
    optimizer = SGD(0.1, momentum=0.9)
    expected, _ = optimizer.update(weights, grads, optimizer.init(weights))
    backwards = {"10": grads["10"], "2": grads["2"]}
    got, _ = optimizer.update(weights, backwards, optimizer.init(backwards))
    np.testing.assert_equal(got, expected)


JITTED = [OPTIMIZERS[i] for i in (4, 6, 9, 11, 14, 16)] + OTHERS[1::2]


@pytest.mark.parametrize("optimizer", JITTED, ids=repr)
def test_jit_traces_weights_state_and_rate(jax, optimizer):
    weights, *grads = draw()
    scheduled = dataclasses.replace(optimizer, lr=Cosine(0.1, STEPS, warmup=3))
    expected, _ = run(jax.numpy, scheduled, weights, grads)
    update = jax.jit(scheduled.update)
    got = nested(jax.numpy, weights)
    state = scheduled.init(got)
    for i, flat in enumerate(grads):
        got, state = update(got, nested(jax.numpy, flat), state, scheduled.rate(i))
    for name, leaf in tree.flatten(expected).items():
        np.testing.assert_allclose(tree.flatten(got)[name], leaf, rtol=1e-12, atol=1e-12)
    assert int(state["step"]) == STEPS
    assert update._cache_size() <= 2  # for a step that is an int, then an array; not for each step


@pytest.mark.parametrize("optimizer", JITTED, ids=repr)
def test_jit_keeps_float32(jax, optimizer):
    """Also where the step and the rate are traced, in 64 bits."""
    weights, grads, *_ = (nested(jax.numpy, flat) for flat in draw(np.float32))
    update, rate = jax.jit(optimizer.update), jax.numpy.asarray(0.1, dtype=jax.numpy.float64)
    got, state = update(weights, grads, optimizer.init(weights), rate)
    trees = [got, *(part for name, part in state.items() if name != "step")]
    assert {leaf.dtype.name for one in trees for leaf in tree.leaves(one)} == {"float32"}


def test_a_schedule_sets_the_rate_of_each_step():
    optimizer = SGD(Step(1.0, every=2, factor=0.5))
    weights = {"bias": np.zeros(1)}
    state = optimizer.init(weights)
    seen = []
    for _ in range(5):
        weights, state = optimizer.update(weights, {"bias": np.ones(1)}, state)
        seen.append(float(weights["bias"][0]))
    assert seen == [-1.0, -2.0, -2.5, -3.0, -3.25]
    assert SGD(lambda step: np.float32(step / 2)).rate(3) == 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_scales_all_gradients_by_one_number(xp, dtype):
    flat = draw(dtype)[0]
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in flat.values()))
    got, found = clip_by_global_norm(nested(xp, flat), 1.5)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(float(found), norm, rtol=8 * eps)
    for name, g in tree.flatten(got).items():
        expected = (flat[name] * (1.5 / norm)).astype(dtype)
        np.testing.assert_allclose(xp.to_numpy(g), expected, rtol=8 * eps, strict=True)
    assert str(xp.to_numpy(found).dtype) == np.dtype(dtype).name and found.shape == ()


@pytest.mark.parametrize("size", [20.0, 1e-4])
def test_the_norm_of_half_precision_is_that_of_float32(size):
    """Whose squares would be infinite together, or 0."""
    grads = {"w": np.full(1000, size, np.float16)}
    exact = float(np.linalg.norm(grads["w"].astype(np.float64)))
    got, found = clip_by_global_norm(grads, exact / 4)
    assert float(found) == pytest.approx(exact, rel=1e-3)
    assert got["w"].dtype == np.float16
    np.testing.assert_allclose(got["w"], grads["w"] / 4, rtol=2e-3)


def test_clipping_leaves_small_gradients_alone(xp):
    for flat in (draw()[0], {"bias": np.zeros(3)}):
        got, _ = clip_by_global_norm(nested(xp, flat), 1e6)
        for name, g in tree.flatten(got).items():
            np.testing.assert_array_equal(xp.to_numpy(g), flat[name], strict=True)


def test_clipping_hides_no_nan(xp):
    got, norm = clip_by_global_norm(nested(xp, {"a": np.array([np.nan, 1.0])}), 1.0)
    assert np.isnan(float(norm)) and np.isnan(xp.to_numpy(got["a"])).all()


def test_clipping_under_jit(jax):
    flat = draw()[0]
    expected, _ = clip_by_global_norm(tree.unflatten(flat), 0.5)
    got, _ = jax.jit(lambda grads: clip_by_global_norm(grads, 0.5))(tree.unflatten(flat))
    for name, leaf in tree.flatten(expected).items():
        np.testing.assert_allclose(tree.flatten(got)[name], leaf, rtol=1e-12)


W = {"0": {"weight": np.ones((2, 2)), "bias": np.ones(2)}}
STATE = SGD(momentum=0.9).init(W)
BUFFER = {"1": {"running_mean": np.zeros(2)}}


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: SGD(-0.1), ValueError, "SGD(lr=-0.1): lr must lie in [0, inf)"),
        (lambda: SGD(float("nan")), ValueError, "SGD(lr=nan): lr must lie in [0, inf)"),
        (lambda: SGD("0.1"), TypeError, "SGD(lr='0.1'): lr must be a number"),
        (
            lambda: SGD(momentum=1.0),
            ValueError,
            "SGD(momentum=1.0): momentum must lie in [0, 1)",
        ),
        (
            lambda: SGD(nesterov=True),
            ValueError,
            "SGD(nesterov=True): momentum is 0; give one, such as momentum=0.9",
        ),
        (
            lambda: AdamW(weight_decay=-1),
            ValueError,
            "AdamW(weight_decay=-1): weight_decay must lie in [0, inf)",
        ),
        (
            lambda: AdamW(betas=(0.9, 1.0)),
            ValueError,
            "AdamW(betas=(0.9, 1.0)): betas must be two numbers in [0, 1), such as (0.9, 0.999)",
        ),
        (
            lambda: Adam(betas=0.9),
            ValueError,
            "Adam(betas=0.9): betas must be two numbers in [0, 1), such as (0.9, 0.999)",
        ),
        (lambda: Adam(eps=-1e-8), ValueError, "Adam(eps=-1e-08): eps must lie in [0, inf)"),
        (
            lambda: NAdam(momentum_decay=-1),
            ValueError,
            "NAdam(momentum_decay=-1): momentum_decay must lie in [0, inf)",
        ),
        (lambda: RMSprop(alpha=1), ValueError, "RMSprop(alpha=1): alpha must lie in [0, 1)"),
        (
            lambda: RMSprop(momentum="0.9"),
            TypeError,
            "RMSprop(momentum='0.9'): momentum must be a number",
        ),
        (lambda: Adagrad(eps=-1), ValueError, "Adagrad(eps=-1): eps must lie in [0, inf)"),
        (
            lambda: Lion(betas=(1, 1)),
            ValueError,
            "Lion(betas=(1, 1)): betas must be two numbers in [0, 1), such as (0.9, 0.999)",
        ),
        (
            lambda: LARS(trust_coefficient=-1),
            ValueError,
            "LARS(trust_coefficient=-1): trust_coefficient must lie in [0, inf)",
        ),
        (
            lambda: SGD().init(BUFFER),
            ValueError,
            "SGD.init: weights holds the buffer '1.running_mean'; part it off with tree.partition",
        ),
        (
            lambda: SGD().update(BUFFER, BUFFER, {"step": 0}),
            ValueError,
            "SGD.update: weights holds the buffer '1.running_mean'; "
            "part it off with tree.partition",
        ),
        (
            lambda: SGD(momentum=0.9).update(W, {"0": {"weight": W["0"]["weight"]}}, STATE),
            ValueError,
            "SGD.update: grads lacks '0.bias', which weights holds",
        ),
        (
            lambda: SGD(momentum=0.9).update(W, W | BUFFER, STATE),
            ValueError,
            "SGD.update: grads holds '1.running_mean', which weights lacks",
        ),
        (
            lambda: SGD(momentum=0.9).update(W, W, {"step": 0, "velocity": {}}),
            ValueError,
            "SGD.update: the state's velocity lacks '0.bias' and 1 more, which weights holds",
        ),
        (
            lambda: Adam().update(W, W, STATE),
            ValueError,
            "Adam.update: the state holds ['step', 'velocity'], not ['mean', 'square', 'step']; "
            "take it from this optimizer's init",
        ),
        (
            lambda: clip_by_global_norm(W, 0),
            ValueError,
            "clip_by_global_norm(max_norm=0): max_norm must be a finite number > 0",
        ),
        (
            lambda: clip_by_global_norm(BUFFER, 1.0),
            ValueError,
            "clip_by_global_norm: grads holds the buffer '1.running_mean'; "
            "part it off with tree.partition",
        ),
        (
            lambda: clip_by_global_norm({}, 1.0),
            ValueError,
            "clip_by_global_norm: grads holds no array; pass at least one",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
