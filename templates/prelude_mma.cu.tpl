% -- The matrix unit. Fragments are PTX's own (mma.m16n8k16, mma.m16n8k8); g = lane / 4, i = lane % 4.
% -- m16n8k16: a[0] rows g, a[1] rows g + 8, columns 2i and 2i + 1; a[2], a[3] the same at columns + 8; b[0] rows 2i and
% -- 2i + 1 of column g, b[1] the same at rows + 8. d[0], d[1] row g, columns 2i and 2i + 1; d[2], d[3] row g + 8.
% local mma = {
%     {"bf16", "m16n8k16", "bf16", "{%4, %5, %6, %7}, {%8, %9}", 4, 2}, {"f16", "m16n8k16", "f16", "{%4, %5, %6, %7}, {%8, %9}", 4, 2},
%     {"f16_k8", "m16n8k8", "f16", "{%4, %5}, {%6}", 2, 1}, {"tf32", "m16n8k8", "tf32", "{%4, %5, %6, %7}, {%8, %9}", 4, 2},
% }
% for _, unit in ipairs(mma) do
//@ rg_mma_${unit[1]}
/* d[4] += a[${unit[5]}] b[${unit[6]}], ${unit[2]}. All 32 lanes of the warp call it. */
#ifndef RG_EMULATE
RG_DEVICE void rg_mma_${unit[1]}(float *d, const unsigned *a, const unsigned *b) {
    asm volatile("mma.sync.aligned.${unit[2]}.row.col.f32.${unit[3]}.${unit[3]}.f32 {%0, %1, %2, %3}, ${unit[4]}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : ${unit[5] == 4 and '"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])' or '"r"(a[0]), "r"(a[1]), "r"(b[0])'});
}
#endif

% end
% for _, way in ipairs {{2, "", "%0, %1}, [%2", ""}, {4, "", "%0, %1, %2, %3}, [%4", ', "=r"(r[2]), "=r"(r[3])'},
%                       {2, "_trans", "%0, %1}, [%2", ""}, {4, "_trans", "%0, %1, %2, %3}, [%4", ', "=r"(r[2]), "=r"(r[3])'}} do
//@ rg_ldmatrix${way[1]}${way[2]}
/* ${way[1]} matrices of 8 x 8 16-bit values${way[2] == "" and "" or ", transposed"}: lane 8 m + j gives the address in shared memory of the 16 bytes of
 * matrix m's row j; r[m] is row lane / 4, columns lane % 4 * 2 and the next. All 32 lanes of the warp call it. */
#ifndef RG_EMULATE
RG_DEVICE void rg_ldmatrix${way[1]}${way[2]}(unsigned *r, const void *row) {
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x${way[1]}${way[2] == "" and "" or ".trans"}.shared.b16 {${way[3]}];" : "=r"(r[0]), "=r"(r[1])${way[4]} : "r"(at) : "memory");
}
#endif

% end
