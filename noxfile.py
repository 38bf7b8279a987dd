"""The project's checks. Plain `nox` runs those that need no GPU and no gigabyte download."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import nox

nox.options.sessions = [
    "tests(numpy)", "tests(numba)", "tests(strict)", "kernels(cuda12)", "parallel", "browser",
    "lint", "docs", "package",
]  # fmt: skip

BACKENDS = {
    "numpy": ["scikit-learn"],  # with SciPy: oracles for the digits and for correlation
    "numba": ["numba"],  # NumPy's arrays once more; the session before is of NumPy alone
    "strict": ["array-api-strict"],
    "torch": ["torch==2.13.0"],
    "jax": ["jax", "torch==2.13.0"],  # torch: the oracle of gradients
    "cupy": ["cupy-cuda12x[ctk]"],
}

NVRTC = {  # pinned: docs/kernels.md tells what the first of them makes of the kernels
    "cuda12": "nvidia-cuda-nvrtc-cu12==12.9.86",
    "cuda13": "nvidia-cuda-nvrtc==13.5.37",
}


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def tests(session: nox.Session, backend: str) -> None:
    """Run the suite on one backend; with NumPy, every example of the docs and docstrings too."""
    session.install("-e", ".[dev]", *BACKENDS[backend])
    # a worker on each core, each with one thread: two libraries' threads would wait on each other
    library = "numpy" if backend == "numba" else backend
    session.env.update(XPCNN_TEST_BACKENDS=library, OMP_NUM_THREADS="1")
    others = ["-k", "not cuda"] if backend == "numba" else []  # the session before had that
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *others, *session.posargs)
    if backend == "numpy":  # the engines of libraries that are not installed have no examples
        session.run("pytest", "--doctest-modules", "--doctest-ignore-import-errors", "xpcnn")


@nox.session
@nox.parametrize("cuda", [nox.param(name, id=name) for name in NVRTC])
def kernels(session: nox.Session, cuda: str) -> None:
    """Compile every CUDA kernel for every architecture; `-- --table` renews docs/kernels.md."""
    session.install("-e", ".[dev]", NVRTC[cuda])
    if "--table" in session.posargs:
        session.run("python", "tests/kernel_table.py")
    else:
        session.run("python", "tests/nvrtc.py")  # without which all would be skipped
        test = ("tests/test_compile.py", *session.posargs)
        session.run("pytest", "-n", "auto", "--dist", "worksteal", *test)


@nox.session
def parallel(session: nox.Session) -> None:
    """Train in several processes on this machine, by MPI."""
    session.install("-e", ".[dev,mpi]", "mpich")
    session.env["OMP_NUM_THREADS"] = "1"
    session.run("pytest", "tests/test_parallel.py", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """Kill a training 200 times at random moments: what resumes ends in the same bits."""
    session.install("-e", ".[dev]")
    session.env.update(XPCNN_TEST_KILLS="200", OMP_NUM_THREADS="1")
    session.run("pytest", "-s", "tests/test_checkpoint.py", "-k", "killed", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Open a training's report in Chromium, which must be there where XPCNN_TEST_BROWSER=1."""
    session.install("-e", ".[dev]", "playwright")
    session.run("pytest", "tests/test_browser.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs, warnings being errors, and run their examples."""
    session.install("-e", ".[dev,docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "docs", "docs/_build/html")
    session.run("pytest", "tests/test_docs.py")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist, then the wheel from it; use the wheel and an editable install for real."""
    session.install("build")
    checkout = Path.cwd()
    work = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(work / "dist"))
    [wheel] = work.glob("dist/*.whl")
    sources = {f"xpcnn/{file.as_posix()}" for file in Path("kernels").iterdir()}
    if missing := sources - {*zipfile.ZipFile(wheel).namelist()}:
        session.error(f"{wheel.name} lacks {sorted(missing)}")

    session.run("python", "-m", "venv", "--clear", str(work / "clean"))
    programs = work / "clean" / ("Scripts" if os.name == "nt" else "bin")
    find_kernels = (
        "from xpcnn.engines.cuda._table import KERNELS, code; [code(k.file) for k in KERNELS]"
    )

    def clean(program: str, *args: str) -> None:
        session.run(str(programs / program), *args, external=True)

    with session.chdir(work):  # away from the checkout, whose xpcnn would be imported instead
        clean("python", "-m", "pip", "install", "--quiet", str(wheel))
        clean("python", "-c", find_kernels)
        clean("xpcnn", "train", "--epochs", "1", "--out", "digits.safetensors")
        clean("python", "-m", "pip", "install", "--quiet", "--editable", str(checkout))
        clean("python", "-c", find_kernels)
