"""The data sets that can be downloaded: where they come from, and how they are read.

Addresses, sizes and SHA-256 sums are as published with TensorFlow Datasets 4.9.10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .cifar import read_cifar
from .dataset import Parts
from .mnist import FOUR, read_emnist, read_mnist
from .svhn import read_svhn

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SYLLABLES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataclass(frozen=True)
class File:
    """A file of the web: its address, its size in bytes and its SHA-256 sum in hexadecimal.

    >>> File("https://example.org/a/labels.gz", 4542, "f7ae60f9").name
    'labels.gz'
    """

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """A data set's files, and what is in them.

    `folder` is what the folder of the files is called; sets out of the same files share it. `read`
    makes the parts from the paths of `files`, in their order. `shape` is an image's (C, H, W);
    `train`, `test` and `classes` are numbers of images and labels; `origin` tells whose the set is,
    and `license` is empty where none is stated.
    """

    name: str
    folder: str
    files: tuple[File, ...]
    read: Callable[..., Parts]
    shape: tuple[int, int, int]
    train: int
    test: int
    classes: int
    origin: str
    license: str = ""

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(file.size for file in self.files)


def _four(address: str, *sums: tuple[int, str]) -> tuple[File, ...]:
    return tuple(
        File(f"{address}/{name}.gz", size, sha256)
        for name, (size, sha256) in zip(FOUR, sums, strict=True)
    )


EMNIST = File(
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    561753746,
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
)
CIFAR_10 = File(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170052171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
CIFAR_100 = File(
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    168513733,
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
SVHN_TRAIN = File(
    "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
    182040794,
    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
)
SVHN_TEST = File(
    "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    64275384,
    "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
)
SVHN_EXTRA = File(
    "http://ufldl.stanford.edu/housenumbers/extra_32x32.mat",
    1329278602,
    "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
)
EMNIST_SPLITS = (  # training images, test images, classes
    ("balanced", 112_800, 18_800, 47),
    ("byclass", 697_932, 116_323, 62),
    ("bymerge", 697_932, 116_323, 47),
    ("digits", 240_000, 40_000, 10),
    ("letters", 124_800, 20_800, 26),
    ("mnist", 60_000, 10_000, 10),
)

_SOURCES = (
    Source(
        name="mnist",
        folder="mnist",
        files=_four(
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        read=partial(read_mnist, classes=DIGITS),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        classes=10,
        origin="LeCun, Cortes and Burges, 1998",
    ),
    Source(
        name="fashion-mnist",
        folder="fashion-mnist",
        files=_four(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        read=partial(read_mnist, classes=GARMENTS),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        classes=10,
        origin="Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747",
        license="MIT",
    ),
    Source(
        name="kmnist",
        folder="kmnist",
        files=_four(
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
            (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
        read=partial(read_mnist, classes=SYLLABLES),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        classes=10,
        origin="Clanuwat et al., 2018, https://arxiv.org/abs/1812.01718",
        license="CC BY-SA 4.0",
    ),
    *(
        Source(
            name=f"emnist-{split}",
            folder="emnist",
            files=(EMNIST,),
            read=partial(read_emnist, split=split),
            shape=(1, 28, 28),
            train=train,
            test=test,
            classes=classes,
            origin="Cohen, Afshar, Tapson and van Schaik, 2017, https://arxiv.org/abs/1702.05373",
        )
        for split, train, test, classes in EMNIST_SPLITS
    ),
    Source(
        name="cifar-10",
        folder="cifar-10",
        files=(CIFAR_10,),
        read=partial(
            read_cifar,
            train=[f"data_batch_{number}.bin" for number in range(1, 6)],
            test=["test_batch.bin"],
            names="batches.meta.txt",
            label_bytes=1,
        ),
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        classes=10,
        origin="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    Source(
        name="cifar-100",
        folder="cifar-100",
        files=(CIFAR_100,),
        read=partial(
            read_cifar,
            train=["train.bin"],
            test=["test.bin"],
            names="fine_label_names.txt",
            label_bytes=2,
        ),
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        classes=100,
        origin="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    Source(
        name="svhn",
        folder="svhn",
        files=(SVHN_TRAIN, SVHN_TEST),
        read=read_svhn,
        shape=(3, 32, 32),
        train=73_257,
        test=26_032,
        classes=10,
        origin="Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers",
        license="for non-commercial use only",
    ),
    Source(
        name="svhn-extra",
        folder="svhn",
        files=(SVHN_TRAIN, SVHN_EXTRA, SVHN_TEST),
        read=read_svhn,
        shape=(3, 32, 32),
        train=604_388,
        test=26_032,
        classes=10,
        origin="Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers",
        license="for non-commercial use only",
    ),
)

SETS: dict[str, Source] = {source.name: source for source in _SOURCES}
"""What `get` downloads, by name."""
