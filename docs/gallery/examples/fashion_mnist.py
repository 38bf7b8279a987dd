"""
Learn garments
==============

Fashion-MNIST holds 70,000 pictures of shirts, shoes and bags. You will see a network learn a part
of them, which garments it mixes up, and what its layers make of a shoe.
"""

# %%
# The data
# --------
#
# ``xpcnn data get fashion-mnist`` downloads the set, once. From the 60,000 pictures to train on we
# take 10,000, from the 10,000 to test with 2,000, so that this page is made in a minute: with all
# of them the network becomes better.

# sphinx_gallery_thumbnail_number = 6
import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import inspection, models, plots

garments = xpcnn.data.load("fashion-mnist")
train_images, train_labels = (part[:10_000] for part in garments.train)
images, labels = (part[:2_000] for part in garments.test)

figure, axes = plt.subplots(2, 5, figsize=(8, 3.7), layout="constrained")
for number, (ax, name) in enumerate(zip(axes.flat, garments.classes, strict=True)):
    ax.imshow(train_images[np.argmax(train_labels == number), 0], cmap="gray")
    ax.set_title(name, fontsize="medium")
    ax.set_axis_off()

# %%
# Training
# --------
#
# ``models.convnet`` is the larger network of :doc:`/learn/07_classic_network`: two convolutions of
# 5x5 with pooling, a layer of 512 units with dropout, 1.7 million parameters.

net = xpcnn.Classifier(
    models.convnet(), label_names=garments.classes, device="cpu", seed=0
)
net.fit(train_images, train_labels, epochs=3, validation=(images, labels))

accuracy = net.score(images, labels)
print(f"{accuracy:.1%} of {len(labels):,} new pictures are named correctly")
assert accuracy > 0.85

plots.learning_curves(net.history_)

# %%
# Which it mixes up
# -----------------
#
# Shoes are taken for shoes, bags for bags. Shirts are hard: they look like T-shirts, pullovers and
# coats.

matrix = inspection.confusion_matrix(labels, net.predict(images), 10)
plots.confusion(matrix, garments.classes)

# %%

scores = inspection.class_scores(matrix)
for number in np.argsort(scores.recall):
    print(f"{garments.classes[number]:12} {scores.recall[number]:.0%} found")
assert garments.classes[int(np.argmin(scores.recall))] == "Shirt"

# %%
# The mistakes that it was the surest of:

plots.mistakes(images, labels, net.predict_proba(images), garments.classes)

# %%
# What its layers see
# -------------------
#
# Of an ankle boot, the first channels after each layer. Dark is low, bright is high; after ReLU
# dark is zero. The first convolution finds edges and surfaces; after the second one many maps
# answer to parts of the boot alone.

first = np.argmax(labels == garments.classes.index("Ankle boot"))
boot = images[first : first + 1] / np.float32(255)
plots.network_features(inspection.features(net.model_, net.params_, boot))

# %%
# Where in the picture is what speaks for the answer? Grad-CAM for one garment of each class, with
# the answer:

chosen = np.array([np.argmax(labels == number) for number in range(10)])
x = images[chosen] / np.float32(255)
heat = inspection.grad_cam(net.model_, net.params_, x, layer="4")
figure, axes = plt.subplots(2, 5, figsize=(8, 3.7), layout="constrained")
answers = net.predict(images[chosen])
for ax, image, seen, answer in zip(axes.flat, x, heat, answers, strict=True):
    plots.heat_map(image, seen, title=garments.classes[answer], ax=ax)

# %%
# Where to go next
# ----------------
#
# - :doc:`inception`: a network with kernels of several sizes side by side.
# - :doc:`/learn/07_classic_network`: the form of this network, piece by piece.
# - :doc:`/training`: all 60,000 pictures, for hours: checkpoints, early stopping, several
#   processes.
