#!/usr/bin/env bash
# All that only a machine with a GPU can tell, in under ten minutes and without a network:
#
#     bash benchmarks/on_gpu.sh                      # leaves benchmarks/results/gpu.json
#     OUT=found PYTHON=python3.12 bash benchmarks/on_gpu.sh
#
# Needs CuPy, PyTorch, pytest and hypothesis, and what xpcnn needs; xpcnn itself need not be
# installed. A part that fails does not keep the next from running: the end tells which did.
set -euo pipefail

OUT=${OUT:+$(mkdir -p "$OUT" && cd "$OUT" && pwd)}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-benchmarks/results}
export CUPY_CACHE_DIR=${CUPY_CACHE_DIR:-$(mktemp -d)}  # the home may not be writable
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$OUT"

needed=(numpy array_api_compat safetensors typer rich cupy torch pytest hypothesis)
found=()
status=0

# part TITLE SECONDS COMMAND...: run it for so long at most, and note how it went
part() {
    local title=$1 seconds=$2 code=0
    shift 2
    printf '\n== %s, %s s at most\n' "$title" "$seconds"
    # an interrupt, so that Python ends in its own way; what does not heed it is killed
    timeout --signal=INT --kill-after=10 "$seconds" "$@" || code=$?
    case $code in
        0) found+=("passed    $title") ;;
        124 | 137) found+=("too slow  $title") ;;
        *) found+=("FAILED    $title (exit status $code)") ;;
    esac
    ((code == 0)) || status=1
}

# tests: without plugins that nobody here needs, for one that warns would fail them
tests() {
    local workers=()
    "$PYTHON" -c 'import xdist' 2>/dev/null && workers=(-p xdist -n 8 --dist worksteal)
    part "the tests on CuPy" 160 env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 XPCNN_TEST_BACKENDS=cupy \
        OMP_NUM_THREADS=1 "$PYTHON" -m pytest -q -p no:cacheprovider "${workers[@]}"
}

# sanitized TOOL: a few tests under it, each array an allocation of its own, so that no write
# beyond an array's end goes unseen
sanitized() {
    part "compute-sanitizer, $1" 35 env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
        XPCNN_TEST_BACKENDS=cupy OMP_NUM_THREADS=1 \
        compute-sanitizer --tool "$1" --error-exitcode 3 "$PYTHON" -c '
import sys, cupy, pytest
cupy.cuda.set_allocator(None)
sys.exit(pytest.main(sys.argv[1:]))' \
        -q -p no:cacheprovider tests/test_conv.py tests/test_pooling.py \
        -k "first_maximum or nan_reaches or nhwc or half_precision or wrt_leaves"
}

part "the GPU" 10 nvidia-smi
part "what is needed" 30 "$PYTHON" -c '
import importlib, sys
missing = []
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        print(name, getattr(module, "__version__", ""))
    except ImportError as error:
        missing.append(f"{name} ({error})")
if missing:
    sys.exit("missing: " + ", ".join(missing))
import cupy, torch
cupy.cuda.runtime.getDeviceCount()  # raises where there is none, and every test would skip
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU")' "${needed[@]}"
tests
if command -v compute-sanitizer >/dev/null; then
    sanitized memcheck
    sanitized racecheck
else
    found+=("left out  compute-sanitizer, which is not on PATH")
fi
part "the benchmark" 300 "$PYTHON" benchmarks/gpu.py --minutes 4.2 --table --json "$OUT/gpu.json"

printf '\n'
printf '%s\n' "${found[@]}"
exit $status
