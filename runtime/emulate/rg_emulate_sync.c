/* Where threads wait for each other: the block's barrier, the meetings of a warp, the last block of
 * a launch. */
#include "rg_emulate_impl.h"

#include <string.h>

static void release_barrier(rg_emu_worker *worker, int line) {
    for (int i = 0; i < worker->seen.threads; i++)
        if (worker->thread[i].line != line)
            rg_emu_fault(worker,
                         "divergent barrier: it waits at the barrier of line %d, but thread %d at "
                         "that of line %d",
                         line, i, worker->thread[i].line);
    for (int i = 0; i < worker->seen.threads; i++) rg_emu_make_ready(worker, i);
    worker->at_barrier = 0;
    worker->seen.time++;
}

void rg_emu_barrier(rg_emulate_worker *seen, int line) {
    rg_emu_worker *worker = rg_emu_of(seen);
    rg_emu_thread *thread = &worker->thread[seen->thread];
    thread->state = RG_EMU_AT_BARRIER;
    thread->line = line;
    if (++worker->at_barrier == seen->threads) release_barrier(worker, line);
    rg_emu_yield(worker);
}

/* All lanes are there: have they come to the same place? */
static void release_warp(rg_emu_worker *worker, int mine) {
    int first = mine & ~31, lanes = worker->warp[mine / 32].lanes;
    const rg_emu_thread *me = &worker->thread[mine];
    for (int i = first; i < first + lanes; i++) {
        const rg_emu_thread *thread = &worker->thread[i];
        if (thread->kind != me->kind || thread->line != me->line)
            rg_emu_fault(worker,
                         "divergent warp operation: it waits at line %d, but thread %d at another "
                         "one of line %d",
                         me->line, i, thread->line);
    }
    for (int i = first; i < first + lanes; i++)
        if (i != mine) rg_emu_make_ready(worker, i);
    worker->thread[mine].state = RG_EMU_READY;
    worker->warp[mine / 32].waiting = 0;
}

/* A lane that runs ahead comes to the next meeting, at most, before the others have read: two sets
 * of slots are enough. */
const unsigned char *rg_emu_meet_all(rg_emulate_worker *seen, int kind, const void *mine,
                                     unsigned bytes, int line,
                                     void (*all)(int arch, int kind, unsigned char *slot)) {
    rg_emu_worker *worker = rg_emu_of(seen);
    int me = seen->thread;
    rg_emu_thread *thread = &worker->thread[me];
    rg_emu_warp *warp = &worker->warp[me / 32];
    unsigned char *slot = warp->slot[thread->meetings++ & 1];
    if (bytes > RG_EMULATE_LANE_BYTES)
        rg_emu_fault(worker, "a warp operation with too many bytes a lane");
    if (bytes) memcpy(slot + (me & 31) * RG_EMULATE_LANE_BYTES, mine, bytes);
    thread->state = RG_EMU_AT_WARP;
    thread->kind = kind;
    thread->line = line;
    if (++warp->waiting == warp->lanes) {
        if (kind == RG_EMULATE_MEET_BARRIER) seen->turn = ++warp->turn;
        release_warp(worker, me);
        if (all) all(worker->launch->function->module->content->arch, kind, slot);
    } else {
        rg_emu_yield(worker);
    }
    return slot;
}

const unsigned char *rg_emu_meet(rg_emulate_worker *seen, int kind, const void *mine,
                                 unsigned bytes, int line) {
    return rg_emu_meet_all(seen, kind, mine, bytes, line, NULL);
}

void rg_emu_warp_barrier(rg_emulate_worker *seen, int line) {
    rg_emu_meet(seen, RG_EMULATE_MEET_BARRIER, NULL, 0, line);
}

/* Thread 0 counts. From here on the block's accesses carry the tag of one that has passed once
 * more. */
static void count_block(rg_emu_worker *worker, unsigned *counter, int count) {
    rg_emulate_worker *seen = &worker->seen;
    if (!rg_emu_memory_holds((rg_cu_ptr)(uintptr_t)counter, sizeof *counter))
        rg_emu_fault(worker, "the counter of rg_last_block is not in device memory");
    unsigned passed = seen->tag % RG_EMULATE_STAGES + 1;
    if (passed == RG_EMULATE_STAGES)
        rg_emu_fault(worker, "a block calls rg_last_block more than %d times", passed - 1);
    unsigned had = rg_emu_meeting_count(worker, counter, (unsigned)count, (uint8_t)passed);
    if (had == UINT32_MAX) rg_emu_fault(worker, "the emulator has no memory for rg_last_block");
    if (had >= (unsigned)count)
        rg_emu_fault(worker, "the counter of rg_last_block did not begin at 0 (it is %u)", had);
    worker->answer = had == (unsigned)count - 1;
    rg_emu_memory_written((rg_cu_ptr)(uintptr_t)counter, sizeof *counter);
    seen->tag++;
}

int rg_emu_last_block(rg_emulate_worker *seen, unsigned *counter, int count, int line) {
    rg_emu_worker *worker = rg_emu_of(seen);
    rg_emu_barrier(seen, line);
    if (seen->thread == 0) count_block(worker, counter, count);
    rg_emu_barrier(seen, line);
    return worker->answer;
}
