/* A plan on a device: context, memory, modules, and what goes to and fro. */
#include "rg_cuda_impl.h"

#include <string.h>

static const char *const arena_name[] = {
#define X(id, name) name,
    RG_PLAN_ARENA_LIST(X)
#undef X
};

/* ---- giving back ---- */

static void free_events(rg_cuda_exec *exec) {
    const rg_cuda_driver *driver = &exec->api->driver;
    rg_cu_event const event[] = {exec->sent, exec->timer[0], exec->timer[1]};
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        if (event[i]) driver->event_destroy(event[i]);
    for (int i = 0; i < RG_CUDA_SLOTS; i++)
        if (exec->done[i]) driver->event_destroy(exec->done[i]);
}

static void free_memory(rg_cuda_exec *exec) {
    const rg_cuda_driver *driver = &exec->api->driver;
    rg_cu_ptr const device[] = {exec->twin, exec->step};
    void *const pinned[] = {exec->slots, exec->left, exec->io};
    for (int i = 0; i < RG_ARENA_COUNT; i++)
        if (exec->arena[i]) driver->memory_free(exec->arena[i]);
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) driver->memory_free(device[i]);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        if (pinned[i]) driver->host_free(pinned[i]);
}

/* Errors are left alone: after a fault on the device each of these calls repeats it. */
static void close_exec(void *self) {
    rg_cuda_exec *exec = self;
    const rg_cuda_driver *driver = &exec->api->driver;
    if (exec->stream) driver->stream_synchronize(exec->stream);
    rg_cuda_graphs_free(exec, -1);
    for (int i = 0; i < RG_CUDA_SETS; i++)
        if (exec->set[i].pixels) rg_cuda_drop(exec, i);
    free_events(exec);
    for (uint32_t i = 0; exec->module && i < exec->plan->kernel_count; i++)
        if (exec->module[i]) driver->module_unload(exec->module[i]);
    rg_cuda_apart_free(exec);
    free_memory(exec);
    if (exec->stream) driver->stream_destroy(exec->stream);
    if (exec->context) driver->context_release(exec->device);
    rg_arena_free(exec->memory);
}

/* ---- opening ---- */

static rg_status open_context(rg_ctx *ctx, rg_cuda_exec *exec, int ordinal) {
    const rg_cuda_driver *driver = &exec->api->driver;
    rg_cu_context context = NULL;
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->init(0), "cuInit", "starting the driver"));
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->device_get(&exec->device, ordinal), "cuDeviceGet",
                         "device %d", ordinal));
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->context_retain(&context, exec->device),
                         "cuDevicePrimaryCtxRetain", "device %d", ordinal));
    exec->context = context;
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->context_set(context), "cuCtxSetCurrent",
                         "device %d", ordinal));
    return rg_cuda_check(ctx, exec->api,
                         driver->stream_create(&exec->stream, RG_CU_STREAM_NON_BLOCKING),
                         "cuStreamCreate", "device %d", ordinal);
}

static rg_status open_events(rg_ctx *ctx, rg_cuda_exec *exec) {
    rg_cu_event *const event[] = {&exec->timer[0], &exec->timer[1], &exec->sent};
    for (int i = 0; i < 3 + RG_CUDA_SLOTS; i++) {
        unsigned flags = i < 2 ? RG_CU_EVENT_DEFAULT : RG_CU_EVENT_DISABLE_TIMING;
        rg_cu_event *at = i < 3 ? event[i] : &exec->done[i - 3];
        RG_TRY(rg_cuda_check(ctx, exec->api, exec->api->driver.event_create(at, flags),
                             "cuEventCreate", "event %d", i));
    }
    return RG_OK;
}

/* All arenas but the working memory begin as zeros; what lies in that one dies with its program.
 * Data sets have memory of their own. */
static rg_status alloc_arena(rg_ctx *ctx, rg_cuda_exec *exec, int arena) {
    const rg_cuda_driver *driver = &exec->api->driver;
    size_t bytes = (size_t)exec->plan->arena_bytes[arena];
    if (bytes == 0 || arena == RG_ARENA_DATA) return RG_OK;
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->memory_alloc(&exec->arena[arena], bytes),
                         "cuMemAlloc", "%.1f MiB for the arena '%s'", (double)bytes / (1 << 20),
                         arena_name[arena]));
    if (arena == RG_ARENA_WORK) return RG_OK;
    return rg_cuda_check(ctx, exec->api, driver->fill(exec->arena[arena], 0, bytes), "cuMemsetD8",
                         "the arena '%s'", arena_name[arena]);
}

static rg_status alloc_pinned(rg_ctx *ctx, rg_cuda_exec *exec, const char *what, size_t bytes,
                              void **at) {
    if (bytes == 0) bytes = 1;
    RG_TRY(rg_cuda_check(ctx, exec->api, exec->api->driver.host_alloc(at, bytes, 0),
                         "cuMemHostAlloc", "%.1f MiB for %s", (double)bytes / (1 << 20), what));
    memset(*at, 0, bytes);
    return RG_OK;
}

/* Image and label a second time: one is read while `input` writes the other. */
static rg_status alloc_twin(rg_ctx *ctx, rg_cuda_exec *exec) {
    const rg_plan *plan = exec->plan;
    const rg_cuda_driver *driver = &exec->api->driver;
    if (plan->program[RG_PP_INPUT].op_count == 0) return RG_OK;
    size_t bytes = (size_t)plan->buffer[plan->io.image].bytes;
    bytes += (size_t)plan->buffer[plan->io.label].bytes;
    RG_TRY(rg_cuda_check(ctx, exec->api, driver->memory_alloc(&exec->twin, bytes), "cuMemAlloc",
                         "%.1f MiB for the next batch", (double)bytes / (1 << 20)));
    return rg_cuda_check(ctx, exec->api, driver->fill(exec->twin, 0, bytes), "cuMemsetD8",
                         "the next batch");
}

static rg_status alloc_slots(rg_ctx *ctx, rg_cuda_exec *exec) {
    void *slots = NULL, *left = NULL;
    exec->step_bytes =
        sizeof(rg_cuda_step) + (size_t)exec->plan->max_blocks * RG_BLOCK * sizeof(uint32_t);
    RG_TRY(rg_cuda_check(ctx, exec->api,
                         exec->api->driver.memory_alloc(&exec->step, exec->step_bytes),
                         "cuMemAlloc", "the control block"));
    RG_TRY(alloc_pinned(ctx, exec, "control blocks", RG_CUDA_SLOTS * exec->step_bytes, &slots));
    exec->slots = slots;
    RG_TRY(alloc_pinned(ctx, exec, "results", RG_CUDA_RESULT_SLOTS * sizeof *exec->left, &left));
    exec->left = left;
    return RG_OK;
}

static rg_status alloc_memory(rg_ctx *ctx, rg_cuda_exec *exec) {
    for (int i = 0; i < RG_ARENA_COUNT; i++) RG_TRY(alloc_arena(ctx, exec, i));
    RG_TRY(alloc_twin(ctx, exec));
    RG_TRY(alloc_slots(ctx, exec));
    return alloc_pinned(ctx, exec, "images, labels and results",
                        (size_t)exec->plan->arena_bytes[RG_ARENA_IO], &exec->io);
}

/* More than the 48 KiB that every kernel may have must be asked for. */
static rg_status prepare_function(rg_ctx *ctx, rg_cuda_exec *exec, const rg_plan_kernel *row,
                                  rg_cu_function function) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const char *symbol = rg_plan_text(exec->plan, row->symbol);
    int most = 0;
    RG_TRY(rg_cuda_check(ctx, exec->api,
                         driver->function_get(&most, RG_CU_FUNC_MAX_THREADS_PER_BLOCK, function),
                         "cuFuncGetAttribute", "kernel '%s'", symbol));
    if (row->threads < 1 || row->threads > (uint32_t)most)
        return rg_fail(ctx, RG_E_DEVICE,
                       "kernel '%s' wants %u threads a block, as built it can have %d", symbol,
                       row->threads, most);
    if (row->shared_bytes == 0) return RG_OK;
    return rg_cuda_check(ctx, exec->api,
                         driver->function_set(function, RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                              (int)row->shared_bytes),
                         "cuFuncSetAttribute", "kernel '%s', %u bytes of shared memory", symbol,
                         row->shared_bytes);
}

static rg_status load_kernels(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_object *object) {
    const rg_cuda_driver *driver = &exec->api->driver;
    uint32_t count = exec->plan->kernel_count;
    exec->module = RG_NEW_ARRAY(exec->memory, rg_cu_module, count + 1);
    exec->function = RG_NEW_ARRAY(exec->memory, rg_cu_function, count + 1);
    if (!exec->module || !exec->function) return rg_nomem(ctx);
    for (uint32_t i = 0; i < count; i++) {
        const char *symbol = object[i].symbol;
        RG_TRY(rg_cuda_check(ctx, exec->api, driver->module_load(&exec->module[i], object[i].cubin),
                             "cuModuleLoadData", "kernel '%s'", symbol));
        RG_TRY(rg_cuda_check(ctx, exec->api,
                             driver->module_function(&exec->function[i], exec->module[i], symbol),
                             "cuModuleGetFunction", "kernel '%s'", symbol));
        RG_TRY(prepare_function(ctx, exec, &exec->plan->kernel[i], exec->function[i]));
    }
    return RG_OK;
}

/* ---- to and fro ---- */

static bool is_pinned(const rg_cuda_exec *exec, const void *at) {
    const char *io = exec->io;
    return (const char *)at >= io && (const char *)at < io + exec->plan->arena_bytes[RG_ARENA_IO];
}

static rg_status synchronize(rg_ctx *ctx, rg_cuda_exec *exec, const char *what) {
    return rg_cuda_check(ctx, exec->api, exec->api->driver.stream_synchronize(exec->stream),
                         "cuStreamSynchronize", "%s%s", what,
                         exec->stream_mode ? "" : "; --stream tells which kernel failed");
}

static rg_status finish(rg_ctx *ctx, void *self) {
    return synchronize(ctx, self, "all programs");
}

/* What a copy is of. */
typedef struct place {
    rg_cu_ptr at;
    size_t bytes;
    const char *arena;
} place;

/* Image and label are those that the next run reads. */
static place place_of(const rg_cuda_exec *exec, uint32_t buffer) {
    const rg_plan_buffer *of = &exec->plan->buffer[buffer];
    return (place){rg_cuda_seen_by(exec, buffer, exec->image), (size_t)of->bytes,
                   arena_name[of->arena]};
}

static place whole_arena(const rg_cuda_exec *exec, rg_plan_arena arena) {
    return (place){exec->arena[arena], (size_t)exec->plan->arena_bytes[arena], arena_name[arena]};
}

static rg_status copy_in(rg_ctx *ctx, rg_cuda_exec *exec, place to, const void *from) {
    if (to.bytes == 0) return RG_OK;
    RG_TRY(rg_cuda_check(ctx, exec->api,
                         exec->api->driver.copy_in_async(to.at, from, to.bytes, exec->stream),
                         "cuMemcpyHtoDAsync", "%zu bytes to the arena '%s'", to.bytes, to.arena));
    if (!is_pinned(exec, from)) return synchronize(ctx, exec, to.arena);
    exec->sending = true;
    return rg_cuda_check(ctx, exec->api, exec->api->driver.event_record(exec->sent, exec->stream),
                         "cuEventRecord", "the arena '%s'", to.arena);
}

static rg_status copy_out(rg_ctx *ctx, rg_cuda_exec *exec, place from, void *to) {
    if (from.bytes == 0) return RG_OK;
    RG_TRY(rg_cuda_check(
        ctx, exec->api, exec->api->driver.copy_out_async(to, from.at, from.bytes, exec->stream),
        "cuMemcpyDtoHAsync", "%zu bytes from the arena '%s'", from.bytes, from.arena));
    return synchronize(ctx, exec, from.arena);
}

static rg_status send(rg_ctx *ctx, void *self, uint32_t buffer, const void *from) {
    return copy_in(ctx, self, place_of(self, buffer), from);
}

static rg_status fetch(rg_ctx *ctx, void *self, uint32_t buffer, void *to) {
    return copy_out(ctx, self, place_of(self, buffer), to);
}

static rg_status send_arena(rg_ctx *ctx, void *self, rg_plan_arena arena, const void *from) {
    return copy_in(ctx, self, whole_arena(self, arena), from);
}

static rg_status fetch_arena(rg_ctx *ctx, void *self, rg_plan_arena arena, void *to) {
    return copy_out(ctx, self, whole_arena(self, arena), to);
}

static rg_status settle(rg_ctx *ctx, void *self) {
    rg_cuda_exec *exec = self;
    if (!exec->sending) return RG_OK;
    exec->sending = false;
    return rg_cuda_wait(ctx, exec, exec->sent, "images and labels");
}

static void range(void *self, const char *name) {
    rg_cuda_range(((const rg_cuda_exec *)self)->api, name);
}

/* ---- all of it ---- */

rg_status rg_cuda_backend(rg_ctx *ctx, const rg_cuda_api *api, const rg_plan *plan,
                          const rg_cuda_object *object, const rg_cuda_exec_options *options,
                          rg_exec_backend *backend) {
    if (!api->has_driver)
        return rg_fail(ctx, RG_E_UNSUPPORTED, "a plan cannot run: no CUDA driver");
    rg_arena *memory = rg_arena_new();
    rg_cuda_exec *exec = memory ? RG_NEW(memory, rg_cuda_exec) : NULL;
    if (!exec) {
        rg_arena_free(memory);
        return rg_nomem(ctx);
    }
    *exec =
        (rg_cuda_exec){.memory = memory, .api = api, .plan = plan, .stream_mode = options->stream};
    rg_status status = open_context(ctx, exec, options->ordinal);
    if (status == RG_OK) status = open_events(ctx, exec);
    if (status == RG_OK) status = alloc_memory(ctx, exec);
    if (status == RG_OK && options->apart) status = rg_cuda_apart_alloc(ctx, exec);
    if (status == RG_OK) status = load_kernels(ctx, exec, object);
    /* The fills above are on the default stream, which this one does not wait for. */
    if (status == RG_OK)
        status = rg_cuda_check(ctx, api, api->driver.stream_synchronize(NULL),
                               "cuStreamSynchronize", "the arenas");
    if (status != RG_OK) {
        close_exec(exec);
        return status;
    }
    *backend = (rg_exec_backend){.self = exec,
                                 .io = exec->io,
                                 .overlaps = !options->stream,
                                 .run = rg_cuda_run,
                                 .results = rg_cuda_results_of,
                                 .keep = rg_cuda_keep,
                                 .drop = rg_cuda_drop,
                                 .range = range,
                                 .send = send,
                                 .fetch = fetch,
                                 .send_arena = send_arena,
                                 .fetch_arena = fetch_arena,
                                 .settle = settle,
                                 .finish = finish,
                                 .close = close_exec};
    return RG_OK;
}
