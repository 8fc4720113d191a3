/* The comment on top of an emitted file: formulas, counts, launch. */
#include "rg_emit_impl.h"

/* Names of arguments as they stand in formulas; more than this many are printed as arg<i>. */
enum { NAMED = 48 };
static const char *const arg_name[NAMED] = {
    "a0",  "a1",  "a2",  "a3",  "a4",  "a5",  "a6",  "a7",  "a8",  "a9",  "a10", "a11",
    "a12", "a13", "a14", "a15", "a16", "a17", "a18", "a19", "a20", "a21", "a22", "a23",
    "a24", "a25", "a26", "a27", "a28", "a29", "a30", "a31", "a32", "a33", "a34", "a35",
    "a36", "a37", "a38", "a39", "a40", "a41", "a42", "a43", "a44", "a45", "a46", "a47",
};

static const char *const layout_text[] = {
#define X(id, name) name,
    RG_LAYOUT_LIST(X)
#undef X
};
static const char *const type_text[] = {
#define X(id, name, bytes) name,
    RG_KTYPE_LIST(X)
#undef X
};
static const char *const out_text[] = {
#define X(id, name) name,
    RG_KOUT_LIST(X)
#undef X
};
static const char *const fin_text[] = {
#define X(id, name) name,
    RG_KFIN_LIST(X)
#undef X
};

/* ---- formulas ---- */

/* A node as a formula, in a comment: it must not end one. */
static void add_node(rg_text *text, const rg_kdesc *desc, const rg_ksite *site, int32_t root) {
    rg_expr_print(text, &site->expr, root, rg_kdesc_own_args(desc) <= NAMED ? arg_name : NULL);
}

static void add_axes(rg_text *text, uint32_t axes) {
    for (int i = 0; i < 4; i++)
        if (axes & 1u << i) rg_text_add(text, " %c", "NHWC"[i]);
}

static void add_outs(rg_text *text, const rg_kdesc *desc, const rg_ksite *site) {
    for (int32_t i = 0; i < site->out_count; i++) {
        const rg_kout *out = &site->out[i];
        if (out->arg >= 0)
            rg_text_add(text, " *   a%d = ", out->arg);
        else
            rg_text_add(text, " *   row%d = ", out->row);
        if (out->kind != RG_KOUT_STORE) {
            rg_text_add(text, "%s over", out_text[out->kind]);
            add_axes(text, out->axes);
            rg_text_add(text, " of ");
        }
        add_node(text, desc, site, out->root);
        rg_text_add(text, "\n");
    }
}

/* " + 2 p - r" in brackets, divided where the geometry divides. */
static void add_index(rg_text *text, const rg_kgeom *geom, char out, char tap, int32_t taps) {
    rg_text_add(text, geom->div > 1 ? ", (" : ", ");
    if (geom->mul != 1) rg_text_add(text, "%d ", geom->mul);
    rg_text_add(text, "%c", out);
    if (taps > 1) rg_text_add(text, geom->tap_mul < 0 ? " - " : " + ");
    if (taps > 1 && geom->tap_mul != 1 && geom->tap_mul != -1)
        rg_text_add(text, "%d ", geom->tap_mul < 0 ? -geom->tap_mul : geom->tap_mul);
    if (taps > 1) rg_text_add(text, "%c", tap);
    if (geom->off)
        rg_text_add(text, " %c %d", geom->off < 0 ? '-' : '+',
                    geom->off < 0 ? -geom->off : geom->off);
    if (geom->div > 1) rg_text_add(text, ")/%d", geom->div);
}

static void add_product(rg_text *text, const rg_kcontr *contr, bool wgrad) {
    rg_text_add(text, "x%d[n", contr->site);
    add_index(text, &contr->gh, 'p', 'r', contr->r);
    add_index(text, &contr->gw, 'q', 's', contr->s);
    rg_text_add(text, ", c]");
    if (wgrad)
        rg_text_add(text, " x1[n, p, q, k]");
    else if (contr->w_arg >= 0)
        rg_text_add(text, " a%d[k, r, s, c]", contr->w_arg);
}

static void add_anchor(rg_text *text, const rg_kdesc *desc) {
    static const char *const window[] = {"maximum", "sum", "gradient of the maximum"};
    if (desc->kind == RG_K_WGRAD)
        rg_text_add(text, " *   a%d[k, r, s, c] = sum over n, p, q of ", desc->contr[0].w_arg);
    else if (desc->kind == RG_K_CONV)
        rg_text_add(text, " *   acc0[n, p, q, k] = sum over r, s, c of ");
    else if (desc->kind == RG_K_WINDOW)
        rg_text_add(text, " *   acc0[n, p, q, c] = %s over r, s of ", window[desc->window]);
    else
        return;
    for (int32_t i = 0; i < desc->contr_count; i++) {
        if (desc->contr[i].acc > (i ? desc->contr[i - 1].acc : 0))
            rg_text_add(text, "\n *   acc%d[n, p, q, k] = sum over r, s, c of ",
                        desc->contr[i].acc);
        else if (i)
            rg_text_add(text, "\n *     + ");
        add_product(text, &desc->contr[i], desc->kind == RG_K_WGRAD);
    }
    rg_text_add(text, "\n");
}

static void add_fins(rg_text *text, const rg_kdesc *desc) {
    for (int32_t i = 0; i < desc->fin_count; i++)
        rg_text_add(text, " *   fin%d = %s of the parts a%d\n", i, fin_text[desc->fin[i].kind],
                    desc->fin[i].arg);
}

static void add_tails(rg_text *text, const rg_kdesc *desc) {
    rg_text_add(text, " * The block that ends last:\n");
    add_fins(text, desc);
    for (int32_t i = 0; i < desc->tail_count; i++) add_outs(text, desc, &desc->tail[i].site);
}

/* The operands x0, x1, ..., the anchor, then what is made of it. */
static void add_formulas(rg_text *text, const rg_kdesc *desc) {
    bool anchored =
        desc->kind == RG_K_CONV || desc->kind == RG_K_WGRAD || desc->kind == RG_K_WINDOW;
    if (desc->tail_count == 0) add_fins(text, desc);
    for (int32_t s = 0; s < desc->site_count; s++) {
        const rg_ksite *site = &desc->site[s];
        if (anchored && site->root >= 0) {
            rg_text_add(text, " *   x%d = ", s);
            add_node(text, desc, site, site->root);
            rg_text_add(text, "\n");
        }
        if (site->root < 0 && anchored) add_anchor(text, desc);
        add_outs(text, desc, site);
    }
    if (desc->kind == RG_K_WGRAD) add_anchor(text, desc);
    if (desc->kind == RG_K_PACK) rg_text_add(text, " *   a1 = a0 in another form\n");
    if (desc->tail_count > 0) add_tails(text, desc);
    if (desc->kind == RG_K_INPUT)
        rg_text_add(text,
                    " *   a0[n] = (resize(a2[a4[n]], a5)/255 - mean)/std, resize in bytes as PIL's "
                    "bilinear\n *   a1[n] = a3[a4[n]]\n");
}

/* ---- arguments, counts, launch ---- */

static void add_arg(rg_text *text, const rg_karg *arg, int32_t index) {
    rg_text_add(text, " *   a%-3d %s ", index, layout_text[arg->layout]);
    if (arg->type != RG_KTYPE_F32) rg_text_add(text, "%s ", type_text[arg->type]);
    switch (arg->layout) {
    case RG_LAYOUT_ACT:
        rg_text_add(text, "[N/16][%d][%d][16][%d]", arg->h, arg->w, arg->cp);
        break;
    case RG_LAYOUT_VEC:
        rg_text_add(text, "[%d]", arg->cp);
        break;
    case RG_LAYOUT_WEIGHT:
        rg_text_add(text, "[%d][%d][%d][%d][%d]", arg->kp / arg->kb, arg->r, arg->s,
                    arg->turned ? arg->k : arg->c, arg->kb);
        if (arg->turned) rg_text_add(text, " as its fprop has it");
        break;
    case RG_LAYOUT_WINO:
        rg_text_add(text, "[%d][%d][%d][%d]", (arg->h + arg->r - 1) * (arg->h + arg->r - 1),
                    arg->kp / arg->kb, arg->c, arg->kb);
        break;
    case RG_LAYOUT_PART:
        rg_text_add(text, "[%d N/16][%d][%d]", arg->parts_per_block, arg->stats, arg->cp);
        break;
    case RG_LAYOUT_PARTW:
        rg_text_add(text, "[%d N/16][%lld]", arg->parts_per_block, (long long)arg->length);
        break;
    case RG_LAYOUT_FLAT:
        rg_text_add(text, "[%lld]", (long long)arg->length);
        break;
    }
    rg_text_add(text, "%s%s\n", arg->read ? ", read" : "", arg->written ? ", written" : "");
}

static void add_counts(rg_text *text, const rg_kdesc *desc) {
    double flop = rg_kdesc_flop(desc, false), useful = rg_kdesc_flop(desc, true);
    double bytes = rg_kdesc_bytes(desc, 1);
    rg_text_add(text, " * A block of 16 images: %.4g MB of arguments", bytes / 1e6);
    if (flop > 0)
        rg_text_add(text, ", %.4g GFLOP (%.4g inside the image), %.3g FLOP a byte",
                    flop * RG_BLOCK / 1e9, useful * RG_BLOCK / 1e9, useful * RG_BLOCK / bytes);
    rg_text_add(text, ".\n");
}

static void add_launch(rg_text *text, const rg_kvariant *variant) {
    rg_text_add(text, " * Variant %s, %s", variant->name, variant->isa);
    for (int32_t i = 0; i < variant->param_count; i++)
        rg_text_add(text, "%s%s %d", i ? ", " : ": ", variant->param[i].name,
                    variant->param[i].value);
    rg_text_add(text, ". Tiles: %d a block of images, %d more. ", variant->tiles_per_block,
                variant->tiles_fixed);
    if (variant->threads)
        rg_text_add(text, "A tile is a block of %d threads, %d bytes of dynamic shared memory.\n",
                    variant->threads, variant->shared_bytes);
    else
        rg_text_add(text, "Scratch: %.4g KB a thread.\n",
                    (double)variant->scratch_floats * 4 / 1024);
}

static void add_instances(rg_text *text, const rg_kdesc *desc) {
    int32_t n = rg_kdesc_instances(desc), own = rg_kdesc_own_args(desc);
    if (n == 1) return;
    rg_text_add(text, " * %d instances, whose arguments begin at a0", n);
    for (int32_t i = 1; i < n; i++) rg_text_add(text, "%s a%d", i + 1 < n ? "," : " and", i * own);
    rg_text_add(text, ". Tile t is tile t / %d of instance t %% %d. Of the first:\n", n, n);
}

void rg_emit_header(rg_text *text, const rg_kdesc *desc, const char *symbol) {
    rg_text_add(text, "/* %s\n *\n", symbol);
    add_instances(text, desc);
    add_formulas(text, desc);
    rg_text_add(text, " *\n");
    for (int32_t i = 0; i < desc->arg_count; i++) add_arg(text, &desc->arg[i], i);
    rg_text_add(text, " *\n");
    add_counts(text, desc);
    add_launch(text, &desc->variant);
    rg_text_add(text, " */\n");
}
