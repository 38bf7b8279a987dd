"""
A small Inception network
=========================

Kernels of 1x1, 3x3 and 5x5 side by side read digits as well as kernels of one size do, with a
fraction of the parameters. You will see the network, what each of its branches finds in a digit,
and how it compares.
"""

# %%
# The network
# -----------
#
# One convolution, an Inception module of 40 channels, pooling, a module of 80, the average of each
# channel over the image, and a linear layer. Before the large kernels, 1x1 convolutions make the
# channels few. Batch normalisation, which brings each channel to mean 0 and variance 1 over a
# batch, follows each convolution of the modules.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import inspection, layers, plots
from xpcnn.models import inception
from xpcnn.optim import Adam


def network(first, second):
    return layers.Sequential(
        layers.Conv2d(16, 3, padding="same"),
        layers.ReLU(),
        first,
        layers.MaxPool2d(2),
        second,
        layers.GlobalAvgPool(),
        layers.Dropout(0.2),
        layers.Linear(10),
    )


modules = network(
    inception(8, (8, 16), (4, 8), 8, norm=True),
    inception(16, (16, 32), (8, 16), 16, norm=True),
)
for row in modules.summary((1, 8, 8)).rows:
    if row.multiply_adds:
        cost = f"{row.multiply_adds:9,} multiplications"
        print(f"{row.name:18}{row.out_shape!s:12}{cost}")

# %%
# Three others to compare it with have the same channels in the same places, of one kernel size
# each:


def convolution(channels, kernel_size):
    conv = layers.Conv2d(channels, kernel_size, padding="same", bias=False)
    return layers.Sequential(conv, layers.BatchNorm(), layers.ReLU())


networks = {"Inception": modules}
for size in (1, 3, 5):
    networks[f"{size}x{size}"] = network(convolution(40, size), convolution(80, size))

# %%
# Training
# --------
#
# Six epochs on the digits for each.

digits = xpcnn.data.digits()
images, labels = digits.test
nets = {
    name: xpcnn.Classifier(
        model, optimizer=Adam(0.003), batch_size=32, epochs=6, device="cpu", seed=0
    ).fit(*digits.train)
    for name, model in networks.items()
}
for name, net in nets.items():
    wrong = int(np.sum(net.predict(images) != labels))
    cost = net.model_.summary((1, 8, 8))
    print(
        f"{name:10}{cost.parameters:8,} parameters"
        f"{cost.multiply_adds:11,} multiplications"
        f"{wrong:4} of {len(labels)} wrong"
    )

accuracy = {name: net.score(images, labels) for name, net in nets.items()}
parameters = {
    name: model.summary((1, 8, 8)).parameters for name, model in networks.items()
}
assert min(accuracy["Inception"], accuracy["3x3"], accuracy["5x5"]) > 0.95
assert parameters == {"Inception": 13_730, "1x1": 5_050, "3x3": 35_770, "5x5": 97_210}

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
errors = {name: 100 * (1 - share) for name, share in accuracy.items()}
for name, color in zip(errors, ("C1", "C0", "C0", "C0"), strict=True):
    place = parameters[name], errors[name]
    ax.plot(*place, "o", color=color)
    ax.annotate(name, place, (7, 5), textcoords="offset points")
ax.set(xlabel="parameters", ylabel="errors in %", xscale="log")
ax.set(xlim=(3_000, 200_000), ylim=(0, 1.2 * max(errors.values())))
ax.spines[["top", "right"]].set_visible(False)

# %%
# With kernels of 1x1 alone, all convolutions but the first see no neighbours. The other three are
# close together, and a few digits more or less are chance: what differs for certain is the cost.
# Inception has three eighths of the parameters that 3x3 kernels have, and a seventh of those of
# 5x5.

assert parameters["Inception"] < 0.4 * parameters["3x3"]
assert parameters["Inception"] < 0.15 * parameters["5x5"]

# %%
# What the branches find
# ----------------------
#
# The first maps of the four branches of the first module, for one digit: single pixels, small
# surroundings, larger ones, and the brightest of each neighbourhood.

net = nets["Inception"]
image = images[np.argmax(labels == 3)][None] / np.float32(255)
found = inspection.features(net.model_, net.params_, image)
branches = (
    "2.branch1.relu",
    "2.branch2.1.relu",
    "2.branch3.1.relu",
    "2.branch4.1.relu",
)
plots.network_features({name: found[name] for name in branches})

# %%
# The module puts them side by side, and that is what the next layer gets:

together = np.concatenate([found[name] for name in branches], axis=1)
np.testing.assert_array_equal(together, found["2"])

# %%
# Where to go next
# ----------------
#
# - :doc:`/learn/09_inception`: what a bottleneck saves, counted.
# - :doc:`digits`: the same digits, and more on what a network gets wrong.
# - ``xpcnn.models.googlenet``: nine such modules, with the names of torchvision's weights.
