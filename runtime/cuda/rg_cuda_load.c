/* libcuda and libnvrtc by dlopen: where they are looked for, and what is said where they are not.
 */
#include "rg_cuda_impl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- diagnostics ---- */

rg_status rg_cuda_check(rg_ctx *ctx, const rg_cuda_api *api, rg_cu_result result, const char *call,
                        const char *about, ...) {
    if (result == RG_CU_SUCCESS) return RG_OK;
    char what[256];
    const char *text = NULL;
    va_list args;
    va_start(args, about);
    vsnprintf(what, sizeof what, about, args);
    va_end(args);
    if (api->driver.error_string(result, &text) != RG_CU_SUCCESS || !text) text = "unknown error";
    rg_status status = result == RG_CU_OUT_OF_MEMORY ? RG_E_NOMEM : RG_E_DEVICE;
    return rg_fail(ctx, status, "%s (%s): %s (error %u)", call, what, text, result);
}

/* ---- looking for a library ---- */

enum { MAX_ROOTS = 4 };

typedef struct library_search {
    rg_ctx *ctx;
    const char *path; /* --cuda-path */
    const char *root[MAX_ROOTS];
    int roots;
    rg_text tried;   /* places, for the error */
    rg_text refused; /* what the loader said of a file that is there */
    void *found;
    const char *found_in; /* the root; NULL: the loader's own places */
    char *where;          /* Owner: ctx's arena */
} library_search;

static void search_end(library_search *search) {
    rg_text_free(&search->tried);
    rg_text_free(&search->refused);
}

/* It stays mapped after rg_cuda_close: threads and exit handlers of a driver outlive its handle. */
static bool try_name(library_search *search, const char *name) {
    search->found = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (search->found) search->where = rg_arena_strdup(search->ctx->arena, name);
    return search->found != NULL;
}

/* A file that is there and cannot be loaded is worth telling of. */
static bool try_file(library_search *search, const char *folder, const char *place,
                     const char *name) {
    char path[1024];
    int length = snprintf(path, sizeof path, "%s%s/%s", folder, place, name);
    if (length < 0 || length >= (int)sizeof path || access(path, R_OK) != 0) return false;
    if (try_name(search, path)) return true;
    const char *why = dlerror();
    rg_text_add(&search->refused, "; %s", why ? why : path);
    return false;
}

/* False: it was looked at before. */
static bool add_root(library_search *search, const char *root) {
    for (int i = 0; i < search->roots; i++)
        if (strcmp(search->root[i], root) == 0) return false;
    search->root[search->roots++] = root;
    rg_text_add(&search->tried, "%s'%s'", search->tried.length ? ", " : "", root);
    return true;
}

static bool try_root(library_search *search, const char *root, const char *const *places,
                     const char *const *names) {
    if (!root || !*root || !add_root(search, root)) return false;
    search->found_in = root;
    for (; *names; names++)
        for (const char *const *place = places; *place; place++)
            if (try_file(search, root, *place, *names)) return true;
    search->found_in = NULL;
    return false;
}

static bool try_loader(library_search *search, const char *const *names) {
    rg_text_add(&search->tried, "%sthe loader's own places", search->tried.length ? ", " : "");
    for (; *names; names++)
        if (try_name(search, *names)) return true;
    return false;
}

/* All names and places, then what the loader said; `hint`: what to do about it. */
static rg_status fail_missing(library_search *search, const char *const *names, const char *hint) {
    rg_text text = {0};
    for (const char *const *name = names; *name; name++)
        rg_text_add(&text, "%s%s", name == names ? "" : name[1] ? ", " : " or ", *name);
    rg_text_add(&text, " in %s%s", search->tried.data ? search->tried.data : "no place",
                search->refused.data ? search->refused.data : "");
    bool failed = text.failed || search->tried.failed || search->refused.failed;
    rg_status status =
        failed ? rg_nomem(search->ctx)
               : rg_fail(search->ctx, RG_E_UNSUPPORTED, "there is no %s: %s", text.data, hint);
    rg_text_free(&text);
    return status;
}

/* ---- their functions ---- */

typedef struct symbol_row {
    const char *name;
    size_t offset; /* of the pointer in rg_cuda_api */
} symbol_row;

static const symbol_row driver_symbols[] = {
#define X(field, symbol, parameters) {#symbol, offsetof(rg_cuda_api, driver.field)},
    RG_CUDA_DRIVER_LIST(X)
#undef X
        {NULL, 0},
};

static const symbol_row nvrtc_symbols[] = {
#define X(field, symbol, parameters) {#symbol, offsetof(rg_cuda_api, nvrtc.field)},
    RG_CUDA_NVRTC_LIST(X)
#undef X
        {"nvrtcGetErrorString", offsetof(rg_cuda_api, nvrtc.error_string)},
    {NULL, 0},
};

static rg_status take_symbols(rg_ctx *ctx, const library_search *search, const symbol_row *row,
                              rg_cuda_api *api) {
    for (; row->name; row++) {
        void *function = dlsym(search->found, row->name);
        if (!function)
            return rg_fail(ctx, RG_E_UNSUPPORTED, "'%s' has no function %s: it is too old",
                           search->where ? search->where : "the library", row->name);
        memcpy((char *)api + row->offset, &function, sizeof function);
    }
    return RG_OK;
}

/* ---- the driver ---- */

/* A toolkit's compat/libcuda.so.1 fits some drivers alone: who wants it says so to the loader. */
static rg_status open_driver(library_search *search, rg_cuda_api *api) {
    static const char *const names[] = {"libcuda.so.1", NULL};
    static const char *const places[] = {"", NULL};
    if (!try_root(search, search->path, places, names) && !try_loader(search, names) &&
        !try_root(search, "/usr/lib/wsl/lib", places, names))
        return fail_missing(search, names,
                            "it comes with NVIDIA's driver; --device=emulate needs none");
    api->library[0] = search->found;
    RG_TRY(take_symbols(search->ctx, search, driver_symbols, api));
    api->has_driver = 1;
    return RG_OK;
}

/* ---- NVRTC ---- */

/* A driver loads the cubins of its own major version and of those before. 0: there is none to ask.
 */
static int driver_major(const rg_cuda_api *api) {
    int version = 0;
    if (!api->has_driver || api->driver.driver_version(&version) != RG_CU_SUCCESS) return 0;
    return version / 1000;
}

static rg_status check_nvrtc(library_search *search, const rg_cuda_api *api, int newest) {
    int major = 0, minor = 0;
    rg_nvrtc_result result = api->nvrtc.version(&major, &minor);
    if (result != RG_NVRTC_SUCCESS)
        return rg_fail(search->ctx, RG_E_UNSUPPORTED, "nvrtcVersion: %s",
                       api->nvrtc.error_string(result));
    if (newest && major > newest)
        return rg_fail(search->ctx, RG_E_UNSUPPORTED,
                       "NVRTC %d.%d is newer than the driver, which knows CUDA %d: give the "
                       "--cuda-path of a CUDA %d",
                       major, minor, newest, newest);
    return RG_OK;
}

/* Where it lies, and that it is not where the user said. */
static rg_status tell_nvrtc(library_search *search, rg_cuda_api *api) {
    Dl_info info;
    void *function;
    memcpy(&function, &api->nvrtc.version, sizeof function);
    const char *file = dladdr(function, &info) ? info.dli_fname : search->where;
    api->nvrtc_place = rg_arena_strdup(search->ctx->arena, file ? file : "an unknown place");
    if (!api->nvrtc_place) return rg_nomem(search->ctx);
    if (!search->path || !*search->path || search->found_in == search->path) return RG_OK;
    api->note =
        rg_arena_printf(search->ctx->arena, "there is no NVRTC to load under --cuda-path=%s%s",
                        search->path, search->refused.data ? search->refused.data : "");
    return api->note ? RG_OK : rg_nomem(search->ctx);
}

static rg_status open_nvrtc(library_search *search, rg_cuda_api *api) {
    static const char *const all[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                      "libnvrtc.so", NULL};
    static const char *const places[] = {"/lib64",
                                         "/lib",
                                         "",
                                         "/targets/x86_64-linux/lib",
                                         "/lib/x86_64-linux-gnu",
                                         "/nvidia/cu13/lib",
                                         "/nvidia/cuda_nvrtc/lib",
                                         NULL};
    int newest = driver_major(api);
    const char *const *names = all + (newest == 12) + 2 * (newest == 11);
    if (!try_root(search, search->path, places, names) &&
        !try_root(search, getenv("CUDA_PATH"), places, names) &&
        !try_root(search, getenv("CUDA_HOME"), places, names) &&
        !try_root(search, "/usr/local/cuda", places, names) && !try_loader(search, names))
        return fail_missing(search, names,
                            "install the CUDA toolkit or PyPI's nvidia-cuda-nvrtc, and give its "
                            "folder by --cuda-path");
    api->library[1] = search->found;
    RG_TRY(take_symbols(search->ctx, search, nvrtc_symbols, api));
    RG_TRY(check_nvrtc(search, api, newest));
    RG_TRY(tell_nvrtc(search, api));
    api->has_nvrtc = 1;
    return RG_OK;
}

/* ---- NVTX ---- */

static void take_range(void *library, const char *name, void *to, size_t bytes) {
    void *function = dlsym(library, name);
    memcpy(to, &function, bytes);
}

/* Profilers see ranges through it; nobody misses it where it is not. */
static void open_ranges(library_search *search, rg_cuda_api *api) {
    static const char *const names[] = {"libnvtx3interop.so.1", "libnvToolsExt.so.1", NULL};
    static const char *const places[] = {
        "/lib64", "/lib", "", "/targets/x86_64-linux/lib", "/lib/x86_64-linux-gnu", NULL};
    if (!try_root(search, search->path, places, names) &&
        !try_root(search, getenv("CUDA_PATH"), places, names) &&
        !try_root(search, getenv("CUDA_HOME"), places, names) &&
        !try_root(search, "/usr/local/cuda", places, names) && !try_loader(search, names))
        return;
    api->library[2] = search->found;
    take_range(search->found, "nvtxRangePushA", &api->ranges.push, sizeof api->ranges.push);
    take_range(search->found, "nvtxRangePop", &api->ranges.pop, sizeof api->ranges.pop);
    if (!api->ranges.push || !api->ranges.pop) api->ranges = (rg_cuda_ranges){NULL, NULL};
}

void rg_cuda_range(const rg_cuda_api *api, const char *name) {
    if (!api->ranges.push) return;
    if (name)
        api->ranges.push(name);
    else
        api->ranges.pop();
}

rg_status rg_cuda_open(rg_ctx *ctx, const char *path, int wanted, rg_cuda_api *api) {
    *api = (rg_cuda_api){.name = "cuda"};
    library_search driver = {.ctx = ctx, .path = path}, nvrtc = driver, ranges = driver;
    rg_status status = RG_OK;
    if (wanted & RG_CUDA_DRIVER) status = open_driver(&driver, api);
    if (status == RG_OK && (wanted & RG_CUDA_NVRTC)) status = open_nvrtc(&nvrtc, api);
    if (status == RG_OK && (wanted & RG_CUDA_DRIVER)) open_ranges(&ranges, api);
    search_end(&driver);
    search_end(&nvrtc);
    search_end(&ranges);
    if (status != RG_OK) rg_cuda_close(api);
    return status;
}

void rg_cuda_close(rg_cuda_api *api) {
    for (int i = 0; i < 3; i++)
        if (api->library[i]) dlclose(api->library[i]);
    *api = (rg_cuda_api){.name = NULL};
}

/* ---- the device ---- */

static rg_status device_numbers(rg_ctx *ctx, const rg_cuda_api *api, rg_cu_device handle,
                                rg_cuda_device *device) {
    int major = 0, minor = 0;
    const struct {
        unsigned attribute;
        int *to;
    } wanted[] = {
        {RG_CU_DEVICE_MAJOR, &major},
        {RG_CU_DEVICE_MINOR, &minor},
        {RG_CU_DEVICE_MULTIPROCESSORS, &device->multiprocessors},
        {RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN, &device->shared_bytes},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        RG_TRY(rg_cuda_check(
            ctx, api, api->driver.device_attribute(wanted[i].to, wanted[i].attribute, handle),
            "cuDeviceGetAttribute", "attribute %u of device %d", wanted[i].attribute,
            device->ordinal));
    device->arch = 10 * major + minor;
    return RG_OK;
}

rg_status rg_cuda_device_find(rg_ctx *ctx, const rg_cuda_api *api, int ordinal,
                              rg_cuda_device *device) {
    const rg_cuda_driver *driver = &api->driver;
    int count = 0;
    rg_cu_device handle = 0;
    *device = (rg_cuda_device){.ordinal = ordinal};
    RG_TRY(rg_cuda_check(ctx, api, driver->init(0), "cuInit", "starting the driver"));
    RG_TRY(
        rg_cuda_check(ctx, api, driver->device_count(&count), "cuDeviceGetCount", "all devices"));
    if (ordinal < 0 || ordinal >= count)
        return rg_fail(ctx, RG_E_DEVICE, "there is no CUDA device %d: the driver has %d", ordinal,
                       count);
    RG_TRY(rg_cuda_check(ctx, api, driver->device_get(&handle, ordinal), "cuDeviceGet", "device %d",
                         ordinal));
    RG_TRY(rg_cuda_check(ctx, api,
                         driver->device_name(device->name, (int)sizeof device->name - 1, handle),
                         "cuDeviceGetName", "device %d", ordinal));
    return device_numbers(ctx, api, handle, device);
}
