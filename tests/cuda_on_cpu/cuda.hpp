// CUDA C++ as C++17, so that g++ compiles a kernel's source as it stands and a CPU runs it.
//
// The threads of a block are fibres: one runs until it comes to a barrier, then another, drawn at
// random among those that can go on. A kernel without barriers never switches, and is a plain loop.
// Blocks come one after the other, in an order of their own. Shared memory is filled before each
// block with what is NaN as a floating number and vast as an integer.
//
// A fault (a barrier that not all threads reach, undefined behaviour that the compiler's sanitizer
// sees, an address without memory) ends the launch there and then, and is reported to the caller.
//
// Dynamic shared memory is declared within a function, `extern __shared__ TYPE name[];`. That one
// line is rewritten by the builder, since C++ has no word that could be defined to mean it.
//
// Static shared memory is thread_local, since such memory can be found and filled.
#pragma once

#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) || defined(UCONTEXT)
#include <ucontext.h>
#endif

#include <utility>

// ---------------------------------------------------------------- indices

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_cpu {

using Word = unsigned long long;

constexpr unsigned THREADS = 1024, LANES = 32;
constexpr int NO_THREAD = -1;
constexpr size_t STACK = 64 << 10, PAGE = 64 << 10, GUARD = 64;

// ---------------------------------------------------------------- fibres

#if defined(__x86_64__) && !defined(UCONTEXT)

struct Registers {
    void** top;
};

// Saves what a function must preserve on this stack, and takes it from the other.
__attribute__((naked, noipa)) static void switch_registers(Registers*, const Registers*) {
    asm("pushq %rbp\n\t"
        "pushq %rbx\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq (%rsi), %rsp\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbx\n\t"
        "popq %rbp\n\t"
        "ret");
}

static void prepare(Registers& registers, char* stack, void (*start)()) {
    registers.top = (void**)(stack + STACK) - 8;  // six registers, where to start, whence: nowhere
    memset(registers.top, 0, 8 * sizeof(void*));
    registers.top[6] = (void*)start;
}

#else

using Registers = ucontext_t;

static void switch_registers(Registers* from, const Registers* to) { swapcontext(from, to); }

static void prepare(Registers& registers, char* stack, void (*start)()) {
    getcontext(&registers);
    registers.uc_stack.ss_sp = stack;
    registers.uc_stack.ss_size = STACK;
    makecontext(&registers, start, 0);
}

#endif

struct Fibre {
    Registers registers;
    char* stack;
    const void* bottom;  // these three for the address sanitizer, which must know every stack
    size_t size;
    void* fake;
};

static Fibre home, fibres[THREADS];  // home is the caller's own stack
static Fibre *running = &home, *previous;

static void arrive() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(running->fake, &previous->bottom, &previous->size);
#endif
}

static void switch_to(Fibre* next) {
    if (next == running) return;
    previous = running;
    running = next;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&previous->fake, next->bottom, next->size);
#endif
    switch_registers(&previous->registers, &next->registers);
    arrive();
}

static void* pages(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? abort(), memory : memory;
}

// Starts a fibre anew, on the stack that it had; the page below every stack may not be touched.
static Fibre* restart(Fibre* fibre, void (*start)()) {
    if (!fibre->stack) {
        char* memory = (char*)pages(PAGE + STACK);
        mprotect(memory, PAGE, PROT_NONE);
        fibre->stack = memory + PAGE;
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fibre->stack, STACK);
#endif
    fibre->bottom = fibre->stack;
    fibre->size = STACK;
    fibre->fake = nullptr;
    prepare(fibre->registers, fibre->stack, start);
    return fibre;
}

// ---------------------------------------------------------------- a launch

struct Size {
    Word grid[3], block[3], shared_bytes;
    Word first, blocks;  // which blocks of the grid to run, counted x first
};

struct Fault {
    int line;  // 0: not known; NO_THREAD: the fault is the block's
    unsigned block[3], thread[3];
    char what[160];
};

enum State : unsigned char { ABLE, AT_BLOCK_BARRIER, AT_WARP_BARRIER, FINISHED };

struct Thread {
    State state;
    unsigned line, mask;  // of the barrier where it waits
    unsigned from, votes;  // a shuffle: whose value it takes
    Word given, taken;
    Fibre* fibre;  // none before it starts
    uint3 index;
};

static Thread threads[THREADS], *able[THREADS], *current;
static unsigned count, ables, finished, at_block_barrier;
static unsigned at_warp_barrier[THREADS / LANES];  // lanes as bits
static Fibre* spare[THREADS];
static unsigned spares, started;

static void (*kernel)(void**);
static void** arguments;
static Size size;
static Fault* fault;
static char* dynamic;
static Word chance, block, block_step, blocks_left;

static Word below(Word limit) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (unsigned __int128)chance * limit >> 64;
}

static uint3 index(Word number, Word x, Word y) {
    return {unsigned(number % x), unsigned(number / x % y), unsigned(number / x / y)};
}

[[noreturn]] static void leave() {
    switch_to(&home);
    __builtin_unreachable();
}

template <typename... Numbers>
[[noreturn]] void stop(const Thread* thread, int line, const char* what, Numbers... numbers) {
    if (!thread) abort();
    *fault = {line, {blockIdx.x, blockIdx.y, blockIdx.z}, {}, {}};
    memcpy(fault->thread, &thread->index, sizeof fault->thread);
    snprintf(fault->what, sizeof fault->what, what, numbers...);
    leave();
}

// ---------------------------------------------------------------- shared memory

static void fill(void* memory, size_t bytes) {
    const unsigned char pattern[2] = {0xf5, 0x7f};  // NaN as two, four or eight bytes
    for (size_t i = 0; i < bytes; ++i) ((unsigned char*)memory)[i] = pattern[i % 2];
}

static void allocate() {
#ifdef __SANITIZE_ADDRESS__
    const size_t bytes = size.shared_bytes;
#else
    const size_t bytes = size.shared_bytes + GUARD;
#endif
    if (posix_memalign((void**)&dynamic, 16, bytes)) abort();
    fill(dynamic, bytes);
}

static void check_guard() {
#ifndef __SANITIZE_ADDRESS__
    char untouched[GUARD + 1];
    fill(untouched, sizeof untouched);
    if (memcmp(dynamic + size.shared_bytes, untouched + size.shared_bytes % 2, GUARD))
        stop(current, NO_THREAD, "wrote past the end of dynamic shared memory");
#endif
}

static thread_local char landmark;
static struct {
    const char* landmark;
    char* memory;
    size_t bytes;
} own;  // where this thread has the static shared memory of this library

static int find_own(dl_phdr_info* library, size_t, void*) {
    for (int i = 0; i < library->dlpi_phnum; ++i) {
        const auto& header = library->dlpi_phdr[i];
        char* memory = (char*)library->dlpi_tls_data;
        if (header.p_type != PT_TLS || own.landmark < memory) continue;
        if (own.landmark >= memory + header.p_memsz) continue;
        own.memory = memory;
        own.bytes = header.p_memsz;
        return 1;
    }
    return 0;
}

static void fill_static() {
    if (own.landmark != &landmark) {
        own = {&landmark, nullptr, 0};
        dl_iterate_phdr(find_own, nullptr);
    }
    fill(own.memory, own.bytes);
}

// ---------------------------------------------------------------- who runs

static void enable(Thread& thread) {
    thread.state = ABLE;
    able[ables++] = &thread;
}

static void begin_block() {
    if (blocks_left-- == 0) leave();
    blockIdx = index(size.first + block, gridDim.x, gridDim.y);
    block = (block + block_step) % size.blocks;
    fill(dynamic, size.shared_bytes);
    fill_static();
    finished = 0;
    for (unsigned i = 0; i < count; ++i) {
        threads[i].fibre = nullptr;
        enable(threads[i]);
    }
}

[[noreturn]] static void report_stuck() {
    const Thread* first = threads;
    while (first->state == FINISHED) ++first;
    unsigned here = 0;
    for (unsigned i = 0; i < count; ++i)
        here += threads[i].state != FINISHED && threads[i].line == first->line;
    stop(first, first->line, "a barrier that not all reach: of %u threads %u wait here, "
         "%u elsewhere, %u have finished", count, here, count - finished - here, finished);
}

static void work();

// Goes on with a thread drawn among those that can, in its fibre or, if it is new, in a spare one.
static void proceed() {
    if (!ables) {
        if (finished < count) report_stuck();
        if (current) check_guard();
        begin_block();
    }
    const unsigned drawn = below(ables);
    current = able[drawn];
    able[drawn] = able[--ables];
    if (!current->fibre)
        current->fibre = spares ? spare[--spares] : restart(&fibres[started++], work);
    threadIdx = current->index;
    switch_to(current->fibre);
}

static void work() {
    arrive();
    for (;;) {
        kernel(arguments);
        current->state = FINISHED;
        ++finished;
        spare[spares++] = running;
        proceed();
    }
}

// Makes a fault of an address where there is no memory, which would end the process.
class Guarded {
  public:
    Guarded() {
#ifndef __SANITIZE_ADDRESS__
        struct sigaction ours = {};
        ours.sa_handler = [](int) { stop(current, 0, "touches memory that is not there"); };
        ours.sa_flags = SA_NODEFER | SA_ONSTACK;
        sigaction(SIGSEGV, &ours, &theirs);
#endif
    }
    ~Guarded() {
#ifndef __SANITIZE_ADDRESS__
        sigaction(SIGSEGV, &theirs, nullptr);
#endif
    }

  private:
    struct sigaction theirs;
};

static void launch(Word seed) {
    chance = (seed + 1) * 0x9e3779b97f4a7c15;
    count = size.block[0] * size.block[1] * size.block[2];
    for (unsigned i = 0; i < count; ++i) threads[i].index = index(i, size.block[0], size.block[1]);
    memset(at_warp_barrier, 0, sizeof at_warp_barrier);
    gridDim = {(unsigned)size.grid[0], (unsigned)size.grid[1], (unsigned)size.grid[2]};
    blockDim = {(unsigned)size.block[0], (unsigned)size.block[1], (unsigned)size.block[2]};
    ables = spares = started = at_block_barrier = 0;
    finished = count;
    current = nullptr;
    blocks_left = size.blocks;
    block = below(size.blocks);
    block_step = 1 + below(size.blocks);
    const auto divisor = [](Word a, Word b) {
        while (b) a = std::exchange(b, a % b);
        return a;
    };
    while (divisor(block_step, size.blocks) != 1) ++block_step;
    allocate();
    {
        const Guarded guarded;
        proceed();
    }
    free(dynamic);
}

// ---------------------------------------------------------------- barriers

static void wait_for_block(unsigned line) {
    current->state = AT_BLOCK_BARRIER;
    current->line = line;
    if (++at_block_barrier == count) {
        at_block_barrier = 0;
        for (unsigned i = 0; i < count; ++i) {
            if (threads[i].line != line)
                stop(&threads[i], threads[i].line, "threads wait at different barriers: some "
                     "here, some at line %u", line);
            enable(threads[i]);
        }
    }
    proceed();
}

static unsigned own_lane() { return (current - threads) % LANES; }

// The lanes of a thread's warp that exist.
static unsigned existing(unsigned warp) {
    const unsigned lanes = count - warp * LANES;
    return lanes < LANES ? (1u << lanes) - 1 : ~0u;
}

static void release(Thread* warp, unsigned lanes) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < LANES; ++lane)
        if (lanes >> lane & 1) votes |= (unsigned)(warp[lane].given != 0) << lane;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        Thread& thread = warp[lane];
        if (!(lanes >> lane & 1)) continue;
        if (thread.mask != current->mask)
            stop(&thread, thread.line, "lanes of a warp meet with different masks, %08x and %08x",
                 thread.mask, current->mask);
        if (!(lanes >> thread.from & 1))
            stop(&thread, thread.line, "takes the value of lane %u, which gives none", thread.from);
        thread.taken = warp[thread.from].given;
        thread.votes = votes;
        enable(thread);
    }
}

static void wait_for_lanes(unsigned mask, unsigned line, unsigned from, Word given) {
    const unsigned number = (current - threads) / LANES, lanes = mask & existing(number);
    if (!(mask >> own_lane() & 1)) stop(current, line, "its own lane is not in mask %08x", mask);
    current->state = AT_WARP_BARRIER;
    current->mask = mask;
    current->line = line;
    current->from = from;
    current->given = given;
    at_warp_barrier[number] |= 1u << own_lane();
    if ((at_warp_barrier[number] & lanes) == lanes) {
        at_warp_barrier[number] &= ~lanes;
        release(threads + number * LANES, lanes);
    }
    proceed();
}

template <typename T>
T shuffle(unsigned mask, T value, unsigned from, unsigned line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle takes four bytes or eight");
    Word word = 0;
    memcpy(&word, &value, sizeof value);
    wait_for_lanes(mask, line, from, word);
    memcpy(&value, &current->taken, sizeof value);
    return value;
}

static unsigned vote(unsigned mask, bool value, unsigned line) {
    wait_for_lanes(mask, line, own_lane(), value);
    return current->votes;
}

// ---------------------------------------------------------------- kernels and their arguments

struct Parameter {
    const char* type;  // as the compiler writes it, at the end of this text
    unsigned bytes;
};

template <typename T>
const char* type_name() {
    return __PRETTY_FUNCTION__;
}

template <typename T>
T copied(const void* from) {
    T to;
    memcpy(&to, from, sizeof to);
    return to;
}

struct Entry {
    void (*run)(void**);
    const Parameter* parameters;
    int number;
};

template <auto function>
struct Kernel;

template <typename... Types, void (*function)(Types...)>
struct Kernel<function> {
    static constexpr int number = sizeof...(Types);
    static inline const Parameter parameters[] = {{type_name<Types>(), sizeof(Types)}...};

    template <size_t... I>
    static void call(void** from, std::index_sequence<I...>) {
        function(copied<Types>(from[I])...);
    }

    static void run(void** from) { call(from, std::make_index_sequence<number>()); }
};

template <auto function>
constexpr Entry entry = {Kernel<function>::run, Kernel<function>::parameters,
                         Kernel<function>::number};

extern const Entry entries[];  // of this library, in the builder's order

}  // namespace cuda_on_cpu

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int parameters(int number, const cuda_on_cpu::Parameter** to) {
    *to = cuda_on_cpu::entries[number].parameters;
    return cuda_on_cpu::entries[number].number;
}

// Takes the arguments' addresses, as cuLaunchKernel does. Returns whether there was a fault.
EXPORTED int launch(int number, void** arguments, const cuda_on_cpu::Size* size,
                    unsigned long long seed, cuda_on_cpu::Fault* fault) {
    cuda_on_cpu::kernel = cuda_on_cpu::entries[number].run;
    cuda_on_cpu::arguments = arguments;
    cuda_on_cpu::size = *size;
    cuda_on_cpu::fault = fault;
    fault->what[0] = 0;
    cuda_on_cpu::launch(seed);
    return fault->what[0] != 0;
}

// ---------------------------------------------------------------- undefined behaviour

// Where the compiler's own library would print a message and abort, the launch is stopped. Every
// handler's first argument begins with the place in the source.
struct Source {
    const char* file;
    unsigned line, column;
};

#define UNDEFINED(name, what)                                                   \
    extern "C" [[noreturn]] void __ubsan_handle_##name##_abort(Source* place) { \
        cuda_on_cpu::stop(cuda_on_cpu::current, place->line, what);             \
    }
UNDEFINED(add_overflow, "a signed sum overflows")
UNDEFINED(sub_overflow, "a signed difference overflows")
UNDEFINED(mul_overflow, "a signed product overflows")
UNDEFINED(negate_overflow, "a signed negation overflows")
UNDEFINED(divrem_overflow, "a division by zero, or one that overflows")
UNDEFINED(shift_out_of_bounds, "a shift that C++ does not define")
UNDEFINED(out_of_bounds, "an index outside its array")
UNDEFINED(type_mismatch_v1, "a misaligned address")
#undef UNDEFINED

// ---------------------------------------------------------------- what CUDA C++ has built in

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__

static inline void __syncthreads(unsigned line = __builtin_LINE()) {
    cuda_on_cpu::wait_for_block(line);
}

static inline void __syncwarp(unsigned mask = ~0u, unsigned line = __builtin_LINE()) {
    cuda_on_cpu::wait_for_lanes(mask, line, cuda_on_cpu::own_lane(), 0);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, unsigned line = __builtin_LINE()) {
    const int lane = cuda_on_cpu::own_lane();
    return cuda_on_cpu::shuffle(mask, value, (lane & -width) | (from & (width - 1)), line);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 unsigned line = __builtin_LINE()) {
    const int lane = cuda_on_cpu::own_lane(), from = lane - (int)by;
    return cuda_on_cpu::shuffle(mask, value, from >= (lane & -width) ? from : lane, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   unsigned line = __builtin_LINE()) {
    const int lane = cuda_on_cpu::own_lane(), from = lane + (int)by;
    return cuda_on_cpu::shuffle(mask, value, from < (lane & -width) + width ? from : lane, line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32,
                  unsigned line = __builtin_LINE()) {
    const int lane = cuda_on_cpu::own_lane(), from = lane ^ by;
    return cuda_on_cpu::shuffle(mask, value, from < (lane & -width) + width ? from : lane, line);
}

static inline unsigned __ballot_sync(unsigned mask, int value, unsigned line = __builtin_LINE()) {
    return cuda_on_cpu::vote(mask, value, line);
}

static inline int __any_sync(unsigned mask, int value, unsigned line = __builtin_LINE()) {
    return cuda_on_cpu::vote(mask, value, line) != 0;
}

static inline int __all_sync(unsigned mask, int value, unsigned line = __builtin_LINE()) {
    return cuda_on_cpu::vote(mask, !value, line) == 0;
}

static inline void __threadfence() {}

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }

static inline float __uint_as_float(unsigned a) { return cuda_on_cpu::copied<float>(&a); }
static inline float __int_as_float(int a) { return cuda_on_cpu::copied<float>(&a); }
static inline unsigned __float_as_uint(float a) { return cuda_on_cpu::copied<unsigned>(&a); }
static inline int __float_as_int(float a) { return cuda_on_cpu::copied<int>(&a); }
static inline double __longlong_as_double(long long a) { return cuda_on_cpu::copied<double>(&a); }
static inline long long __double_as_longlong(double a) {
    return cuda_on_cpu::copied<long long>(&a);
}

// Declared here, since <math.h> takes longer to compile than most kernels.
#define FUNCTION(name)                  \
    extern "C" double name(double);     \
    extern "C" float name##f(float);    \
    static inline float name(float a) { return name##f(a); }
FUNCTION(ceil)
FUNCTION(cos)
FUNCTION(erf)
FUNCTION(erfc)
FUNCTION(exp)
FUNCTION(exp2)
FUNCTION(expm1)
FUNCTION(fabs)
FUNCTION(floor)
FUNCTION(log)
FUNCTION(log1p)
FUNCTION(rint)
FUNCTION(sin)
FUNCTION(sqrt)
FUNCTION(tanh)
FUNCTION(trunc)
#undef FUNCTION

#define FUNCTION(name)                       \
    extern "C" double name(double, double);  \
    extern "C" float name##f(float, float);  \
    static inline float name(float a, float b) { return name##f(a, b); }
FUNCTION(copysign)
FUNCTION(fmax)
FUNCTION(fmin)
FUNCTION(fmod)
FUNCTION(pow)
#undef FUNCTION

extern "C" double fma(double, double, double);
extern "C" float fmaf(float, float, float);
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline float rsqrtf(float a) { return 1 / sqrtf(a); }
static inline double rsqrt(double a) { return 1 / sqrt(a); }
static inline float rsqrt(float a) { return rsqrtf(a); }

template <typename T>
bool isnan(T a) {
    return __builtin_isnan(a);
}

template <typename T>
bool isinf(T a) {
    return __builtin_isinf(a);
}

template <typename T>
bool isfinite(T a) {
    return __builtin_isfinite(a);
}

#define EXTREMES(T)                                         \
    static inline T min(T a, T b) { return b < a ? b : a; } \
    static inline T max(T a, T b) { return a < b ? b : a; }
EXTREMES(int)
EXTREMES(unsigned)
EXTREMES(long long)
EXTREMES(unsigned long long)
#undef EXTREMES
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

template <typename T>
T __ldg(const T* from) {
    return *from;
}
