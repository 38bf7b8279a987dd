"""A progress bar on the terminal; where there is none, silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .history import Epoch


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Show a line."""

    def begin(self, epoch: int, images: int, done: int = 0) -> None:
        """An epoch over so many images begins, of which some are done."""

    def watch(self, images: int, loss: float, accuracy: float) -> None:
        """So many images are done, with this loss and accuracy."""

    def end(self, epoch: Epoch) -> None:
        """An epoch is over."""


class Bar(Silent):
    """Loss, accuracy, images a second and time left, by rich."""

    def __init__(self, progress, epochs: int) -> None:
        self._progress, self._epochs = progress, epochs

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)

    def begin(self, epoch: int, images: int, done: int = 0) -> None:
        title = self._title(epoch)
        self._task = self._progress.add_task(title, total=images, completed=done, figures="")

    def watch(self, images: int, loss: float, accuracy: float) -> None:
        figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        self._progress.update(self._task, completed=images, figures=figures)

    def end(self, epoch: Epoch) -> None:
        self._progress.remove_task(self._task)
        held = "" if epoch.val_accuracy is None else f"  validation {epoch.val_accuracy:.2%}"
        self.say(
            f"{self._title(epoch.number)}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.2%}"
            f"{held}  {epoch.images_per_second:,.0f} images/s"
        )

    def _title(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self._epochs))}}/{self._epochs}"


@contextmanager
def progress_bar(epochs: int) -> Iterator[Silent]:
    """A bar on standard error if that is a terminal, else one that shows nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{task.speed:,.0f} images/s" if task.speed else "")

    console = Console(stderr=True)
    if not console.file.isatty():  # rich's own answer heeds FORCE_COLOR, which asks for no bar
        yield Silent()
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20),
        TextColumn("{task.fields[figures]}"), Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, epochs)
