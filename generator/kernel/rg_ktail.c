/* A VEC description as the tail of the kernel whose parts it gathers. */
#include <string.h>

#include "rg_kdesc.h"

enum { TAIL_FLOATS = 3 }; /* of shared memory, a thread: the statistics of moments */

/* `old` with room for `more`; NULL when memory runs out. */
static void *grown(rg_ctx *ctx, const void *old, int32_t count, int32_t more, size_t size) {
    char *list = rg_arena_alloc(ctx->arena, (size_t)(count + more + 1) * size, 8);
    if (list && count > 0) memcpy(list, old, (size_t)count * size);
    return list;
}

static bool add_args(rg_ctx *ctx, rg_kdesc *desc, const rg_kdesc *vec, int32_t *same) {
    desc->arg = grown(ctx, desc->arg, desc->arg_count, vec->arg_count, sizeof *desc->arg);
    if (!desc->arg) return false;
    for (int32_t i = 0; i < vec->arg_count; i++) {
        if (same[i] < 0) {
            same[i] = desc->arg_count++;
            desc->arg[same[i]] = vec->arg[i];
            continue;
        }
        rg_karg *arg = &desc->arg[same[i]];
        arg->read |= vec->arg[i].read;
        arg->written |= vec->arg[i].written;
    }
    return true;
}

static bool add_fins(rg_ctx *ctx, rg_kdesc *desc, const rg_kdesc *vec, const int32_t *same) {
    desc->fin = grown(ctx, desc->fin, desc->fin_count, vec->fin_count, sizeof *desc->fin);
    if (!desc->fin) return false;
    for (int32_t i = 0; i < vec->fin_count; i++)
        desc->fin[desc->fin_count++] = (rg_kfin){vec->fin[i].kind, same[vec->fin[i].arg]};
    return true;
}

/* The site with its arguments and partial results by their new numbers. */
static bool copy_site(rg_ctx *ctx, const rg_ksite *from, const int32_t *same, int32_t first_fin,
                      rg_ksite *to) {
    int32_t nodes = from->expr.count;
    *to = *from;
    to->expr.node = grown(ctx, from->expr.node, nodes, 0, sizeof *to->expr.node);
    to->out = grown(ctx, from->out, from->out_count, 0, sizeof *to->out);
    if (!to->expr.node || !to->out) return false;
    to->expr.capacity = nodes;
    for (int32_t i = 0; i < nodes; i++) {
        rg_enode *node = &to->expr.node[i];
        if (node->op == RG_EXPR_ARG) node->leaf = same[node->leaf];
        if (node->op == RG_EXPR_FIN) node->leaf += first_fin;
    }
    for (int32_t i = 0; i < to->out_count; i++) to->out[i].arg = same[to->out[i].arg];
    return true;
}

rg_status rg_kdesc_add_tail(rg_ctx *ctx, rg_kdesc *desc, const rg_kdesc *vec, int32_t *same) {
    int32_t first_fin = desc->fin_count;
    desc->tail = grown(ctx, desc->tail, desc->tail_count, 1, sizeof *desc->tail);
    if (!desc->tail || !add_args(ctx, desc, vec, same) || !add_fins(ctx, desc, vec, same) ||
        !copy_site(ctx, &vec->site[0], same, first_fin, &desc->tail[desc->tail_count].site))
        return rg_nomem(ctx);
    desc->tail_count++;
    return RG_OK;
}

rg_status rg_kdesc_add_counter(rg_ctx *ctx, rg_kdesc *desc) {
    rg_kvariant *variant = &desc->variant;
    desc->arg = grown(ctx, desc->arg, desc->arg_count, 1, sizeof *desc->arg);
    if (!desc->arg) return rg_nomem(ctx);
    desc->counter_arg = desc->arg_count++;
    desc->arg[desc->counter_arg] = (rg_karg){.layout = RG_LAYOUT_FLAT,
                                             .type = RG_KTYPE_U32,
                                             .read = true,
                                             .written = true,
                                             .length = variant->counters ? variant->counters : 1};
    int32_t bytes = TAIL_FLOATS * 4 * variant->threads;
    if (variant->shared_bytes > 0 && variant->shared_bytes < bytes) variant->shared_bytes = bytes;
    size_t length = strlen(desc->name);
    if (length + sizeof "_tail" <= sizeof desc->name) strcpy(desc->name + length, "_tail");
    return RG_OK;
}
