"""The harness that runs CUDA kernels on the CPU: is it right, and does it catch what it should?

Small kernels of this file's own are run as they are, and with a fault planted in them.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import Launch, Runner, changed, sanitized
from numpy.testing import assert_allclose, assert_array_equal

BLOCK_SUM = """
// y[b] = sum of x[b], of n numbers; n threads, a power of two, with 4 * n bytes of shared memory.
__global__ void block_sum(const float* __restrict__ x, float* y, int n) {
    extern __shared__ float part[];
    const int own = threadIdx.x;
    part[own] = x[blockIdx.x * n + own];
    __syncthreads();
    for (int half = n / 2; half > 0; half /= 2) {
        if (own < half) part[own] += part[own + half];
        __syncthreads();
    }
    if (own == 0) y[blockIdx.x] = part[0];
}
"""

WARP_SUM = """
__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
    for (int by = warpSize / 2; by > 0; by /= 2) value += __shfl_down_sync(0xffffffff, value, by);
    return value;
}

// y[b] = sum of x[b], of n numbers; n threads, a multiple of 32.
template <typename T>
__global__ void __launch_bounds__(1024) warp_sum(const T* x, T* y, int n) {
    __shared__ T part[32];
    const int own = threadIdx.x, lane = own % 32;
    T sum = sum_of_warp(x[blockIdx.x * n + own]);
    if (lane == 0) part[own / 32] = sum;
    __syncthreads();
    if (own >= 32) return;
    sum = sum_of_warp(lane < n / 32 ? part[lane] : 0);
    if (lane == 0) y[blockIdx.x] = sum;
}
"""

ARITHMETIC = """
// y[i] = (x[i] * factor << shift) / divisor, by one thread each.
__global__ void arithmetic(const int* x, int* y, int factor, int shift, int divisor) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    int table[4] = {};
    table[i % 4] = x[i] * factor << shift;
    y[i] = table[i % 4] / divisor;
}
"""

COLLECTIVES = """
// What lanes of a warp tell each other. out (8, 32)
__global__ void collectives(const long long* x, long long* out) {
    const int lane = threadIdx.x;
    out[lane] = __shfl_sync(~0u, x[lane], 5);
    out[32 + lane] = __shfl_sync(~0u, x[lane], lane + 1, 8);
    out[64 + lane] = __shfl_up_sync(~0u, x[lane], 3);
    out[96 + lane] = __shfl_down_sync(~0u, x[lane], 3, 16);
    out[128 + lane] = __shfl_xor_sync(~0u, x[lane], 6);
    out[160 + lane] = __ballot_sync(~0u, lane % 3 == 0);
    const unsigned half = lane < 16 ? 0xffff : 0xffff0000;  // each half of the warp on its own
    if (lane < 16) __syncwarp(half);
    out[192 + lane] = __any_sync(half, lane == 3);
    out[224 + lane] = __all_sync(half, lane < 16);
}
"""

ORDER = """
// Who came when: order[0] counts, and the rest are threads, numbered through the grid.
__global__ void note_order(int* order) {
    order[++order[0]] = blockIdx.x * blockDim.x + threadIdx.x;
}
"""

VALUES = """
struct Pair {
    int a;
    double b;
};

template <typename T, int LANES>
struct alignas(LANES * sizeof(T)) Pack {
    T lanes[LANES];
};

struct half {
    unsigned short bits;
};

__global__ void values(const Pack<float, 4>* x, Pack<half, 2>* y, const unsigned short* words,
                       double scale, const Pair pair) {
    y[0].lanes[1].bits = (unsigned short)(x[0].lanes[3] * scale + pair.a * pair.b + words[0]);
}
"""

SOURCES = {
    "block_sum.cu": BLOCK_SUM,
    "warp_sum.cu": WARP_SUM,
    "arithmetic.cu": ARITHMETIC,
    "collectives.cu": COLLECTIVES,
    "note_order.cu": ORDER,
    "values.cu": VALUES,
}
INSTANCES = {"block_sum": "block_sum", "warp_sum": "warp_sum<float>"}


@pytest.fixture(scope="module")
def runner():
    return Runner(sources=SOURCES)


def faulty(name, old, new):
    """A runner of one of this file's kernels with a fault in it."""
    return Runner(sources={f"{name}.cu": changed(SOURCES[f"{name}.cu"], old, new)})


def sums(runner, kernel, blocks=3, threads=128):
    """What a kernel finds to be the sums of blocks, and what they are."""
    x = np.arange(blocks * threads, dtype=np.float32).reshape(blocks, threads) % 13
    y = np.zeros(blocks, np.float32)
    shared = 4 * threads if kernel == "block_sum" else 0
    arguments = (x, y, np.int32(threads))
    runner.launch(Launch(kernel, (blocks, 1, 1), (threads, 1, 1), shared, arguments))
    return y, x.sum(axis=1)


def calculate(runner, x, factor=1, shift=0, divisor=1):
    x = np.array(x, np.int32)
    y, numbers = np.zeros_like(x), map(np.int32, (factor, shift, divisor))
    runner.launch(Launch("arithmetic", (1, 1, 1), (len(x), 1, 1), 0, (x, y, *numbers)))
    return y


# ---------------------------------------------------------------- it is right


@pytest.mark.parametrize("threads", [32, 64, 256, 1024])
@pytest.mark.parametrize("kernel", ["block_sum", "warp_sum<float>"])
def test_sums_by_threads_that_wait_for_each_other(runner, kernel, threads):
    for blocks in (1, 2, 7):
        assert_array_equal(*sums(runner, kernel, blocks, threads))


def test_fibres_without_assembly():
    runner = Runner(sources=SOURCES, options=("-DUCONTEXT",))
    assert_array_equal(*sums(runner, "block_sum"))


def test_what_lanes_tell_each_other(runner):
    x, lane = np.arange(32) * 10**10, np.arange(32)
    out = np.zeros((8, 32), np.int64)
    runner.launch(Launch("collectives", (1, 1, 1), (32, 1, 1), 0, (x, out)))
    down = np.where(lane % 16 + 3 < 16, lane + 3, lane)
    sources = (0 * lane + 5, lane // 8 * 8 + (lane + 1) % 8, np.where(lane < 3, lane, lane - 3))
    assert_array_equal(out[:5], x[np.stack([*sources, down, lane ^ 6])])
    assert (out[5] == sum(1 << n for n in range(0, 32, 3))).all()
    assert_array_equal(out[6:], [lane < 16] * 2)


def test_every_launch_runs_in_an_order_of_its_own(runner):
    def order(blocks=None):
        order = np.zeros(1 + 8 * 16, np.int32)
        runner.launch(Launch("note_order", (8, 1, 1), (16, 1, 1), 0, (order,)), blocks)
        return order[1 : 1 + order[0]]

    orders = [order() for _ in range(12)]
    for kind in (lambda order: order, lambda order: order[::16] // 16):  # threads; blocks
        found = {tuple(kind(order)) for order in orders}
        assert len(found) > 2 and any(one != tuple(sorted(one)) for one in found)
    assert_array_equal(np.sort(orders[0]), np.arange(128))
    assert_array_equal(np.sort(order(range(3, 5))), np.arange(48, 80))


def test_a_view_is_passed_by_its_first_element(runner):
    x, y = np.arange(6, dtype=np.int32), np.zeros(6, np.int32)
    ones = (np.int32(1), np.int32(0), np.int32(1))
    runner.launch(Launch("arithmetic", (1, 1, 1), (2, 1, 1), 0, (x[3:], y[::-1][4:], *ones)))
    assert_array_equal(y, [0, 3, 4, 0, 0, 0])


def test_a_library_is_built_once(monkeypatch):
    cuda_on_cpu.compiler()
    arguments = ("note_order.cu", ORDER, ("note_order",), False)
    library = cuda_on_cpu.build(*arguments)
    monkeypatch.setattr("cuda_on_cpu._build._compile", None)
    assert cuda_on_cpu.build(*arguments) == library


def test_of_two_that_want_a_library_one_builds_it(monkeypatch, tmp_path):
    cuda_on_cpu.compiler()
    compiled, compile_it = [], cuda_on_cpu._build._compile

    def count(*arguments):
        compiled.append(arguments)
        compile_it(*arguments)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("cuda_on_cpu._build._compile", count)
    arguments = ("note_order.cu", ORDER, ("note_order",), False)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cuda_on_cpu.build(*arguments), range(2))
    assert first == second
    assert len(compiled) == 1


def test_without_a_compiler_tests_skip_and_say_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=r"no g\+\+"):
        cuda_on_cpu.compiler.__wrapped__()


def test_a_source_that_does_not_compile_is_told_by_its_own_lines():
    with pytest.raises(RuntimeError, match=r"f\.cu:2:.* error: .*nothing"):
        Runner(sources={"f.cu": "__global__ void f() {\nnothing(); }"}).signature("f")


def test_a_folder_where_others_write_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cuda_on_cpu._build._folder()
    folder.chmod(0o777)
    with pytest.raises(RuntimeError, match="others may write there"):
        cuda_on_cpu._build._folder()


# ---------------------------------------------------------------- faults that show in the result


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("block_sum", "+ half];\n        __syncthreads();", "+ half];"),
        ("block_sum", "+ own];\n    __syncthreads();", "+ own];"),
        ("warp_sum", "= sum;\n    __syncthreads();", "= sum;"),
        ("block_sum", "half > 0", "half > 1"),
        ("block_sum", "own < half", "own < half - 1"),
        ("warp_sum", "by > 0", "by > 1"),
    ],
)
def test_missing_barriers_and_steps_too_few_change_the_sum(kernel, old, new):
    runner = faulty(kernel, old, new)
    results = [sums(runner, INSTANCES[kernel]) for _ in range(10)]
    assert any(not np.array_equal(y, expected) for y, expected in results)


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("block_sum", "part[own] = x", "if (own) part[own] = x"),
        ("warp_sum", "lane < n / 32 ? part[lane] : 0", "part[lane]"),
    ],
)
def test_unset_shared_memory_makes_nan_in_every_block(kernel, old, new):
    y, _ = sums(faulty(kernel, old, new), INSTANCES[kernel])
    assert np.isnan(y).all()


def test_unset_shared_memory_is_nan_or_vast():
    source = """
    template <typename T> __device__ void read_one(T* to) {
        extern __shared__ T dynamic[];
        __shared__ T fixed[2];
        to[0] = dynamic[0];
        to[1] = fixed[1];
    }
    __global__ void read_all(unsigned short* halves, float* floats, double* doubles, short* shorts,
                             int* ints, long long* longs) {
        read_one(halves), read_one(floats), read_one(doubles);
        read_one(shorts), read_one(ints), read_one(longs);
    }"""
    arrays = [np.zeros(2, dtype) for dtype in ("f2", "f4", "f8", "i2", "i4", "i8")]
    launch = Launch("read_all", (1, 1, 1), (1, 1, 1), 8, tuple(arrays))
    Runner(sources={"read_all.cu": source}).launch(launch)
    assert np.isnan(arrays[:3]).all()
    assert all((ints > np.iinfo(ints.dtype).max * 0.99).all() for ints in arrays[3:])


# ---------------------------------------------------------------- faults that end the launch


def test_a_barrier_in_divergent_code():
    runner = faulty("block_sum", "part[own + half];\n        __syncthreads();",
                    "part[own + half], __syncthreads();")  # fmt: skip
    with pytest.raises(RuntimeError, match="not all reach: of 128 threads 64 wait here") as caught:
        sums(runner, "block_sum")
    assert "block_sum: " in str(caught.value)
    assert "in block (" in str(caught.value)
    assert "if (own < half) part[own]" in str(caught.value)


def test_a_thread_that_leaves_before_a_barrier():
    runner = faulty("block_sum", "    __syncthreads();\n    for", "    if (own == 7) return;\n"
                    "    __syncthreads();\n    for")  # fmt: skip
    with pytest.raises(RuntimeError, match="of 64 threads 63 wait here, 0 elsewhere, 1 have fin"):
        sums(runner, "block_sum", threads=64)


def test_threads_at_different_barriers():
    runner = faulty("block_sum", "        __syncthreads();\n    }",
                    "if (own % 2) __syncthreads();\nelse __syncthreads();\n}")  # fmt: skip
    with pytest.raises(RuntimeError, match="wait at different barriers"):
        sums(runner, "block_sum")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sum = sum_of_warp(lane", "if (lane) sum = sum_of_warp(lane", "31 wait here, 0 elsewhere"),
        ("0xffffffff, value", "by < 8 ? 0xf0f0f0f0 : ~0u, value", "its own lane is not in mask"),
        ("__shfl_down_sync(0xffffffff, value, by)", "__shfl_xor_sync(1 << threadIdx.x % 32, value, "
         "by)", "takes the value of lane .*, which gives none"),
        ("0xffffffff, value", "by < 8 && threadIdx.x % 2 ? 0xfffffffe : ~0u, value",
         "meet with different masks|not all reach"),
    ],
)  # fmt: skip
def test_shuffles_that_not_all_lanes_join(old, new, message):
    with pytest.raises(RuntimeError, match=message):
        sums(faulty("warp_sum", old, new), "warp_sum<float>")


def test_a_shuffle_beyond_the_end_of_the_block(runner):
    with pytest.raises(RuntimeError, match="takes the value of lane 16, which gives none"):
        sums(runner, "warp_sum<float>", threads=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 2**30}, "a signed product overflows"),
        ({"factor": -1, "divisor": -1, "shift": 40}, "a shift that C"),
        ({"divisor": 0}, "a division by zero"),
    ],
)
def test_undefined_arithmetic(runner, options, message):
    assert_array_equal(calculate(runner, [4, 6], 3, 1, 2), [12, 18])
    with pytest.raises(RuntimeError, match=rf"arithmetic: .*{message}.*, thread .*, line \d: "):
        calculate(runner, [0, 3] if "factor" in options else [0, 1], **options)


def test_an_index_outside_its_array():
    runner = faulty("arithmetic", "table[i % 4] = x", "table[i] = x")
    assert_array_equal(calculate(runner, [1, 2, 3, 4]), [1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="an index outside its array"):
        calculate(runner, [1, 2, 3, 4, 5])


def test_an_index_outside_static_shared_memory():
    with pytest.raises(RuntimeError, match=r"an index outside its array.*part"):
        sums(faulty("warp_sum", "part[own / 32] =", "part[own / 32 + 29] ="), "warp_sum<float>")


def test_an_address_where_nothing_is():
    runner = faulty("block_sum", "x[blockIdx.x * n + own]", "x[own - (1ll << 40)]")
    for _ in range(3):
        with pytest.raises(
            RuntimeError, match=r"memory that is not there, .*, thread \(\d+, 0, 0\)"
        ):
            sums(runner, "block_sum")


def test_writing_past_dynamic_shared_memory():
    runner = faulty("block_sum", "if (own == 0) y", "part[own + 1] = 0;\n    if (own == 0) y")
    with pytest.raises(RuntimeError, match="past the end of dynamic shared memory, in block"):
        sums(runner, "block_sum")


def test_after_a_fault_the_next_launch_is_sound(runner):
    for _ in range(3):
        with pytest.raises(RuntimeError, match="gives none"):
            sums(runner, "warp_sum<float>", threads=16)
        assert_array_equal(*sums(runner, "warp_sum<float>"))


# ---------------------------------------------------------------- outside of arrays

SANITIZED = """
import os, sys
import numpy as np
import test_cuda_on_cpu as t
from cuda_on_cpu import Runner, changed

def run(kernel, *fault):
    text = t.SOURCES[kernel + ".cu"]
    runner = Runner(sources={kernel + ".cu": changed(text, *fault) if fault else text})
    for _ in range(3):
        y, expected = t.sums(runner, t.INSTANCES[kernel])
    assert np.array_equal(y, expected)

for number, (kernel, *fault) in enumerate(t.SANITIZED_KERNELS):
    if os.fork() == 0:
        os.dup2(os.open(f"{sys.argv[1]}/{number}", os.O_WRONLY | os.O_CREAT), 2)
        run(kernel, *fault)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
SANITIZED_KERNELS = (
    ("block_sum",),
    ("warp_sum",),
    ("block_sum", "y[blockIdx.x] =", "y[blockIdx.x + 1] ="),
    ("block_sum", "x[blockIdx.x * n + own]", "(x - 1)[blockIdx.x * n + own]"),
    ("block_sum", "part[own + half]", "part[own + half + 1]"),
)


def test_what_lies_outside_of_arrays_is_found_by_the_address_sanitizer(tmp_path):
    """In one process for all, which forks for each, since what is found ends a process."""
    done = sanitized("-W", "ignore", "-c", SANITIZED, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    codes = [int(code) for code in done.stdout.split()]
    for number, (kernel, *fault) in enumerate(SANITIZED_KERNELS):
        told = (tmp_path / str(number)).read_text()
        assert (codes[number] != 0) == bool(fault)
        assert not fault or ("heap-buffer-overflow" in told and f"{kernel}.cu:" in told)
        assert fault or not told


def test_the_address_sanitizer_is_not_loaded_into_a_running_process():
    cuda_on_cpu.compiler()
    with pytest.raises(RuntimeError, match="in a process by sanitized"):
        Runner(sanitize=True)


# ---------------------------------------------------------------- arguments

PAIR = np.dtype([("a", np.int32), ("b", np.float64)], align=True)


def values(**other):
    """Arguments that the kernel takes, but for those given."""
    right = {
        "x": np.arange(4, dtype=np.float32),
        "y": np.zeros(2, np.float16),
        "words": np.ones(1, np.float16),
        "scale": np.float64(2),
        "pair": np.array([(3, 4.0)], PAIR),
    }
    return Launch("values", (1, 1, 1), (1, 1, 1), 0, (*(right | other).values(),))


def test_arguments_as_the_kernel_takes_them(runner):
    assert runner.signature("values") == (
        "const Pack<float, 4>*, Pack<half, 2>*, const short unsigned int*, double, Pair"
    )
    for word in (np.int16(5), np.uint16(5), np.float16(5).view(np.float16)):
        launch = values(words=np.array([word]))
        runner.launch(launch)
        bits = 3 * 2 + 3 * 4 + launch.arguments[2].view(np.uint16)[0]
        assert_allclose(launch.arguments[1].view(np.uint16), [0, bits])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": np.zeros(4)}, "argument 1 of 5 is an array of float64; .* const Pack<float, 4>*"),
        ({"x": np.float32(1)}, "argument 1 of 5 is a float32; .* takes const Pack"),
        ({"y": np.zeros(4, np.uint16)}, "argument 2 of 5 is an array of uint16; .* takes Pack"),
        ({"y": np.broadcast_to(np.float16(0), 2)}, "argument 2 of 5 is a read-only array of"),
        ({"words": np.zeros(4, np.int32)}, "argument 3 of 5 is an array of int32; .* takes const"),
        ({"scale": np.float32(1)}, "argument 4 of 5 is a float32; the kernel takes double"),
        ({"scale": np.int64(1)}, "argument 4 of 5 is a int64; the kernel takes double"),
        ({"scale": np.ones(1)}, "argument 4 of 5 is an array of float64; the kernel takes double"),
        ({"scale": 1.0}, "argument 4 of 5 is Python's float .* the kernel takes double"),
        ({"scale": 1}, "argument 4 of 5 is Python's int"),
        ({"pair": np.zeros(1, "i4,f8")}, "a structure of 12 bytes; .* takes Pair of 16 bytes"),
        ({"pair": np.zeros(2, PAIR)}, "argument 5 of 5 is an array of "),
        ({"pair": np.float64(2)}, "argument 5 of 5 is a float64; the kernel takes Pair"),
        ({"more": np.int32(1)}, "values takes 5 arguments; given 6"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_what_the_kernel_takes(runner, other, message):
    with pytest.raises(TypeError, match=message.replace("*", r"\*").replace(r".\*", ".*")):
        runner.launch(values(**other))


def test_bfloat16_arrays(runner):
    source = """struct bfloat16 { unsigned short bits; };
    __global__ void one(bfloat16* x) { x[0].bits = 0x3f80; }"""
    runner = Runner(sources={"one.cu": source})
    x = np.zeros(1, np.uint16)
    runner.launch(Launch("one", (1, 1, 1), (1, 1, 1), 0, (x,)))
    assert x == 0x3F80
    with pytest.raises(TypeError, match=r"an array of float16; the kernel takes bfloat16\*"):
        runner.launch(Launch("one", (1, 1, 1), (1, 1, 1), 0, (x.view(np.float16),)))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    runner.launch(Launch("one", (1, 1, 1), (1, 1, 1), 0, (x.view(ml_dtypes.bfloat16),)))


def test_a_misaligned_pack(runner):
    x = np.zeros(9, np.float32)
    x = x[1:] if x.ctypes.data % 16 == 0 else x
    with pytest.raises(RuntimeError, match="values: a misaligned address"):
        runner.launch(values(x=x))


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        ((0, 1, 1), (1, 1, 1), 0, r"grid \(0, 1, 1\) must be"),
        ((2**31, 1, 1), (1, 1, 1), 0, "grid .* must be"),
        ((1, 65536, 1), (1, 1, 1), 0, "grid .* must be"),
        ((1, 1, 65536), (1, 1, 1), 0, "grid .* must be"),
        ((1, 1), (1, 1, 1), 0, "grid .* must be"),
        ((1, 1, 1), (1025, 1, 1), 0, "block .* must be"),
        ((1, 1, 1), (1, 1, 65), 0, "block .* must be"),
        ((1, 1, 1), (32, 33, 1), 0, "block .* more than 1024 threads"),
        ((1, 1, 1), (1, 1, 1), 49153, "49153 bytes of shared memory, of 49152"),
    ],
)
def test_sizes_that_cuda_refuses(runner, grid, block, shared, message):
    order = np.zeros(2000, np.int32)
    with pytest.raises(ValueError, match=f"note_order: {message}"):
        runner.launch(Launch("note_order", grid, block, shared, (order,)))
    assert order[0] == 0


def test_more_shared_memory_is_to_be_asked_for():
    runner, order = Runner(sources=SOURCES, shared_limit=2**20), np.zeros(3, np.int32)
    runner.launch(Launch("note_order", (1, 1, 1), (2, 1, 1), 227 * 1024, (order,)))
    assert order[0] == 2
    with pytest.raises(ValueError, match="there may be 232448"):
        runner.launch(Launch("note_order", (1, 1, 1), (2, 1, 1), 227 * 1024 + 1, (order,)))


def test_blocks_that_the_grid_lacks(runner):
    for blocks in (range(0), range(1, 3), range(-1, 1), range(0, 2, 2)):
        with pytest.raises(ValueError, match="note_order: no range"):
            runner.launch(
                Launch("note_order", (2, 1, 1), (1, 1, 1), 0, (np.zeros(9, np.int32),)), blocks
            )


# ---------------------------------------------------------------- planting


def test_a_fault_is_planted_in_one_place_alone():
    assert changed("a b a", "b", "c") == "a c a"
    for old in ("a", "d"):
        with pytest.raises(AssertionError, match=r"occurs [02] times"):
            changed("a b a", old, "c")
    assert "at.w * w + at.w" in cuda_on_cpu.planted("im2col.cu", "at.w * w", "at.w * w + at.w")


def test_a_kernel_that_nobody_has(runner):
    with pytest.raises(KeyError, match="unheard_of: neither the table nor"):
        runner.signature("unheard_of")
