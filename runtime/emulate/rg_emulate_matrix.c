/* The warp's meetings at the matrix unit: fragments to be multiplied, rows to be loaded. */
#include "rg_emulate_impl.h"

#include <string.h>

static void need_warp(rg_emu_worker *worker, int line) {
    int lanes = worker->warp[worker->seen.thread / 32].lanes;
    if (lanes != 32)
        rg_emu_fault(worker, "a warp of %d lanes at the matrix unit of line %d", lanes, line);
}

static int arch_of(const rg_emu_worker *worker) {
    return worker->launch->function->module->content->arch;
}

const float *rg_emu_mma(rg_emulate_worker *seen, int kind, const rg_emulate_fragments *mine,
                        int line) {
    rg_emu_worker *worker = rg_emu_of(seen);
    int needed = kind == RG_EMULATE_MEET_F16_K8 ? 75 : 80;
    need_warp(worker, line);
    if (arch_of(worker) < needed)
        rg_emu_fault(worker, "the mma of line %d needs sm_%d, this is sm_%d", line, needed,
                     arch_of(worker));
    const unsigned char *slot =
        rg_emu_meet_all(seen, kind, mine, sizeof *mine, line, rg_emu_multiply);
    const void *lane = slot + (seen->thread & 31) * RG_EMULATE_LANE_BYTES;
    return ((const rg_emulate_fragments *)lane)->d;
}

/* A row that is read lies in shared memory, at a multiple of 16 bytes. */
static void check_row(rg_emu_worker *worker, const void *row, int line) {
    size_t at = (size_t)((const char *)row - worker->seen.shared);
    if (at >= RG_EMULATE_SHARED_ROOM)
        rg_emu_fault(worker, "ldmatrix of line %d: row at an address that is not in shared memory",
                     line);
    if (at % 16)
        rg_emu_fault(worker, "ldmatrix of line %d: row at an address that is not a multiple of 16",
                     line);
    if (worker->launch->function->module->content->checks)
        rg_emu_check_read(&worker->seen, row, 16);
}

static unsigned element(const unsigned char *rows, int row, int column) {
    uint16_t value;
    memcpy(&value, rows + row * RG_EMULATE_LANE_BYTES + column * 2, sizeof value);
    return value;
}

/* Up to sm_75 every lane's address must be valid, even where its row is not loaded. */
void rg_emu_rows(rg_emulate_worker *seen, int kind, const void *row, unsigned *words, int line) {
    rg_emu_worker *worker = rg_emu_of(seen);
    bool trans = kind == RG_EMULATE_MEET_ROWS2_TRANS || kind == RG_EMULATE_MEET_ROWS4_TRANS;
    int count = kind == RG_EMULATE_MEET_ROWS4 || kind == RG_EMULATE_MEET_ROWS4_TRANS ? 4 : 2;
    int lane = seen->thread & 31, major = lane / 4, minor = lane % 4 * 2;
    bool loads = lane < 8 * count;
    need_warp(worker, line);
    if (loads || arch_of(worker) < 80) check_row(worker, row, line);
    const unsigned char *slot = rg_emu_meet(seen, kind, row, loads ? 16 : 0, line);
    for (int i = 0; i < count; i++) {
        const unsigned char *rows = slot + 8 * i * RG_EMULATE_LANE_BYTES;
        words[i] = trans ? element(rows, minor, major) | element(rows, minor + 1, major) << 16
                         : element(rows, major, minor) | element(rows, major, minor + 1) << 16;
    }
}
