/* libcuda's look-alike: device, context, memory, modules and functions. */
#include "rg_emulate_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CUctx_st {
    int unused;
};

static struct CUctx_st primary;

/* ---- device ---- */

/* Bytes a block may ask for and a multiprocessor has; the CUDA programming guide's table of compute
 * capabilities. */
static const rg_emu_arch arches[] = {
    {75, "Turing", 64 << 10, 64 << 10, 40, 1024},
    {80, "Ampere", 163 << 10, 164 << 10, 108, 2048},
    {86, "Ampere", 99 << 10, 100 << 10, 84, 1536},
    {87, "Ampere", 163 << 10, 164 << 10, 16, 1536},
    {89, "Ada", 99 << 10, 100 << 10, 142, 1536},
    {90, "Hopper", 227 << 10, 228 << 10, 132, 2048},
    {100, "Blackwell", 227 << 10, 228 << 10, 148, 2048},
    {103, "Blackwell", 227 << 10, 228 << 10, 160, 2048},
    {120, "Blackwell", 99 << 10, 100 << 10, 170, 1536},
    {121, "Blackwell", 99 << 10, 100 << 10, 48, 1536},
};

const rg_emu_arch *rg_emu_arch_of(int arch) {
    for (size_t i = 0; i < sizeof arches / sizeof *arches; i++)
        if (arches[i].arch == arch) return &arches[i];
    return NULL;
}

static rg_cu_result emu_init(unsigned flags) {
    if (rg_emu_call_fails(RG_EMU_CALL_cuInit)) return RG_CU_NO_DEVICE;
    if (flags != 0 || rg_emu.refused[0]) return RG_CU_INVALID_VALUE;
    if (!rg_emu_arch_of(rg_emu.option.arch)) return RG_CU_NO_DEVICE;
    if (!rg_emu_memory_open(rg_emu.option.memory_bytes)) return RG_CU_OUT_OF_MEMORY;
    rg_emu.initialised = true;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_driver_version(int *version) {
    if (rg_emu_call_fails(RG_EMU_CALL_cuDriverGetVersion)) return RG_CU_INVALID_VALUE;
    *version = 13000;
    return RG_CU_SUCCESS;
}

static const struct {
    rg_cu_result error;
    const char *text;
} error_texts[] = {
    {RG_CU_SUCCESS, "no error"},
    {RG_CU_INVALID_VALUE, "invalid argument"},
    {RG_CU_OUT_OF_MEMORY, "out of memory"},
    {RG_CU_NOT_INITIALIZED, "initialization error"},
    {RG_CU_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable"},
    {RG_CU_NO_DEVICE, "no CUDA-capable device is detected"},
    {RG_CU_INVALID_DEVICE, "invalid device ordinal"},
    {RG_CU_INVALID_IMAGE, "device kernel image is invalid"},
    {RG_CU_INVALID_CONTEXT, "invalid device context"},
    {RG_CU_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
    {RG_CU_INVALID_HANDLE, "invalid resource handle"},
    {RG_CU_NOT_FOUND, "named symbol not found"},
    {RG_CU_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
    {RG_CU_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"},
    {RG_CU_LAUNCH_FAILED, "unspecified launch failure"},
    {RG_CU_NOT_SUPPORTED, "operation not supported"},
};

static const char *error_text(rg_cu_result error) {
    for (size_t i = 0; i < sizeof error_texts / sizeof *error_texts; i++)
        if (error_texts[i].error == error) return error_texts[i].text;
    return NULL;
}

/* A fault's own text stands in for the driver's general one, and so does what an environment is
 * refused for. */
static rg_cu_result emu_error_string(rg_cu_result error, const char **text) {
    if (rg_emu_call_fails(RG_EMU_CALL_cuGetErrorString)) return RG_CU_INVALID_VALUE;
    *text = rg_emu.fault[0] && error == rg_emu.error ? rg_emu.fault : error_text(error);
    if (rg_emu.refused[0]) *text = rg_emu.refused;
    return *text ? RG_CU_SUCCESS : RG_CU_INVALID_VALUE;
}

static rg_cu_result emu_device_get(rg_cu_device *device, int ordinal) {
    RG_EMU_ENTER_FREE(cuDeviceGet, RG_CU_INVALID_DEVICE);
    if (ordinal != 0) return RG_CU_INVALID_DEVICE;
    *device = 0;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_device_count(int *count) {
    RG_EMU_ENTER_FREE(cuDeviceGetCount, RG_CU_NOT_INITIALIZED);
    *count = 1;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_device_name(char *name, int length, rg_cu_device device) {
    RG_EMU_ENTER_FREE(cuDeviceGetName, RG_CU_INVALID_DEVICE);
    if (device != 0 || length <= 0) return RG_CU_INVALID_VALUE;
    snprintf(name, (size_t)length, "emulated sm_%d (%s)", rg_emu.option.arch,
             rg_emu_arch_of(rg_emu.option.arch)->name);
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_device_attribute(int *value, unsigned attribute, rg_cu_device device) {
    RG_EMU_ENTER_FREE(cuDeviceGetAttribute, RG_CU_INVALID_DEVICE);
    const rg_emu_arch *arch = rg_emu_arch_of(rg_emu.option.arch);
    if (device != 0) return RG_CU_INVALID_DEVICE;
    switch (attribute) {
    case RG_CU_DEVICE_MAX_THREADS_PER_BLOCK:
        *value = RG_EMULATE_MAX_THREADS;
        break;
    case RG_CU_DEVICE_MAX_SHARED_PER_BLOCK:
        *value = 48 << 10;
        break;
    case RG_CU_DEVICE_MULTIPROCESSORS:
        *value = arch->multiprocessors;
        break;
    case RG_CU_DEVICE_MAJOR:
        *value = arch->arch / 10;
        break;
    case RG_CU_DEVICE_MINOR:
        *value = arch->arch % 10;
        break;
    case RG_CU_DEVICE_MAX_SHARED_PER_MULTIPROCESSOR:
        *value = arch->shared_multiprocessor;
        break;
    case RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN:
        *value = arch->shared_optin;
        break;
    default:
        return RG_CU_INVALID_VALUE;
    }
    return RG_CU_SUCCESS;
}

/* ---- context ---- */

static rg_cu_result emu_context_retain(rg_cu_context *context, rg_cu_device device) {
    RG_EMU_ENTER_FREE(cuDevicePrimaryCtxRetain, RG_CU_OUT_OF_MEMORY);
    if (device != 0) return RG_CU_INVALID_DEVICE;
    rg_emu.retained++;
    *context = &primary;
    return RG_CU_SUCCESS;
}

/* With the last user goes what the context held. Modules and handles that were not given back stay
 * counted as alive. */
static void reset_context(void) {
    rg_emu_streams_close();
    rg_emu_grid_close();
    while (rg_emu_device.count > 0)
        (void)rg_emu_memory_free(
            (rg_cu_ptr)(uintptr_t)(rg_emu_device.base + rg_emu_device.allocation[0].at));
    rg_emu_memory_close();
    rg_emu.error = RG_CU_SUCCESS;
    rg_emu.initialised = rg_emu_memory_open(rg_emu.option.memory_bytes);
}

static rg_cu_result emu_context_release(rg_cu_device device) {
    RG_EMU_ENTER_RELEASE();
    if (device != 0) return RG_CU_INVALID_DEVICE;
    if (rg_emu.retained == 0) return RG_CU_INVALID_CONTEXT;
    if (--rg_emu.retained == 0) reset_context();
    return rg_emu_released(RG_EMU_CALL_cuDevicePrimaryCtxRelease_v2, RG_CU_INVALID_CONTEXT,
                           RG_CU_SUCCESS);
}

static rg_cu_result emu_context_set(rg_cu_context context) {
    RG_EMU_ENTER_FREE(cuCtxSetCurrent, RG_CU_INVALID_CONTEXT);
    rg_emu_current = context;
    return RG_CU_SUCCESS;
}

/* ---- memory ---- */

static rg_cu_result emu_memory_alloc(rg_cu_ptr *at, size_t bytes) {
    RG_EMU_ENTER(cuMemAlloc_v2, RG_CU_OUT_OF_MEMORY);
    return rg_emu_memory_alloc(at, bytes);
}

/* Waits for everything, as the driver does. A lost context gives its memory back all the same. */
static rg_cu_result emu_memory_free(rg_cu_ptr at) {
    RG_EMU_ENTER_RELEASE();
    rg_cu_result result = rg_emu.error ? rg_emu.error : rg_emu_drain(false);
    rg_cu_result freed = rg_emu_memory_free(at);
    return rg_emu_released(RG_EMU_CALL_cuMemFree_v2, RG_CU_INVALID_VALUE,
                           result != RG_CU_SUCCESS ? result : freed);
}

static rg_cu_result emu_host_alloc(void **at, size_t bytes, unsigned flags) {
    RG_EMU_ENTER(cuMemHostAlloc, RG_CU_OUT_OF_MEMORY);
    (void)flags;
    if (bytes == 0) return RG_CU_INVALID_VALUE;
    *at = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
    if (!*at) return RG_CU_OUT_OF_MEMORY;
    rg_emu.alive++;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_host_free(void *at) {
    RG_EMU_ENTER_RELEASE();
    if (!at) return RG_CU_INVALID_VALUE;
    rg_cu_result result = rg_emu.error ? rg_emu.error : rg_emu_drain(false);
    free(at);
    rg_emu.alive--;
    return rg_emu_released(RG_EMU_CALL_cuMemFreeHost, RG_CU_INVALID_VALUE, result);
}

/* ---- modules ---- */

static rg_cu_result emu_module_load(rg_cu_module *module, const void *image) {
    RG_EMU_ENTER(cuModuleLoadData, RG_CU_INVALID_IMAGE);
    return rg_emu_module_load(module, image);
}

static rg_cu_result emu_module_unload(rg_cu_module module) {
    RG_EMU_ENTER_RELEASE();
    rg_cu_result result = rg_emu.error ? rg_emu.error : rg_emu_drain(false);
    rg_cu_result unloaded = rg_emu_module_unload(module);
    return rg_emu_released(RG_EMU_CALL_cuModuleUnload, RG_CU_INVALID_HANDLE,
                           result != RG_CU_SUCCESS ? result : unloaded);
}

static rg_cu_result emu_module_function(rg_cu_function *function, rg_cu_module module,
                                        const char *name) {
    RG_EMU_ENTER(cuModuleGetFunction, RG_CU_NOT_FOUND);
    if (!module) return RG_CU_INVALID_HANDLE;
    for (int i = 0; i < module->content->kernels; i++)
        if (strcmp(module->content->kernel[i].name, name) == 0) {
            *function = &module->function[i];
            return RG_CU_SUCCESS;
        }
    return RG_CU_NOT_FOUND;
}

static rg_cu_result emu_function_set(rg_cu_function function, unsigned attribute, int value) {
    RG_EMU_ENTER(cuFuncSetAttribute, RG_CU_INVALID_VALUE);
    int most = rg_emu_arch_of(rg_emu.option.arch)->shared_optin;
    if (!function || attribute != RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0)
        return RG_CU_INVALID_VALUE;
    if ((size_t)value + function->module->static_bytes > (size_t)most) return RG_CU_INVALID_VALUE;
    function->dynamic_limit = value;
    return RG_CU_SUCCESS;
}

/* Registers are the real compiler's affair: 0 says that nobody has counted them. */
static rg_cu_result emu_function_get(int *value, unsigned attribute, rg_cu_function function) {
    RG_EMU_ENTER(cuFuncGetAttribute, RG_CU_INVALID_VALUE);
    if (!function) return RG_CU_INVALID_HANDLE;
    int bound = function->kernel->max_threads;
    switch (attribute) {
    case RG_CU_FUNC_MAX_THREADS_PER_BLOCK:
        *value = bound ? bound : RG_EMULATE_MAX_THREADS;
        break;
    case RG_CU_FUNC_SHARED_SIZE_BYTES:
        *value = (int)function->module->static_bytes;
        break;
    case RG_CU_FUNC_LOCAL_SIZE_BYTES:
        *value = 0;
        break;
    case RG_CU_FUNC_NUM_REGS:
        *value = 0;
        break;
    case RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = function->dynamic_limit;
        break;
    default:
        return RG_CU_INVALID_VALUE;
    }
    return RG_CU_SUCCESS;
}

/* By threads and shared memory alone. */
static rg_cu_result emu_occupancy(int *blocks, rg_cu_function function, int threads,
                                  size_t shared_bytes) {
    RG_EMU_ENTER(cuOccupancyMaxActiveBlocksPerMultiprocessor, RG_CU_INVALID_VALUE);
    const rg_emu_arch *arch = rg_emu_arch_of(rg_emu.option.arch);
    if (!function || threads <= 0) return RG_CU_INVALID_VALUE;
    size_t shared =
        shared_bytes + function->module->static_bytes + 1024; /* what a block itself takes */
    size_t by_shared = (size_t)arch->shared_multiprocessor / shared;
    size_t by_threads = (size_t)(arch->threads_multiprocessor / ((threads + 31) / 32 * 32));
    *blocks = (int)(by_shared < by_threads ? by_shared : by_threads);
    return RG_CU_SUCCESS;
}

void rg_emu_driver_fill(rg_cuda_driver *driver) {
    driver->init = emu_init;
    driver->driver_version = emu_driver_version;
    driver->error_string = emu_error_string;
    driver->device_get = emu_device_get;
    driver->device_count = emu_device_count;
    driver->device_name = emu_device_name;
    driver->device_attribute = emu_device_attribute;
    driver->context_retain = emu_context_retain;
    driver->context_release = emu_context_release;
    driver->context_set = emu_context_set;
    driver->memory_alloc = emu_memory_alloc;
    driver->memory_free = emu_memory_free;
    driver->host_alloc = emu_host_alloc;
    driver->host_free = emu_host_free;
    driver->module_load = emu_module_load;
    driver->module_unload = emu_module_unload;
    driver->module_function = emu_module_function;
    driver->function_set = emu_function_set;
    driver->function_get = emu_function_get;
    driver->occupancy = emu_occupancy;
}
