/* What an access may touch: the exact rules, for accesses that the hooks in the kernel
 * (rg_emulate_prelude.h) could not pass at once. */
#include "rg_emulate_impl.h"

#include <stdio.h>
#include <string.h>

/* ---- faults ---- */

void rg_emu_fault(rg_emu_worker *worker, const char *format, ...) {
    rg_emu_launch *launch = worker->launch;
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&launch->lock);
    if (!launch->failed) {
        int length = snprintf(launch->fault, RG_EMU_FAULT_BYTES,
                              "kernel %s: block %d, thread %d: ", launch->function->kernel->name,
                              worker->seen.block, worker->seen.thread);
        if (length > 0 && length < RG_EMU_FAULT_BYTES)
            vsnprintf(launch->fault + length, (size_t)(RG_EMU_FAULT_BYTES - length), format,
                      arguments);
    }
    __atomic_store_n(&launch->failed, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&launch->lock);
    va_end(arguments);
    rg_emu_fibre_leave(&worker->home);
}

/* The array that holds the place, or the nearest one before it. */
void rg_emu_shared_describe(rg_emu_worker *worker, size_t at, char *text, size_t room) {
    const rg_emulate_module *module = worker->launch->function->module->content;
    const char *name = "dynamic shared memory";
    size_t begin = worker->seen.dynamic_at, bytes = worker->seen.dynamic_bytes;
    bool dynamic = bytes > 0 && at >= begin;
    for (const rg_emulate_site *site = module->site; !dynamic && site < module->site_end; site++)
        if (site->at <= at) name = site->name, begin = site->at, bytes = site->bytes;
    size_t offset = at - begin;
    if (at < begin)
        snprintf(text, room, "%zu bytes before %s", begin - at, name);
    else if (offset < bytes)
        snprintf(text, room, "at byte %zu of shared '%s' (%zu bytes)", offset, name, bytes);
    else
        snprintf(text, room, "%zu bytes behind shared '%s' (%zu bytes)", offset - bytes, name,
                 bytes);
}

static _Noreturn void fault_shared(rg_emu_worker *worker, size_t at, bool writes,
                                   const char *what) {
    char place[160];
    rg_emu_shared_describe(worker, at, place, sizeof place);
    rg_emu_fault(worker, "%s: %s %s", what, writes ? "write" : "read", place);
}

static _Noreturn void fault_device(rg_emu_worker *worker, size_t at, bool writes,
                                   const char *what) {
    char place[160];
    rg_emu_memory_describe(rg_emu_device.base + at, place, sizeof place);
    rg_emu_fault(worker, "%s: %s %s", what, writes ? "write" : "read", place);
}

/* ---- shared memory ---- */

static int warp_of(unsigned reader) {
    return (int)(reader & RG_EMULATE_WARP_READERS ? reader & 0x7fff : reader >> 5);
}

/* A warp's own barrier orders what its lanes do. */
static bool ordered_write(const rg_emu_worker *worker, const rg_emulate_word *word) {
    unsigned thread = (unsigned)worker->seen.thread;
    return word->writer == thread ||
           (word->writer >> 5 == (int)(thread >> 5) && word->write_turn < worker->seen.turn);
}

static bool ordered_read(const rg_emu_worker *worker, const rg_emulate_word *word) {
    unsigned thread = (unsigned)worker->seen.thread;
    if (word->reader == RG_EMULATE_MANY_READERS) return false;
    return word->reader == thread ||
           (warp_of(word->reader) == (int)(thread >> 5) && word->read_turn < worker->seen.turn);
}

static void check_shared_state(rg_emu_worker *worker, size_t at, const rg_emulate_word *word,
                               bool writes) {
    char what[96];
    if (word->write_time == RG_EMULATE_OUTSIDE) fault_shared(worker, at, writes, "out of bounds");
    if (word->write_time == RG_EMULATE_IN_FLIGHT) {
        snprintf(what, sizeof what, "an asynchronous copy of thread %d has not been waited for",
                 word->writer);
        fault_shared(worker, at, writes, what);
    }
    if (word->write_time == worker->seen.time && !ordered_write(worker, word)) {
        snprintf(what, sizeof what, "race with thread %d, which wrote since the last barrier",
                 word->writer);
        fault_shared(worker, at, writes, what);
    }
}

static void read_shared(rg_emu_worker *worker, size_t at) {
    rg_emulate_word *word = &worker->seen.word[at >> 2];
    unsigned thread = (unsigned)worker->seen.thread;
    check_shared_state(worker, at, word, false);
    if (word->write_time == RG_EMULATE_UNWRITTEN)
        fault_shared(worker, at, false, "nothing has been written there");
    if (word->read_time != worker->seen.time)
        word->reader = (uint16_t)thread;
    else if (word->reader != thread && word->reader != RG_EMULATE_MANY_READERS)
        word->reader = warp_of(word->reader) == (int)(thread >> 5)
                           ? (uint16_t)(RG_EMULATE_WARP_READERS | thread >> 5)
                           : (uint16_t)RG_EMULATE_MANY_READERS;
    word->read_time = worker->seen.time;
    word->read_turn = (uint16_t)worker->seen.turn;
}

static void write_shared(rg_emu_worker *worker, size_t at) {
    rg_emulate_word *word = &worker->seen.word[at >> 2];
    char what[96];
    check_shared_state(worker, at, word, true);
    if (word->read_time == worker->seen.time && !ordered_read(worker, word)) {
        if (word->reader & RG_EMULATE_WARP_READERS)
            snprintf(what, sizeof what,
                     "race with several threads, which read since the last barrier");
        else
            snprintf(what, sizeof what, "race with thread %d, which read since the last barrier",
                     word->reader);
        fault_shared(worker, at, true, what);
    }
    word->write_time = worker->seen.time;
    word->writer = (uint16_t)worker->seen.thread;
    word->write_turn = (uint16_t)worker->seen.turn;
}

/* ---- device memory ---- */

/* Of this launch, and of another block that nothing orders before this one? */
static bool foreign(const rg_emu_worker *worker, uint32_t tag) {
    const rg_emulate_worker *seen = &worker->seen;
    if (tag < seen->first_tag || RG_EMULATE_SAME_BLOCK(tag, seen->tag)) return false;
    uint32_t block = (tag - seen->first_tag) / RG_EMULATE_STAGES;
    if (block == 0) return !worker->meeting; /* several have read: which, is not known */
    return !rg_emu_meeting_knows(worker, block - 1, tag % RG_EMULATE_STAGES);
}

static _Noreturn void fault_foreign(rg_emu_worker *worker, size_t at, bool writes, uint32_t tag,
                                    const char *did) {
    char what[96];
    if (tag == worker->seen.first_tag)
        snprintf(what, sizeof what, "race with other blocks, which %s in the same launch", did);
    else
        snprintf(what, sizeof what, "race with block %u, which %s in the same launch",
                 (tag - worker->seen.first_tag) / RG_EMULATE_STAGES - 1, did);
    fault_device(worker, at, writes, what);
}

static void check_device(rg_emu_worker *worker, size_t at, bool writes) {
    uint64_t *place = (uint64_t *)(void *)&worker->seen.cell[at >> 2];
    uint64_t both = __atomic_load_n(place, __ATOMIC_RELAXED);
    uint32_t writer = (uint32_t)both, reader = (uint32_t)(both >> 32), tag = worker->seen.tag;
    if (writer == RG_EMULATE_OUTSIDE) fault_device(worker, at, writes, "out of bounds");
    if (writer == RG_EMULATE_UNWRITTEN && !writes && rg_emu.option.unwritten_device)
        fault_device(worker, at, writes, "nothing has been written there");
    if (foreign(worker, writer)) fault_foreign(worker, at, writes, writer, "wrote");
    if (writes && foreign(worker, reader)) fault_foreign(worker, at, writes, reader, "read");
    if (writes)
        writer = tag;
    else if (reader < worker->seen.first_tag)
        reader = tag;
    else if (!RG_EMULATE_SAME_BLOCK(reader, tag))
        reader = worker->seen.first_tag;
    __atomic_store_n(place, (uint64_t)reader << 32 | writer, __ATOMIC_RELAXED);
}

/* ---- any access ---- */

static void check_elsewhere(rg_emu_worker *worker, const void *at, unsigned long bytes,
                            bool writes) {
    uintptr_t stack = (uintptr_t)at ^ (uintptr_t)__builtin_frame_address(0);
    char place[160];
    if (stack < RG_EMULATE_STACK) return;
    if (!writes && rg_emu_module_holds(worker->launch->function->module, at, bytes)) return;
    rg_emu_memory_describe(at, place, sizeof place);
    rg_emu_fault(worker, "out of bounds: %s of %lu bytes at %p, %s", writes ? "write" : "read",
                 bytes, at, place);
}

static void check(rg_emu_worker *worker, const void *at, unsigned long bytes, bool writes) {
    const rg_emulate_worker *seen = &worker->seen;
    uintptr_t in_shared = (uintptr_t)at - (uintptr_t)seen->shared,
              in_device = (uintptr_t)at - (uintptr_t)seen->device;
    if (bytes == 0) return;
    bool shared = in_shared < RG_EMULATE_SHARED_ROOM, device = in_device < seen->device_bytes;
    if (!shared && !device) {
        check_elsewhere(worker, at, bytes, writes);
        return;
    }
    uintptr_t first = shared ? in_shared : in_device;
    for (uintptr_t i = first & ~(uintptr_t)3; i < first + bytes; i += 4) {
        uintptr_t exact = i < first ? first : i;
        if (device)
            check_device(worker, exact, writes);
        else if (writes)
            write_shared(worker, exact);
        else
            read_shared(worker, exact);
    }
}

void rg_emu_check_read(rg_emulate_worker *seen, const void *at, unsigned long bytes) {
    check(rg_emu_of(seen), at, bytes, false);
}

void rg_emu_check_write(rg_emulate_worker *seen, void *at, unsigned long bytes) {
    check(rg_emu_of(seen), at, bytes, true);
}
