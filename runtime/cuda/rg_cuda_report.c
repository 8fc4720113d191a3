/* Registers, shared memory and spills as the compiler tells them, and what follows for occupancy.
 */
#include "rg_cuda.h"

#include <stdlib.h>
#include <string.h>

/* The number before `unit` in a line, as in "Used 32 registers, 256 bytes smem". 0: there is none.
 */
static int number_before(const char *line, const char *unit) {
    const char *end = strpbrk(line, "\n"), *at = strstr(line, unit);
    if (!at || (end && at > end)) return 0;
    while (at > line && at[-1] == ' ') at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return atoi(at);
}

void rg_cuda_report_parse(const char *log, rg_cuda_report *report) {
    *report = (rg_cuda_report){.known = false};
    const char *used = strstr(log, "Used "), *stack = strstr(log, "bytes stack frame");
    if (!used || !stack) return;
    while (stack > log && stack[-1] != '\n') stack--;
    report->known = true;
    report->registers = number_before(used, "registers");
    report->shared_bytes = number_before(used, "bytes smem");
    report->stack_bytes = number_before(stack, "bytes stack frame");
    report->spill_store_bytes = number_before(stack, "bytes spill stores");
    report->spill_load_bytes = number_before(stack, "bytes spill loads");
}

/* ---- occupancy ---- */

enum {
    KIB = 1024,
    WARP = 32,
    REGISTERS = 64 * KIB, /* of a multiprocessor, on all of these */
    REGISTER_UNIT = 256,  /* a warp's registers are a multiple of this */
    PARTS = 4,            /* of a multiprocessor, each with a share of the registers */
};

static const rg_cuda_limits limits[] = {
    {75, 32, 16, 64 * KIB, 64 * KIB, 0},      {80, 64, 32, 164 * KIB, 163 * KIB, KIB},
    {86, 48, 16, 100 * KIB, 99 * KIB, KIB},   {87, 48, 16, 164 * KIB, 163 * KIB, KIB},
    {89, 48, 24, 100 * KIB, 99 * KIB, KIB},   {90, 64, 32, 228 * KIB, 227 * KIB, KIB},
    {100, 64, 32, 228 * KIB, 227 * KIB, KIB}, {103, 64, 32, 228 * KIB, 227 * KIB, KIB},
    {120, 48, 24, 100 * KIB, 99 * KIB, KIB},  {121, 48, 24, 100 * KIB, 99 * KIB, KIB},
};

const rg_cuda_limits *rg_cuda_limits_of(int arch) {
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].arch == arch) return &limits[i];
    return NULL;
}

bool rg_cuda_arch_runs_on(int arch, int device) {
    if (arch == 87 || device == 87) return arch == device;
    return arch / 10 == device / 10 && arch <= device;
}

static int round_up(int value, int unit) {
    return (value + unit - 1) / unit * unit;
}

static int least(int a, int b) {
    return a < b ? a : b;
}

static int blocks_by_registers(int warps, int registers) {
    int a_warp = round_up(registers * WARP, REGISTER_UNIT);
    return REGISTERS / PARTS / a_warp * PARTS / warps;
}

int rg_cuda_blocks_per_multiprocessor(const rg_cuda_limits *of, int threads, int registers,
                                      int shared_bytes) {
    if (threads < 1 || shared_bytes > of->block_shared_bytes) return 0;
    int warps = (threads + WARP - 1) / WARP;
    int blocks = least(of->blocks, of->warps / warps);
    if (registers > 0) blocks = least(blocks, blocks_by_registers(warps, registers));
    int shared = round_up(shared_bytes + of->reserved_bytes, of->arch < 80 ? 256 : 128);
    return shared > 0 ? least(blocks, of->shared_bytes / shared) : blocks;
}
