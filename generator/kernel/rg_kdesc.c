/* Canonical text, sizes and counts of a kernel description. */
#include "rg_kdesc.h"

#include <math.h>
#include <string.h>

static const char *const kind_name[] = {
#define X(id, name) name,
    RG_KKIND_LIST(X)
#undef X
};
static const char *const layout_name[] = {
#define X(id, name) name,
    RG_LAYOUT_LIST(X)
#undef X
};
static const char *const type_name[] = {
#define X(id, name, bytes) name,
    RG_KTYPE_LIST(X)
#undef X
};
static const char *const format_name[] = {
#define X(id, name) name,
    RG_KFORMAT_LIST(X)
#undef X
};
static const char *const out_name[] = {
#define X(id, name) name,
    RG_KOUT_LIST(X)
#undef X
};
static const char *const window_name[] = {
#define X(id, name) name,
    RG_KWINDOW_LIST(X)
#undef X
};
static const char *const fin_name[] = {
#define X(id, name) name,
    RG_KFIN_LIST(X)
#undef X
};
static const char *const pack_name[] = {
#define X(id, name) name,
    RG_KPACK_LIST(X)
#undef X
};

/* ---- text ---- */

/* Exact: hex floats are read back by Lua bit for bit; what has no hex form is an expression. */
static void print_number(rg_text *text, double value) {
    if (isnan(value))
        rg_text_add(text, "(0/0)");
    else if (isinf(value))
        rg_text_add(text, value > 0 ? "(1/0)" : "(-1/0)");
    else
        rg_text_add(text, "%a", value);
}

static void print_weight(rg_text *text, const rg_karg *arg) {
    rg_text_add(text, ", k = %d, kp = %d, kb = %d, r = %d, s = %d, c = %d", arg->k, arg->kp,
                arg->kb, arg->r, arg->s, arg->c);
}

/* Exactly the fields that the layout gives a meaning to, always all of them. */
static void print_arg(rg_text *text, int32_t index, const rg_karg *arg) {
    rg_text_add(text, "    [%d] = {layout = \"%s\", read = %s, written = %s", index,
                layout_name[arg->layout], arg->read ? "true" : "false",
                arg->written ? "true" : "false");
    if (arg->type != RG_KTYPE_F32) rg_text_add(text, ", type = \"%s\"", type_name[arg->type]);
    if (arg->turned) rg_text_add(text, ", turned = true");
    switch (arg->layout) {
    case RG_LAYOUT_ACT:
        rg_text_add(text, ", h = %d, w = %d, c = %d, cp = %d", arg->h, arg->w, arg->c, arg->cp);
        break;
    case RG_LAYOUT_VEC:
        rg_text_add(text, ", c = %d, cp = %d", arg->c, arg->cp);
        break;
    case RG_LAYOUT_WEIGHT:
        print_weight(text, arg);
        break;
    case RG_LAYOUT_WINO:
        print_weight(text, arg);
        rg_text_add(text, ", h = %d", arg->h);
        break;
    case RG_LAYOUT_PART:
        rg_text_add(text, ", c = %d, cp = %d, stats = %d, parts_per_block = %d", arg->c, arg->cp,
                    arg->stats, arg->parts_per_block);
        break;
    case RG_LAYOUT_PARTW:
        print_weight(text, arg);
        rg_text_add(text, ", parts_per_block = %d, length = %lld", arg->parts_per_block,
                    (long long)arg->length);
        break;
    case RG_LAYOUT_FLAT:
        rg_text_add(text, ", length = %lld", (long long)arg->length);
        break;
    }
    rg_text_add(text, "},\n");
}

static void print_node(rg_text *text, int32_t index, const rg_enode *node) {
    static const char *const operand[] = {"a", "b", "c"};
    const int32_t from[] = {node->a, node->b, node->c};
    rg_text_add(text, "%s[%d] = {op = \"%s\"", index ? ", " : "", index, rg_expr_name(node->op));
    int arity = rg_expr_arity(node->op);
    for (int i = 0; i < arity; i++) rg_text_add(text, ", %s = %d", operand[i], from[i]);
    if (node->op == RG_EXPR_CONST) {
        rg_text_add(text, ", value = ");
        print_number(text, node->value);
    } else if (arity == 0) {
        rg_text_add(text, ", leaf = %d", node->leaf);
    }
    rg_text_add(text, "}");
}

static void print_out(rg_text *text, int32_t index, const rg_kout *out) {
    static const char letter[] = "nhwc";
    rg_text_add(text, "        [%d] = {kind = \"%s\", root = %d, arg = %d, axes = \"", index,
                out_name[out->kind], out->root, out->arg);
    for (int axis = 0; axis < 4; axis++)
        if (out->axes & 1u << axis) rg_text_add(text, "%c", letter[axis]);
    rg_text_add(text, "\", row = %d},\n", out->row);
}

static void print_site(rg_text *text, int32_t index, const rg_ksite *site) {
    rg_text_add(text,
                "    [%d] = {h = %d, w = %d, c = %d, root = %d, expr_count = %d, out_count = %d,\n"
                "      expr = {",
                index, site->h, site->w, site->c, site->root, site->expr.count, site->out_count);
    for (int32_t i = 0; i < site->expr.count; i++) print_node(text, i, &site->expr.node[i]);
    rg_text_add(text, "},\n      out = {\n");
    for (int32_t i = 0; i < site->out_count; i++) print_out(text, i, &site->out[i]);
    rg_text_add(text, "      }},\n");
}

static void print_geom(rg_text *text, const char *name, const rg_kgeom *geom) {
    rg_text_add(text, ", %s = {mul = %d, tap_mul = %d, off = %d, div = %d}", name, geom->mul,
                geom->tap_mul, geom->off, geom->div);
}

static void print_contr(rg_text *text, int32_t index, const rg_kcontr *contr) {
    rg_text_add(text, "    [%d] = {site = %d, w_arg = %d, r = %d, s = %d", index, contr->site,
                contr->w_arg, contr->r, contr->s);
    if (contr->acc) rg_text_add(text, ", acc = %d", contr->acc);
    if (contr->format != RG_KFORMAT_F32)
        rg_text_add(text, ", format = \"%s\"", format_name[contr->format]);
    print_geom(text, "gh", &contr->gh);
    print_geom(text, "gw", &contr->gw);
    rg_text_add(text, "},\n");
}

static void print_variant(rg_text *text, const rg_kvariant *variant) {
    rg_text_add(text, "  variant = {name = \"%s\", file = \"%s\", isa = \"%s\",\n    param = {",
                variant->name, variant->file, variant->isa);
    for (int32_t i = 0; i < variant->param_count; i++)
        rg_text_add(text, "%s%s = %d", i ? ", " : "", variant->param[i].name,
                    variant->param[i].value);
    rg_text_add(text,
                "},\n    tiles_per_block = %d, tiles_fixed = %d, parts_per_block = %d, "
                "scratch_floats = %lld, complete = %s",
                variant->tiles_per_block, variant->tiles_fixed, variant->parts_per_block,
                (long long)variant->scratch_floats, variant->complete ? "true" : "false");
    if (variant->counters) rg_text_add(text, ", counters = %d", variant->counters);
    if (variant->threads)
        rg_text_add(text, ",\n    threads = %d, shared_bytes = %d", variant->threads,
                    variant->shared_bytes);
    rg_text_add(text, "},\n");
}

static void print_input(rg_text *text, const rg_kinput *input) {
    rg_text_add(text, "  input = {h = %d, w = %d, taps_h = %d, taps_w = %d", input->h, input->w,
                input->taps_h, input->taps_w);
    const float *const list[] = {input->mean, input->std};
    for (int i = 0; i < 2; i++) {
        rg_text_add(text, i ? ", std = {" : ", mean = {");
        for (int c = 0; c < 4; c++) {
            rg_text_add(text, "[%d] = ", c);
            print_number(text, (double)list[i][c]);
            rg_text_add(text, c < 3 ? ", " : "}");
        }
    }
    rg_text_add(text, "},\n");
}

void rg_kdesc_print(rg_text *text, const rg_kdesc *desc, bool with_variant) {
    int32_t args = rg_kdesc_own_args(desc);
    rg_text_add(text, "{\n  kind = \"%s\", name = \"%s\",\n", kind_name[desc->kind], desc->name);
    if (desc->instances > 1) rg_text_add(text, "  instances = %d,\n", desc->instances);
    rg_text_add(text, "  arg_count = %d, arg = {\n", args);
    for (int32_t i = 0; i < args; i++) print_arg(text, i, &desc->arg[i]);
    rg_text_add(text, "  },\n  site_count = %d, site = {\n", desc->site_count);
    for (int32_t i = 0; i < desc->site_count; i++) print_site(text, i, &desc->site[i]);
    rg_text_add(text, "  },\n  contr_count = %d, contr = {\n", desc->contr_count);
    for (int32_t i = 0; i < desc->contr_count; i++) print_contr(text, i, &desc->contr[i]);
    rg_text_add(text, "  },\n  fin_count = %d, fin = {\n", desc->fin_count);
    for (int32_t i = 0; i < desc->fin_count; i++)
        rg_text_add(text, "    [%d] = {kind = \"%s\", arg = %d},\n", i, fin_name[desc->fin[i].kind],
                    desc->fin[i].arg);
    rg_text_add(text, "  },\n");
    if (desc->tail_count) {
        rg_text_add(text, "  tail_count = %d, counter_arg = %d, tail = {\n", desc->tail_count,
                    desc->counter_arg);
        for (int32_t i = 0; i < desc->tail_count; i++) print_site(text, i, &desc->tail[i].site);
        rg_text_add(text, "  },\n");
    }
    if (desc->kind == RG_K_WINDOW)
        rg_text_add(text, "  window = \"%s\", index_arg = %d,\n", window_name[desc->window],
                    desc->index_arg);
    if (desc->kind == RG_K_PACK) rg_text_add(text, "  pack = \"%s\",\n", pack_name[desc->pack]);
    if (desc->kind == RG_K_INPUT) print_input(text, &desc->input);
    if (with_variant && desc->variant.name) print_variant(text, &desc->variant);
    rg_text_add(text, "}\n");
}

/* ---- sizes and counts ---- */

int32_t rg_kdesc_sums(const rg_kdesc *desc) {
    int32_t sums = 1;
    for (int32_t i = 0; i < desc->contr_count; i++)
        if (desc->contr[i].acc >= sums) sums = desc->contr[i].acc + 1;
    return sums;
}

static int64_t weight_elements(const rg_karg *arg, int64_t taps) {
    int32_t rows = arg->turned ? arg->k : arg->c;
    return (int64_t)((arg->kp + arg->kb - 1) / arg->kb) * taps * rows * arg->kb;
}

int64_t rg_ktype_bytes(rg_ktype type) {
    static const int64_t bytes[] = {
#define X(id, name, size) size,
        RG_KTYPE_LIST(X)
#undef X
    };
    return bytes[type];
}

int64_t rg_karg_bytes(const rg_karg *arg, int32_t blocks) {
    return rg_karg_elements(arg, blocks) * rg_ktype_bytes(arg->type);
}

const char *rg_kformat_name(rg_kformat format) {
    return format_name[format];
}

bool rg_kformat_find(const char *name, rg_kformat *format) {
    int i = 0, count = sizeof format_name / sizeof *format_name;
    while (i < count && strcmp(name, format_name[i]) != 0) i++;
    if (i < count) *format = (rg_kformat)i;
    return i < count;
}

rg_ktype rg_kformat_type(rg_kformat format) {
    if (format == RG_KFORMAT_BF16) return RG_KTYPE_BF16;
    return format == RG_KFORMAT_F16 ? RG_KTYPE_F16 : RG_KTYPE_F32;
}

rg_expr_op rg_kformat_rounding(rg_kformat format) {
    static const rg_expr_op op[] = {RG_EXPR_OP_COUNT, RG_EXPR_ROUND_TF32, RG_EXPR_ROUND_BF16,
                                    RG_EXPR_ROUND_F16};
    return op[format];
}

double rg_kformat_round(rg_kformat format, double v) {
    return format == RG_KFORMAT_F32 ? v : rg_expr_apply(rg_kformat_rounding(format), v, 0, 0);
}

double rg_ktype_round(rg_ktype type, double v) {
    if (type == RG_KTYPE_BF16) return rg_kformat_round(RG_KFORMAT_BF16, v);
    return type == RG_KTYPE_F16 ? rg_kformat_round(RG_KFORMAT_F16, v) : v;
}

bool rg_karg_same_layout(const rg_karg *a, const rg_karg *b) {
    return a->layout == b->layout && a->type == b->type && a->turned == b->turned && a->h == b->h &&
           a->w == b->w && a->c == b->c && a->cp == b->cp && a->k == b->k && a->kp == b->kp &&
           a->kb == b->kb && a->r == b->r && a->s == b->s && a->stats == b->stats &&
           a->parts_per_block == b->parts_per_block && a->length == b->length;
}

int64_t rg_karg_elements(const rg_karg *arg, int32_t blocks) {
    int64_t side = arg->h + arg->r - 1;
    switch (arg->layout) {
    case RG_LAYOUT_ACT:
        return (int64_t)blocks * arg->h * arg->w * RG_BLOCK * arg->cp;
    case RG_LAYOUT_VEC:
        return arg->cp;
    case RG_LAYOUT_WEIGHT:
        return weight_elements(arg, (int64_t)arg->r * arg->s);
    case RG_LAYOUT_WINO:
        return weight_elements(arg, side * side);
    case RG_LAYOUT_PART:
        return (int64_t)blocks * arg->parts_per_block * arg->stats * arg->cp;
    case RG_LAYOUT_PARTW:
        return (int64_t)blocks * arg->parts_per_block * arg->length;
    case RG_LAYOUT_FLAT:
        return arg->length;
    }
    return 0;
}

/* Pairs (output coordinate, tap) of one axis whose input coordinate exists. */
static int64_t live_taps(const rg_kgeom *geom, int32_t out, int32_t in, int32_t taps) {
    int64_t count = 0;
    for (int32_t o = 0; o < out; o++)
        for (int32_t t = 0; t < taps; t++) {
            int64_t at = (int64_t)o * geom->mul + (int64_t)t * geom->tap_mul + geom->off;
            count += at >= 0 && at % geom->div == 0 && at / geom->div < in;
        }
    return count;
}

/* A dgrad has as many products as its fprop: those of the operand's pixels with all taps. */
static int64_t all_taps(const rg_kgeom *geom, int32_t out, int32_t in, int32_t taps) {
    return (int64_t)(geom->div > 1 ? in : out) * taps;
}

double rg_kdesc_flop(const rg_kdesc *desc, bool useful) {
    if (desc->kind != RG_K_CONV && desc->kind != RG_K_WGRAD) return 0;
    const rg_ksite *out = &desc->site[desc->site_count - 1];
    int64_t (*count)(const rg_kgeom *, int32_t, int32_t, int32_t) = useful ? live_taps : all_taps;
    double flop = 0;
    for (int32_t i = 0; i < desc->contr_count; i++) {
        const rg_kcontr *contr = &desc->contr[i];
        const rg_ksite *in = &desc->site[contr->site];
        double taps = (double)count(&contr->gh, out->h, in->h, contr->r) *
                      (double)count(&contr->gw, out->w, in->w, contr->s);
        flop += 2 * taps * in->c * out->c;
    }
    return flop * rg_kdesc_instances(desc);
}

double rg_kdesc_bytes(const rg_kdesc *desc, int32_t blocks) {
    double bytes = 0;
    for (int32_t i = 0; i < desc->arg_count; i++) {
        const rg_karg *arg = &desc->arg[i];
        int passes = (arg->read ? 1 : 0) + (arg->written ? 1 : 0);
        bytes += passes * (double)rg_karg_bytes(arg, blocks);
    }
    return bytes;
}
