#include "rg_harness_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rg_core.h"

#ifdef RG_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

enum { ZONE = 256 }; /* bytes */

/* A NaN of every type of that width. */
static const uint32_t poison_bits = 0x7fc0dead, zone_bits = 0x7fbeefed;
static const uint16_t poison_half = 0x7fad;

/* ---- buffers ---- */

static void fill_bytes(unsigned char *at, size_t count, const void *pattern, size_t size) {
    for (size_t i = 0; i < count; i++) at[i] = ((const unsigned char *)pattern)[i % size];
}

/* With both red zones. */
static size_t block_bytes(size_t bytes) {
    return (bytes + 63) / 64 * 64 + 2 * (size_t)ZONE;
}

static bool new_buffer(rg_hbuffer *buffer, rg_ktype type, int64_t elements) {
    size_t size = (size_t)rg_ktype_bytes(type), bytes = (size_t)elements * size;
    buffer->block = aligned_alloc(64, block_bytes(bytes));
    if (!buffer->block) return false;
    buffer->type = type;
    buffer->elements = elements;
    buffer->bytes = bytes;
    buffer->data = buffer->block + ZONE;
    fill_bytes(buffer->block, block_bytes(bytes), &zone_bits, sizeof zone_bits);
    fill_bytes(buffer->data, bytes, size == 2 ? (const void *)&poison_half : &poison_bits, size);
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
        bool scratch = i == desc->arg_count;
        int64_t elements = scratch ? desc->variant.scratch_floats
                                   : rg_karg_elements(&desc->arg[i], data->ctrl.blocks);
        rg_ktype type = scratch ? RG_KTYPE_F32 : desc->arg[i].type;
        if (!new_buffer(&data->buffer[i], type, elements)) goto nomem;
        data->arg[i] = (float *)(void *)data->buffer[i].data;
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
        size_t bytes = block_bytes(buffer->bytes);
        if (on) {
            ASAN_POISON_MEMORY_REGION(buffer->block, bytes);
            ASAN_UNPOISON_MEMORY_REGION(buffer->data, buffer->bytes);
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
    unsigned char zone[ZONE], after[ZONE];
    fill_bytes(zone, ZONE, &zone_bits, sizeof zone_bits);
    /* The pattern goes on from where the buffer begins. */
    for (size_t j = 0; j < ZONE; j++) after[j] = zone[(buffer->bytes + j) % sizeof zone_bits];
    return memcmp(buffer->block, zone, ZONE) == 0 &&
           memcmp(buffer->data + buffer->bytes, after, ZONE) == 0;
}

/* ---- single elements ---- */

/* Binary16: 10 fraction bits, exponents from -14 on. */
static double from_f16(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0    ? ldexp(fraction, -24)
                  : exponent == 31 ? (fraction ? NAN : INFINITY)
                                   : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -size : size;
}

/* `v` is a number of the format. */
static uint16_t to_f16(double v) {
    double size = fabs(v);
    unsigned sign = signbit(v) ? 0x8000 : 0;
    if (isnan(v)) return 0x7fff;
    if (isinf(v)) return (uint16_t)(sign | 0x7c00);
    if (size < 0x1p-14) return (uint16_t)(sign | (unsigned)ldexp(size, 24));
    int exponent = ilogb(size);
    return (uint16_t)(sign + ((unsigned)(exponent + 14) << 10) +
                      (unsigned)ldexp(size, 10 - exponent));
}

static double from_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static uint32_t to_f32(double v) {
    float value = (float)v;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

double rg_hdata_get(const rg_hdata *data, int32_t i, int64_t at) {
    const rg_hbuffer *buffer = &data->buffer[i];
    uint16_t half = 0;
    uint32_t word = 0;
    size_t size = (size_t)rg_ktype_bytes(buffer->type);
    memcpy(size == 2 ? (void *)&half : &word, buffer->data + (size_t)at * size, size);
    switch (buffer->type) {
    case RG_KTYPE_BF16:
        return from_f32((uint32_t)half << 16);
    case RG_KTYPE_F16:
        return from_f16(half);
    case RG_KTYPE_U32:
        return word;
    default:
        return from_f32(word);
    }
}

void rg_hdata_put(rg_hdata *data, int32_t i, int64_t at, double value) {
    const rg_hbuffer *buffer = &data->buffer[i];
    size_t size = (size_t)rg_ktype_bytes(buffer->type);
    double held = rg_ktype_round(buffer->type, value);
    uint32_t word = buffer->type == RG_KTYPE_U32 ? (uint32_t)held : to_f32(held);
    uint16_t half = buffer->type == RG_KTYPE_F16 ? to_f16(held) : (uint16_t)(word >> 16);
    memcpy(buffer->data + (size_t)at * size, size == 2 ? (const void *)&half : &word, size);
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
    bool positive;     /* under a root, a logarithm, or a division */
    bool centred;      /* a mean, or that from which it is taken */
    int32_t classes;   /* above 0: whole numbers below this */
    rg_kformat format; /* a contraction takes it as it is */
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

/* Marks the arguments that hold numbers of a format where the node is such a number: no rounding
 * stands before it. */
static void mark_format(const rg_expr *expr, int32_t i, rg_kformat format, role *roles) {
    const rg_enode *node = &expr->node[i];
    if (node->op == RG_EXPR_ARG) roles[node->leaf].format = format;
    if (node->op == RG_EXPR_MAX || node->op == RG_EXPR_MIN || node->op == RG_EXPR_NEG ||
        node->op == RG_EXPR_ABS)
        mark_format(expr, node->a, format, roles);
    if (node->op == RG_EXPR_MAX || node->op == RG_EXPR_MIN || node->op == RG_EXPR_SELECT)
        mark_format(expr, node->b, format, roles);
    if (node->op == RG_EXPR_SELECT) mark_format(expr, node->c, format, roles);
}

static void find_formats(const rg_kdesc *desc, role *roles) {
    bool wgrad = desc->kind == RG_K_WGRAD;
    if (desc->kind != RG_K_CONV && !wgrad) return;
    for (int32_t i = 0; i < desc->contr_count; i++) {
        const rg_kcontr *contr = &desc->contr[i];
        const rg_ksite *site = &desc->site[contr->site];
        mark_format(&site->expr, site->root, contr->format, roles);
        if (wgrad)
            mark_format(&desc->site[1].expr, desc->site[1].root, contr->format, roles);
        else
            roles[contr->w_arg].format = contr->format;
    }
}

static void find_roles(const rg_kdesc *desc, role *roles) {
    find_formats(desc, roles);
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
    int32_t arg;
    rg_hdata *data;
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

static float unit_of(const filler *fill, int64_t index) {
    return rg_random_unit(fill->seed, RG_STREAM_TEST, (uint32_t)fill->arg, (uint64_t)index);
}

static float drawn(const filler *fill, int64_t index) {
    float unit = unit_of(fill, index);
    if (fill->role.classes > 0) return floorf(unit * (float)fill->role.classes);
    return fill->low + fill->width * unit;
}

static void put(const filler *fill, int64_t index, double value) {
    rg_hdata_put(fill->data, fill->arg, index, rg_kformat_round(fill->role.format, value));
}

static void fill_element(void *user, const rg_hplace *place) {
    const filler *fill = user;
    float value = drawn(fill, place->index);
    bool is_centred = fill->role.centred && fill->role.classes == 0;
    if (is_centred && is_far(fill, place->c)) value = far_from_zero(value);
    put(fill, place->index, (double)value);
}

/* Moments: a whole count, the same in every channel; a mean; an M2 that belongs to a variance of
 * (0.75, 1.25], or to a hundredth of it. */
static void fill_moments(const filler *fill, const rg_karg *arg, int64_t parts) {
    for (int64_t p = 0; p < parts; p++)
        for (int32_t c = 0; c < arg->cp; c++) {
            int64_t at = p * 3 * arg->cp + c;
            float count = floorf(16 + 16 * unit_of(fill, p));
            float mean = 2 * drawn(fill, (p * 3 + 1) * arg->cp + c);
            float variance = 1.25f - 0.5f * fabsf(drawn(fill, (p * 3 + 2) * arg->cp + c));
            bool far = is_far(fill, c);
            put(fill, at, (double)count);
            put(fill, at + arg->cp, (double)(far ? far_from_zero(mean) : mean));
            put(fill, at + 2 * arg->cp, (double)(count * variance * (far ? 0.01f : 1)));
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
    for (int64_t i = 0; status == RG_OK && i < to_count; i++) put(fill, i, to[i]);
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

/* Parts that the kernel writes and its tails read stay poisoned: it has to make them first. */
static rg_status fill_arg(rg_ctx *ctx, const rg_karg *arg, filler *fill, const rg_ctrl *ctrl) {
    bool parts = arg->layout == RG_LAYOUT_PART || arg->layout == RG_LAYOUT_PARTW;
    if (parts && arg->written) return RG_OK;
    set_range(fill, arg);
    if (arg->layout == RG_LAYOUT_WINO) return fill_wino(ctx, fill, arg, ctrl);
    if (arg->layout == RG_LAYOUT_PART && arg->stats == 3)
        fill_moments(fill, arg, (int64_t)arg->parts_per_block * ctrl->blocks);
    else
        rg_hvisit_elements(arg, ctrl, fill_element, fill);
    return RG_OK;
}

rg_status rg_hdata_fill(rg_ctx *ctx, const rg_kdesc *desc, uint64_t seed, rg_hdata *data) {
    int32_t own = rg_kdesc_own_args(desc); /* instances' arguments have equal roles */
    role *roles = calloc((size_t)own, sizeof *roles);
    if (!roles) return rg_nomem(ctx);
    find_roles(desc, roles);
    rg_status status = RG_OK;
    for (int32_t i = 0; status == RG_OK && i < desc->arg_count; i++) {
        filler fill = {.seed = seed, .arg = i, .data = data, .role = roles[i % own]};
        rg_hbuffer *buffer = &data->buffer[i];
        if (desc->arg[i].type == RG_KTYPE_U32) memset(buffer->data, 0, buffer->bytes);
        if (desc->kind == RG_K_INPUT && desc->arg[i].type == RG_KTYPE_U32)
            status = rg_hdata_fill_input(ctx, desc, i, seed, data);
        else if (desc->arg[i].type != RG_KTYPE_U32 && desc->arg[i].read)
            status = fill_arg(ctx, &desc->arg[i], &fill, &data->ctrl);
        buffer->hash = rg_hash_bytes(buffer->data, buffer->bytes);
    }
    free(roles);
    return status;
}
