% -- Direct convolution, fprop and dgrad alike: a tile is one image block, a strip of output rows, a slice of K. For a few output
% -- rows at a time it brings the input rows they read (prologue, into a ring), then sums taps in registers, block by block of K.
% local param, last = k.variant.param, k.site_count - 1
% local out, strip, pr, chunk = k.site[last], param.strip, param.pr, param.chunk
% local w0 = k.arg[k.contr[0].w_arg]
% local kb, kblocks, nv, mr = w0.kb, w0.kp // w0.kb, w0.kb // t.vector, L.micro_rows(w0.kb)
% local strips, chunks = L.ceil_div(out.h, strip), L.ceil_div(kblocks, chunk)
% local operand = L.operands(k, strip, pr)
% local state = L.state_floats(out) > 0
/* A row of taps: where its input row and its weights begin. */
struct row {
    const float *x, *w;
};

/* The taps of a row that exist: tap `first` reads input `at`, `count` of them follow one another. */
struct span {
    int first, at, count;
};

% for i = 0, k.contr_count - 1 do
${include("cpu_conv_taps.c.tpl", {i = i, operand = operand[k.contr[i].site]})}
% end
% for s = 0, last - 1 do
%     if not operand[s].plain then
${include("cpu_prologue.c.tpl", {operand = operand[s]})}
%     end
% end
${include("cpu_conv_sums.c.tpl", {operand = operand, kb = kb, nv = nv, mr = mr})}

% local pos = {nb = "nb", h = "p", w = "q", n = "m + r", c = "c"}
/* ${mr} images from m on, ${kb} output channels from k on, of output pixel (p, q). */
RG_INLINE void epilogue(float *const *a, const struct rg_ctrl *ctl, int nb, int p, int q, int m, int k, ${state and "float *state, int first, " or ""}vf (*sum)[${nv}]) {
    ${L.pointers(k, L.site_args(out))}
    for (int v = 0; v < ${nv}; v++) {
        const int c = k + v * ${t.vector};
        ${L.site_block(k, out, {pos = pos, rows = mr, acc = {[0] = "sum[r][v]"}, state = "state", first = "first", live = "rg_live(ctl, nb * 16 + m, " .. mr .. ")"})}
    }
}

void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int nb = ${L.over("tile", strips * chunks)}, strip = ${strips == 1 and "0" or L.over("tile % " .. strips * chunks, chunks)}, slice = ${chunks == 1 and "0" or "tile % " .. chunks};
    const int p_first = strip * ${strip}, p_last = rg_min_int(${out.h}, p_first + ${strip});
    const int k_first = slice * ${chunk * kb}, k_last = rg_min_int(${w0.kp}, k_first + ${chunk * kb});
% for s = 0, last - 1 do
%     local op = operand[s]
%     if op.plain then
    const float *const x${s} = a[${op.arg}] + (long)nb * ${op.site.h * op.site.w * 16 * op.cp};
%     else
    float *const x${s} = ${L.plus("scratch", op.offset)}; /* ring of ${op.rows} rows */
%     end
% end
    ${L.conv_begin(k, operand, "slice == 0")}
    for (int p0 = p_first; p0 < p_last; p0 += ${pr}) {
        const int p1 = rg_min_int(p_last, p0 + ${pr});
% for s = 0, last - 1 do
        ${L.conv_bring(k, operand[s], "last_row" .. s .. "(p1 - 1)")}
% end
        for (int k = k_first; k < k_last; k += ${kb})
            for (int p = p0; p < p1; p++) {
% for i = 0, k.contr_count - 1 do
                struct row row${i}[${k.contr[i].r}];
                const int rows${i} = find_rows${i}(row${i}, x${k.contr[i].site}, a[${k.contr[i].w_arg}] + (long)k * ${k.contr[i].r * k.contr[i].s * k.site[k.contr[i].site].c}, p);
% end
                for (int q = 0; q < ${out.w}; q++) {
% local args = {}
% for i = 0, k.contr_count - 1 do
%     args[#args + 1] = string.format("row%d, rows%d, span%d", i, i, i)
                    const struct span span${i} = find_span${i}(q);
% end
                    for (int m = 0; m < 16; m += ${mr}) {
                        vf sum[${mr}][${nv}];
                        sum_taps(${table.concat(args, ", ")}, m, sum);
                        epilogue(a, ctl, nb, p, q, m, k, ${state and L.plus("scratch", operand[last].state) .. ", p == p_first && q == 0 && m == 0, " or ""}sum);
                    }
                }
            }
    }
    ${L.conv_end(k, operand, {strips = strips, out = out})}
}
