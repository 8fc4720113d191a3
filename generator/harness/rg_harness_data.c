#include "rg_harness_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rg_core.h"

#ifdef RG_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

enum { ZONE = 64 }; /* floats */

static const uint32_t poison_bits = 0x7fc0dead, zone_bits = 0x7fbeefed;

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- buffers ---- */

static void fill_bits(float *at, int64_t count, uint32_t bits) {
    float value = from_bits(bits);
    for (int64_t i = 0; i < count; i++) memcpy(&at[i], &value, sizeof value);
}

/* With both red zones. */
static size_t block_bytes(int64_t floats) {
    return ((size_t)floats * sizeof(float) + 63) / 64 * 64 + 2 * ZONE * sizeof(float);
}

static bool new_buffer(rg_hbuffer *buffer, int64_t floats) {
    size_t bytes = block_bytes(floats);
    buffer->block = aligned_alloc(64, bytes);
    if (!buffer->block) return false;
    buffer->floats = floats;
    buffer->data = buffer->block + ZONE;
    fill_bits(buffer->block, (int64_t)(bytes / sizeof(float)), zone_bits);
    fill_bits(buffer->data, floats, poison_bits);
    return true;
}

static rg_ctrl control(int32_t live) {
    rg_ctrl ctrl = {.live = live, .blocks = (live + RG_BLOCK - 1) / RG_BLOCK};
    ctrl.scalar[RG_CTRL_COUNT] = (float)live;
    ctrl.scalar[RG_CTRL_INV_COUNT] = 1.0f / (float)live;
    ctrl.scalar[RG_CTRL_LR] = 0.0625f;
    ctrl.scalar[RG_CTRL_BC1] = 0.1875f;
    ctrl.scalar[RG_CTRL_BC2] = 0.125f;
    return ctrl;
}

rg_status rg_hdata_new(rg_ctx *ctx, const rg_kdesc *desc, int32_t live, rg_hdata *data) {
    *data = (rg_hdata){.count = desc->arg_count, .ctrl = control(live)};
    size_t buffers = (size_t)desc->arg_count + 1;
    data->buffer = calloc(buffers, sizeof *data->buffer);
    data->arg = calloc(buffers, sizeof *data->arg);
    if (!data->buffer || !data->arg) goto nomem;
    for (int32_t i = 0; i <= desc->arg_count; i++) {
        int64_t floats = i < desc->arg_count ? rg_karg_elements(&desc->arg[i], data->ctrl.blocks)
                                             : desc->variant.scratch_floats;
        if (!new_buffer(&data->buffer[i], floats)) goto nomem;
        data->arg[i] = data->buffer[i].data;
    }
    return RG_OK;
nomem:
    rg_hdata_free(data);
    return rg_nomem(ctx);
}

void rg_hdata_free(rg_hdata *data) {
    for (int32_t i = 0; data->buffer && i <= data->count; i++) free(data->buffer[i].block);
    free(data->buffer);
    free(data->arg);
    *data = (rg_hdata){0};
}

void rg_hdata_guard(const rg_hdata *data, bool on) {
#ifdef RG_ADDRESS_SANITIZER
    for (int32_t i = 0; i <= data->count; i++) {
        const rg_hbuffer *buffer = &data->buffer[i];
        size_t bytes = block_bytes(buffer->floats);
        if (on) {
            ASAN_POISON_MEMORY_REGION(buffer->block, bytes);
            ASAN_UNPOISON_MEMORY_REGION(buffer->data, (size_t)buffer->floats * sizeof(float));
        } else {
            ASAN_UNPOISON_MEMORY_REGION(buffer->block, bytes);
        }
    }
#else
    (void)data, (void)on;
#endif
}

bool rg_hdata_zones_whole(const rg_hdata *data, int32_t i) {
    const rg_hbuffer *buffer = &data->buffer[i];
    const float zone = from_bits(zone_bits), *after = buffer->data + buffer->floats;
    for (int j = 0; j < ZONE; j++)
        if (memcmp(&buffer->block[j], &zone, sizeof zone) != 0 ||
            memcmp(&after[j], &zone, sizeof zone) != 0)
            return false;
    return true;
}

int32_t rg_harness_tiles(const rg_kdesc *desc, int32_t blocks) {
    return desc->variant.tiles_per_block * blocks + desc->variant.tiles_fixed;
}

/* MXCSR bits: flush results (FZ), take inputs as zero (DAZ). */
unsigned rg_harness_flush(void) {
    unsigned state = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(state | 0x8040u);
    return state;
}

void rg_harness_unflush(unsigned state) {
    __builtin_ia32_ldmxcsr(state);
}

/* ---- elements ---- */

static void visit_act(const rg_karg *arg, int32_t live, rg_hvisit visit, void *user) {
    for (int32_t n = 0; n < live; n++)
        for (int32_t h = 0; h < arg->h; h++)
            for (int32_t w = 0; w < arg->w; w++)
                for (int32_t c = 0; c < arg->c; c++) {
                    rg_hplace at = {n, h, w, c, rg_karg_index(arg, n, h, w, c)};
                    visit(user, &at);
                }
}

static void visit_weight(const rg_karg *arg, rg_hvisit visit, void *user) {
    for (int32_t k = 0; k < arg->k; k++)
        for (int32_t r = 0; r < arg->r; r++)
            for (int32_t s = 0; s < arg->s; s++)
                for (int32_t c = 0; c < arg->c; c++) {
                    rg_hplace at = {k, r, s, c, rg_karg_weight_index(arg, k, r, s, c)};
                    visit(user, &at);
                }
}

static void visit_wino(const rg_karg *arg, rg_hvisit visit, void *user) {
    int32_t t = arg->h + arg->r - 1;
    for (int32_t point = 0; point < t * t; point++)
        for (int32_t k = 0; k < arg->k; k++)
            for (int32_t c = 0; c < arg->c; c++) {
                int64_t block = (int64_t)point * (arg->kp / arg->kb) + k / arg->kb;
                rg_hplace at = {k, point, 0, c, (block * arg->c + c) * arg->kb + k % arg->kb};
                visit(user, &at);
            }
}

static void visit_run(int64_t count, rg_hvisit visit, void *user) {
    for (int64_t i = 0; i < count; i++) {
        rg_hplace at = {0, 0, 0, (int32_t)i, i};
        visit(user, &at);
    }
}

void rg_hvisit_elements(const rg_karg *arg, const rg_ctrl *ctrl, rg_hvisit visit, void *user) {
    switch (arg->layout) {
    case RG_LAYOUT_ACT:
        visit_act(arg, ctrl->live, visit, user);
        break;
    case RG_LAYOUT_VEC:
        visit_run(arg->c, visit, user);
        break;
    case RG_LAYOUT_WEIGHT:
        visit_weight(arg, visit, user);
        break;
    case RG_LAYOUT_WINO:
        visit_wino(arg, visit, user);
        break;
    default:
        visit_run(rg_karg_elements(arg, ctrl->blocks), visit, user);
        break;
    }
}

/* ---- what an argument is for ---- */

typedef struct role {
    bool positive;   /* under a root, a logarithm, or a division */
    bool centred;    /* a mean, or that from which it is taken */
    int32_t classes; /* above 0: whole numbers below this */
} role;

/* Marks the arguments that must be positive for the node to be. */
static void mark_positive(const rg_expr *expr, int32_t i, const rg_kfin *fin, role *roles) {
    const rg_enode *node = &expr->node[i];
    if (node->op == RG_EXPR_ARG) roles[node->leaf].positive = true;
    if (node->op == RG_EXPR_FIN) roles[fin[node->leaf].arg].positive = true;
    bool both = node->op == RG_EXPR_ADD || node->op == RG_EXPR_MUL || node->op == RG_EXPR_MAX ||
                node->op == RG_EXPR_DIV || node->op == RG_EXPR_FMA;
    if (both) {
        mark_positive(expr, node->a, fin, roles);
        mark_positive(expr, node->b, fin, roles);
    }
    if (node->op == RG_EXPR_FMA) mark_positive(expr, node->c, fin, roles);
}

/* A label is what is compared with the channel's number. */
static void mark_label(const rg_ksite *site, const rg_enode *node, role *roles) {
    const rg_enode *a = &site->expr.node[node->a], *b = &site->expr.node[node->b];
    if (a->op == RG_EXPR_ARG && b->op == RG_EXPR_INDEX) roles[a->leaf].classes = site->c;
    if (b->op == RG_EXPR_ARG && a->op == RG_EXPR_INDEX) roles[b->leaf].classes = site->c;
}

/* x - mean: a tensor's channel less one number a channel. */
static void mark_centred(const rg_kdesc *desc, const rg_ksite *site, const rg_enode *node,
                         role *roles) {
    const rg_enode *a = &site->expr.node[node->a], *b = &site->expr.node[node->b];
    if (a->op != RG_EXPR_ARG || b->op != RG_EXPR_ARG) return;
    if (desc->arg[a->leaf].layout != RG_LAYOUT_ACT || desc->arg[b->leaf].layout != RG_LAYOUT_VEC)
        return;
    roles[a->leaf].centred = roles[b->leaf].centred = true;
}

static void find_roles(const rg_kdesc *desc, role *roles) {
    for (int32_t i = 0; i < desc->site_count; i++) {
        const rg_expr *expr = &desc->site[i].expr;
        for (int32_t j = 0; j < expr->count; j++) {
            const rg_enode *node = &expr->node[j];
            if (node->op == RG_EXPR_SQRT || node->op == RG_EXPR_RSQRT || node->op == RG_EXPR_LOG)
                mark_positive(expr, node->a, desc->fin, roles);
            if (node->op == RG_EXPR_DIV) mark_positive(expr, node->b, desc->fin, roles);
            if (node->op == RG_EXPR_EQ) mark_label(&desc->site[i], node, roles);
            if (node->op == RG_EXPR_SUB) mark_centred(desc, &desc->site[i], node, roles);
        }
    }
    if (desc->kind == RG_K_WINDOW && desc->index_arg >= 0)
        roles[desc->index_arg].classes = desc->contr[0].r * desc->contr[0].s;
}

/* ---- contents ---- */

typedef struct filler {
    uint64_t seed;
    uint32_t arg;
    float *data;
    role role;
    float low, width; /* uniform in [low, low + width) */
} filler;

/* With an odd seed every fourth channel has mean 1000 and deviations of 0.1: what a tree loses that
 * does not subtract the mean first. */
static bool is_far(const filler *fill, int32_t c) {
    return fill->seed % 2 == 1 && c % 4 == 3;
}

static float far_from_zero(float value) {
    return 1000 + 0.1f * value;
}

static float drawn(const filler *fill, int64_t index) {
    float unit = rg_random_unit(fill->seed, RG_STREAM_TEST, fill->arg, (uint64_t)index);
    if (fill->role.classes > 0) return floorf(unit * (float)fill->role.classes);
    return fill->low + fill->width * unit;
}

static void fill_element(void *user, const rg_hplace *place) {
    filler *fill = user;
    float value = drawn(fill, place->index);
    bool is_centred = fill->role.centred && fill->role.classes == 0;
    fill->data[place->index] = is_centred && is_far(fill, place->c) ? far_from_zero(value) : value;
}

/* Moments: a whole count, the same in every channel; a mean; an M2 that belongs to a variance of
 * (0.75, 1.25], or to a hundredth of it. */
static void fill_moments(const filler *fill, const rg_karg *arg, int64_t parts) {
    for (int64_t p = 0; p < parts; p++)
        for (int32_t c = 0; c < arg->cp; c++) {
            float *at = fill->data + p * 3 * arg->cp + c;
            float count = floorf(
                16 + 16 * rg_random_unit(fill->seed, RG_STREAM_TEST, fill->arg, (uint64_t)p));
            at[0] = count;
            float mean = 2 * drawn(fill, (p * 3 + 1) * arg->cp + c);
            float variance = 1.25f - 0.5f * fabsf(drawn(fill, (p * 3 + 2) * arg->cp + c));
            bool far = is_far(fill, c);
            at[arg->cp] = far ? far_from_zero(mean) : mean;
            at[2 * arg->cp] = count * variance * (far ? 0.01f : 1);
        }
}

/* Transformed weights belong to real ones: a packing kernel's description says which. */
static rg_status fill_wino(rg_ctx *ctx, const filler *fill, const rg_karg *arg,
                           const rg_ctrl *ctrl) {
    rg_karg pair[2] = {*arg, *arg};
    pair[0].layout = RG_LAYOUT_WEIGHT;
    pair[0].read = pair[1].written = true;
    rg_kdesc desc = {.kind = RG_K_PACK,
                     .name = "harness_weights",
                     .arg_count = 2,
                     .arg = pair,
                     .pack = RG_KPACK_WINO,
                     .index_arg = -1};
    int64_t from_count = rg_karg_elements(&pair[0], 1), to_count = rg_karg_elements(&pair[1], 1);
    double *from = calloc((size_t)from_count, sizeof *from),
           *to = calloc((size_t)to_count, sizeof *to);
    rg_status status = RG_E_NOMEM;
    if (!from || !to) {
        status = rg_nomem(ctx);
        goto out;
    }
    for (int64_t i = 0; i < from_count; i++) from[i] = (double)drawn(fill, i);
    status = rg_kdesc_interpret(ctx, &desc, ctrl, (double *const[]){from, to});
    for (int64_t i = 0; status == RG_OK && i < to_count; i++) fill->data[i] = (float)to[i];
out:
    free(from);
    free(to);
    return status;
}

/* Weights are scaled so that sums over their products are of the order of 1. */
static void set_range(filler *fill, const rg_karg *arg) {
    float half = 1;
    if (arg->layout == RG_LAYOUT_WEIGHT || arg->layout == RG_LAYOUT_WINO)
        half = 3 / sqrtf((float)arg->r * (float)arg->s * (float)arg->c);
    fill->low = fill->role.positive ? 0.25f : -half;
    fill->width = fill->role.positive ? 1 : 2 * half;
}

static rg_status fill_arg(rg_ctx *ctx, const rg_karg *arg, filler *fill, const rg_ctrl *ctrl) {
    set_range(fill, arg);
    if (arg->layout == RG_LAYOUT_WINO) return fill_wino(ctx, fill, arg, ctrl);
    if (arg->layout == RG_LAYOUT_PART && arg->stats == 3)
        fill_moments(fill, arg, (int64_t)arg->parts_per_block * ctrl->blocks);
    else
        rg_hvisit_elements(arg, ctrl, fill_element, fill);
    return RG_OK;
}

rg_status rg_hdata_fill(rg_ctx *ctx, const rg_kdesc *desc, uint64_t seed, rg_hdata *data) {
    role *roles = calloc((size_t)desc->arg_count, sizeof *roles);
    if (!roles) return rg_nomem(ctx);
    find_roles(desc, roles);
    rg_status status = RG_OK;
    for (int32_t i = 0; status == RG_OK && i < desc->arg_count; i++) {
        filler fill = {.seed = seed, .arg = (uint32_t)i, .data = data->arg[i], .role = roles[i]};
        if (desc->arg[i].read) status = fill_arg(ctx, &desc->arg[i], &fill, &data->ctrl);
        rg_hbuffer *buffer = &data->buffer[i];
        buffer->hash = rg_hash_bytes(buffer->data, (size_t)buffer->floats * sizeof(float));
    }
    free(roles);
    return status;
}
