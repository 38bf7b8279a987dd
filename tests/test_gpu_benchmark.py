"""The GPU benchmark, rehearsed on the host; what touches the GPU is given stand-ins."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from xpcnn.engines.settings import current
from xpcnn.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, tree

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PRECISIONS = ("float32", "tf32", "float16")


@pytest.fixture
def bench(torch, monkeypatch):
    """The benchmark's modules, by name, and a few tiny rows for all of them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(xpcnn.engines.ENGINES, "numpy", ("numpy", "generic"))  # nothing to compile
    names = "_conv _gpu_device _gpu_measure _gpu_rows _gpu_training _layers _networks _rows gpu"
    modules = {name.lstrip("_"): importlib.import_module(name) for name in names.split()}
    found = SimpleNamespace(**modules, torch=torch)
    found.tiny = {
        "conv": found.conv.Conv("Tiny", 4, 6, 3, 6, bias=True),
        "depthwise": found.conv.Conv("Tiny", 4, 4, 3, 6, groups=4, quick=True),
        "max": found.layers.max_pool(4, 6, 2, 2),
        "average": found.layers.avg_pool(4, 6, 3, 1, 1),
        "norm": found.layers.batch_norm(4, 6),
        "relu": found.layers.relu(4, 6),
        "columns": found.gpu_rows.columns(4, 6, 3),
        "training": found.gpu_training.DeviceTraining(network(found)),
    }
    monkeypatch.setattr(found.gpu, "ROWS", list(found.tiny.values()))
    monkeypatch.setattr(found.gpu, "FULL", found.gpu.Effort(1, 0.0))
    monkeypatch.setattr(found.gpu_measure, "HOST", found.gpu.Effort(1, 0.0))
    monkeypatch.setattr(found.gpu_measure, "SAMPLE", 0.0)
    monkeypatch.setattr(found.gpu_device.Host, "cache", 2**12)
    return found


def network(bench):
    model = Sequential(
        Conv2d(4, 3, padding=1, bias=False), BatchNorm(), ReLU(), MaxPool2d(3, 2, 1),
        Flatten(), Linear(10),
    )  # fmt: skip
    return bench.networks.Network("tiny", model, (1, 6, 6), 5, "SGD")


def run(bench, tmp_path, *options):
    """The exit status and what was written."""
    file = tmp_path / "gpu.json"
    wrong = bench.gpu.main(["--device", "cpu", "--batch", "2", "--json", str(file), *options])
    return wrong, json.loads(file.read_text())


def test_everything_is_measured(bench, tmp_path, capsys):
    wrong, told = run(bench, tmp_path, "--table")
    assert not wrong and not told["failed"] and not told["not_run"]
    assert told["device"]["xpcnn"] == xpcnn.__version__ and len(told["device"]["source"]) == 12
    assert set(told["floors"]["rates"]) == set(PRECISIONS)
    measured = defaultdict(set)
    for one in told["results"]:
        measured[one["row"], one["task"]].add(one["precision"])
    conv, relu = bench.tiny["conv"].name, bench.tiny["relu"].name
    assert all(measured[conv, task] == set(PRECISIONS) for task in ("forward", "dx", "dw"))
    assert measured["training tiny", "training"] == set(PRECISIONS)
    assert measured[relu, "gradients"] == {"float32", "float16"}  # TF32 is for products
    for one in told["results"]:
        assert one["by"] == "graph" and one["ours"]["host"] > 0
        assert ("tuned" in one) == (one["class"] in ("conv 3x3", "depthwise", "training"))
        fastest = min(one[who]["median"] for who in ("theirs", "tuned") if who in one)
        assert one["ratio"] == one["ours"]["median"] / fastest
        assert one["floor_ratio"] == pytest.approx(one["ours"]["median"] / one["floor"])
        assert (one["copies"] > 1) == (one["class"] != "training")
    printed = capsys.readouterr().out
    assert "conv 3x3: dx" in printed and "float16 channels_last" in printed
    assert f"| {conv} | 2 | dw | tf32 | contiguous |" in printed


def test_a_quick_run_has_the_quick_rows(bench, tmp_path):
    _, told = run(bench, tmp_path, "--quick", "--tasks", "forward", "--layouts", "contiguous")
    rows = [(one["row"], one["precision"]) for one in told["results"]]
    assert rows == [(bench.tiny["depthwise"].name, precision) for precision in PRECISIONS]


def test_training_comes_first_and_what_the_time_leaves_is_listed(bench, tmp_path, capsys):
    wrong, told = run(bench, tmp_path, "--minutes", "0", "--precisions", "float32")
    assert not wrong and not told["results"]
    order = [job["row"] for job in told["not_run"][::2]]
    assert order[:2] == [bench.tiny["training"].name, bench.tiny["depthwise"].name]
    assert sorted(order) == sorted(row.name for row in bench.gpu.ROWS)
    assert "float32 contiguous, float32 channels_last" in capsys.readouterr().out


def false_row(bench, ours):
    """A row in which we compute what `ours` makes of x, and PyTorch x itself."""
    case = bench.rows.Case

    def build(x, their_x, dy, their_dy, draw):
        yield case("forward", lambda: ours(x), lambda: their_x.clone())

    return bench.layers.Layer("false", ("ReLU",), (4, 2, 2), (4, 2, 2), build)


@pytest.mark.parametrize(
    "ours",
    [lambda x: 1.01 * x, lambda x: x[:1], lambda x: x * np.float32(np.nan)],
    ids=["values", "shape", "NaN"],
)
def test_a_wrong_result_is_told(bench, tmp_path, monkeypatch, capsys, ours):
    monkeypatch.setattr(bench.gpu, "ROWS", [false_row(bench, ours)])
    wrong, told = run(bench, tmp_path, "--precisions", "float32")
    assert wrong and all(one["wrong"] for one in told["results"])
    printed = capsys.readouterr().out
    assert "WRONG" in printed and "elementwise: forward" not in printed


def test_a_row_that_breaks_off_leaves_the_others(bench, tmp_path, monkeypatch, capsys):
    def broken(x):
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(bench.gpu, "ROWS", [false_row(bench, broken), bench.tiny["relu"]])
    wrong, told = run(bench, tmp_path, "--precisions", "float32", "--layouts", "contiguous")
    assert wrong and told["failed"][0]["why"] == "MemoryError: no room"
    assert {one["row"] for one in told["results"]} == {bench.tiny["relu"].name}
    assert "FAILED" in capsys.readouterr().out


def test_where_one_cannot_be_captured_all_are_timed_as_they_are(bench, tmp_path, monkeypatch):
    def refuse(self, calls):
        raise NotImplementedError("cuBLAS")

    monkeypatch.setattr(bench.gpu_device.Host, "capture_ours", refuse)
    wrong, told = run(bench, tmp_path, "--only", "Tiny", "--precisions", "float32")
    assert not wrong and told["results"]
    for one in told["results"]:
        assert (one["by"], one["why"]) == ("events", "ours: NotImplementedError: cuBLAS")


def test_a_graph_that_computes_nothing_is_seen(bench):
    torch, measure = bench.torch, bench.gpu_measure
    device = SimpleNamespace(tensor=lambda array: array)
    expected, result = torch.ones(3), torch.ones(3)
    idle = bench.gpu_device.Recording(lambda: None, [(result, None)])
    assert measure.replayed(device, idle, (expected, None)) == math.inf
    busy = bench.gpu_device.Recording(lambda: result.fill_(1.0), [result])
    assert measure.replayed(device, busy, expected) == 0.0


def test_interrupted_it_keeps_what_it_has(bench, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.gpu_device.Host, "free", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(bench, tmp_path, "--only", "ReLU")
    assert json.loads((tmp_path / "gpu.json").read_text())["results"]


def test_without_a_gpu_it_says_so(bench, monkeypatch):
    def none(spec):
        raise RuntimeError("device('cuda'): CuPy sees no GPU")

    monkeypatch.setattr(xpcnn, "device", none)
    with pytest.raises(SystemExit, match="CuPy sees no GPU"):
        bench.gpu.main([])


def test_players_have_threads_and_settings_of_their_own(bench):
    torch, device = bench.torch, bench.gpu_device.Host()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def told():
        flags = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
        backward_elsewhere = torch._C._is_multithreading_enabled()
        return threading.get_ident(), current().precision, flags, backward_elsewhere

    before = told()
    team = bench.gpu_measure.players(device, "tf32")
    threads, precisions, flags, elsewhere = zip(
        *(team[name].do(told) for name in ("ours", "theirs", "tuned", "reference")), strict=True
    )
    assert len({threading.get_ident(), *threads}) == 5
    assert precisions[0] == "tf32"
    assert flags[1:] == ((False, True, True), (True, True, True), (False, False, False))
    assert not any(elsewhere[1:])
    assert told() == before
    assert bench.gpu_measure.players(device, "float16")["ours"].do(told)[1] == "float32"


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_both_draw_the_same_numbers(bench, layout):
    device, draw_of = bench.gpu_device.Host(), bench.gpu_rows.DeviceDraw
    draw, exact = (draw_of(device, layout, "float16", exact=exact) for exact in (False, True))
    ours, theirs = draw.images(2, 4, 3, 3)
    right, _ = exact.images(2, 4, 3, 3)
    assert ours.dtype == np.float16 and right.dtype == np.float32
    assert (ours == right).all()
    theirs.zero_()
    assert not ours.any()  # one memory
    assert ours.flags.c_contiguous == (layout == "contiguous")
    w, their_w = draw.array(5, 4, 3, 3, scale=0.1)
    assert w.flags.c_contiguous and (w == their_w.numpy()).all()
    labels, _ = draw.labels(100)
    assert set(labels.tolist()) == set(range(10))
    other, _ = draw_of(device, layout, "float16", seed=1).images(2, 4, 3, 3)
    assert (other != right).any()


def test_what_is_counted(bench):
    work, rows = bench.gpu_rows.work, bench.tiny
    x, y = 2 * 4 * 6 * 6, 2 * 6 * 6 * 6
    conv = 4 * (x + y + 6 * 4 * 9), 2 * y * 4 * 9
    assert all(work(rows["conv"], 2, task, "tf32") == conv for task in ("forward", "dx", "dw"))
    assert work(rows["relu"], 2, "gradients", "float16") == (2 * 3 * x, 0)
    pooled = x // 4
    assert work(rows["max"], 2, "forward", "float32") == (4 * (x + pooled), 0)
    assert work(rows["max"], 2, "training", "float32") == (4 * 2 * (x + pooled), 0)
    assert work(rows["average"], 2, "gradients", "float32") == (4 * 2 * x, 0)
    assert work(rows["columns"], 2, "gradients", "float32") == (4 * 10 * x, 0)
    # forward, and dw: the first layer is not asked for dx; then three products of 4 * 3 * 3 by 10
    step = 2 * 2 * 4 * 36 * 9 + 3 * 2 * 36 * 10
    assert work(rows["training"], 5, "training", "float32") == (0, 5 * step)
    floors = bench.gpu_rows.Floors(100.0, {"float32": 10.0})
    assert bench.gpu_rows.Work(200, 10).seconds(floors, "float32") == 2.0
    assert bench.gpu_rows.Work(100, 40).seconds(floors, "float32") == 4.0
    assert bench.gpu_rows.copies(rows["relu"], bench.gpu_rows.Work(100, 0), 1000) == 30


def test_classes(bench):
    found = {name: bench.gpu_rows.kind(row) for name, row in bench.tiny.items()}
    assert found == {
        "conv": "conv 3x3", "depthwise": "depthwise", "max": "pooling", "average": "pooling",
        "norm": "elementwise", "relu": "elementwise", "columns": "columns", "training": "training",
    }  # fmt: skip
    assert {bench.gpu_rows.kind(row) for row in bench.gpu_rows.ROWS} == {
        *found.values(), "conv 1x1", "conv 5x5, 7x7"
    }  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("resnet50", 25_557_032), ("vgg16", 138_357_544)])
def test_networks_have_the_parameters_of_their_papers(bench, name, count):
    planned, out_shape = getattr(bench.networks, name)().plan((3, 224, 224))
    weights, _ = tree.partition(planned)
    assert sum(math.prod(one.shape) for one in tree.leaves(weights)) == count
    assert out_shape == (1000,)


@pytest.fixture
def cuda(bench, monkeypatch):
    """The real `Cuda` on stand-ins of CuPy and torch.cuda that write down what they are asked."""
    log, torch = [], bench.torch
    note = log.append

    class Stream:
        ptr = 7

        def __init__(self, non_blocking):
            note(f"stream {non_blocking}")

        def __enter__(self):
            note("enter")

        def __exit__(self, *error):
            note("leave")

        def synchronize(self):
            note("synchronize")

        def begin_capture(self):
            note("begin")

        def end_capture(self):
            note("end")
            return SimpleNamespace(launch=lambda stream: note("launch"))

    class Graph:
        def capture_begin(self, capture_error_mode):
            note(f"begin {capture_error_mode}")

        def capture_end(self):
            note("end")

        def replay(self):
            note("launch")

    class Event:
        def record(self, stream):
            note("record")

        def synchronize(self):
            note("wait")

    properties = {"l2CacheSize": 5, "name": b"GPU", "totalGlobalMem": 6}
    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: properties,
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
    )
    of_cuda = SimpleNamespace(
        Stream=Stream, Event=Event, runtime=runtime,
        MemoryPool=lambda: SimpleNamespace(malloc="the graph's pool"),
        using_allocator=lambda malloc: note(malloc) or nullcontext(),
        get_elapsed_time=lambda start, end: 12.0,
    )  # fmt: skip
    pool = SimpleNamespace(free_all_blocks=lambda: note("free ours"))
    fake = SimpleNamespace(
        cuda=of_cuda, __version__="14", get_default_memory_pool=lambda: pool,
        from_dlpack=lambda tensor: tensor.numpy(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(xpcnn, "device", lambda spec: note(spec))
    for name, stand_in in {
        "ExternalStream": lambda pointer: ("external", pointer),
        "stream": lambda stream: note(stream) or nullcontext(),
        "_sleep": lambda cycles: note("sleep"),
        "CUDAGraph": Graph,
        "empty_cache": lambda: note("free theirs"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setenv("CUPY_TF32", "1")
    device = bench.gpu_device.Cuda()
    return SimpleNamespace(device=device, log=log)


def test_both_libraries_share_a_stream(cuda):
    assert cuda.log == ["cuda", "stream True"] and os.environ["CUPY_TF32"] == "0"
    with cuda.device.scope():
        assert cuda.log[2:] == ["enter", ("external", 7)]
    assert cuda.log[-1] == "leave" and cuda.device.cache == 5


@pytest.mark.parametrize(
    ("whose", "pool", "begin"),
    [("ours", ["the graph's pool"], "begin"), ("theirs", [], "begin relaxed")],
)
def test_a_capture_is_warmed_up_and_kept(cuda, whose, pool, begin):
    calls = [lambda: cuda.log.append("a") or 1, lambda: cuda.log.append("b") or 2]
    del cuda.log[:]
    recording = getattr(cuda.device, f"capture_{whose}")(calls)
    assert cuda.log == [*pool, "a", "b", "synchronize", begin, "a", "b", "end"]
    assert recording.results == [1, 2] and recording.kept
    recording.launch()
    assert cuda.log[-1] == "launch"


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_capture_that_fails_is_ended(cuda, whose):
    def refuse():
        if cuda.log[-1].startswith("begin"):
            raise NotImplementedError("cuBLAS")

    with pytest.raises(NotImplementedError, match="cuBLAS"):
        getattr(cuda.device, f"capture_{whose}")([refuse])
    assert cuda.log[-1] == "end"


def test_a_sample_has_a_head_start_and_is_the_mean(cuda):
    del cuda.log[:]
    seconds = cuda.device.seconds(lambda: cuda.log.append("launch"), 3, 0.001)
    assert cuda.log == ["sleep", "record", *["launch"] * 3, "record", "wait"]
    assert seconds == pytest.approx(0.004)


def test_the_gpu_is_described(cuda, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    told = cuda.device.describe()
    assert (told["name"], told["memory"], told["driver"]) == ("GPU", 6, None)
    assert json.dumps(told)
    cuda.device.free()
    assert cuda.log[-2:] == ["free ours", "free theirs"]


PYTHON = """#!/bin/sh
case "$*" in
    *"import xdist"*) exit 1 ;;
    *array_api_compat*) echo needed; exit {needed} ;;
    *"-m pytest"*) echo "tests: $XPCNN_TEST_BACKENDS"; exit {tests} ;;
    *gpu.py*) echo "benchmark: $*"; exit 0 ;;
esac
"""


@pytest.fixture
def on_gpu(tmp_path):
    """Run on_gpu.sh with stand-ins for all programs: (exit status, what it printed)."""
    bash = shutil.which("bash")
    if bash is None or shutil.which("timeout") is None:
        pytest.skip("no bash, or no timeout, to run on_gpu.sh by")

    def run(sanitizer, **codes):
        programs = {"python": PYTHON.format(**codes), "nvidia-smi": "#!/bin/sh\necho GPU\n"}
        if sanitizer is not None:
            programs["compute-sanitizer"] = f"#!/bin/sh\necho sanitized $2\nexit {sanitizer}\n"
        for name, text in programs.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        for name in ("bash", "dirname", "env", "mkdir", "mktemp", "sh", "timeout"):
            if not (tmp_path / name).exists():  # and nothing else that this machine has
                (tmp_path / name).symlink_to(shutil.which(name))
        environment = {
            "PATH": str(tmp_path),
            "PYTHON": str(tmp_path / "python"),
            "OUT": str(tmp_path / "out"),
        }
        done = subprocess.run(
            [bash, str(BENCHMARKS / "on_gpu.sh")], env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout

    return run


def test_on_gpu_runs_all_parts(torch, on_gpu, tmp_path):
    status, told = on_gpu(sanitizer=0, needed=0, tests=0)
    assert status == 0 and told.count("passed") == 6 and "tests: cupy" in told
    assert "sanitized memcheck" in told and "sanitized racecheck" in told
    assert f"--json {tmp_path}/out/gpu.json" in told and (tmp_path / "out").is_dir()


def test_on_gpu_goes_on_after_a_failure_and_tells(torch, on_gpu):
    status, told = on_gpu(sanitizer=None, needed=1, tests=2)
    assert status == 1 and "benchmark:" in told and told.count("passed") == 2
    assert "FAILED    what is needed (exit status 1)" in told
    assert "FAILED    the tests on CuPy (exit status 2)" in told
    assert "left out  compute-sanitizer" in told
