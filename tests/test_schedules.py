"""Learning rates by step: PyTorch's, warm-ups, and a plateau that heeds the history."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from xpcnn.optim import SGD, Constant, Cosine, Exponential, OneCycle, Plateau, Step


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (Constant(0.5), [0.5] * 6),
        (Constant(1.0, warmup=3), [0.25, 0.5, 0.75, 1, 1, 1]),
        (Step(1.0, every=2), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (Step(8.0, every=3, factor=0.5, warmup=1), [4, 8, 8, 4, 4, 4]),
        (Exponential(1.0, every=2, factor=0.25), [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (Exponential(1.0, every=1, factor=0.5, warmup=1), [0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (Plateau(1.0, warmup=1), [0.5, 1, 1, 1, 1, 1]),
        (Cosine(1.0, steps=4), [1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0, 0]),
        (Cosine(3.0, steps=2, final=1.0), [3, 2, 1, 1, 1, 1]),
        (Cosine(3.0, steps=3, warmup=1, final=1.0), [1.5, 3, 2, 1, 1, 1]),
    ],
)
def test_schedules(schedule, expected):
    rates = [schedule(step) for step in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-15)
    assert {type(rate) for rate in rates} == {float}


def test_cosine_is_that_of_pytorch(torch):
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=10, eta_min=0.01)
    ours = Cosine(0.3, steps=10, final=0.01)
    for step in range(11):
        assert ours(step) == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-15)
        theirs.step()
        scheduler.step()


def rates_of_torch(torch, lr, scheduler, steps):
    """The rates that a scheduler of PyTorch gives its optimizer, step by step."""
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = scheduler(theirs), []
    for _ in range(steps):
        rates.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    return rates


def test_exponential_is_that_of_pytorch(torch):
    expected = rates_of_torch(
        torch, 0.3, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.9), 11
    )
    ours = Exponential(0.3, every=1, factor=0.9)
    np.testing.assert_allclose([ours(step) for step in range(11)], expected, rtol=1e-14)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.0, 0.05, 0.25, 0.3, 0.9])
def test_one_cycle_is_that_of_pytorch(torch, strategy, pct_start):
    options = {"pct_start": pct_start, "div_factor": 10.0, "final_div_factor": 100.0}
    options["anneal_strategy"] = strategy

    def scheduler(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.3, total_steps=17, cycle_momentum=False, **options
        )

    ours = OneCycle(0.3, steps=17, **options)
    expected = rates_of_torch(torch, 0.3, scheduler, 17)
    np.testing.assert_allclose([ours(step) for step in range(17)], expected, rtol=1e-13)
    assert ours(40) == ours(16) == pytest.approx(0.3 / 10 / 100)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_cycle_may_begin_at_its_top(steps):
    rates = [OneCycle(1.0, steps, pct_start=1 / steps if steps > 1 else 0.0)(i) for i in range(3)]
    assert rates[0] == 1.0 if steps > 1 else rates[0] == 1.0 / 25 / 1e4
    assert rates == sorted(rates, reverse=True)


def history(figures):
    return SimpleNamespace(column=lambda name: list(figures))


RNG = np.random.default_rng(3)
FIGURES = {
    "flat": [1.0] * 30,
    "falling": list(np.geomspace(1.0, 0.1, 30)),
    "growing": list(np.linspace(0.1, 1.0, 30)),
    "slow": list(1.0 - 2e-3 * np.arange(30)),
    "noisy": list(RNG.uniform(0.5, 1.0, 30)),
    "NaN": [0.5, float("nan"), 0.4, *[float("nan")] * 20],
}


@pytest.mark.parametrize("figures", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("monitor", ["val_loss", "accuracy"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 0},
        {"patience": 2, "factor": 0.5, "threshold": 0.01},
        {"patience": 1, "cooldown": 3},
        {"patience": 0, "least": 0.05},
        {"patience": 0, "least": 1.0},
    ],
    ids=repr,
)
def test_plateau_is_that_of_pytorch(torch, figures, monitor, options):
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    renamed = {{"least": "min_lr"}.get(name, name): value for name, value in options.items()}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode="max" if monitor == "accuracy" else "min", eps=0.0, **renamed
    )
    ours = Plateau(0.3, monitor=monitor, **options)
    for epoch, figure in enumerate(figures):
        assert ours.after(history(figures[:epoch]))(10) == theirs.param_groups[0]["lr"]
        scheduler.step(figure)


def test_plateau_asks_for_the_monitored_column():
    asked = []
    Plateau(1.0, monitor="accuracy").after(SimpleNamespace(column=lambda n: asked.append(n) or []))
    assert asked == ["accuracy"]


def test_an_optimizer_follows_its_schedule():
    seen = history([1.0] * 5)
    plateau = SGD(Plateau(1.0, patience=1, warmup=1), momentum=0.5)
    after = plateau.after(seen)
    assert after == SGD(Constant(1.0 * 0.1 * 0.1, warmup=1), momentum=0.5)
    assert plateau.after(history([])) == SGD(Constant(1.0, warmup=1), momentum=0.5)
    assert plateau == SGD(Plateau(1.0, patience=1, warmup=1), momentum=0.5)
    for optimizer in (SGD(0.1), SGD(Cosine(0.1, 5)), SGD(lambda step: 0.1)):
        assert optimizer.after(seen) == optimizer


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: Constant(-1), ValueError, "Constant(lr=-1): lr must lie in [0, inf)"),
        (
            lambda: Constant(1, warmup=-1),
            ValueError,
            "Constant(warmup=-1): warmup must be at least 0",
        ),
        (lambda: Step(1, every=0), ValueError, "Step(every=0): every must be at least 1"),
        (lambda: Step(1, every=0.5), TypeError, "Step(every=0.5): every must be an integer"),
        (lambda: Step(1, 2, -1), ValueError, "Step(factor=-1): factor must lie in [0, inf)"),
        (
            lambda: Cosine(1, steps=5, warmup=5),
            ValueError,
            "Cosine(steps=5, warmup=5): the warm-up takes all steps; "
            "steps counts them all, so it must be more than warmup",
        ),
        (
            lambda: Exponential(1, every=0),
            ValueError,
            "Exponential(every=0): every must be at least 1",
        ),
        (lambda: OneCycle(1, steps=0), ValueError, "OneCycle(steps=0): steps must be at least 1"),
        (
            lambda: OneCycle(1, 10, pct_start=1.0),
            ValueError,
            "OneCycle(pct_start=1.0): pct_start must lie in [0, 1)",
        ),
        (
            lambda: OneCycle(1, 10, div_factor=0),
            ValueError,
            "OneCycle(div_factor=0): div_factor must lie in [1, inf)",
        ),
        (
            lambda: OneCycle(1, 10, anneal_strategy="cosine"),
            ValueError,
            "OneCycle(anneal_strategy='cosine'): give 'cos' or 'linear'",
        ),
        (
            lambda: OneCycle(1, 10, warmup=2),
            ValueError,
            "OneCycle(warmup=2): the cycle begins with a way up of its own; leave warmup out, and "
            "set pct_start",
        ),
        (
            lambda: Plateau(1, factor=1.0),
            ValueError,
            "Plateau(factor=1.0): factor must lie in [0, 1)",
        ),
        (
            lambda: Plateau(1, patience=-1),
            ValueError,
            "Plateau(patience=-1): patience must be at least 0",
        ),
        (
            lambda: Plateau(1, monitor="seconds"),
            ValueError,
            "Plateau(monitor='seconds'): give one of loss, accuracy, val_loss, val_accuracy",
        ),
        (
            lambda: Plateau(1).after(history([1.0, None])),
            ValueError,
            "Plateau(monitor='val_loss'): epoch 2 has no such figure; fit with validation data, or "
            "monitor 'loss'",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
