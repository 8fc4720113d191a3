% -- The taps of contraction p.i: rows for an output row, span for an output column.
% local contr, op = k.contr[p.i], p.operand
% local site, kb, gh, gw = op.site, k.arg[contr.w_arg].kb, contr.gh, contr.gw
% local row_floats = site.w * 16 * op.cp
% local slot = op.plain and "h" or "(" .. (op.step > 1 and "h / " .. op.step or "h") .. " % " .. op.rows .. ")"
/* Rows of taps of output row p: h = ${gh.div > 1 and "(" or ""}${L.tap_numerator(gh, "p", "r")}${gh.div > 1 and ") / " .. gh.div or ""}. */
RG_INLINE int find_rows${p.i}(struct row *row, const float *x, const float *w, int p) {
    int count = 0;
    for (int r = 0; r < ${contr.r}; r++) {
        int h = ${L.tap_numerator(gh, "p", contr.r > 1 and "r" or nil)};
% if gh.div > 1 then
        if (h < 0 || h % ${gh.div} != 0) continue;
        h /= ${gh.div};
        if (h >= ${site.h}) continue;
% else
        if (h < 0 || h >= ${site.h}) continue;
% end
        row[count++] = (struct row){x + (long)${slot} * ${row_floats}, w + r * ${contr.s * site.c * kb}};
    }
    return count;
}

/* Taps of output column q: w = ${gw.div > 1 and "(" or ""}${L.tap_numerator(gw, "q", "s")}${gw.div > 1 and ") / " .. gw.div or ""}. */
RG_INLINE struct span find_span${p.i}(int q) {
    struct span span = {0, 0, 0};
    for (int s = 0; s < ${contr.s}; s++) {
        int w = ${L.tap_numerator(gw, "q", contr.s > 1 and "s" or nil)};
% if gw.div > 1 then
        if (w < 0 || w % ${gw.div} != 0) continue;
        w /= ${gw.div};
        if (w >= ${site.w}) continue;
% else
        if (w < 0 || w >= ${site.w}) continue;
% end
        if (span.count++ == 0) {
            span.first = s;
            span.at = w;
        }
    }
    return span;
}

