//@ rg_u16
/* A bfloat16 or a binary16, as the buffer's type says. */
typedef unsigned short rg_u16;

//@ rg_u2
/* Words that are loaded and stored at once; CUDA's own types, whose accesses the compiler does not take apart. */
#ifndef RG_EMULATE
typedef uint2 rg_u2;
#else
struct alignas(8) rg_u2 {
    unsigned x, y;
};
#endif

//@ rg_u4
#ifndef RG_EMULATE
typedef uint4 rg_u4;
#else
struct alignas(16) rg_u4 {
    unsigned x, y, z, w;
};
#endif

//@ rg_round_tf32
/* To 10 fraction bits, ties away from zero; infinite and NaN as they are. */
RG_DEVICE float rg_round_tf32(float v) {
    const unsigned bits = (unsigned)rg_bits(v);
    return (bits & 0x7f800000u) == 0x7f800000u ? v : rg_float((int)((bits + 0x1000u) & 0xffffe000u));
}

//@ rg_widen_bf16
RG_DEVICE float rg_widen_bf16(rg_u16 half) {
    return rg_float((int)((unsigned)half << 16));
}

//@ rg_widen_f16
#ifndef RG_EMULATE
RG_DEVICE float rg_widen_f16(rg_u16 half) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(half));
    return v;
}
#endif

% for _, type in ipairs {"bf16", "f16"} do
//@ rg_narrow_${type}
/* Ties to even; every NaN is 0x7fff. */
#ifndef RG_EMULATE
RG_DEVICE rg_u16 rg_narrow_${type}(float v) {
    rg_u16 half;
    asm("cvt.rn.${type}.f32 %0, %1;" : "=h"(half) : "f"(v));
    return half;
}
#endif

//@ rg_round_${type}
RG_DEVICE float rg_round_${type}(float v) {
    return rg_widen_${type}(rg_narrow_${type}(v));
}

//@ rg_pack2_${type}
/* Two values of a fragment's register. */
RG_DEVICE unsigned rg_pack2_${type}(float lo, float hi) {
% if t.arch >= 80 then
#ifndef RG_EMULATE
    unsigned pair;
    asm("cvt.rn.${type}x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
#else
    return rg_narrow_${type}(lo) | (unsigned)rg_narrow_${type}(hi) << 16;
#endif
% else
    return rg_narrow_${type}(lo) | (unsigned)rg_narrow_${type}(hi) << 16;
% end
}

//@ rg_unpack2_${type}
RG_DEVICE void rg_unpack2_${type}(float *to, unsigned pair) {
    to[0] = rg_widen_${type}((rg_u16)(pair & 0xffffu));
    to[1] = rg_widen_${type}((rg_u16)(pair >> 16));
}

//@ rg_load4_${type}
/* Four values at a multiple of 8 bytes. */
RG_DEVICE void rg_load4_${type}(float *to, const rg_u16 *from) {
    const rg_u2 v = *(const rg_u2 *)from;
    rg_unpack2_${type}(to, v.x), rg_unpack2_${type}(to + 2, v.y);
}

//@ rg_load8_${type}
/* Eight at a multiple of 16. */
RG_DEVICE void rg_load8_${type}(float *to, const rg_u16 *from) {
    const rg_u4 v = *(const rg_u4 *)from;
    rg_unpack2_${type}(to, v.x), rg_unpack2_${type}(to + 2, v.y);
    rg_unpack2_${type}(to + 4, v.z), rg_unpack2_${type}(to + 6, v.w);
}

//@ rg_store4_${type}
/* One store to shared memory, each value rounded. */
RG_DEVICE void rg_store4_${type}(rg_u16 *to, const float *from) {
    const rg_u2 v = {rg_pack2_${type}(from[0], from[1]), rg_pack2_${type}(from[2], from[3])};
    *(rg_u2 *)to = v;
}

//@ rg_store8_${type}
RG_DEVICE void rg_store8_${type}(rg_u16 *to, const float *from) {
    const rg_u4 v = {rg_pack2_${type}(from[0], from[1]), rg_pack2_${type}(from[2], from[3]),
                     rg_pack2_${type}(from[4], from[5]), rg_pack2_${type}(from[6], from[7])};
    *(rg_u4 *)to = v;
}

//@ rg_put4_${type}
/* The same to global memory: one instruction, where the compiler takes stores of a struct apart. */
RG_DEVICE void rg_put4_${type}(rg_u16 *to, const float *from) {
#ifndef RG_EMULATE
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(rg_pack2_${type}(from[0], from[1])), "r"(rg_pack2_${type}(from[2], from[3])) : "memory");
#else
    rg_store4_${type}(to, from);
#endif
}

//@ rg_put8_${type}
RG_DEVICE void rg_put8_${type}(rg_u16 *to, const float *from) {
#ifndef RG_EMULATE
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(rg_pack2_${type}(from[0], from[1])), "r"(rg_pack2_${type}(from[2], from[3])),
                 "r"(rg_pack2_${type}(from[4], from[5])), "r"(rg_pack2_${type}(from[6], from[7])) : "memory");
#else
    rg_store8_${type}(to, from);
#endif
}

% end
