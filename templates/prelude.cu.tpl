/* A block of threads is a tile. What touches the hardware stands inside RG_EMULATE's brackets; a host can supply its own. */
#ifndef RG_EMULATE
#define RG_KERNEL extern "C" __global__
#define RG_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define RG_DEVICE static __device__ __forceinline__
#define RG_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define RG_UNROLL _Pragma("unroll")
#define RG_ROLLED _Pragma("unroll 1")
#endif
typedef float vf; /* one element; a comparison of two */
typedef bool vm;

struct rg_ctrl {
    int live, blocks;
    float scalar[${t.ctrl_scalars}];
};

//@ rg_tid
#ifndef RG_EMULATE
RG_DEVICE int rg_tid() {
    return (int)threadIdx.x;
}
#endif

//@ rg_threads
#ifndef RG_EMULATE
RG_DEVICE int rg_threads() {
    return (int)blockDim.x;
}
#endif

//@ rg_block
#ifndef RG_EMULATE
RG_DEVICE int rg_block() {
    return (int)blockIdx.x;
}
#endif

//@ rg_blocks
#ifndef RG_EMULATE
RG_DEVICE int rg_blocks() {
    return (int)gridDim.x;
}
#endif

//@ rg_barrier
#ifndef RG_EMULATE
RG_DEVICE void rg_barrier() {
    __syncthreads();
}
#endif

//@ rg_warp_barrier
/* Orders what the lanes of the warp did in memory; all 32 call it. */
#ifndef RG_EMULATE
RG_DEVICE void rg_warp_barrier() {
    __syncwarp();
}
#endif

//@ rg_dynamic_shared
#ifndef RG_EMULATE
extern __shared__ __align__(128) float rg_dynamic[];
RG_DEVICE float *rg_dynamic_shared() {
    return rg_dynamic;
}
#endif

% for _, way in ipairs {{"xor", "mask"}, {"down", "lanes"}} do
//@ rg_shfl_${way[1]}
/* All 32 lanes of the warp call it. */
#ifndef RG_EMULATE
RG_DEVICE float rg_shfl_${way[1]}(float v, int ${way[2]}) {
    return __shfl_${way[1]}_sync(0xffffffffu, v, ${way[2]});
}
#endif

% end
% for _, which in ipairs {"tid", "block"} do
//@ rg_${which}_anew
/* rg_${which}(), read again: what follows from it is worked again, and is in no register until then. */
RG_DEVICE int rg_${which}_anew() {
#ifdef RG_EMULATE
    return rg_${which}();
#else
    int number;
    asm volatile("mov.u32 %0, %%${which == "tid" and "tid" or "ctaid"}.x;" : "=r"(number));
    return number;
#endif
}

% end
//@ rg_last_block
/* True in all threads of the block that comes last of `count`; what the others wrote is then visible to it. The counter begins at 0
 * and is 0 again after the launch. All threads of the block call it. */
#ifndef RG_EMULATE
RG_DEVICE bool rg_last_block(unsigned *counter, int count = rg_blocks()) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, (unsigned)count - 1) == (unsigned)count - 1;
    __syncthreads();
    __threadfence();
    return last;
}
#endif

//@ rg_cp_async16
/* 16 bytes to shared memory, there when they have been waited for; both addresses multiples of 16. */
#ifndef RG_EMULATE
RG_DEVICE void rg_cp_async16(void *shared, const void *global) {
% if t.arch >= 80 then
    const unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
% else
    *(float4 *)shared = *(const float4 *)global;
% end
}
#endif

//@ rg_cp_async16_fill
/* The same, of which the first `bytes` (0 to 16, even) are read and the others are zero. */
#ifndef RG_EMULATE
RG_DEVICE void rg_cp_async16_fill(void *shared, const void *global, int bytes) {
% if t.arch >= 80 then
    const unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(bytes) : "memory");
% else
    if (bytes == 16)
        *(float4 *)shared = *(const float4 *)global;
    else
        for (int i = 0; i < 8; i++) ((unsigned short *)shared)[i] = 2 * i < bytes ? ((const unsigned short *)global)[i] : 0;
% end
}
#endif

//@ rg_cp_async4_fill
/* Four bytes, or zero where `bytes` is 0 and not 4. */
#ifndef RG_EMULATE
RG_DEVICE void rg_cp_async4_fill(void *shared, const void *global, int bytes) {
% if t.arch >= 80 then
    const unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(global), "r"(bytes) : "memory");
% else
    *(unsigned *)shared = bytes ? *(const unsigned *)global : 0;
% end
}
#endif

//@ rg_cp_async_commit
/* Closes a group of this thread's copies. */
#ifndef RG_EMULATE
RG_DEVICE void rg_cp_async_commit() {
% if t.arch >= 80 then
    asm volatile("cp.async.commit_group;" ::: "memory");
% end
}
#endif

//@ rg_cp_async_wait
/* Waits until at most N of this thread's groups are under way. */
#ifndef RG_EMULATE
template <int N> RG_DEVICE void rg_cp_async_wait() {
% if t.arch >= 80 then
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
% end
}
#endif

//@ rg_f4
struct alignas(16) rg_f4 {
    float x, y, z, w;
};

//@ rg_load4
/* Four floats at a multiple of 16 bytes. */
RG_DEVICE void rg_load4(float *to, const float *from) {
    const rg_f4 v = *(const rg_f4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

//@ rg_store4
RG_DEVICE void rg_store4(float *to, const float *from) {
    rg_f4 v = {from[0], from[1], from[2], from[3]};
    *(rg_f4 *)to = v;
}

//@ rg_put4
/* Four floats to global memory, at a multiple of 16 bytes: one instruction, where the compiler takes stores of a struct apart. */
#ifndef RG_EMULATE
RG_DEVICE void rg_put4(float *to, const float *from) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(from[0]), "f"(from[1]), "f"(from[2]), "f"(from[3]) : "memory");
}
#else
RG_DEVICE void rg_put4(float *to, const float *from) {
    *(rg_f4 *)to = {from[0], from[1], from[2], from[3]};
}
#endif

//@ rg_load4_n
/* The first n of four floats, anywhere; the others are zero. */
RG_DEVICE void rg_load4_n(float *to, const float *from, int n) {
    RG_UNROLL
    for (int i = 0; i < 4; i++) to[i] = i < n ? from[i] : 0.0f;
}

//@ rg_store4_n
RG_DEVICE void rg_store4_n(float *to, const float *from, int n) {
    RG_UNROLL
    for (int i = 0; i < 4; i++)
        if (i < n) to[i] = from[i];
}

//@ rg_fma
/* a * b + c, rounded once: the only fused operation. */
#ifndef RG_EMULATE
RG_DEVICE float rg_fma(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}
#endif

//@ rg_sqrt
#ifndef RG_EMULATE
RG_DEVICE float rg_sqrt(float a) {
    return __fsqrt_rn(a);
}
#endif

% -- Sections may use earlier ones alone.
${include("prelude_math.cu.tpl")}
${include("prelude_half.cu.tpl")}
${include("prelude_mma.cu.tpl")}
