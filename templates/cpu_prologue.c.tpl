% -- Brings one row of operand p.operand (see L.operands) into its ring, through its prologue. Included by convolutions.
% local op = p.operand
% local site, s, cp = op.site, op.index, op.cp
% local outs = site.out_count > 0
% local step, residue = L.read_step(k, s, "w")
% local pos = {nb = "nb", h = "h", w = "w", n = "r", c = "c"}
% local state = L.state_floats(site) > 0
% local first_row, last_row = L.row_range_text(k, s)
/* First and last row of operand ${s} that output row p reads. */
RG_INLINE int first_row${s}(int p) {
    return ${first_row};
}

RG_INLINE int last_row${s}(int p) {
    return ${last_row};
}

/* Row h of operand ${s} of image block nb, into x.${outs and " own: this tile stores what the prologue keeps." or ""} */
static void prologue${s}(float *const *a, const struct rg_ctrl *ctl, int nb, int h, ${outs and "int own, " or ""}${state and "float *state, int first_row, " or ""}float *x) {
    ${L.pointers(k, L.site_args(site))}
    for (int w = ${residue}; w < ${site.w}; w += ${step})
        for (int c = 0; c < ${cp}; c += ${t.vector}) {
            ${L.site_block(k, site, {pos = pos, rows = 16, own = outs and "own" or nil, state = "state", first = "first_row && w == 0", live = "rg_live(ctl, nb * 16, 16)", root = function(v) return "rg_store(x + (w * 16 + r) * " .. cp .. " + c, " .. v .. ");" end})}
        }
}

