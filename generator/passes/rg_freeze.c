/* From a group to its kernel description. */
#include <stdio.h>
#include <string.h>

#include "rg_fuse_reach.h"

/* ---- building a description ---- */

typedef struct freezer {
    rg_ctx *ctx;
    const rg_fusion *fu;
    int32_t g, vector;
    rg_frozen *out;
    int32_t arg_capacity, out_capacity, fin_capacity;
    rg_ksite *site;
    int32_t operand; /* prologue being built, or -1 */
    int32_t *memo;   /* value -> node of the site's tree + 1 */
    int32_t *level;  /* value -> its level in a map kernel + 1; 0: not known yet */
    int32_t *row;    /* value -> ROW leaf + 1 (map groups) */
    int32_t rows;
    bool failed;
} freezer;

static int32_t round_up(int32_t n, int32_t to) {
    return (n + to - 1) / to * to;
}

/* The image keeps its three channels then. Its rounding stands for it. */
static bool only_convolutions_read(const rg_fusion *fu, rg_vid v) {
    for (int32_t i = 0; i < fu->user_count[v]; i++) {
        const rg_node *user = &fu->graph->node[fu->user[v][i]];
        bool rounded = rg_fuse_is_rounding(user) && only_convolutions_read(fu, user->out[0]);
        if (!rounded && user->op != RG_OP_CONV2D_FPROP && user->op != RG_OP_CONV2D_WGRAD)
            return false;
    }
    return true;
}

int32_t rg_fuse_padded(const rg_fusion *fu, rg_vid v, int32_t vector) {
    const rg_value *value = &fu->graph->value[v];
    int32_t c = value->type.dim[3];
    if (rg_type_is_channel(value->type)) return c == 1 ? 1 : round_up(c, vector);
    if (c == 1 && (value->kind == RG_V_INPUT || fu->home[v].site == RG_SITE_MAP)) return 1;
    if (value->kind != RG_V_INPUT) return round_up(c, vector);
    return c < vector && only_convolutions_read(fu, v) ? c : round_up(c, vector);
}

static void *grow(freezer *fz, void *old, int32_t count, int32_t *capacity, size_t size) {
    if (count < *capacity) return old;
    int32_t more = *capacity ? *capacity * 2 : 16;
    void *data = rg_arena_alloc(fz->ctx->arena, (size_t)more, size);
    if (!data) {
        fz->failed = true;
        return NULL;
    }
    if (count) memcpy(data, old, (size_t)count * size);
    *capacity = more;
    return data;
}

/* Appends an argument and what it stands for; -1 when memory runs out. */
static int32_t add_arg(freezer *fz, rg_bind bind, rg_karg arg) {
    rg_kdesc *desc = &fz->out->desc;
    int32_t capacity = fz->arg_capacity;
    rg_karg *args = grow(fz, desc->arg, desc->arg_count, &fz->arg_capacity, sizeof *args);
    rg_bind *binds = grow(fz, fz->out->bind, desc->arg_count, &capacity, sizeof *binds);
    if (!args || !binds) return -1;
    desc->arg = args;
    fz->out->bind = binds;
    desc->arg[desc->arg_count] = arg;
    fz->out->bind[desc->arg_count] = bind;
    return desc->arg_count++;
}

static int32_t find_arg(freezer *fz, rg_bind bind, bool written) {
    for (int32_t i = 0; i < fz->out->desc.arg_count; i++)
        if (fz->out->bind[i].kind == bind.kind && fz->out->bind[i].value == bind.value &&
            fz->out->desc.arg[i].written == written)
            return i;
    return -1;
}

static int32_t value_arg(freezer *fz, rg_vid v, bool written) {
    rg_bind bind = {RG_BIND_VALUE, v};
    int32_t at = find_arg(fz, bind, written);
    if (at >= 0) return at;
    rg_type type = fz->fu->graph->value[v].type;
    rg_karg arg = {.layout = RG_LAYOUT_ACT, .read = !written, .written = written};
    if (rg_type_is_channel(type)) {
        arg.layout = RG_LAYOUT_VEC;
        arg.h = arg.w = 1;
    } else {
        arg.h = type.dim[1];
        arg.w = type.dim[2];
    }
    arg.type = fz->fu->type[v];
    arg.c = type.dim[3];
    arg.cp = rg_fuse_padded(fz->fu, v, fz->vector);
    return add_arg(fz, bind, arg);
}

static int32_t part_arg(freezer *fz, const rg_node *node, bool written) {
    rg_bind bind = {RG_BIND_PART, node->out[0]};
    int32_t at = find_arg(fz, bind, written);
    if (at >= 0) return at;
    int32_t c = fz->fu->graph->value[node->out[0]].type.dim[3];
    rg_karg arg = {.layout = RG_LAYOUT_PART, .read = !written, .written = written, .h = 1, .w = 1};
    arg.c = c;
    arg.cp = c == 1 ? 1 : round_up(c, fz->vector);
    arg.stats = node->attr.reduce == RG_REDUCE_MOMENTS ? 3 : 1;
    arg.parts_per_block = 1;
    return add_arg(fz, bind, arg);
}

/* Weights as a contraction reads them, or a gradient of theirs. A dgrad reads them turned: in f32
 * those of a copy in which k and c have changed places, else the very weights of its fprop. */
static int32_t weight_arg(freezer *fz, rg_vid v, bool dgrad, bool written) {
    rg_type type = fz->fu->graph->value[v].type;
    rg_kformat format = written ? RG_KFORMAT_F32 : fz->fu->graph->format;
    rg_karg arg = {.layout = RG_LAYOUT_WEIGHT, .read = !written, .written = written};
    arg.type = rg_kformat_type(format);
    arg.turned = dgrad && format != RG_KFORMAT_F32;
    arg.k = dgrad ? type.dim[3] : type.dim[0];
    arg.c = dgrad ? type.dim[0] : type.dim[3];
    arg.r = type.dim[1];
    arg.s = type.dim[2];
    arg.kp = round_up(arg.turned ? arg.c : arg.k, fz->vector);
    arg.kb = arg.kp % (2 * fz->vector) == 0 ? 2 * fz->vector : fz->vector;
    return add_arg(fz, (rg_bind){RG_BIND_VALUE, v}, arg);
}

static int32_t fin_leaf(freezer *fz, const rg_node *node, rg_vid v) {
    rg_kfin fin = {.arg = part_arg(fz, node, false)};
    if (node->attr.reduce == RG_REDUCE_MAX) fin.kind = RG_KFIN_MAX;
    if (node->attr.reduce == RG_REDUCE_MOMENTS)
        fin.kind = v == node->out[0] ? RG_KFIN_MEAN : RG_KFIN_M2;
    rg_kdesc *desc = &fz->out->desc;
    int32_t at = 0;
    while (at < desc->fin_count && (desc->fin[at].kind != fin.kind || desc->fin[at].arg != fin.arg))
        at++;
    if (at == desc->fin_count) {
        rg_kfin *list = grow(fz, desc->fin, desc->fin_count, &fz->fin_capacity, sizeof *list);
        if (!list) return -1;
        desc->fin = list;
        desc->fin[desc->fin_count++] = fin;
    }
    return rg_expr_leaf(&fz->site->expr, RG_EXPR_FIN, at);
}

static int32_t tree(freezer *fz, rg_vid v);

static int32_t expand(freezer *fz, const rg_node *node) {
    int32_t *arg = RG_NEW_ARRAY(fz->ctx->arena, int32_t, node->in_count + 1);
    if (!arg) return -1;
    for (int32_t i = 0; i < node->in_count; i++) arg[i] = tree(fz, node->in[i]);
    for (int32_t i = 0; i < node->in_count; i++)
        if (arg[i] < 0) return -1;
    return rg_expr_graft(&fz->site->expr, &node->attr.expr, node->attr.root, arg);
}

static int32_t acc_leaf(freezer *fz, const rg_node *node, rg_vid v) {
    bool rider = fz->fu->group[fz->g].rider == fz->fu->graph->value[v].def;
    int32_t acc = rg_expr_leaf(&fz->site->expr, RG_EXPR_ACC, v == node->out[0] && !rider ? 0 : 1);
    if (node->op != RG_OP_AVGPOOL && node->op != RG_OP_AVGPOOL_GRAD) return acc;
    int32_t inv = rg_expr_const(&fz->site->expr, 1.0 / ((double)node->attr.r * node->attr.s));
    return rg_expr_binary(&fz->site->expr, RG_EXPR_MUL, acc, inv);
}

static int32_t make_tree(freezer *fz, rg_vid v) {
    const rg_fusion *fu = fz->fu;
    const rg_node *node = rg_fuse_def(fu, v);
    bool inside = rg_fuse_is_inside(fu, v, fz->g, fz->operand);
    if (!node || (fu->home[v].group >= 0 && !inside)) {
        int32_t arg = value_arg(fz, v, false);
        return arg < 0 ? -1 : rg_expr_leaf(&fz->site->expr, RG_EXPR_ARG, arg);
    }
    if (node->op == RG_OP_POINTWISE) return expand(fz, node);
    if (node->op != RG_OP_REDUCE) {
        /* what a joined contraction gives is in the accumulator already */
        bool joined = fu->joins[fu->graph->value[v].def] >= 0;
        return joined ? rg_expr_const(&fz->site->expr, 0) : acc_leaf(fz, node, v);
    }
    if (fu->home[v].site == RG_SITE_VEC) return fin_leaf(fz, node, v);
    return rg_expr_leaf(&fz->site->expr, RG_EXPR_ROW, fz->row[v] - 1);
}

/* The node of the current site's tree that gives v. */
static int32_t tree(freezer *fz, rg_vid v) {
    if (fz->memo[v]) return fz->memo[v] - 1;
    int32_t node = make_tree(fz, v);
    if (node < 0) fz->failed = true;
    fz->memo[v] = node + 1;
    return node;
}

static void open_site(freezer *fz, rg_ksite *site, int32_t h, int32_t w, int32_t c,
                      int32_t operand) {
    *site = (rg_ksite){.h = h, .w = w, .c = c, .root = -1};
    rg_expr_init(&site->expr, fz->ctx->arena);
    fz->site = site;
    fz->operand = operand;
    fz->out_capacity = 0;
    memset(fz->memo, 0, (size_t)fz->fu->graph->value_count * sizeof *fz->memo);
}

static void add_out(freezer *fz, rg_kout out) {
    rg_kout *list = grow(fz, fz->site->out, fz->site->out_count, &fz->out_capacity, sizeof *list);
    if (!list) return;
    fz->site->out = list;
    fz->site->out[fz->site->out_count++] = out;
}

static void add_store(freezer *fz, rg_vid v) {
    int32_t root = tree(fz, v);
    add_out(fz, (rg_kout){RG_KOUT_STORE, root, value_arg(fz, v, true), 0, -1});
}

static rg_kout_kind out_kind(rg_reduce_kind kind) {
    static const rg_kout_kind map[] = {RG_KOUT_SUM, RG_KOUT_MAX, RG_KOUT_MOMENTS};
    return map[kind];
}

static void add_sum(freezer *fz, const rg_node *node) {
    int32_t root = tree(fz, node->in[0]);
    int32_t arg = part_arg(fz, node, true);
    bool all = fz->fu->graph->value[node->out[0]].type.dim[3] != fz->site->c;
    uint32_t axes = RG_AXIS_N | RG_AXIS_H | RG_AXIS_W | (all ? RG_AXIS_C : 0);
    add_out(fz, (rg_kout){out_kind(node->attr.reduce), root, arg, axes, -1});
}

/* Prunes each site's tree to what its root and outputs use. */
static rg_status close_site(freezer *fz, rg_ksite *site) {
    int32_t count = site->out_count + 1;
    int32_t *roots = RG_NEW_ARRAY(fz->ctx->arena, int32_t, count);
    if (!roots || fz->failed) return rg_nomem(fz->ctx);
    for (int32_t i = 0; i < site->out_count; i++) roots[i] = site->out[i].root;
    roots[site->out_count] = site->root;
    if (rg_expr_prune(&site->expr, roots, site->root >= 0 ? count : count - 1) != RG_OK)
        return rg_nomem(fz->ctx);
    for (int32_t i = 0; i < site->out_count; i++) site->out[i].root = roots[i];
    if (site->root >= 0) site->root = roots[site->out_count];
    return RG_OK;
}

/* ---- anchored groups ---- */

static rg_kgeom geometry(const rg_attr *attr, bool dgrad) {
    if (dgrad) return (rg_kgeom){1, -attr->dilation, attr->pad, attr->stride};
    return (rg_kgeom){attr->stride, attr->dilation, -attr->pad, 1};
}

static rg_kcontr contraction(int32_t site, int32_t w, const rg_attr *attr, rg_kgeom geom) {
    return (rg_kcontr){.site = site,
                       .format = attr->format,
                       .w_arg = w,
                       .r = attr->r,
                       .s = attr->s,
                       .gh = geom,
                       .gw = geom};
}

/* `operand`: of the anchor, or RG_FUSE_JOINED_OPERAND with its value. */
static rg_status freeze_value(freezer *fz, rg_vid v, rg_ksite *site, int32_t operand) {
    rg_type type = fz->fu->graph->value[v].type;
    open_site(fz, site, type.dim[1], type.dim[2], type.dim[3], operand);
    site->root = tree(fz, v);
    const rg_home *home = &fz->fu->home[v];
    if (home->group == fz->g && home->site == RG_SITE_PROLOGUE && home->demanded) add_store(fz, v);
    return close_site(fz, site);
}

static rg_status freeze_operand(freezer *fz, const rg_node *anchor, int32_t operand) {
    return freeze_value(fz, anchor->in[operand], &fz->out->desc.site[operand], operand);
}

static void store_results(freezer *fz, const rg_node *node) {
    for (int32_t i = 0; i < node->out_count; i++)
        if (fz->fu->home[node->out[i]].demanded) add_store(fz, node->out[i]);
}

static rg_status freeze_epilogue(freezer *fz, const rg_node *anchor, rg_ksite *site) {
    const rg_fusion *fu = fz->fu;
    const rg_group *group = &fu->group[fz->g];
    rg_type type = fu->graph->value[anchor->out[0]].type;
    open_site(fz, site, type.dim[1], type.dim[2], type.dim[3], -1);
    store_results(fz, anchor);
    if (group->rider >= 0) store_results(fz, &fu->graph->node[group->rider]);
    for (int32_t i = 0; i < group->count; i++) {
        rg_vid v = group->item[i];
        const rg_node *node = rg_fuse_def(fu, v);
        if (node->op == RG_OP_REDUCE)
            add_sum(fz, node);
        else if (fu->home[v].site == RG_SITE_EPILOGUE && fu->home[v].demanded)
            add_store(fz, v);
    }
    return close_site(fz, site);
}

/* The next contraction: of the operand whose prologue is `site`, into sum `acc`. */
static void add_contraction(freezer *fz, const rg_node *node, int32_t site, int32_t acc) {
    rg_kdesc *desc = &fz->out->desc;
    rg_kgeom geom = geometry(&node->attr, fz->out->dgrad);
    int32_t w = weight_arg(fz, node->in[1], fz->out->dgrad, false);
    rg_kcontr *contr = &desc->contr[desc->contr_count++];
    *contr = contraction(site, w, &node->attr, geom);
    contr->acc = acc;
}

static rg_status freeze_contraction(freezer *fz, const rg_node *node, int32_t operand) {
    rg_kdesc *desc = &fz->out->desc;
    int32_t site = desc->site_count++;
    RG_TRY(freeze_value(fz, node->in[0], &desc->site[site], operand));
    add_contraction(fz, node, site, 0);
    return RG_OK;
}

static rg_status freeze_conv(freezer *fz, const rg_node *anchor) {
    rg_kdesc *desc = &fz->out->desc;
    desc->kind = RG_K_CONV;
    fz->out->dgrad = anchor->op == RG_OP_CONV2D_DGRAD;
    RG_TRY(freeze_contraction(fz, anchor, 0));
    const rg_group *group = &fz->fu->group[fz->g];
    const rg_node *node = fz->fu->graph->node;
    if (group->joined >= 0)
        RG_TRY(freeze_contraction(fz, &node[group->joined], RG_FUSE_JOINED_OPERAND));
    if (group->rider >= 0) add_contraction(fz, &node[group->rider], 0, 1);
    int32_t epilogue = desc->site_count++;
    return freeze_epilogue(fz, anchor, &desc->site[epilogue]);
}

static rg_status freeze_wgrad(freezer *fz, const rg_node *anchor) {
    rg_kdesc *desc = &fz->out->desc;
    desc->kind = RG_K_WGRAD;
    desc->site_count = 2;
    desc->contr_count = 1;
    RG_TRY(freeze_operand(fz, anchor, 0));
    RG_TRY(freeze_operand(fz, anchor, 1));
    rg_kgeom geom = geometry(&anchor->attr, false);
    int32_t w = weight_arg(fz, anchor->out[0], false, true);
    desc->contr[0] = contraction(0, w, &anchor->attr, geom);
    return fz->failed ? rg_nomem(fz->ctx) : RG_OK;
}

static rg_status freeze_window(freezer *fz, const rg_node *anchor) {
    rg_kdesc *desc = &fz->out->desc;
    bool grad = anchor->op == RG_OP_MAXPOOL_GRAD || anchor->op == RG_OP_AVGPOOL_GRAD;
    desc->kind = RG_K_WINDOW;
    desc->window = anchor->op == RG_OP_MAXPOOL        ? RG_KWINDOW_MAX
                   : anchor->op == RG_OP_MAXPOOL_GRAD ? RG_KWINDOW_MAXGRAD
                                                      : RG_KWINDOW_SUM;
    desc->site_count = 2;
    desc->contr_count = 1;
    RG_TRY(freeze_operand(fz, anchor, 0));
    if (desc->window == RG_KWINDOW_MAXGRAD) desc->index_arg = value_arg(fz, anchor->in[1], false);
    rg_kgeom geom = geometry(&anchor->attr, grad);
    desc->contr[0] = contraction(0, -1, &anchor->attr, geom);
    return freeze_epilogue(fz, anchor, &desc->site[1]);
}

/* ---- map groups ---- */

/* Stages before v can be formed: one more than the latest reduction over channels that its tree
 * reads. */
static int32_t level_of(const freezer *fz, rg_vid v) {
    if (fz->level[v]) return fz->level[v] - 1;
    const rg_node *node = rg_fuse_def(fz->fu, v);
    bool inside = rg_fuse_is_inside(fz->fu, v, fz->g, -1);
    if (!node || (fz->fu->home[v].group >= 0 && !inside)) return 0;
    bool row = node->op == RG_OP_REDUCE;
    int32_t level = 0;
    for (int32_t i = 0; i < node->in_count; i++) {
        int32_t below = level_of(fz, node->in[i]);
        if (below > level) level = below;
    }
    level += row;
    fz->level[v] = level + 1;
    return level;
}

/* One thing to do in a map kernel: its level, its channels. */
typedef struct map_item {
    rg_vid v;
    int32_t level, c;
    bool store_row; /* a reduction over channels that others read: stored in a stage of its own */
} map_item;

static int32_t list_items(const freezer *fz, map_item *list) {
    const rg_group *group = &fz->fu->group[fz->g];
    int32_t count = 0;
    for (int32_t i = 0; i < group->count; i++) {
        rg_vid v = group->item[i];
        const rg_node *node = rg_fuse_def(fz->fu, v);
        bool reduce = node->op == RG_OP_REDUCE;
        rg_vid space = reduce ? node->in[0] : v;
        int32_t c = fz->fu->graph->value[space].type.dim[3];
        bool demanded = fz->fu->home[v].demanded;
        if (!reduce && !demanded) continue;
        list[count++] = (map_item){v, level_of(fz, space), c, false};
        if (reduce && rg_fuse_is_row_reduce(node) && demanded)
            list[count++] = (map_item){v, level_of(fz, v), 1, true};
    }
    return count;
}

static void add_map_out(freezer *fz, const map_item *item) {
    const rg_node *node = rg_fuse_def(fz->fu, item->v);
    if (node->op != RG_OP_REDUCE || item->store_row) {
        add_store(fz, item->v);
    } else if (rg_fuse_is_row_reduce(node)) {
        add_out(fz, (rg_kout){out_kind(node->attr.reduce), tree(fz, node->in[0]), -1, RG_AXIS_C,
                              fz->rows});
        fz->row[item->v] = ++fz->rows;
    } else if (rg_fuse_is_channel_sum(fz->fu->graph, node)) {
        add_sum(fz, node);
    } else { /* over each image's pixels */
        int32_t root = tree(fz, node->in[0]), arg = value_arg(fz, item->v, true);
        add_out(fz, (rg_kout){out_kind(node->attr.reduce), root, arg, RG_AXIS_H | RG_AXIS_W, -1});
    }
}

static rg_status freeze_map(freezer *fz) {
    rg_kdesc *desc = &fz->out->desc;
    const rg_group *group = &fz->fu->group[fz->g];
    map_item *list = RG_NEW_ARRAY(fz->ctx->arena, map_item, 2 * group->count + 1);
    if (!list) return rg_nomem(fz->ctx);
    int32_t count = list_items(fz, list), levels = 0, widest = 1;
    desc->kind = RG_K_MAP;
    desc->site = RG_NEW_ARRAY(fz->ctx->arena, rg_ksite, 2 * count + 1);
    if (!desc->site) return rg_nomem(fz->ctx);
    for (int32_t i = 0; i < count; i++) {
        if (list[i].level > levels) levels = list[i].level;
        if (list[i].c > widest) widest = list[i].c;
    }
    const rg_node *first = rg_fuse_def(fz->fu, group->item[0]);
    rg_type space =
        fz->fu->graph->value[first->op == RG_OP_REDUCE ? first->in[0] : group->item[0]].type;
    for (int32_t level = 0; level <= levels; level++)
        for (int32_t c = 1; c <= widest; c = c == 1 && widest > 1 ? widest : widest + 1) {
            rg_ksite *site = &desc->site[desc->site_count];
            open_site(fz, site, space.dim[1], space.dim[2], c, -1);
            for (int32_t i = 0; i < count; i++)
                if (list[i].level == level && list[i].c == c) add_map_out(fz, &list[i]);
            if (site->out_count == 0) continue;
            RG_TRY(close_site(fz, site));
            desc->site_count++;
        }
    return fz->failed ? rg_nomem(fz->ctx) : RG_OK;
}

static rg_status freeze_vec(freezer *fz) {
    rg_kdesc *desc = &fz->out->desc;
    const rg_group *group = &fz->fu->group[fz->g];
    desc->kind = RG_K_VEC;
    desc->site_count = 1;
    open_site(fz, desc->site, 1, 1, fz->fu->graph->value[group->item[0]].type.dim[3], -1);
    for (int32_t i = 0; i < group->count; i++)
        if (fz->fu->home[group->item[i]].demanded) add_store(fz, group->item[i]);
    return close_site(fz, desc->site);
}

/* ---- names ---- */

static bool has_sum(const rg_ksite *site, bool moments) {
    for (int32_t i = 0; i < site->out_count; i++) {
        rg_kout_kind kind = site->out[i].kind;
        if (kind != RG_KOUT_STORE && (kind == RG_KOUT_MOMENTS) == moments) return true;
    }
    return false;
}

static void name_kernel(freezer *fz, const rg_node *anchor) {
    rg_kdesc *desc = &fz->out->desc;
    bool pre = false, post = false, sum = false, moments = false;
    for (int32_t i = 0; i < desc->site_count; i++) {
        const rg_ksite *site = &desc->site[i];
        bool maths =
            site->expr.count > 0 && rg_expr_arity(site->expr.node[site->expr.count - 1].op) > 0;
        if (site->root >= 0)
            pre |= maths;
        else
            post |= maths;
        sum |= has_sum(site, false);
        moments |= has_sum(site, true);
    }
    const char *stem = anchor ? rg_op_name(anchor->op) : desc->kind == RG_K_MAP ? "map" : "channel";
    snprintf(desc->name, sizeof desc->name, "%s%s%s%s%s%s", stem,
             rg_kdesc_sums(desc) > 1 ? "_rider" : "", pre ? "_pre" : "",
             post && anchor ? "_post" : "", moments ? "_moments" : "", sum ? "_sum" : "");
}

static rg_status freeze_anchored(freezer *fz, const rg_node *anchor, rg_kkind kind) {
    if (kind == RG_K_CONV) return freeze_conv(fz, anchor);
    if (kind == RG_K_WGRAD) return freeze_wgrad(fz, anchor);
    return freeze_window(fz, anchor);
}

static rg_status freeze_free(freezer *fz, rg_kkind kind) {
    if (kind == RG_K_MAP) return freeze_map(fz);
    if (kind == RG_K_VEC) return freeze_vec(fz);
    return rg_fail(fz->ctx, RG_E_INTERNAL, "freeze: group %d has no anchor", fz->g);
}

rg_status rg_freeze(rg_ctx *ctx, const rg_fusion *fu, int32_t g, int32_t vector, rg_frozen *out) {
    *out = (rg_frozen){.desc = {.index_arg = -1}};
    freezer fz = {.ctx = ctx, .fu = fu, .g = g, .vector = vector, .out = out, .operand = -1};
    fz.memo = RG_NEW_ARRAY(ctx->arena, int32_t, fu->graph->value_count + 1);
    fz.level = RG_NEW_ARRAY(ctx->arena, int32_t, fu->graph->value_count + 1);
    fz.row = RG_NEW_ARRAY(ctx->arena, int32_t, fu->graph->value_count + 1);
    out->desc.site = RG_NEW_ARRAY(ctx->arena, rg_ksite, 4);
    out->desc.contr = RG_NEW_ARRAY(ctx->arena, rg_kcontr, 2);
    if (!fz.memo || !fz.level || !fz.row || !out->desc.site || !out->desc.contr)
        return rg_nomem(ctx);
    const rg_group *group = &fu->group[g];
    const rg_node *anchor = group->anchor >= 0 ? &fu->graph->node[group->anchor] : NULL;
    RG_TRY(anchor ? freeze_anchored(&fz, anchor, group->kind) : freeze_free(&fz, group->kind));
    if (fz.failed) return rg_nomem(ctx);
    name_kernel(&fz, anchor);
    return RG_OK;
}
