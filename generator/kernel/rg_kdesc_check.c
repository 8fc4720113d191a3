/* Every index in range, every arity and extent right: what the emitter and the interpreter then
 * rely on. */
#include "rg_kdesc.h"

/* What a check works on; `site` is -1 outside sites. */
typedef struct check {
    rg_ctx *ctx;
    const rg_kdesc *desc;
    int32_t site;
    int32_t
        rows; /* ROW leaves that earlier sites have made, as a count: made in the order 0, 1, ... */
    bool run; /* the site is over a run: a VEC kernel's, or a tail */
    bool tail;
} check;

#define REQUIRE(check, condition, ...)                                                             \
    do {                                                                                           \
        if (!(condition)) return refuse((check), __VA_ARGS__);                                     \
    } while (0)

static rg_status refuse(const check *check, const char *what, int32_t which) {
    if (check->site >= 0)
        return rg_fail(check->ctx, RG_E_INTERNAL, "kernel %.63s: site %d: %s (%d)",
                       check->desc->name, check->site, what, which);
    return rg_fail(check->ctx, RG_E_INTERNAL, "kernel %.63s: %s (%d)", check->desc->name, what,
                   which);
}

/* ---- arguments ---- */

/* Types other than f32 are for what is read as it lies. */
static bool type_ok(rg_kkind kind, const rg_karg *arg) {
    switch (arg->type) {
    case RG_KTYPE_F32:
        return true;
    case RG_KTYPE_BF16:
    case RG_KTYPE_F16:
        return arg->layout == RG_LAYOUT_ACT || arg->layout == RG_LAYOUT_WEIGHT ||
               arg->layout == RG_LAYOUT_FLAT;
    case RG_KTYPE_U32:
        return arg->layout == RG_LAYOUT_FLAT ||
               (kind == RG_K_INPUT && arg->layout == RG_LAYOUT_ACT);
    }
    return false;
}

static bool weight_ok(const rg_karg *arg) {
    return arg->k > 0 && arg->kp >= (arg->turned ? arg->c : arg->k) && arg->kb > 0 &&
           arg->kp % arg->kb == 0 && arg->r > 0 && arg->s > 0 && arg->c > 0;
}

static bool channels_ok(const rg_karg *arg) {
    return arg->c > 0 && arg->cp >= arg->c;
}

static bool arg_ok(const rg_karg *arg) {
    double g[8 * 8];
    switch (arg->layout) {
    case RG_LAYOUT_ACT:
        return arg->h > 0 && arg->w > 0 && channels_ok(arg);
    case RG_LAYOUT_VEC:
        return channels_ok(arg);
    case RG_LAYOUT_WEIGHT:
        return weight_ok(arg);
    case RG_LAYOUT_WINO:
        return weight_ok(arg) && arg->r == arg->s && rg_wino_weights(arg->h, arg->r, g);
    case RG_LAYOUT_PART:
        return channels_ok(arg) && (arg->stats == 1 || arg->stats == 3) && arg->parts_per_block > 0;
    case RG_LAYOUT_PARTW:
        return arg->length > 0 && arg->parts_per_block > 0;
    case RG_LAYOUT_FLAT:
        return arg->length > 0;
    }
    return false;
}

static rg_status check_args(const check *check) {
    const rg_kdesc *desc = check->desc;
    REQUIRE(check, desc->arg_count > 0 && desc->arg, "no arguments", desc->arg_count);
    for (int32_t i = 0; i < desc->arg_count; i++) {
        REQUIRE(check, arg_ok(&desc->arg[i]), "bad layout of argument", i);
        REQUIRE(check, type_ok(desc->kind, &desc->arg[i]),
                "a type that its layout has not, argument", i);
        bool weight = desc->arg[i].layout == RG_LAYOUT_WEIGHT && desc->kind == RG_K_CONV;
        REQUIRE(check, !desc->arg[i].turned || weight, "turned weights without a use, argument", i);
        REQUIRE(check, desc->arg[i].read || desc->arg[i].written, "unused argument", i);
    }
    return RG_OK;
}

/* ---- sites ---- */

static bool fits(int32_t extent, int32_t space) {
    return extent == 1 || extent == space;
}

/* Can an argument be read (or, `exact`, written) element by element over the site's space? */
static bool arg_fits(const check *check, const rg_ksite *site, int32_t index, bool exact) {
    const rg_kdesc *desc = check->desc;
    if (index < 0 || index >= desc->arg_count) return false;
    const rg_karg *arg = &desc->arg[index];
    if (check->run) {
        bool run = arg->layout == RG_LAYOUT_VEC || arg->layout == RG_LAYOUT_FLAT ||
                   arg->layout == RG_LAYOUT_WEIGHT;
        int64_t length = arg->layout == RG_LAYOUT_VEC ? arg->c : rg_karg_elements(arg, 1);
        return run && (length == site->c || (length == 1 && !exact));
    }
    if (exact)
        return arg->layout == RG_LAYOUT_ACT && arg->h == site->h && arg->w == site->w &&
               arg->c == site->c;
    if (arg->layout == RG_LAYOUT_VEC) return fits(arg->c, site->c);
    return arg->layout == RG_LAYOUT_ACT && fits(arg->h, site->h) && fits(arg->w, site->w) &&
           fits(arg->c, site->c);
}

/* Can a partial result be gathered for each element of the run? */
static bool fin_fits(const rg_kdesc *desc, const rg_ksite *site, const rg_kfin *fin) {
    const rg_karg *arg = &desc->arg[fin->arg];
    bool moments = fin->kind != RG_KFIN_SUM && fin->kind != RG_KFIN_MAX;
    if (arg->layout == RG_LAYOUT_PART)
        return fits(arg->c, site->c) && arg->stats == (moments ? 3 : 1);
    return arg->layout == RG_LAYOUT_PARTW && fin->kind == RG_KFIN_SUM && arg->length == site->c;
}

/* The results of an anchor: sums of contractions, or a maximum and its index. */
static int32_t results_of(const rg_kdesc *desc) {
    if (desc->kind == RG_K_CONV) return rg_kdesc_sums(desc);
    return desc->window == RG_KWINDOW_MAX ? 2 : 1;
}

static bool leaf_ok(const check *check, const rg_ksite *site, const rg_enode *node) {
    const rg_kdesc *desc = check->desc;
    bool anchored = !check->run && (desc->kind == RG_K_CONV || desc->kind == RG_K_WINDOW);
    int32_t leaf = node->leaf;
    switch (node->op) {
    case RG_EXPR_CONST:
        return true;
    case RG_EXPR_ARG:
        return arg_fits(check, site, leaf, false) && desc->arg[leaf].read;
    case RG_EXPR_ACC:
        return anchored && check->site == desc->site_count - 1 && leaf >= 0 &&
               leaf < results_of(desc);
    case RG_EXPR_INDEX:
        return leaf >= 0 && leaf < 4;
    case RG_EXPR_CTRL:
        return leaf >= 0 && leaf < RG_CTRL_SCALARS;
    case RG_EXPR_ROW:
        return desc->kind == RG_K_MAP && !check->run && leaf >= 0 && leaf < check->rows;
    case RG_EXPR_FIN:
        return check->run && leaf >= 0 && leaf < desc->fin_count &&
               fin_fits(desc, site, &desc->fin[leaf]);
    default:
        return false;
    }
}

static rg_status check_nodes(const check *check, const rg_ksite *site) {
    REQUIRE(check, site->expr.count >= 0 && (site->expr.node || !site->expr.count), "no nodes",
            site->expr.count);
    for (int32_t i = 0; i < site->expr.count; i++) {
        const rg_enode *node = &site->expr.node[i];
        const int32_t operand[] = {node->a, node->b, node->c};
        REQUIRE(check, (uint32_t)node->op < RG_EXPR_OP_COUNT, "unknown operator of node", i);
        int arity = rg_expr_arity(node->op);
        REQUIRE(check, arity > 0 || leaf_ok(check, site, node), "bad leaf, node", i);
        for (int j = 0; j < arity; j++)
            REQUIRE(check, operand[j] >= 0 && operand[j] < i, "bad operand of node", i);
    }
    return RG_OK;
}

/* Which axes with more than one element a reduction leaves. */
static uint32_t axes_left(const rg_ksite *site, uint32_t axes) {
    uint32_t all = RG_AXIS_N | (site->h > 1 ? RG_AXIS_H : 0) | (site->w > 1 ? RG_AXIS_W : 0) |
                   (site->c > 1 ? RG_AXIS_C : 0);
    return all & ~axes;
}

/* Over N, H and W (and C, if the result has one channel): partial results. */
static bool part_ok(const rg_karg *arg, const rg_ksite *site, const rg_kout *out) {
    uint32_t left = axes_left(site, out->axes);
    return arg->layout == RG_LAYOUT_PART && !(left & ~RG_AXIS_C) &&
           arg->c == (left ? site->c : 1) && arg->stats == (out->kind == RG_KOUT_MOMENTS ? 3 : 1);
}

/* Over H and W of each image: one value an image (and channel). */
static bool image_ok(const rg_kdesc *desc, const rg_karg *arg, const rg_ksite *site,
                     const rg_kout *out) {
    uint32_t left = axes_left(site, out->axes);
    return desc->kind == RG_K_MAP && arg->layout == RG_LAYOUT_ACT && arg->h == 1 && arg->w == 1 &&
           !(left & (RG_AXIS_H | RG_AXIS_W)) && arg->c == (left & RG_AXIS_C ? site->c : 1) &&
           out->kind != RG_KOUT_MOMENTS;
}

static rg_status check_row(check *check, const rg_ksite *site, const rg_kout *out, int32_t i,
                           int32_t *made) {
    REQUIRE(check,
            check->desc->kind == RG_K_MAP && out->axes == RG_AXIS_C && out->arg == -1 &&
                (out->kind == RG_KOUT_SUM || out->kind == RG_KOUT_MAX),
            "bad reduction over channels, output", i);
    REQUIRE(check, out->row == check->rows + *made, "row out of order, output", i);
    REQUIRE(check, site->h == check->desc->site[0].h && site->w == check->desc->site[0].w,
            "rows of other pixels, output", i);
    ++*made;
    return RG_OK;
}

static rg_status check_out(check *check, const rg_ksite *site, int32_t i, int32_t *made) {
    const rg_kdesc *desc = check->desc;
    const rg_kout *out = &site->out[i];
    REQUIRE(check, (uint32_t)out->kind <= RG_KOUT_MOMENTS, "unknown kind of output", i);
    REQUIRE(check, out->root >= 0 && out->root < site->expr.count, "bad root of output", i);
    if (out->kind != RG_KOUT_STORE && out->row >= 0) return check_row(check, site, out, i, made);
    REQUIRE(check, out->arg >= 0 && out->arg < desc->arg_count, "no argument for output", i);
    const rg_karg *arg = &desc->arg[out->arg];
    REQUIRE(check, arg->written, "argument is not written, output", i);
    if (out->kind == RG_KOUT_STORE) {
        REQUIRE(check, arg_fits(check, site, out->arg, true), "extents of output", i);
        return RG_OK;
    }
    REQUIRE(check, !check->run || (out->kind != RG_KOUT_MOMENTS && !check->tail),
            "reduction of a run, output", i);
    bool over_n = out->axes & RG_AXIS_N;
    REQUIRE(check, over_n ? part_ok(arg, site, out) : image_ok(desc, arg, site, out),
            "reduction's axes and result differ, output", i);
    return RG_OK;
}

static rg_status check_site(check *check, const rg_ksite *site) {
    int32_t made = 0;
    REQUIRE(check, site->h > 0 && site->w > 0 && site->c > 0, "no extent", site->c);
    REQUIRE(check, site->root >= -1 && site->root < site->expr.count, "bad root", site->root);
    REQUIRE(check, site->out_count >= 0 && (site->out || !site->out_count), "no outputs",
            site->out_count);
    RG_TRY(check_nodes(check, site));
    for (int32_t i = 0; i < site->out_count; i++) RG_TRY(check_out(check, site, i, &made));
    check->rows += made;
    return RG_OK;
}

/* Every site's root: set where the site is an operand, -1 elsewhere. */
static bool roots_ok(const rg_kdesc *desc, int32_t operands) {
    for (int32_t i = 0; i < desc->site_count; i++)
        if ((desc->site[i].root >= 0) != (i < operands)) return false;
    return true;
}

/* ---- anchors ---- */

static bool geom_ok(const rg_kgeom *geom) {
    return geom->mul > 0 && geom->div > 0 && geom->tap_mul != 0 &&
           (geom->mul == 1 || geom->div == 1);
}

static bool weights_match(const rg_karg *arg, int32_t k, int32_t c, const rg_kcontr *contr) {
    return arg->k == k && arg->c == c && arg->r == contr->r && arg->s == contr->s;
}

/* One format a kernel; weights that are kept in 16 bits are those of that format, gradients of
 * weights are f32. */
static bool format_ok(const rg_kcontr *contr, const rg_karg *weight, rg_kformat all) {
    bool plain = weight->type == RG_KTYPE_F32;
    return (uint32_t)contr->format <= RG_KFORMAT_F16 && contr->format == all &&
           (plain || (!weight->written && weight->type == rg_kformat_type(contr->format)));
}

static rg_status check_contr(const check *check, int32_t i) {
    const rg_kdesc *desc = check->desc;
    const rg_kcontr *contr = &desc->contr[i];
    const rg_ksite *out = &desc->site[desc->site_count - 1];
    REQUIRE(check, contr->r > 0 && contr->s > 0, "no taps in contraction", i);
    REQUIRE(check, geom_ok(&contr->gh) && geom_ok(&contr->gw), "geometry of contraction", i);
    const rg_ksite *in = &desc->site[contr->site];
    if (desc->kind == RG_K_WINDOW) {
        REQUIRE(check, contr->w_arg == -1 && in->c == out->c, "channels of window", i);
        REQUIRE(check, contr->format == RG_KFORMAT_F32, "format of a window", i);
        return RG_OK;
    }
    REQUIRE(check, contr->w_arg >= 0 && contr->w_arg < desc->arg_count, "no weights, contraction",
            i);
    const rg_karg *weight = &desc->arg[contr->w_arg];
    bool wgrad = desc->kind == RG_K_WGRAD;
    bool layout = weight->layout == RG_LAYOUT_WEIGHT ||
                  weight->layout == (wgrad ? RG_LAYOUT_PARTW : RG_LAYOUT_WINO);
    REQUIRE(check, layout && (wgrad ? weight->written : weight->read), "weights of contraction", i);
    REQUIRE(check, weights_match(weight, out->c, in->c, contr), "extents of contraction", i);
    REQUIRE(check, format_ok(contr, weight, desc->contr[0].format), "format of contraction", i);
    return RG_OK;
}

/* Prologues of the contractions: each an earlier one's or the next; sums: the one before's or the
 * next. 0: that is not so. */
static int32_t operands_of(const rg_kdesc *desc) {
    int32_t operands = 0, acc = 0;
    for (int32_t i = 0; i < desc->contr_count; i++) {
        const rg_kcontr *contr = &desc->contr[i];
        bool next = contr->acc == 1 && i > 0;
        if (contr->site < 0 || contr->site > operands) return 0;
        if (contr->acc != acc && !next) return 0;
        operands += contr->site == operands;
        acc = contr->acc;
    }
    return operands;
}

static rg_status check_anchor(const check *check) {
    const rg_kdesc *desc = check->desc;
    bool conv = desc->kind == RG_K_CONV, wgrad = desc->kind == RG_K_WGRAD;
    int32_t contrs = desc->contr_count;
    REQUIRE(check, contrs > 0 && desc->contr && (conv || contrs == 1), "contractions", contrs);
    int32_t operands = operands_of(desc);
    REQUIRE(check, operands > 0, "operands and sums of contractions", operands);
    REQUIRE(check, desc->site_count == (conv ? operands + 1 : 2), "sites", desc->site_count);
    REQUIRE(check, roots_ok(desc, wgrad ? 2 : desc->site_count - 1), "roots of sites", 0);
    for (int32_t i = 0; i < contrs; i++) RG_TRY(check_contr(check, i));
    if (desc->kind != RG_K_WINDOW) return RG_OK;
    bool grad = desc->window == RG_KWINDOW_MAXGRAD;
    REQUIRE(check, !grad || arg_fits(check, &desc->site[0], desc->index_arg, true),
            "argument of the maximum's index", desc->index_arg);
    return RG_OK;
}

/* ---- the kinds without anchor ---- */

static rg_status check_pack(const check *check) {
    const rg_kdesc *desc = check->desc;
    REQUIRE(check, desc->site_count == 0 && desc->arg_count == 2, "arguments of pack",
            desc->arg_count);
    const rg_karg *from = &desc->arg[0], *to = &desc->arg[1];
    bool turn = desc->pack != RG_KPACK_WINO;
    REQUIRE(check, from->layout == RG_LAYOUT_WEIGHT && from->read && to->written, "flow of pack",
            0);
    REQUIRE(check, to->layout == (desc->pack == RG_KPACK_TURN ? RG_LAYOUT_WEIGHT : RG_LAYOUT_WINO),
            "layout of pack", (int32_t)to->layout);
    REQUIRE(check,
            to->r == from->r && to->s == from->s && to->k == (turn ? from->c : from->k) &&
                to->c == (turn ? from->k : from->c),
            "extents of pack", to->k);
    return RG_OK;
}

static bool one_pixel(const rg_karg *arg, int32_t c) {
    return arg->layout == RG_LAYOUT_ACT && arg->type == RG_KTYPE_U32 && arg->read && arg->h == 1 &&
           arg->w == 1 && arg->cp == c;
}

static rg_status check_input(const check *check) {
    const rg_kdesc *desc = check->desc;
    const rg_kinput *input = &desc->input;
    const rg_karg *arg = desc->arg, *image = &arg[RG_KINPUT_IMAGE], *label = &arg[RG_KINPUT_LABEL];
    const rg_karg *weights = &arg[RG_KINPUT_WEIGHTS];
    REQUIRE(check, desc->site_count == 0 && desc->arg_count == RG_KINPUT_ARGS, "arguments of input",
            desc->arg_count);
    REQUIRE(check, image->layout == RG_LAYOUT_ACT && image->written && image->c <= 4,
            "image of input", image->c);
    REQUIRE(check,
            label->layout == RG_LAYOUT_ACT && label->written && label->h == 1 && label->w == 1 &&
                label->cp == 1,
            "label of input", label->cp);
    REQUIRE(check, input->h > 0 && input->w > 0 && input->taps_h > 0 && input->taps_w > 0,
            "extents of input", input->h);
    REQUIRE(check, one_pixel(&arg[RG_KINPUT_PIXELS], (image->c * input->h * input->w + 3) / 4),
            "pixels of input", arg[RG_KINPUT_PIXELS].cp);
    REQUIRE(check, one_pixel(&arg[RG_KINPUT_LABELS], 1) && one_pixel(&arg[RG_KINPUT_ORDER], 1),
            "labels or order of input", 0);
    int64_t words =
        (int64_t)image->h * (2 + input->taps_h) + (int64_t)image->w * (2 + input->taps_w);
    REQUIRE(check,
            weights->layout == RG_LAYOUT_FLAT && weights->type == RG_KTYPE_U32 &&
                weights->length == words,
            "weights of input", (int32_t)weights->length);
    return RG_OK;
}

static rg_status check_fins(const check *check) {
    const rg_kdesc *desc = check->desc;
    for (int32_t i = 0; i < desc->fin_count; i++) {
        const rg_kfin *fin = &desc->fin[i];
        REQUIRE(check, fin->arg >= 0 && fin->arg < desc->arg_count && desc->arg[fin->arg].read,
                "no argument for partial result", i);
        const rg_karg *arg = &desc->arg[fin->arg];
        REQUIRE(check, arg->written || !desc->tail_count, "partial result of another kernel", i);
        bool parts = arg->layout == RG_LAYOUT_PART || arg->layout == RG_LAYOUT_PARTW;
        REQUIRE(check, parts, "partial result without parts", i);
    }
    return RG_OK;
}

/* A run whose tails gather what it leaves: it gathers nothing itself. */
static rg_status check_leaves_parts(const check *check, const rg_ksite *site) {
    for (int32_t i = 0; i < site->expr.count; i++)
        REQUIRE(check, site->expr.node[i].op != RG_EXPR_FIN, "partial result of this launch, node",
                i);
    return RG_OK;
}

static rg_status check_vec(const check *check) {
    const rg_kdesc *desc = check->desc;
    const rg_ksite *site = &desc->site[0];
    REQUIRE(check, desc->site_count == 1 && site->h == 1 && site->w == 1, "sites of a run",
            desc->site_count);
    if (desc->tail_count) return check_leaves_parts(check, site);
    for (int32_t i = 0; i < desc->fin_count; i++)
        REQUIRE(check, fin_fits(desc, site, &desc->fin[i]), "partial result of other extent", i);
    return RG_OK;
}

/* ---- tails ---- */

static rg_status check_tail(check *check, const rg_ksite *site) {
    const rg_kdesc *desc = check->desc;
    bool wgrad = desc->kind == RG_K_WGRAD;
    REQUIRE(check, site->h == 1 && site->w == 1 && site->root == -1, "tail over no run", site->h);
    for (int32_t i = 0; i < site->expr.count; i++) {
        const rg_enode *node = &site->expr.node[i];
        if (node->op != RG_EXPR_FIN || node->leaf < 0 || node->leaf >= desc->fin_count) continue;
        const rg_karg *arg = &desc->arg[desc->fin[node->leaf].arg];
        REQUIRE(check, (arg->layout == RG_LAYOUT_PARTW) == wgrad, "parts of a tail, node", i);
    }
    return check_site(check, site);
}

static rg_status check_tails(check *check) {
    const rg_kdesc *desc = check->desc;
    if (desc->tail_count == 0) return RG_OK;
    REQUIRE(check, desc->tail_count > 0 && desc->tail && desc->kind != RG_K_PACK, "tails",
            desc->tail_count);
    REQUIRE(check, desc->kind != RG_K_WGRAD || desc->tail_count == 1, "tails of weights",
            desc->tail_count);
    REQUIRE(check, desc->counter_arg >= 0 && desc->counter_arg < desc->arg_count, "no counter",
            desc->counter_arg);
    const rg_karg *counter = &desc->arg[desc->counter_arg];
    int32_t counters = desc->variant.counters ? desc->variant.counters : 1;
    REQUIRE(check,
            counter->layout == RG_LAYOUT_FLAT && counter->type == RG_KTYPE_U32 && counter->read &&
                counter->written && counter->length >= counters,
            "bad counter", desc->counter_arg);
    check->run = check->tail = true;
    for (check->site = 0; check->site < desc->tail_count; check->site++)
        RG_TRY(check_tail(check, &desc->tail[check->site].site));
    return RG_OK;
}

static rg_status check_kind(const check *check) {
    const rg_kdesc *desc = check->desc;
    switch (desc->kind) {
    case RG_K_CONV:
    case RG_K_WGRAD:
    case RG_K_WINDOW:
        return check_anchor(check);
    case RG_K_MAP:
        REQUIRE(check, desc->site_count > 0 && roots_ok(desc, 0), "sites", desc->site_count);
        return RG_OK;
    case RG_K_VEC:
        return check_vec(check);
    case RG_K_PACK:
        return check_pack(check);
    case RG_K_INPUT:
        return check_input(check);
    }
    return refuse(check, "unknown kind", (int32_t)desc->kind);
}

/* ---- instances ---- */

static bool is_like(const rg_karg *a, const rg_karg *b) {
    return a->read == b->read && a->written == b->written && rg_karg_same_layout(a, b);
}

static rg_status check_instances(const check *check) {
    const rg_kdesc *desc = check->desc;
    int32_t own = rg_kdesc_own_args(desc);
    REQUIRE(check, desc->instances >= 0 && own * rg_kdesc_instances(desc) == desc->arg_count,
            "arguments of instances", desc->arg_count);
    for (int32_t i = own; i < desc->arg_count; i++)
        REQUIRE(check, is_like(&desc->arg[i], &desc->arg[i % own]),
                "an argument is not like that of the first instance", i);
    return RG_OK;
}

/* Of one instance. */
static rg_status check_first(rg_ctx *ctx, const rg_kdesc *desc) {
    check check = {.ctx = ctx, .desc = desc, .site = -1, .run = desc->kind == RG_K_VEC};
    REQUIRE(&check, (uint32_t)desc->kind <= RG_K_INPUT, "unknown kind", (int32_t)desc->kind);
    REQUIRE(&check, desc->site_count >= 0 && (desc->site || !desc->site_count), "sites",
            desc->site_count);
    bool gathers = desc->kind == RG_K_VEC || desc->tail_count > 0;
    REQUIRE(&check, desc->fin_count >= 0 && (gathers || !desc->fin_count), "partial results",
            desc->fin_count);
    REQUIRE(&check,
            desc->index_arg == -1 ||
                (desc->kind == RG_K_WINDOW && desc->window == RG_KWINDOW_MAXGRAD),
            "index argument without a maximum's gradient", desc->index_arg);
    RG_TRY(check_args(&check));
    RG_TRY(check_fins(&check));
    RG_TRY(check_kind(&check));
    for (check.site = 0; check.site < desc->site_count; check.site++)
        RG_TRY(check_site(&check, &desc->site[check.site]));
    return check_tails(&check);
}

rg_status rg_kdesc_check(rg_ctx *ctx, const rg_kdesc *desc) {
    const check all = {.ctx = ctx, .desc = desc, .site = -1};
    const rg_kdesc first = rg_kdesc_first(desc);
    RG_TRY(check_first(ctx, &first));
    return check_instances(&all);
}
