/* The emulator's prelude (C++17): stands before the text of every kernel that is compiled for the
 * host. It supplies what CUDA has built in, and what the emitted text's own prelude leaves out
 * where RG_EMULATE is defined. rg_emulate_abi.h stands before it. */

#define RG_EMULATE_QUIET __attribute__((no_sanitize_thread))
#define RG_EMULATE_LOCAL __attribute__((no_sanitize_thread, visibility("hidden")))
/* The caller's line, wherever the function is inlined. */
#define RG_EMULATE_LINE int line = __builtin_LINE()

#define RG_EMULATE_INLINE static inline __attribute__((always_inline))

/* ---- the worker that runs this thread ---- */

RG_EMULATE_INLINE rg_emulate_worker *rg_emulate_self() {
    return (rg_emulate_worker *)((unsigned long)__builtin_frame_address(0) &
                                 ~(RG_EMULATE_REGION - 1));
}

/* `const`: a thread's place does not change, so that the compiler may keep it. Not inlined, since
 * the worker's own fields must not be seen by the checks. */
#define RG_EMULATE_PLACE static __attribute__((const, noinline, no_sanitize_thread))

RG_EMULATE_PLACE int rg_tid() {
    return rg_emulate_self()->thread;
}
RG_EMULATE_PLACE int rg_threads() {
    return rg_emulate_self()->threads;
}
RG_EMULATE_PLACE int rg_block() {
    return rg_emulate_self()->block;
}
RG_EMULATE_PLACE int rg_blocks() {
    return rg_emulate_self()->blocks;
}
RG_EMULATE_PLACE char *rg_emulate_dynamic() {
    return rg_emulate_self()->shared + rg_emulate_self()->dynamic_at;
}
RG_EMULATE_PLACE char *rg_emulate_static(const rg_emulate_site *site) {
    return rg_emulate_self()->shared + site->at;
}
/* ---- kernels, shared memory ---- */

#define RG_KERNEL                  extern "C" __attribute__((visibility("hidden")))
#define RG_BOUNDS(threads, blocks) /* read from the text by the look-alike of NVRTC */
#define RG_DEVICE                  static inline __attribute__((always_inline))
#define RG_UNROLL                  _Pragma("GCC unroll 64")
#define RG_ROLLED                  _Pragma("GCC unroll 1")
#define __restrict__ __restrict

/* Stands in a function. The sites of a module lie side by side, so that their sizes are known when
 * it is loaded. */
#define RG_SHARED(type, name, count)                                                               \
    static rg_emulate_site rg_emulate_site_##name                                                  \
        __attribute__((section("rg_emulate_sites"), used)) = {                                     \
            #name, (unsigned)(sizeof(type) * (count)), (unsigned)alignof(type), 0};                \
    type *const name = (type *)rg_emulate_static(&rg_emulate_site_##name)

RG_EMULATE_INLINE float *rg_dynamic_shared() {
    return (float *)rg_emulate_dynamic();
}

/* ---- arithmetic ---- */

RG_EMULATE_INLINE float rg_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
RG_EMULATE_INLINE float rg_sqrt(float a) {
    return __builtin_sqrtf(a);
}

/* ---- conversions: the bits of PTX's cvt ---- */

RG_EMULATE_INLINE unsigned rg_emulate_bits(float v) {
    unsigned bits;
    __builtin_memcpy(&bits, &v, sizeof bits);
    return bits;
}
/* bits / 2^shift, ties to even. */
RG_EMULATE_INLINE unsigned rg_emulate_even(unsigned bits, unsigned shift) {
    return (bits + (1u << (shift - 1)) - 1 + (bits >> shift & 1)) >> shift;
}
RG_EMULATE_INLINE unsigned short rg_narrow_bf16(float v) {
    unsigned bits = rg_emulate_bits(v);
    return (unsigned short)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fff
                                                               : rg_emulate_even(bits, 16));
}
RG_EMULATE_INLINE unsigned short rg_narrow_f16(float v) {
    unsigned bits = rg_emulate_bits(v), size = bits & 0x7fffffffu, half;
    if (size > 0x7f800000u) return 0x7fff;
    if (size >= 0x47800000u) /* 2^16, infinite */
        half = 0x7c00;
    else if (size >= 0x38800000u) /* 2^-14 */
        half = rg_emulate_even(size - 0x38000000u, 13);
    else if (size >= 0x33000000u) /* 2^-25: a subnormal of units of 2^-24 */
        half = rg_emulate_even((size & 0x7fffffu) | 0x800000u, 126 - (size >> 23));
    else
        half = 0;
    return (unsigned short)(bits >> 16 & 0x8000u | half);
}
RG_EMULATE_INLINE float rg_widen_f16(unsigned short half) {
    unsigned exponent = half >> 10 & 31, fraction = half & 0x3ff, bits;
    if (exponent == 31)
        bits = fraction ? 0x7fffffffu : 0x7f800000u;
    else if (exponent == 0)
        bits = rg_emulate_bits((float)(int)fraction * 0x1p-24f);
    else
        bits = (exponent + 112) << 23 | fraction << 13;
    bits |= (unsigned)(half & 0x8000) << 16 & (bits == 0x7fffffffu ? 0 : ~0u);
    float v;
    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}

/* ---- barriers and the other blocks ---- */

/* Not inlined, since the worker's own fields must not be seen by the checks. */
#define RG_EMULATE_OUT static __attribute__((noinline, no_sanitize_thread))

RG_EMULATE_OUT void rg_barrier(RG_EMULATE_LINE) {
    rg_emulate_self()->call->barrier(rg_emulate_self(), line);
}
RG_EMULATE_OUT void rg_warp_barrier(RG_EMULATE_LINE) {
    rg_emulate_self()->call->warp_barrier(rg_emulate_self(), line);
}
RG_EMULATE_OUT bool rg_last_block(unsigned *counter, int count = rg_blocks(), RG_EMULATE_LINE) {
    return rg_emulate_self()->call->last_block(rg_emulate_self(), counter, count, line) != 0;
}

/* ---- warp operations: a meeting of its lanes ---- */

/* The value of lane `from`; the own one where that is no lane. */
template <typename T> RG_EMULATE_OUT T rg_emulate_exchange(T value, int kind, int from, int line) {
    rg_emulate_worker *worker = rg_emulate_self();
    const unsigned char *all = worker->call->meet(worker, kind, &value, sizeof value, line);
    T taken = value;
    int lanes = worker->threads - (worker->thread & ~31);
    if (from >= 0 && from < 32) {
        if (from >= lanes) worker->call->fault(worker, "a shuffle from a lane that does not exist");
        __builtin_memcpy(&taken, all + from * RG_EMULATE_LANE_BYTES, sizeof taken);
    }
    return taken;
}

template <typename T> RG_EMULATE_INLINE T rg_shfl_xor(T value, int mask, RG_EMULATE_LINE) {
    return rg_emulate_exchange(value, RG_EMULATE_MEET_XOR, (rg_tid() & 31) ^ mask, line);
}
template <typename T> RG_EMULATE_INLINE T rg_shfl_down(T value, int by, RG_EMULATE_LINE) {
    return rg_emulate_exchange(value, RG_EMULATE_MEET_DOWN, (rg_tid() & 31) + by, line);
}
template <typename T> RG_EMULATE_INLINE T rg_shfl_up(T value, int by, RG_EMULATE_LINE) {
    return rg_emulate_exchange(value, RG_EMULATE_MEET_UP, (rg_tid() & 31) - by, line);
}
template <typename T> RG_EMULATE_INLINE T rg_shfl(T value, int lane, RG_EMULATE_LINE) {
    return rg_emulate_exchange(value, RG_EMULATE_MEET_LANE, lane & 31, line);
}

/* ---- the matrix unit. By value, so that the caller's arrays can stay registers ---- */

struct rg_emulate_four {
    float d[4];
};
struct rg_emulate_words {
    unsigned word[4];
};

RG_EMULATE_OUT rg_emulate_four rg_emulate_mma(float d0, float d1, float d2, float d3, unsigned a0,
                                              unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                              unsigned b1, int kind, int line) {
    rg_emulate_worker *worker = rg_emulate_self();
    rg_emulate_fragments mine = {{d0, d1, d2, d3}, {a0, a1, a2, a3}, {b0, b1}};
    const float *d = worker->call->mma(worker, kind, &mine, line);
    return {{d[0], d[1], d[2], d[3]}};
}
RG_EMULATE_OUT rg_emulate_words rg_emulate_rows(const void *row, int kind, int line) {
    rg_emulate_words words = {};
    rg_emulate_self()->call->rows(rg_emulate_self(), kind, row, words.word, line);
    return words;
}

#define RG_EMULATE_MMA(name, kind, a2, a3, b1)                                                     \
    RG_EMULATE_INLINE void name(float *d, const unsigned *a, const unsigned *b, RG_EMULATE_LINE) { \
        rg_emulate_four sum =                                                                      \
            rg_emulate_mma(d[0], d[1], d[2], d[3], a[0], a[1], a2, a3, b[0], b1, kind, line);      \
        d[0] = sum.d[0], d[1] = sum.d[1], d[2] = sum.d[2], d[3] = sum.d[3];                        \
    }
RG_EMULATE_MMA(rg_mma_bf16, RG_EMULATE_MEET_BF16, a[2], a[3], b[1])
RG_EMULATE_MMA(rg_mma_f16, RG_EMULATE_MEET_F16, a[2], a[3], b[1])
RG_EMULATE_MMA(rg_mma_f16_k8, RG_EMULATE_MEET_F16_K8, 0, 0, 0)
RG_EMULATE_MMA(rg_mma_tf32, RG_EMULATE_MEET_TF32, a[2], a[3], b[1])

#define RG_EMULATE_ROWS(name, kind, count)                                                         \
    RG_EMULATE_INLINE void name(unsigned *r, const void *row, RG_EMULATE_LINE) {                   \
        rg_emulate_words words = rg_emulate_rows(row, kind, line);                                 \
        for (int i = 0; i < count; i++) r[i] = words.word[i];                                      \
    }
RG_EMULATE_ROWS(rg_ldmatrix2, RG_EMULATE_MEET_ROWS2, 2)
RG_EMULATE_ROWS(rg_ldmatrix4, RG_EMULATE_MEET_ROWS4, 4)
RG_EMULATE_ROWS(rg_ldmatrix2_trans, RG_EMULATE_MEET_ROWS2_TRANS, 2)
RG_EMULATE_ROWS(rg_ldmatrix4_trans, RG_EMULATE_MEET_ROWS4_TRANS, 4)

/* ---- asynchronous copies: they land where they are waited for ---- */

RG_EMULATE_OUT void rg_emulate_copy(void *shared, const void *global, unsigned bytes, int valid) {
    rg_emulate_worker *worker = rg_emulate_self();
    worker->call->copy_async(worker, shared, global, bytes, (unsigned)valid);
}
RG_EMULATE_INLINE void rg_cp_async16(void *shared, const void *global) {
    rg_emulate_copy(shared, global, 16, 16);
}
/* The first `valid` bytes are read, the others are zero. */
RG_EMULATE_INLINE void rg_cp_async16_fill(void *shared, const void *global, int valid) {
    rg_emulate_copy(shared, global, 16, valid);
}
RG_EMULATE_INLINE void rg_cp_async4_fill(void *shared, const void *global, int valid) {
    rg_emulate_copy(shared, global, 4, valid);
}
RG_EMULATE_OUT void rg_cp_async_commit() {
    rg_emulate_self()->call->copy_commit(rg_emulate_self());
}
template <int left> RG_EMULATE_OUT void rg_cp_async_wait() {
    rg_emulate_self()->call->copy_wait(rg_emulate_self(), left);
}

/* ---- the checks: GCC's -fsanitize=thread makes every load and store call these ---- */

RG_EMULATE_INLINE RG_EMULATE_QUIET int rg_emulate_warp_of(unsigned reader) {
    return (int)(reader & RG_EMULATE_WARP_READERS ? reader & 0x7fff : reader >> 5);
}

/* False: the engine has to look closer. */
RG_EMULATE_INLINE RG_EMULATE_QUIET bool rg_emulate_shared_read(rg_emulate_worker *worker,
                                                               unsigned long at) {
    rg_emulate_word *word = &worker->word[at >> 2];
    unsigned thread = (unsigned)worker->thread;
    bool settled = word->write_time - RG_EMULATE_FIRST_TIME < worker->time - RG_EMULATE_FIRST_TIME;
    if (!settled && !(word->write_time == worker->time && word->writer == thread)) return false;
    if (word->read_time != worker->time) {
        word->read_time = worker->time;
        word->reader = (unsigned short)thread;
    } else if (word->reader != thread && word->reader != RG_EMULATE_MANY_READERS) {
        unsigned warp = thread >> 5;
        word->reader = (unsigned)rg_emulate_warp_of(word->reader) == warp
                           ? (unsigned short)(RG_EMULATE_WARP_READERS | warp)
                           : (unsigned short)RG_EMULATE_MANY_READERS;
    }
    word->read_turn = (unsigned short)worker->turn;
    return true;
}

RG_EMULATE_INLINE RG_EMULATE_QUIET bool rg_emulate_shared_write(rg_emulate_worker *worker,
                                                                unsigned long at) {
    rg_emulate_word *word = &worker->word[at >> 2];
    unsigned thread = (unsigned)worker->thread;
    if (word->write_time - 1u >= worker->time) return false; /* outside, or in flight */
    if (word->write_time == worker->time && word->writer != thread) return false;
    if (word->read_time == worker->time && word->reader != thread) return false;
    word->write_time = worker->time;
    word->writer = (unsigned short)thread;
    word->write_turn = (unsigned short)worker->turn;
    return true;
}

RG_EMULATE_INLINE RG_EMULATE_QUIET bool rg_emulate_device_read(rg_emulate_worker *worker,
                                                               unsigned long at) {
    unsigned long *place = (unsigned long *)&worker->cell[at >> 2];
    unsigned long both = __atomic_load_n(place, __ATOMIC_RELAXED);
    unsigned writer = (unsigned)both, reader = (unsigned)(both >> 32), tag = worker->tag;
    bool before = writer - RG_EMULATE_HOST < worker->first_tag - RG_EMULATE_HOST;
    if (!before && !RG_EMULATE_SAME_BLOCK(writer, tag)) return false;
    if (RG_EMULATE_SAME_BLOCK(reader, tag) || reader == worker->first_tag) return true;
    reader = reader < worker->first_tag ? tag : worker->first_tag;
    __atomic_store_n(place, (unsigned long)reader << 32 | writer, __ATOMIC_RELAXED);
    return true;
}

RG_EMULATE_INLINE RG_EMULATE_QUIET bool rg_emulate_device_write(rg_emulate_worker *worker,
                                                                unsigned long at) {
    unsigned long *place = (unsigned long *)&worker->cell[at >> 2];
    unsigned long both = __atomic_load_n(place, __ATOMIC_RELAXED);
    unsigned writer = (unsigned)both, reader = (unsigned)(both >> 32), tag = worker->tag;
    if (writer - 1u >= worker->first_tag - 1u && !RG_EMULATE_SAME_BLOCK(writer, tag)) return false;
    if (reader >= worker->first_tag && !RG_EMULATE_SAME_BLOCK(reader, tag)) return false;
    __atomic_store_n(place, (unsigned long)reader << 32 | tag, __ATOMIC_RELAXED);
    return true;
}

/* One access of `bytes` aligned bytes. What lies on the thread's own stack is its own affair. */
template <unsigned bytes, bool writes>
RG_EMULATE_INLINE RG_EMULATE_QUIET void rg_emulate_access(unsigned long address) {
    rg_emulate_worker *worker = rg_emulate_self();
    unsigned long in_shared = address - (unsigned long)worker->shared;
    unsigned long in_device = address - (unsigned long)worker->device;
    bool fine = true;
    if (in_shared < RG_EMULATE_SHARED_ROOM) {
        for (unsigned i = 0; i < bytes; i += 4)
            fine = fine && (writes ? rg_emulate_shared_write(worker, in_shared + i)
                                   : rg_emulate_shared_read(worker, in_shared + i));
    } else if (in_device < worker->device_bytes) {
        for (unsigned i = 0; i < bytes; i += 4)
            fine = fine && (writes ? rg_emulate_device_write(worker, in_device + i)
                                   : rg_emulate_device_read(worker, in_device + i));
    } else {
        unsigned long stack = address ^ (unsigned long)__builtin_frame_address(0);
        fine = (stack & ~(RG_EMULATE_STACK - 1)) == 0;
    }
    if (fine) return;
    if (writes)
        worker->call->write(worker, (void *)address, bytes);
    else
        worker->call->read(worker, (const void *)address, bytes);
}

extern "C" {
#define RG_EMULATE_HOOK(bytes)                                                                     \
    RG_EMULATE_LOCAL void __tsan_read##bytes(void *at) {                                           \
        rg_emulate_access<bytes, false>((unsigned long)at);                                        \
    }                                                                                              \
    RG_EMULATE_LOCAL void __tsan_write##bytes(void *at) {                                          \
        rg_emulate_access<bytes, true>((unsigned long)at);                                         \
    }                                                                                              \
    RG_EMULATE_LOCAL void __tsan_unaligned_read##bytes(void *at) {                                 \
        rg_emulate_self()->call->read(rg_emulate_self(), at, bytes);                               \
    }                                                                                              \
    RG_EMULATE_LOCAL void __tsan_unaligned_write##bytes(void *at) {                                \
        rg_emulate_self()->call->write(rg_emulate_self(), at, bytes);                              \
    }
RG_EMULATE_HOOK(1)
RG_EMULATE_HOOK(2)
RG_EMULATE_HOOK(4)
RG_EMULATE_HOOK(8)
RG_EMULATE_HOOK(16)
RG_EMULATE_LOCAL void __tsan_read_range(void *at, unsigned long bytes) {
    rg_emulate_self()->call->read(rg_emulate_self(), at, bytes);
}
RG_EMULATE_LOCAL void __tsan_write_range(void *at, unsigned long bytes) {
    rg_emulate_self()->call->write(rg_emulate_self(), at, bytes);
}
/* -fsanitize=alignment calls this before an access at an address that its type does not allow. */
struct rg_emulate_mismatch {
    const char *file;
    unsigned line, column;
};
RG_EMULATE_LOCAL void __ubsan_handle_type_mismatch_v1(rg_emulate_mismatch *place,
                                                      unsigned long at) {
    rg_emulate_self()->call->misaligned(rg_emulate_self(), (const void *)at, (int)place->line);
}
RG_EMULATE_LOCAL void __tsan_func_entry(void *) {
}
RG_EMULATE_LOCAL void __tsan_func_exit(void *) {
}
RG_EMULATE_LOCAL void __tsan_init(void) {
}
}

/* ---- the table of the module's kernels, filled by lines that the compiler's driver appends to the
 * text ---- */

template <unsigned...> struct rg_emulate_indices {};
template <unsigned n, unsigned... i>
struct rg_emulate_count : rg_emulate_count<n - 1, n - 1, i...> {};
template <unsigned... i> struct rg_emulate_count<0, i...> {
    typedef rg_emulate_indices<i...> type;
};

template <auto kernel> struct rg_emulate_describe;
template <typename... A, void (*kernel)(A...)> struct rg_emulate_describe<kernel> {
    static constexpr unsigned bytes[sizeof...(A) + 1] = {sizeof(A)..., 0};
    static constexpr int arguments = sizeof...(A);
    template <unsigned... i>
    RG_EMULATE_QUIET static void spread(void *const *argument, rg_emulate_indices<i...>) {
        kernel(*(A *)argument[i]...);
    }
    RG_EMULATE_QUIET static void call(void *const *argument) {
        spread(argument, typename rg_emulate_count<sizeof...(A)>::type());
    }
};

extern "C" rg_emulate_site __start_rg_emulate_sites[] __attribute__((weak, visibility("hidden")));
extern "C" rg_emulate_site __stop_rg_emulate_sites[] __attribute__((weak, visibility("hidden")));

#define RG_EMULATE_ENTRY(name, limit)                                                              \
    {#name, rg_emulate_describe<&name>::call, rg_emulate_describe<&name>::bytes,                   \
     rg_emulate_describe<&name>::arguments, limit},
#define RG_EMULATE_MODULE(arch, checks, flush)                                                     \
    extern "C" __attribute__((visibility("default")))                                              \
    const rg_emulate_module rg_emulate_this_module = {                                             \
        RG_EMULATE_ABI,                                                                            \
        arch,                                                                                      \
        checks,                                                                                    \
        flush,                                                                                     \
        rg_emulate_kernels,                                                                        \
        (int)(sizeof rg_emulate_kernels / sizeof *rg_emulate_kernels),                             \
        __start_rg_emulate_sites,                                                                  \
        __stop_rg_emulate_sites};
