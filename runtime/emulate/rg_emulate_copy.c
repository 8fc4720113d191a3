/* Asynchronous copies: nothing is there until the wait that covers it. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>

void rg_emu_copies_free(rg_emu_thread *thread) {
    free(thread->copy);
    thread->copy = NULL;
    thread->copy_room = 0;
}

static rg_emu_copy *add_copy(rg_emu_worker *worker, rg_emu_thread *thread) {
    if (thread->copies == thread->copy_room) {
        int room = thread->copy_room ? 2 * thread->copy_room : 16;
        rg_emu_copy *grown = realloc(thread->copy, (size_t)room * sizeof *grown);
        if (!grown) rg_emu_fault(worker, "no memory for an asynchronous copy");
        thread->copy = grown;
        thread->copy_room = room;
    }
    return &thread->copy[thread->copies++];
}

/* Until it lands, the place holds poison, and touching it is an error. */
static void mark_flight(rg_emu_worker *worker, size_t at, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i += 4) {
        memcpy(worker->seen.shared + at + i, &(uint32_t){RG_EMU_POISON}, 4);
        if (!worker->launch->function->module->content->checks) continue;
        worker->seen.word[(at + i) / 4].write_time = RG_EMULATE_IN_FLIGHT;
        worker->seen.word[(at + i) / 4].writer = (uint16_t)worker->seen.thread;
    }
}

void rg_emu_copy_async(rg_emulate_worker *seen, void *shared, const void *global, unsigned bytes,
                       unsigned valid) {
    rg_emu_worker *worker = rg_emu_of(seen);
    size_t at = (size_t)((char *)shared - seen->shared);
    if (at >= RG_EMULATE_SHARED_ROOM)
        rg_emu_fault(worker, "asynchronous copy to an address that is not in shared memory");
    if (at % bytes || (valid && (uintptr_t)global % bytes))
        rg_emu_fault(worker,
                     "asynchronous copy of %u bytes at an address that is not a multiple of it",
                     bytes);
    if (valid > bytes)
        rg_emu_fault(worker, "asynchronous copy of %u bytes, %u of them read", bytes, valid);
    if (worker->launch->function->module->content->checks) {
        if (valid) rg_emu_check_read(seen, global, valid);
        rg_emu_check_write(seen, shared, bytes);
    }
    rg_emu_thread *thread = &worker->thread[seen->thread];
    *add_copy(worker, thread) = (rg_emu_copy){(uint32_t)at, bytes, valid, thread->group, global};
    mark_flight(worker, at, bytes);
}

void rg_emu_copy_commit(rg_emulate_worker *seen) {
    rg_emu_of(seen)->thread[seen->thread].group++;
}

static void land(rg_emu_worker *worker, const rg_emu_copy *copy) {
    char *to = worker->seen.shared + copy->at;
    if (copy->valid) memcpy(to, copy->from, copy->valid);
    memset(to + copy->valid, 0, copy->bytes - copy->valid);
    if (!worker->launch->function->module->content->checks) return;
    for (unsigned i = 0; i < copy->bytes; i += 4) {
        rg_emulate_word *word = &worker->seen.word[(copy->at + i) / 4];
        word->write_time = worker->seen.time;
        word->writer = (uint16_t)worker->seen.thread;
        word->write_turn = (uint16_t)worker->seen.turn;
    }
}

/* Groups are numbered from 0; thread->group is the open one, which no wait covers. */
void rg_emu_copy_wait(rg_emulate_worker *seen, int left) {
    rg_emu_worker *worker = rg_emu_of(seen);
    rg_emu_thread *thread = &worker->thread[seen->thread];
    int kept = 0;
    for (int i = 0; i < thread->copies; i++) {
        if (thread->copy[i].group + (unsigned)left < thread->group)
            land(worker, &thread->copy[i]);
        else
            thread->copy[kept++] = thread->copy[i];
    }
    thread->copies = kept;
}
