"""
The classic network
===================

Convolution, ReLU and pooling, twice, then two fully connected layers: the form that networks for
images have had since 1998. You will put one together, see how its weights begin, how it learns
digits, what it keeps of an image in each layer, and how its weights are saved.
"""

# %%
# The layers
# ----------
#
# The digits that come with xpcnn have 8x8 pixels. Four kernels find features in them, pooling
# halves the image, six kernels find features of those, pooling halves again. What is left, 6 maps
# of 2x2, are 24 numbers for 32 units of which each sees all of them, and those feed ten: one for
# each digit.

# sphinx_gallery_thumbnail_number = 5
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import inspection, layers, models, ops, plots, random
from xpcnn.layers import tree
from xpcnn.optim import SGD


def classic(weight_init):
    rule = {"weight_init": weight_init}
    return layers.Sequential(
        layers.Conv2d(4, 3, padding=1, **rule),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(6, 3, padding=1, **rule),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Linear(32, **rule),
        layers.ReLU(),
        layers.Linear(10, **rule),
    )


digits = xpcnn.data.digits()
summary = classic("he_normal").summary((1, 8, 8))
for row in summary.rows:
    kind = row.layer.split("(")[0]
    print(f"{row.name:2} {kind:10} {row.out_shape!s:12}{row.parameters:6,}")
assert summary.parameters == 40 + 222 + 800 + 330

# %%
# How the weights begin
# ---------------------
#
# All zeros would stay alike for ever, so weights begin as random numbers. How large should they be?
# A unit adds up *fan-in* many products, so with a variance of 1/fan-in it hands on what it gets at
# about the same size. Xavier's rule takes 2/(fan-in + fan-out), the mean of what is right forward
# and backward; but ReLU throws half of it away, and the rule of He and others at MSRA, 2/fan-in,
# makes up for that.
#
# Here are twenty linear layers of 256, each with ReLU, and how large the numbers after each are.

signal = random.normal(random.key(0), (64, 256)).astype(np.float32)
sizes = {}
for rule, name in (("xavier_normal", "Xavier"), ("he_normal", "MSRA")):
    pair = [layers.Linear(256, weight_init=rule), layers.ReLU()]
    stack = layers.Sequential(*pair * 20)
    params, _ = stack.init(random.key(1), (256,))
    outputs = inspection.features(stack, params, signal)
    squares = [np.mean(outputs[str(i)] ** 2) for i in range(1, 40, 2)]
    sizes[name] = [float(np.sqrt(square)) for square in squares]

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, line in sizes.items():
    ax.plot(range(1, 21), line, "o-", label=name)
ax.set(xlabel="layer", ylabel="root mean square", yscale="log", xticks=range(0, 21, 5))
legend = ax.legend()

assert 0.3 < sizes["MSRA"][-1] < 3
assert sizes["Xavier"][-1] < 0.01

# %%
# With Xavier's rule each ReLU halves the mean square: after twenty layers a millionth of it is
# left, a thousandth of its root. With MSRA's it stays. In a network as small as ours both do.
#
# Softmax and cross-entropy
# -------------------------
#
# The ten outputs, the *logits* z, become probabilities by softmax, p = exp(z) / sum(exp(z)). The
# loss is the cross-entropy, -log p of the right digit. Labels may be numbers, or *one-hot* rows
# with a 1 at the right digit: they say the same.

logits = np.array([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
labels = np.array([0, 2])
one_hot = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

loss, pull = xpcnn.vjp(ops.cross_entropy, logits, labels, wrt=("x",))
p = ops.softmax(logits)
np.testing.assert_allclose(loss, -np.mean(np.log(p[[0, 1], labels])))
np.testing.assert_allclose(loss, ops.cross_entropy(logits, one_hot))

# %%
# Softmax and loss are one operation because their gradient is so simple: p - y, what is predicted
# less what is right, divided by the number of images over which the loss is a mean.

np.testing.assert_allclose(pull(1.0)[0], (p - one_hot) / 2)

figure, axes = plt.subplots(1, 3, figsize=(9, 2.2), layout="constrained")
shown = {"p": p, "y": one_hot, "p - y": p - one_hot}
for ax, (title, matrix) in zip(axes, shown.items(), strict=True):
    plots.numbers(matrix, title=title, ax=ax)

# %%
# Dropout
# -------
#
# In training, dropout sets a random share of its input to zero, so that no unit can rely on a
# single other one, and scales the rest so that its mean stays: with a share of a half, twos become
# fours. The gradient is stopped and scaled likewise. In prediction it does nothing.

twos = np.full((1, 12), 2.0)
drop = layers.Dropout(0.5)
kept, pull = drop.vjp({}, twos, key=random.key(3))
print(kept[0])
assert set(kept[0]) == {0.0, 4.0}
np.testing.assert_array_equal(pull(np.ones_like(twos))[1], kept / 2)
np.testing.assert_array_equal(drop({}, twos), twos)

# %%
# Training
# --------
#
# Gradient descent on small batches (SGD) goes from each batch a step against its gradient. With
# *momentum* it keeps a velocity, v = 0.9 v + gradient, and steps by that: where gradients agree it
# becomes ten times faster, and where they change their sign they cancel. So a tenth of the rate
# does.
#
# Both rules for the weights with both, five *epochs*, or passes over all images, each, on 1,438
# digits. The other 359 tell the accuracy.

runs = {}
for rule, start in (("xavier_normal", "Xavier"), ("he_normal", "MSRA")):
    for optimizer, name in ((SGD(0.2), "SGD"), (SGD(0.02, momentum=0.9), "momentum")):
        net = xpcnn.Classifier(
            classic(rule), optimizer=optimizer, batch_size=32, device="cpu", seed=0
        )
        net.fit(*digits.train, epochs=5, validation=digits.test)
        runs[f"{start}, {name}"] = net

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for (name, net), color in zip(runs.items(), ("C0", "C0", "C1", "C1"), strict=True):
    style = {"label": name, "color": color, "linestyle": "--" if "SGD" in name else "-"}
    left.plot(range(1, 6), net.history_.column("loss"), **style)
    right.plot(range(1, 6), net.history_.column("val_accuracy"), **style)
left.set(xlabel="epoch", title="loss in training", xticks=range(1, 6))
right.set(xlabel="epoch", title="accuracy on new digits", xticks=range(1, 6))
legend = right.legend(loc="lower right")

for name, net in runs.items():
    accuracy = net.history_[-1].val_accuracy
    print(f"{name:17}{accuracy:.1%}")
    assert accuracy > 0.8

# %%
# Where it looks
# --------------
#
# These are the four kernels of the first layer, blue below zero and red above, and what is left of
# a digit after each layer. The first maps still look like the digit; six maps of 2x2 tell what
# matters.

net = runs["MSRA, momentum"]
plots.kernels(net.params_["0"]["weight"])

# %%
# In the maps, dark is low and bright is high; after ReLU dark is zero, and one of the four kernels
# finds nothing in this digit.

image = digits.test[0][:1].astype(np.float32) / 255
maps = inspection.features(net.model_, net.params_, image)
assert list(maps) == [row.name for row in summary.rows]
assert np.count_nonzero(maps["1"][0].max(axis=(1, 2)) == 0) == 1
plots.network_features(maps)

# %%
# Saving and loading
# ------------------
#
# ``save`` writes the weights and all that prediction needs into one file. The weights alone, a tree
# of arrays, go wherever arrays go, for instance into a file of NumPy's.

with tempfile.TemporaryDirectory() as folder:
    net.save(Path(folder, "digits.safetensors"))
    again = xpcnn.load(Path(folder, "digits.safetensors"), device="cpu")
    np.savez(Path(folder, "weights.npz"), **tree.flatten(net.params_))
    with np.load(Path(folder, "weights.npz")) as file:
        weights = tree.unflatten({name: file[name] for name in file.files})

images = digits.test[0]
np.testing.assert_array_equal(again.predict_proba(images), net.predict_proba(images))
logits = net.model_(net.params_, image)
np.testing.assert_array_equal(net.model_(weights, image), logits)
print(", ".join(tree.flatten(weights)))

# %%
# The same, larger
# ----------------
#
# ``models.convnet`` is a network of this form for MNIST's digits of 28x28 pixels: 32 kernels of 5x5
# and 64 of them, each with ReLU and pooling, then 512 units with dropout. Nearly all of its
# 1,663,370 parameters are those of the one layer in which every unit sees everything.

large = models.convnet().summary((1, 28, 28))
assert large.parameters == 1_663_370
for row in large.rows:
    if row.parameters:
        kind = row.layer.split("(")[0]
        print(f"{row.name:3} {kind:10} {row.out_shape!s:14}{row.parameters:10,}")
assert large.rows[7].parameters == (64 * 7 * 7 + 1) * 512 == 1_606_144

# %%
# What to remember
# ----------------
#
# - Convolutions find features, pooling makes maps smaller, linear layers decide.
# - Weights begin at random, with a variance of 2/fan-in where ReLU follows.
# - The gradient of softmax with cross-entropy is p - y.
# - Momentum steps by a decaying sum of the gradients, up to ten times one of them, so its rate must
#   be smaller.
# - Convolutions hold few of the parameters, and do most of the work.
#
# The real thing: ``classic`` and ``convnet`` are in ``xpcnn/models/lenet.py``, ``cross_entropy`` in
# ``xpcnn/ops/loss.py``, the rules for weights in ``xpcnn/layers/initializers.py``, ``SGD`` in
# ``xpcnn/optim/sgd.py``. The large one learns garments in :doc:`/examples/fashion_mnist`.
#
# Next: :doc:`08_parameter_sharing`.
