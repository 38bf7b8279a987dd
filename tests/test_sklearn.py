"""scikit-learn takes the classifier for one of its own estimators: its checks, and its tools."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted

import xpcnn
from xpcnn import Classifier
from xpcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from xpcnn.optim import SGD, Adam

X, Y = (part[:240] for part in xpcnn.data.digits().train)
ROWS = X.reshape(len(X), -1)
FOLDS = StratifiedKFold(3)


def mlp(classes):
    return Sequential(Linear(16), ReLU(), Linear(classes))


def cnn(classes):
    return Sequential(Conv2d(6, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(classes))


def images(**options):
    """A classifier of images that trains in no time; on the host."""
    return Classifier(cnn, optimizer=Adam(0.02), epochs=4, batch_size=32, device="cpu").set_params(
        **options
    )


def rows(**options):
    """The same of rows of features; in float64, for the checks compare to 1e-7."""
    return images(model=mlp, layout="NC", dtype="float64").set_params(**options)


# ---- its checks ----------------------------------------------------------------------------------

FAILING = {
    "check_supervised_y_2d": (
        "labels (N, 1) are refused; scikit-learn flattens them, with a warning of its own"
    ),
    "check_parameters_default_constructible": (
        "the default optimizer is Adam(), a frozen dataclass, and so it cannot change; the check "
        "trusts built-in types alone"
    ),
}


def checks(**options):
    """Each check, with a classifier."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimator Classifier does not inherit from", UserWarning)
        return list(estimator_checks_generator(rows(epochs=8), **options))


def told(part):
    return part.func.__name__ if isinstance(part, partial) else "rows"


@pytest.mark.parametrize(
    "estimator, check", checks(expected_failed_checks=FAILING, mark="xfail"), ids=told
)
def test_its_own_checks_of_a_classifier_of_rows(estimator, check):
    check(estimator)


def test_all_its_checks_are_run():
    names = {told(check) for _, check in checks()}
    assert len(names) > 40
    assert names >= {"check_classifiers_train", "check_fit_idempotent", *FAILING}


# ---- what it takes the classifier for ------------------------------------------------------------


@pytest.mark.parametrize(
    "layout, two, three",
    [("NC", True, False), ("NCW", False, True), ("NWC", False, True), ("NCHW", False, False)],
)
def test_tags(layout, two, three):
    net = images(layout=layout)
    tags = get_tags(net)
    assert is_classifier(net)
    assert tags.target_tags.required
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (two, three)
    assert not tags.input_tags.sparse


def test_what_is_not_fitted(tmp_path):
    net = images()
    for call, given in [
        ("predict", (X,)), ("predict_proba", (X,)), ("score", (X, Y)), ("save", (tmp_path / "x",)),
    ]:  # fmt: skip
        with pytest.raises(NotFittedError, match=f"^{call}: this classifier is not trained yet"):
            getattr(net, call)(*given)
    with pytest.raises(NotFittedError):
        check_is_fitted(net)
    check_is_fitted(net.fit(X, Y, epochs=1))


def test_clones_are_equal_and_not_fitted():
    net = images(optimizer=SGD(0.1), model=cnn(10), label_names=list("abcdefghij")).fit(X, Y, 1)
    other = clone(net)
    assert repr(other) == repr(net)
    assert other.get_params() == net.get_params()
    assert not hasattr(other, "params_")
    np.testing.assert_array_equal(other.fit(X, Y, 1).predict_proba(X), net.predict_proba(X))


def test_it_is_shown():
    net = images()
    assert repr(net) in repr(make_pipeline(StandardScaler(), net))
    assert "Classifier" in estimator_html_repr(GridSearchCV(net, {"seed": [0]}))


# ---- its tools -----------------------------------------------------------------------------------


def test_cross_validation_is_fitting_and_scoring_by_hand():
    scores = cross_val_score(images(), X, Y, cv=FOLDS, error_score="raise")
    chances = cross_val_predict(images(), X, Y, cv=FOLDS, method="predict_proba")
    labels = cross_val_predict(images(), X, Y, cv=FOLDS)
    for score, (train, test) in zip(scores, FOLDS.split(X, Y), strict=True):
        net = images().fit(X[train], Y[train])
        assert score == net.score(X[test], Y[test]) == accuracy_score(Y[test], labels[test])
        assert score > 0.5  # of guessing's 0.1
        np.testing.assert_array_equal(chances[test], net.predict_proba(X[test]))


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "neg_log_loss", "roc_auc_ovr"])
def test_its_metrics(scoring):
    scores = cross_val_score(images(), X, Y, cv=FOLDS, scoring=scoring, error_score="raise")
    assert np.all(scores > (-2.0 if scoring == "neg_log_loss" else 0.5))  # log 10 is 2.3


def test_labels_that_are_strings():
    names = np.asarray([f"digit {label}" for label in Y])
    for labels in (names, names.astype(object), names.tolist()):
        np.testing.assert_array_equal(
            cross_val_score(images(), X, labels, cv=FOLDS, error_score="raise"),
            cross_val_score(images(), X, Y, cv=FOLDS, error_score="raise"),
        )


def test_arguments_of_fit_are_passed_on():
    seen = []
    params = {"epochs": 2, "callbacks": [lambda now: seen.append(now.step)]}
    cross_val_score(images(), X, Y, cv=FOLDS, params=params, error_score="raise")
    assert len(seen) == 3 * 2


def test_grid_search(tmp_path):
    grid = {"optimizer__lr": [1e-6, 0.02], "epochs": [1, 4], "model": [cnn]}
    search = GridSearchCV(images(), grid, cv=FOLDS, error_score="raise").fit(X, Y)
    assert search.best_params_ == {"optimizer__lr": 0.02, "epochs": 4, "model": cnn}
    best = search.best_estimator_
    assert best.optimizer == Adam(0.02)
    assert len(best.history_) == 4
    np.testing.assert_array_equal(search.predict_proba(X), images().fit(X, Y).predict_proba(X))
    best.save(tmp_path / "best.safetensors")
    loaded = xpcnn.load(tmp_path / "best.safetensors", device="cpu")
    np.testing.assert_array_equal(clone(loaded).fit(X, Y, 1).classes_, search.classes_)


def test_a_pipeline_of_rows():
    chain = make_pipeline(StandardScaler(), rows())
    assert np.mean(cross_val_score(chain, ROWS, Y, cv=FOLDS, error_score="raise")) > 0.6
    search = GridSearchCV(chain, {"classifier__optimizer__lr": [1e-6, 0.02]}, cv=FOLDS)
    assert search.fit(ROWS, Y).best_params_ == {"classifier__optimizer__lr": 0.02}
    assert search.best_estimator_.n_features_in_ == 64


def as_images(rows):
    return rows.reshape(-1, 1, 8, 8)


def test_a_pipeline_that_makes_images_of_rows():
    chain = make_pipeline(StandardScaler(), FunctionTransformer(as_images), images())
    assert np.mean(cross_val_score(chain, ROWS, Y, cv=FOLDS, error_score="raise")) > 0.6
    assert chain.fit(ROWS, Y)[-1].in_shape_ == (1, 8, 8)
