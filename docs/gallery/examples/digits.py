"""
Learn digits
============

A small network learns to read handwritten digits in seconds. You will see how it learned, what it
mixes up, on which digits it is wrong and sure of it, and what it looks at.
"""

# %%
# The digits
# ----------
#
# 1,797 digits of 8x8 pixels come with xpcnn. A fifth of them is held back: what the network is
# worth shows on images that it has never seen.

# sphinx_gallery_thumbnail_number = 5
import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import inspection, plots
from xpcnn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from xpcnn.optim import Adam

digits = xpcnn.data.digits()
images, labels = digits.test
print(digits)

figure, axes = plt.subplots(2, 10, figsize=(8, 1.9), layout="constrained")
for ax, image, label in zip(axes.flat, images, labels, strict=False):
    ax.imshow(image[0], cmap="gray")
    ax.set_title(label, fontsize="small")
    ax.set_axis_off()

# %%
# The network and its training
# ----------------------------
#
# Twice a convolution with ReLU and pooling, dropout against learning by heart, and a linear layer
# that gives one number for each digit.

model = Sequential(
    Conv2d(16, 3, padding="same"),
    ReLU(),
    MaxPool2d(2),
    Conv2d(32, 3, padding="same"),
    ReLU(),
    MaxPool2d(2),
    Flatten(),
    Dropout(0.25),
    Linear(10),
)
net = xpcnn.Classifier(
    model, optimizer=Adam(0.003), batch_size=32, device="cpu", seed=0
)
net.fit(*digits.train, epochs=12, validation=digits.test)

accuracy = net.score(images, labels)
print(f"{accuracy:.1%} of {len(labels)} new digits are read correctly")
assert accuracy > 0.95

plots.learning_curves(net.history_)

# %%
# While it trains, dropout makes it worse than it is: so the accuracy in training may lie below that
# on new digits.
#
# What it mixes up
# ----------------
#
# Each row is a digit, each column what it was taken for. Off the diagonal are the mistakes.

predicted = net.predict(images)
matrix = inspection.confusion_matrix(labels, predicted, 10)
assert matrix.trace() / matrix.sum() == accuracy
plots.confusion(matrix)

# %%
# For each digit: *precision* is the share of the images taken for it that are it, *recall* the
# share of its images that were found.

scores = inspection.class_scores(matrix)
for digit in range(10):
    precision, recall = scores.precision[digit], scores.recall[digit]
    print(f"{digit}   precision {precision:.2f}   recall {recall:.2f}")

# %%
# The mistakes, those it was the surest of first: with what it took them for, how surely, and what
# they are. Would you have known?

chances = net.predict_proba(images)
plots.mistakes(images, labels, chances)

# %%
# What it looks at
# ----------------
#
# Grad-CAM asks where the last maps of the network found what speaks for the answer; saliency, by
# how much each pixel sways it. Both for the first of each digit:

first = np.array([np.argmax(labels == digit) for digit in range(10)])
x = images[first].astype(np.float32) / 255
seen = inspection.grad_cam(net.model_, net.params_, x, layer="4")
swayed = inspection.saliency(net.model_, net.params_, x)
assert seen.shape == swayed.shape == (10, 8, 8)

figure, axes = plt.subplots(3, 10, figsize=(9, 3.1), layout="constrained")
for digit in range(10):
    axes[0, digit].imshow(x[digit, 0], cmap="gray")
    plots.heat_map(x[digit], seen[digit], ax=axes[1, digit])
    plots.heat_map(x[digit], swayed[digit], ax=axes[2, digit])
for row, name in zip(axes[:, 0], ("image", "Grad-CAM", "saliency"), strict=True):
    row.set_ylabel(name)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %%
# Where to go next
# ----------------
#
# - :doc:`fashion_mnist`: larger images, and things harder to tell apart.
# - :doc:`/learn/10_invariance`: does it read a digit that is turned or moved?
# - :doc:`own_photos`: the same with your own pictures.
# - :doc:`/quickstart`: saving the network, and the same on the command line.
