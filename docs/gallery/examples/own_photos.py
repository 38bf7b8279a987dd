"""
Your own photos
===============

From folders of pictures to a network that names a new one: three folders of JPEG files, one each
for brick, grass and gravel. You will see the pictures, whether the network mixes them up, and where
in a picture it finds which of them.
"""

# %%
# The folders
# -----------
#
# Your pictures lie in one folder a class. Here such folders are made first, of three photographs:
# tiles of 32x32 pixels, those of the left three quarters to train on and those of the right quarter
# to test with.

# sphinx_gallery_thumbnail_number = 4
import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

import xpcnn
from xpcnn import inspection, plots
from xpcnn.io import read_image
from xpcnn.layers import (
    BatchNorm,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from xpcnn.optim import Adam, Cosine

photos = {name: getattr(skimage.data, name)() for name in ("brick", "grass", "gravel")}

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
for ax, (name, photo) in zip(axes, photos.items(), strict=True):
    ax.imshow(photo, cmap="gray")
    ax.axvline(383.5, color="white", linestyle="--")
    ax.set_title(name)
    ax.set_axis_off()

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name, "pictures")
for name, photo in photos.items():
    for part, columns in (("train", range(0, 384, 32)), ("test", range(384, 512, 32))):
        Path(folder, part, name).mkdir(parents=True)
        for row in range(0, 512, 32):
            for column in columns:
                path = Path(folder, part, name, f"{row:03}-{column:03}.jpg")
                cv2.imwrite(str(path), photo[row : row + 32, column : column + 32])

# %%
# ``image_folder`` looks through the folders, makes sure that every file can be read, and gives what
# looks like an array: each picture is decoded when it is needed. The photographs are grey, so
# ``color=False``; with ``True``, the default, pictures are RGB.

data = xpcnn.data.image_folder(folder, 32, color=False)
images, labels = data.test
print(data)
print(data.classes)
assert data.classes == ("brick", "grass", "gravel")
assert data.train[0].shape == (576, 1, 32, 32) and images.shape == (192, 1, 32, 32)

# %%
# Training
# --------
#
# A small network whose last layer but one takes the average over the whole picture: where in it a
# texture lies does not matter. Tiles are turned into their mirror images at random, which makes
# more of them; the rate falls along a cosine.

model = Sequential(
    Conv2d(16, 5, padding="same", bias=False),
    BatchNorm(),
    ReLU(),
    MaxPool2d(2),
    Conv2d(32, 3, padding="same", bias=False),
    BatchNorm(),
    ReLU(),
    MaxPool2d(2),
    GlobalAvgPool(),
    Linear(3),
)
EPOCHS = 8
net = xpcnn.Classifier(
    model,
    optimizer=Adam(Cosine(0.005, steps=18 * EPOCHS)),  # 18 batches of 32 are 576
    augment=xpcnn.data.Flip(),
    batch_size=32,
    label_names=data.classes,
    device="cpu",
    seed=0,
)
net.fit(*data.train, epochs=EPOCHS, validation=data.test)

accuracy = net.score(images, labels)
print(f"{accuracy:.1%} of {len(labels)} new tiles are named correctly")
assert accuracy > 0.9

plots.learning_curves(net.history_)

# %%

matrix = inspection.confusion_matrix(labels, net.predict(images), 3)
plots.confusion(matrix, data.classes)

# %%
# These tiles are new, but of photographs that it knows. How well it does on other walls and
# meadows, only pictures of those can tell: test with what is as different as what will come.

# %%
# A new picture
# -------------
#
# Any picture file is brought to the size the network was trained on, as the pictures of the folders
# were, and named:

path = Path(temporary.name, "new.jpg")
cv2.imwrite(str(path), photos["grass"][200:250, 400:450])

picture = read_image(path, net.in_shape_, net.resize_)[None]
chances = net.predict_proba(picture)[0]
for name, chance in zip(data.classes, chances, strict=True):
    print(f"{name:8}{chance:.1%}")
assert data.classes[net.predict(picture)[0]] == "grass"

# %%
# With ``net.save`` the network goes into a file, and then ``xpcnn predict pictures.safetensors
# new.jpg`` does the same.
#
# Where is what?
# --------------
#
# The average over the picture is one over any number of places, so the network takes larger
# pictures too. This one holds all three textures, of parts that it has not seen. Grad-CAM tells for
# each class where it finds what speaks for it:

strip = np.concatenate([photo[:128, 384:] for photo in photos.values()], axis=1)
x = strip[None, None].astype(np.float32) / 255
figure, axes = plt.subplots(3, 1, figsize=(7, 7.4), layout="constrained")
for number, (ax, name) in enumerate(zip(axes, data.classes, strict=True)):
    (heat,) = inspection.grad_cam(net.model_, net.params_, x, classes=[number])
    plots.heat_map(x[0], heat, title=f"{name}?", ax=ax)
    thirds = heat.reshape(128, 3, 128).mean(axis=(0, 2))
    assert int(np.argmax(thirds)) == number

# %%
# In each of them the place of that texture is the warmest.

temporary.cleanup()

# %%
# Where to go next
# ----------------
#
# - :doc:`/howto/my_images`: the same on the command line, and what happens to damaged files.
# - :doc:`/learn/10_invariance`: what augmentation does.
# - :doc:`/training`: more pictures, longer runs.
