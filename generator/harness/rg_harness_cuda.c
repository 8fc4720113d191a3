/* A kernel on a device: arguments there, a launch, results back. */
#include "rg_harness_cuda.h"

#include "rg_harness_data.h"

static rg_status checked(rg_ctx *ctx, const rg_harness_cuda *cuda, rg_cu_result result,
                         const char *call, const char *what) {
    const char *text = NULL;
    if (result == RG_CU_SUCCESS) return RG_OK;
    cuda->api->driver.error_string(result, &text);
    return rg_fail(ctx, RG_E_DEVICE, "%s (%s): %s (error %u)", call, what,
                   text ? text : "unknown error", result);
}

rg_status rg_harness_cuda_open(rg_ctx *ctx, const rg_cuda_api *api, int ordinal,
                               rg_harness_cuda *cuda) {
    *cuda = (rg_harness_cuda){.api = api};
    RG_TRY(checked(ctx, cuda, api->driver.init(0), "cuInit", "starting the driver"));
    RG_TRY(checked(ctx, cuda, api->driver.device_get(&cuda->device, ordinal), "cuDeviceGet",
                   "the device"));
    rg_cu_context context = NULL;
    RG_TRY(checked(ctx, cuda, api->driver.context_retain(&context, cuda->device),
                   "cuDevicePrimaryCtxRetain", "the device"));
    cuda->context = context;
    rg_status status =
        checked(ctx, cuda, api->driver.context_set(context), "cuCtxSetCurrent", "the device");
    if (status != RG_OK) rg_harness_cuda_close(cuda);
    return status;
}

void rg_harness_cuda_close(rg_harness_cuda *cuda) {
    if (cuda->context) cuda->api->driver.context_release(cuda->device);
    cuda->context = NULL;
}

/* ---- one launch ---- */

/* What a launch has on the device; the control block is the last. */
typedef struct launch {
    int32_t count;
    rg_cu_ptr *at, *own; /* what the kernel gets; what was allocated */
    void **param;
} launch;

static size_t bytes_of(const rg_hdata *data, int32_t i) {
    return i < data->count ? data->buffer[i].bytes : sizeof data->ctrl;
}

static rg_status send_one(rg_ctx *ctx, const rg_harness_cuda *cuda, const rg_hdata *data,
                          const int32_t *alias, int32_t i, launch *on) {
    const rg_cuda_driver *driver = &cuda->api->driver;
    const void *from = i < data->count ? (const void *)data->arg[i] : &data->ctrl;
    on->param[i] = &on->at[i];
    if (alias && i < data->count && alias[i] != i) {
        on->at[i] = on->at[alias[i]];
        return RG_OK;
    }
    RG_TRY(checked(ctx, cuda, driver->memory_alloc(&on->own[i], bytes_of(data, i)), "cuMemAlloc",
                   "an argument"));
    on->at[i] = on->own[i];
    return checked(ctx, cuda, driver->copy_in(on->at[i], from, bytes_of(data, i)), "cuMemcpyHtoD",
                   "an argument");
}

static rg_status start(rg_ctx *ctx, const rg_harness_cuda *cuda, const rg_kdesc *desc,
                       const rg_hdata *data, launch *on) {
    const rg_cuda_driver *driver = &cuda->api->driver;
    unsigned tiles = (unsigned)rg_harness_tiles(desc, data->ctrl.blocks);
    if (tiles < 1) return rg_fail(ctx, RG_E_INTERNAL, "kernel %s has no tiles", desc->name);
    unsigned shared = (unsigned)desc->variant.shared_bytes;
    if (shared > 0)
        RG_TRY(checked(ctx, cuda,
                       driver->function_set(cuda->function,
                                            RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared),
                       "cuFuncSetAttribute", desc->name));
    RG_TRY(checked(ctx, cuda,
                   driver->launch(cuda->function, tiles, 1, 1, (unsigned)desc->variant.threads, 1,
                                  1, shared, NULL, on->param, NULL),
                   "cuLaunchKernel", desc->name));
    return checked(ctx, cuda, driver->stream_synchronize(NULL), "cuStreamSynchronize", desc->name);
}

/* Inputs come back too: they must not have changed. */
static rg_status fetch(rg_ctx *ctx, const rg_harness_cuda *cuda, rg_hdata *data, const launch *on) {
    for (int32_t i = 0; i < data->count; i++)
        RG_TRY(checked(ctx, cuda,
                       cuda->api->driver.copy_out(data->arg[i], on->at[i], bytes_of(data, i)),
                       "cuMemcpyDtoH", "an argument"));
    return RG_OK;
}

static rg_status run_loaded(rg_ctx *ctx, const rg_harness_cuda *cuda, const rg_kdesc *desc,
                            rg_hdata *data, const int32_t *alias) {
    rg_arena *arena = rg_arena_new();
    if (!arena) return rg_nomem(ctx);
    launch on = {.count = data->count + 1};
    on.at = RG_NEW_ARRAY(arena, rg_cu_ptr, on.count);
    on.own = RG_NEW_ARRAY(arena, rg_cu_ptr, on.count);
    on.param = RG_NEW_ARRAY(arena, void *, on.count);
    rg_status status = on.at && on.own && on.param ? RG_OK : rg_nomem(ctx);
    for (int32_t i = 0; status == RG_OK && i < on.count; i++)
        status = send_one(ctx, cuda, data, alias, i, &on);
    if (status == RG_OK) status = start(ctx, cuda, desc, data, &on);
    if (status == RG_OK) status = fetch(ctx, cuda, data, &on);
    for (int32_t i = 0; on.own && i < on.count; i++)
        if (on.own[i]) cuda->api->driver.memory_free(on.own[i]);
    rg_arena_free(arena);
    return status;
}

/* ---- a kernel ---- */

static rg_status load(rg_ctx *ctx, rg_harness_cuda *cuda, const rg_cuda_object *object) {
    const rg_cuda_driver *driver = &cuda->api->driver;
    RG_TRY(checked(ctx, cuda, driver->module_load(&cuda->module, object->cubin), "cuModuleLoadData",
                   object->symbol));
    rg_status status =
        checked(ctx, cuda, driver->module_function(&cuda->function, cuda->module, object->symbol),
                "cuModuleGetFunction", object->symbol);
    if (status != RG_OK) driver->module_unload(cuda->module);
    return status;
}

rg_status rg_harness_cuda_run(rg_ctx *ctx, rg_harness_cuda *cuda, const rg_kdesc *desc,
                              const rg_cuda_object *object, rg_hdata *data, const int32_t *alias) {
    RG_TRY(load(ctx, cuda, object));
    rg_status status = run_loaded(ctx, cuda, desc, data, alias);
    cuda->api->driver.module_unload(cuda->module);
    return status;
}

static rg_status run_kernel(rg_ctx *ctx, void *user, const rg_kdesc *desc, uint64_t seed,
                            rg_hdata *data) {
    const rg_harness_cuda_kernel *kernel = user;
    (void)seed;
    return rg_harness_cuda_run(ctx, kernel->cuda, desc, kernel->object, data, NULL);
}

rg_harness_run rg_harness_run_cuda(rg_harness_cuda_kernel *kernel) {
    return (rg_harness_run){run_kernel, kernel};
}

static rg_status run_tiles(rg_ctx *ctx, void *user, const rg_kdesc *desc, uint64_t seed,
                           rg_hdata *data) {
    (void)seed;
    return run_loaded(ctx, user, desc, data, NULL);
}

rg_status rg_harness_cuda_check(rg_ctx *ctx, rg_harness_cuda *cuda, const rg_kdesc *desc,
                                const rg_cuda_object *object, int32_t live, uint64_t seed,
                                rg_harness_result *result) {
    const rg_harness_run run = {run_tiles, cuda};
    RG_TRY(load(ctx, cuda, object));
    rg_status status = rg_harness_check_run(ctx, desc, &run, live, seed, result);
    cuda->api->driver.module_unload(cuda->module);
    return status;
}
