/* The emulator's options, its table, and the failures that it is asked for. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>

rg_emu_settings rg_emu;
_Thread_local rg_cu_context rg_emu_current;

static rg_cuda_api api;
static long call_count[RG_EMU_CALLS];
static long kernels_run;   /* while the device is to be lost */
static char fail_name[64]; /* from the environment */

#define X(field, symbol, parameters) #symbol,
static const char *const call_name[] = {RG_CUDA_DRIVER_LIST(X) RG_CUDA_NVRTC_LIST(X)};
#undef X

/* ---- options ---- */

/* Decimal digits alone, and not more of them than a number has room for. */
static bool read_number(const char *text, uint64_t most, uint64_t *value) {
    *value = 0;
    for (const char *at = text; *at; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (*at < '0' || *at > '9' || *value > (most - digit) / 10) return false;
        *value = *value * 10 + digit;
    }
    return *text != '\0';
}

/* The first of them is told by cuInit. */
static void refuse(const char *name, const char *text, const char *wanted) {
    if (rg_emu.refused[0]) return;
    snprintf(rg_emu.refused, sizeof rg_emu.refused, "%s=%.80s is not %s", name, text, wanted);
}

static bool environment_number(const char *name, uint64_t *value) {
    const char *text = getenv(name);
    if (!text || !*text) return false;
    if (read_number(text, UINT64_MAX, value)) return true;
    refuse(name, text, "a number of decimal digits");
    return false;
}

/* "cuMemAlloc" names cuMemAlloc_v2, too. */
static bool same_call(const char *wanted, const char *symbol) {
    size_t length = strlen(wanted);
    return strncmp(wanted, symbol, length) == 0 &&
           (symbol[length] == '\0' || strcmp(symbol + length, "_v2") == 0);
}

static bool is_known(const char *name) {
    if (strcmp(name, "device") == 0) return true;
    for (int i = 0; i < RG_EMU_CALLS; i++)
        if (same_call(name, call_name[i])) return true;
    return false;
}

static void read_failure(rg_emulate_options *option) {
    static const char wanted[] = "NAME:N, the Nth call (from 1) of a function of libcuda or "
                                 "libnvrtc that resgen calls, or device:N";
    uint64_t nth;
    const char *fail = getenv("RG_EMULATE_FAIL");
    if (!fail || !*fail) return;
    const char *colon = strrchr(fail, ':');
    size_t length = colon ? (size_t)(colon - fail) : 0;
    snprintf(fail_name, sizeof fail_name, "%.*s", length < sizeof fail_name ? (int)length : 0,
             fail);
    if (!colon || !is_known(fail_name) || !read_number(colon + 1, INT32_MAX, &nth) || nth == 0) {
        refuse("RG_EMULATE_FAIL", fail, wanted);
        return;
    }
    option->fail_call = fail_name;
    option->fail_nth = (int)nth;
}

static void read_environment(rg_emulate_options *option) {
    uint64_t value;
    rg_emu.refused[0] = '\0';
    if (environment_number("RG_EMULATE_SEED", &value)) option->seed = value;
    if (environment_number("RG_EMULATE_THREADS", &value))
        option->threads = (int)(value < 1024 ? value : 1024);
    if (environment_number("RG_EMULATE_CHECKS", &value)) option->no_checks = value == 0;
    if (environment_number("RG_EMULATE_UNWRITTEN", &value)) option->unwritten_device = value != 0;
    read_failure(option);
}

const rg_cuda_api *rg_emulate_api(const rg_emulate_options *options) {
    rg_emu.option = options ? *options : (rg_emulate_options){0};
    if (!rg_emu.option.arch) rg_emu.option.arch = 90;
    if (!rg_emu.option.memory_bytes) rg_emu.option.memory_bytes = 1ULL << 36;
    read_environment(&rg_emu.option);
    rg_emu.random = (rg_emu.option.seed * 0x9e3779b97f4a7c15ULL) ^ 0x5851f42d4c957f2dULL;
    rg_emu.launches = 0;
    memset(call_count, 0, sizeof call_count);
    kernels_run = 0;
    rg_emu_driver_fill(&api.driver);
    rg_emu_stream_fill(&api.driver);
    rg_emu_graph_fill(&api.driver);
    rg_emu_nvrtc_fill(&api.nvrtc);
    api.has_driver = api.has_nvrtc = 1;
    api.name = "emulate";
    api.nvrtc_identity = rg_emu_nvrtc_identity();
    api.nvrtc_place = "emulated";
    return &api;
}

const char *rg_emulate_fault(void) {
    return rg_emu.fault;
}

int rg_emulate_alive(void) {
    return rg_emu.alive + rg_emu_device.count;
}

/* ---- calls ---- */

long rg_emulate_calls_of(const char *symbol) {
    long sum = 0;
    for (int i = 0; i < RG_EMU_CALLS; i++)
        if (same_call(symbol, call_name[i]))
            sum += __atomic_load_n(&call_count[i], __ATOMIC_RELAXED);
    return sum;
}

bool rg_emu_call_fails(rg_emu_call_id call) {
    long nth = __atomic_add_fetch(&call_count[call], 1, __ATOMIC_RELAXED);
    const char *wanted = rg_emu.option.fail_call;
    return wanted && nth == rg_emu.option.fail_nth && same_call(wanted, call_name[call]);
}

bool rg_emu_device_lost(void) {
    const char *wanted = rg_emu.option.fail_call;
    return wanted && strcmp(wanted, "device") == 0 && ++kernels_run == rg_emu.option.fail_nth;
}

rg_cu_result rg_emu_enter_free(rg_emu_call_id call, rg_cu_result injected) {
    if (rg_emu_call_fails(call)) return injected;
    return rg_emu.initialised ? RG_CU_SUCCESS : RG_CU_NOT_INITIALIZED;
}

rg_cu_result rg_emu_enter(rg_emu_call_id call, rg_cu_result injected) {
    rg_cu_result result = rg_emu_enter_free(call, injected);
    if (result != RG_CU_SUCCESS) return result;
    if (!rg_emu_current || rg_emu.retained == 0) return RG_CU_INVALID_CONTEXT;
    return rg_emu.error;
}

rg_cu_result rg_emu_released(rg_emu_call_id call, rg_cu_result injected, rg_cu_result result) {
    return rg_emu_call_fails(call) ? injected : result;
}
