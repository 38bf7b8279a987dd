"""A classifier's options by name, and rows of features: what needs no scikit-learn."""

from __future__ import annotations

import copy
import inspect
import sys

import numpy as np
import pytest

import xpcnn
from xpcnn import Classifier, models, optim
from xpcnn.data import Mixup
from xpcnn.layers import Linear, ReLU, Sequential
from xpcnn.optim import SGD, Adam

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
X = np.asarray([[-1, 2, 0], [2, -1, 0], [0, 0, 3]])[Y] + RNG.normal(size=(60, 3)) / 2


def mlp(classes):
    return Sequential(Linear(8), ReLU(), Linear(classes))


def rows(**options):
    """A classifier of rows, on the host unless told otherwise."""
    few = {"model": mlp, "optimizer": Adam(0.05), "epochs": 4, "batch_size": 16, "device": "cpu"}
    return Classifier(**few, layout="NC").set_params(**options)


# ---- options by name -----------------------------------------------------------------------------


def test_options_are_those_of_init_as_they_came():
    given = {"model": mlp(3), "optimizer": SGD(0.1), "label_names": ["a", "b"], "mixing": Mixup()}
    net = Classifier(**given)
    assert list(net.get_params(deep=False)) == list(inspect.signature(Classifier).parameters)
    assert all(net.get_params()[name] is value for name, value in given.items())
    assert vars(net) == net.get_params(deep=False)


def test_options_within_options():
    wrapped = optim.Averaged(Adam(0.01), decay=0.9)
    deep = rows(optimizer=wrapped, mixing=Mixup(0.3)).get_params()
    assert deep["optimizer__decay"] == 0.9
    assert deep["optimizer__optimizer__lr"] == 0.01
    assert deep["mixing__alpha"] == 0.3
    net = rows(optimizer=wrapped).set_params(optimizer__optimizer__lr=0.5, seed=7)
    assert net.optimizer == optim.Averaged(Adam(0.5), decay=0.9)
    assert net.seed == 7
    assert wrapped.optimizer.lr == 0.01  # the given one is as it was


def test_a_whole_option_is_set_before_what_lies_within():
    assert rows().set_params(optimizer__momentum=0.9, optimizer=SGD(0.1)).optimizer == SGD(0.1, 0.9)


def test_a_model_is_a_dataclass_too():
    net = rows(model=Linear(3)).set_params(model__bias=False)
    assert net.model == Linear(3, bias=False)


NO_OPTION = [
    ({"depth": 3}, "set_params: Classifier has no option 'depth'; give one of model, optimizer, "),
    ({"optimizer__rate": 3},
     "set_params: optimizer=SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, "
     "exempt=False) has no option 'rate'; give one of lr, momentum, "),
    ({"mixing__alpha": 3}, "set_params: mixing=None has no option 'alpha'; it has none"),
    ({"seed__x": 3}, "set_params: seed=0 has no option 'x'; it has none"),
    ({"model__layers": ()}, "set_params: model=mlp has no option 'layers'; it has none"),
    ({"optimizer__lr": -1.0}, "SGD(lr=-1.0): lr must lie in [0, inf)"),
]  # fmt: skip


@pytest.mark.parametrize("params, message", NO_OPTION, ids=[next(iter(p)) for p, _ in NO_OPTION])
def test_nothing_is_set_where_one_option_is_none(params, message):
    net = rows(optimizer=SGD(0.1))
    before = dict(vars(net))
    with pytest.raises(ValueError) as raised:
        net.set_params(batch_size=3, optimizer__momentum=0.5, **params)
    assert str(raised.value).startswith(message)
    assert vars(net) == before


def test_it_prints_what_is_not_as_by_default():
    assert repr(Classifier(models.convnet)) == "Classifier(model=convnet)"
    assert repr(Classifier(Linear(3), seed=1, optimizer=Adam())) == (
        "Classifier(model=Linear(out_features=3), seed=1)"
    )
    assert "optimizer=SGD(lr=0.1, " in repr(Classifier(Linear(3), optimizer=SGD(0.1)))


def test_copies_are_equal_and_apart():
    net = rows().fit(X, Y)
    other = copy.deepcopy(net)
    assert repr(other) == repr(net)
    other.set_params(optimizer__lr=0.0).fit(X, Y)
    assert net.score(X, Y) > 0.9
    assert net.optimizer.lr == 0.05


def test_epochs_are_an_option_that_fit_may_overrule():
    net = rows(epochs=3)
    assert len(net.fit(X, Y).history_) == 3
    assert len(net.fit(X, Y, 2).history_) == len(net.fit(X, Y, epochs=2).history_) == 2
    assert net.epochs == 3
    with pytest.raises(ValueError, match=r"^fit: epochs=0; it must be an integer of at least 1$"):
        rows(epochs=0).fit(X, Y)


def test_a_function_makes_a_model_of_any_number_of_classes():
    net = rows()
    for labels in (Y, Y == 1):
        assert net.fit(X, labels).predict_proba(X).shape == (60, len(np.unique(labels)))
    assert net.model is mlp


def test_what_is_not_fitted_raises_a_plain_error_without_scikit_learn(monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn.exceptions", raising=False)
    with pytest.raises(ValueError, match=r"^predict: this classifier is not trained yet") as raised:
        rows().predict(X)
    assert raised.type is ValueError


# ---- rows of features ----------------------------------------------------------------------------


class Table:
    """What NumPy can read, and is no array."""

    shape = (60, 3)

    def __array__(self, dtype=None, copy=None):
        return np.array(X, dtype)


def test_rows_on_every_library(xp):
    net = rows(device=xp.spec, dtype="float64").fit(X, Y)
    assert net.score(X, Y) > 0.9
    assert net.in_shape_ == (3,)
    assert net.n_features_in_ == 3
    np.testing.assert_array_equal(net.predict_proba(xp.asarray(X)), net.predict_proba(X))
    again = rows(device=xp.spec, dtype="float64").fit(xp.asarray(X), xp.asarray(Y))
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize(
    "given", [X.tolist(), X.astype(object), Table()], ids=["lists", "objects", "a table"]
)
def test_rows_may_be_what_numpy_reads(given):
    net = rows().fit(given, Y, validation=(given, Y))
    chances = rows().fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(net.predict_proba(given), chances)
    assert net.score(given, Y) == net.history_[-1].val_accuracy


def test_rows_of_integers_are_as_they_are_and_bytes_are_scaled():
    whole = np.round(X * 10 + 50)
    chances = rows().fit(whole, Y).predict_proba(whole)
    np.testing.assert_array_equal(
        rows().fit(whole.astype(np.int32), Y).predict_proba(whole), chances
    )
    net = rows().fit(whole.astype(np.uint8), Y)
    np.testing.assert_allclose(
        net.predict_proba(whole.astype(np.uint8)), net.predict_proba(whole / 255), rtol=1e-5
    )


def test_rows_in_a_file(tmp_path):
    net = rows().fit(X, Y)
    net.save(tmp_path / "net.safetensors")
    again = xpcnn.load(tmp_path / "net.safetensors", device="cpu")
    assert (again.layout, again.in_shape_, again.n_features_in_) == ("NC", (3,), 3)
    np.testing.assert_array_equal(again.predict_proba(X.tolist()), net.predict_proba(X))


def test_a_model_of_images_refuses_rows():
    with pytest.raises(ValueError, match=r"^layer 0: Conv2d: in_shape must be \(C, H, W\)"):
        rows(model=models.classic).fit(X, Y)


def test_images_have_features_too():
    net = rows(model=Sequential(models.classic(3)), layout="NHWC")
    assert net.fit(RNG.random((6, 4, 5, 2), np.float32), np.arange(6) % 3, 1).n_features_in_ == 40


NAN, INF = (np.where(np.arange(3) == 1, bad, X) for bad in (np.nan, np.inf))
BAD_ROWS = {
    "one row": (X[0], "x must be rows (N, C); it is (3,). Reshape your data: x.reshape(1, -1) is "
                "one row, x.reshape(-1, 1) rows of one feature"),
    "images": (np.zeros((60, 1, 1, 3)), "x must be rows (N, C); it is (60, 1, 1, 3). Reshape "),
    "no rows": (X[:0], "x has 0 sample(s) of 3 feature(s) (shape=(0, 3)) while a minimum of 1 is "
                "required."),
    "no features": (X[:, :0], "x has 60 sample(s) of 0 feature(s) (shape=(60, 0)) while "),
    "NaN": (NAN, "x holds NaN or infinite values; replace them"),
    "infinity": (INF, "x holds NaN or infinite values; replace them"),
    "complex numbers": (X * 1j, "x must hold real numbers: Complex data not supported"),
    "words": ([["a", "b", "c"]] * 60, "x must hold real numbers: could not convert string"),
    "ragged lists": ([[1, 2, 3], [1]] * 30, "x must hold real numbers: setting an array element"),
}  # fmt: skip


@pytest.mark.parametrize("call", ["fit", "predict", "predict_proba", "score"])
@pytest.mark.parametrize("given, message", BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows(call, given, message):
    net = rows().fit(X, Y, 1)
    labels = (Y[: len(given)],) if call in ("fit", "score") else ()
    with pytest.raises(ValueError) as raised:
        getattr(net, call)(given, *labels)
    assert str(raised.value).startswith(f"{call}: {message}")


def test_rows_that_hold_no_numbers_or_other_features():
    net = rows().fit(X, Y, 1)
    with pytest.raises(TypeError, match=r"^fit: x must hold real numbers: .*dict"):
        net.fit([[{}, 1, 2]] * 60, Y)
    for call, labels in [("predict", ()), ("predict_proba", ()), ("score", (Y,))]:
        with pytest.raises(
            ValueError,
            match=f"^{call}: X has 2 features, but Classifier is expecting 3 features as input$",
        ):
            getattr(net, call)(X[:, :2], *labels)
    with pytest.raises(ValueError, match=r"^fit: validation: X has 2 features, but Classifier is"):
        net.fit(X, Y, validation=(X[:, :2], Y))


def test_rows_elsewhere_are_refused(torch):
    with pytest.raises(TypeError, match=r"^fit: x is a torch array on cpu and the network a numpy"):
        rows().fit(torch.from_numpy(X), Y)
