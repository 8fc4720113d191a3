/* Equal kernels in one launch. */
#include <stdio.h>
#include <string.h>

#include "rg_kdesc.h"

int32_t rg_kdesc_instances(const rg_kdesc *desc) {
    return desc->instances > 1 ? desc->instances : 1;
}

int32_t rg_kdesc_own_args(const rg_kdesc *desc) {
    return desc->arg_count / rg_kdesc_instances(desc);
}

rg_kdesc rg_kdesc_first(const rg_kdesc *desc) {
    rg_kdesc first = *desc;
    first.arg_count = rg_kdesc_own_args(desc);
    first.instances = 0;
    return first;
}

rg_status rg_kdesc_repeat(rg_ctx *ctx, const rg_kdesc *desc, int32_t n, rg_kdesc *all) {
    int32_t own = desc->arg_count;
    if (desc->instances > 1 || n < 2)
        return rg_fail(ctx, RG_E_INTERNAL, "kernel %.63s: %d instances of %d", desc->name, n,
                       rg_kdesc_instances(desc));
    *all = *desc;
    all->instances = n;
    all->arg_count = n * own;
    all->arg = RG_NEW_ARRAY(ctx->arena, rg_karg, all->arg_count);
    if (!all->arg) return rg_nomem(ctx);
    for (int32_t i = 0; i < all->arg_count; i++) all->arg[i] = desc->arg[i % own];
    char name[sizeof all->name + 16];
    snprintf(name, sizeof name, "%s_x%d", desc->name, n);
    if (strlen(name) < sizeof all->name) strcpy(all->name, name);
    return RG_OK;
}
