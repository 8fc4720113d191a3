/* Where buffers lie: in their arena, or each in an allocation of its own, so that a kernel that
 * leaves its buffer does not find the next one. */
#include "rg_cuda_impl.h"

/* Arenas whose buffers may be moved: the others are also handed to kernels as a whole. */
static bool may_move(uint32_t arena) {
    return arena == RG_ARENA_WORK || arena == RG_ARENA_DERIVED || arena == RG_ARENA_IO;
}

static bool lies_within(const rg_plan_buffer *small, const rg_plan_buffer *large) {
    return small->arena == large->arena && small->offset >= large->offset &&
           small->offset + small->bytes <= large->offset + large->bytes;
}

/* The buffer of which this one is a part (a weight's place in the copy of all parameters), or
 * itself. In the working memory there are no parts: what overlaps there lives at another time. */
static uint32_t whole_of(const rg_plan *plan, uint32_t buffer) {
    const rg_plan_buffer *at = &plan->buffer[buffer];
    uint32_t whole = buffer;
    for (uint32_t i = 0; at->arena != RG_ARENA_WORK && i < plan->buffer_count; i++) {
        const rg_plan_buffer *other = &plan->buffer[i];
        bool larger = other->bytes > plan->buffer[whole].bytes ||
                      (other->bytes == plan->buffer[whole].bytes && i < whole);
        if (larger && lies_within(at, other)) whole = i;
    }
    return whole;
}

static rg_status alloc_one(rg_ctx *ctx, rg_cuda_exec *exec, uint32_t buffer) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_plan_buffer *at = &exec->plan->buffer[buffer];
    const char *name = rg_plan_text(exec->plan, at->name);
    size_t bytes = (size_t)at->bytes;
    if (!may_move(at->arena) || bytes == 0 || whole_of(exec->plan, buffer) != buffer) return RG_OK;
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->memory_alloc(&exec->apart[buffer], bytes),
                         "cuMemAlloc", "%zu bytes for '%s'", bytes, name));
    if (at->arena == RG_ARENA_WORK) return RG_OK;
    return rg_cuda_check(ctx, exec->api, driver->fill(exec->apart[buffer], 0, bytes), "cuMemsetD8",
                         "'%s'", name);
}

rg_status rg_cuda_apart_alloc(rg_ctx *ctx, rg_cuda_exec *exec) {
    uint32_t count = exec->plan->buffer_count;
    exec->apart = RG_NEW_ARRAY(exec->memory, rg_cu_ptr, count + 1);
    if (!exec->apart) return rg_nomem(ctx);
    for (uint32_t i = 0; i < count; i++) RG_TRY(alloc_one(ctx, exec, i));
    return RG_OK;
}

void rg_cuda_apart_free(rg_cuda_exec *exec) {
    for (uint32_t i = 0; exec->apart && i < exec->plan->buffer_count; i++)
        if (exec->apart[i]) exec->api->driver.memory_free(exec->apart[i]);
}

rg_cu_ptr rg_cuda_address(const rg_cuda_exec *exec, uint32_t buffer) {
    const rg_plan *plan = exec->plan;
    const rg_plan_buffer *at = &plan->buffer[buffer];
    uint32_t whole = exec->apart ? whole_of(plan, buffer) : buffer;
    if (exec->apart && exec->apart[whole])
        return exec->apart[whole] + (at->offset - plan->buffer[whole].offset);
    return exec->arena[at->arena] + at->offset;
}
