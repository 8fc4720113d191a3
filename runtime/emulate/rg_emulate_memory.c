/* The device's memory: one reserved range of address space and, beside it, the shadow cells.
 * Allocations stand apart, so that a step too far is seen; freed memory is used again as late as
 * can be. */
#include "rg_emulate_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 256, RED_ZONE = 512 };

rg_emu_memory rg_emu_device;

static void *reserve(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

bool rg_emu_memory_open(size_t bytes) {
    rg_emu_memory *memory = &rg_emu_device;
    if (memory->base) return true;
    for (; bytes >= 1 << 20; bytes /= 2) {
        char *base = reserve(bytes);
        rg_emulate_cell *cell = base ? reserve(bytes / 4 * sizeof *cell) : NULL;
        if (cell) {
            *memory = (rg_emu_memory){
                .base = base, .bytes = bytes, .cell = cell, .next = RED_ZONE, .next_tag = 4};
            return true;
        }
        if (base) munmap(base, bytes);
    }
    return false;
}

void rg_emu_memory_close(void) {
    rg_emu_memory *memory = &rg_emu_device;
    if (!memory->base) return;
    munmap(memory->base, memory->bytes);
    munmap(memory->cell, memory->bytes / 4 * sizeof *memory->cell);
    free(memory->allocation);
    *memory = (rg_emu_memory){0};
}

/* ---- allocations ---- */

/* Index of the first allocation that begins behind `at`. */
static int place_behind(size_t at) {
    const rg_emu_memory *memory = &rg_emu_device;
    int low = 0, high = memory->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (memory->allocation[middle].at > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The allocation that holds [at, at + bytes), or NULL. */
static const rg_emu_allocation *holder(size_t at, size_t bytes) {
    int i = place_behind(at);
    if (i == 0) return NULL;
    const rg_emu_allocation *allocation = &rg_emu_device.allocation[i - 1];
    size_t offset = at - allocation->at;
    return offset <= allocation->bytes && bytes <= allocation->bytes - offset ? allocation : NULL;
}

bool rg_emu_memory_holds(rg_cu_ptr at, size_t bytes) {
    uintptr_t offset = (uintptr_t)at - (uintptr_t)rg_emu_device.base;
    return offset < rg_emu_device.bytes && holder(offset, bytes);
}

/* A gap of `bytes` between allocations from index i on; where it begins, or 0. */
static size_t find_gap(size_t bytes, size_t from) {
    const rg_emu_memory *memory = &rg_emu_device;
    size_t at = from;
    for (int i = place_behind(from); i <= memory->count; i++) {
        size_t end = i < memory->count ? memory->allocation[i].at : memory->bytes;
        if (i > 0) {
            const rg_emu_allocation *before = &memory->allocation[i - 1];
            size_t behind =
                (before->at + before->bytes + RED_ZONE + ALIGN - 1) & ~(size_t)(ALIGN - 1);
            if (at < behind) at = behind;
        }
        if (at < end && bytes <= end - at && RED_ZONE <= end - at - bytes) return at;
    }
    return 0;
}

static bool insert(size_t at, size_t bytes) {
    rg_emu_memory *memory = &rg_emu_device;
    if (memory->count == memory->room) {
        int room = memory->room ? 2 * memory->room : 64;
        rg_emu_allocation *grown = realloc(memory->allocation, (size_t)room * sizeof *grown);
        if (!grown) return false;
        memory->allocation = grown;
        memory->room = room;
    }
    int i = place_behind(at);
    memmove(&memory->allocation[i + 1], &memory->allocation[i],
            (size_t)(memory->count - i) * sizeof *memory->allocation);
    memory->allocation[i] = (rg_emu_allocation){at, bytes};
    memory->count++;
    return true;
}

rg_cu_result rg_emu_memory_alloc(rg_cu_ptr *at, size_t bytes) {
    rg_emu_memory *memory = &rg_emu_device;
    if (bytes == 0) return RG_CU_INVALID_VALUE;
    if (bytes > memory->bytes) return RG_CU_OUT_OF_MEMORY;
    size_t place = find_gap(bytes, memory->next);
    if (!place) place = find_gap(bytes, RED_ZONE);
    if (!place || !insert(place, bytes)) return RG_CU_OUT_OF_MEMORY;
    memory->next = (place + bytes + RED_ZONE + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    uint32_t *data = (uint32_t *)(void *)(memory->base + place);
    for (size_t i = 0; i < (bytes + 3) / 4; i++) {
        data[i] = RG_EMU_POISON;
        memory->cell[place / 4 + i] = (rg_emulate_cell){.writer = RG_EMULATE_UNWRITTEN};
    }
    *at = (rg_cu_ptr)(uintptr_t)(memory->base + place);
    return RG_CU_SUCCESS;
}

/* Gives whole pages back to the system; the rest is set to zero. */
static void forget(void *at, size_t bytes) {
    uintptr_t first = ((uintptr_t)at + 4095) & ~(uintptr_t)4095,
              end = ((uintptr_t)at + bytes) & ~(uintptr_t)4095;
    memset(at, 0, bytes < 8192 ? bytes : first - (uintptr_t)at);
    if (bytes < 8192) return;
    memset((void *)end, 0, (uintptr_t)at + bytes - end);
    if (madvise((void *)first, end - first, MADV_DONTNEED) != 0)
        memset((void *)first, 0, end - first);
}

rg_cu_result rg_emu_memory_free(rg_cu_ptr at) {
    rg_emu_memory *memory = &rg_emu_device;
    size_t offset = (uintptr_t)at - (uintptr_t)memory->base;
    int i = place_behind(offset) - 1;
    if (!memory->base || i < 0 || memory->allocation[i].at != offset) return RG_CU_INVALID_VALUE;
    size_t words = (memory->allocation[i].bytes + 3) / 4;
    forget(memory->base + offset, words * 4);
    forget(&memory->cell[offset / 4], words * sizeof *memory->cell);
    memmove(&memory->allocation[i], &memory->allocation[i + 1],
            (size_t)(memory->count - i - 1) * sizeof *memory->allocation);
    memory->count--;
    return RG_CU_SUCCESS;
}

/* ---- the shadow ---- */

void rg_emu_memory_written(rg_cu_ptr at, size_t bytes) {
    size_t offset = (uintptr_t)at - (uintptr_t)rg_emu_device.base;
    if (bytes == 0) return;
    for (size_t i = offset / 4; i <= (offset + bytes - 1) / 4; i++)
        rg_emu_device.cell[i] = (rg_emulate_cell){.writer = RG_EMULATE_HOST};
}

void rg_emu_memory_describe(const void *at, char *text, size_t room) {
    uintptr_t offset = (uintptr_t)at - (uintptr_t)rg_emu_device.base;
    int i = place_behind(offset);
    const rg_emu_allocation *before = i > 0 ? &rg_emu_device.allocation[i - 1] : NULL;
    const rg_emu_allocation *after = i < rg_emu_device.count ? &rg_emu_device.allocation[i] : NULL;
    if (offset >= rg_emu_device.bytes) {
        snprintf(text, room, "which is not device memory");
    } else if (before && offset - before->at < before->bytes) {
        snprintf(text, room, "at byte %zu of an allocation of %zu bytes",
                 (size_t)(offset - before->at), before->bytes);
    } else if (before && (!after || offset - before->at - before->bytes <= after->at - offset)) {
        snprintf(text, room, "%zu bytes behind an allocation of %zu bytes",
                 (size_t)(offset - before->at - before->bytes), before->bytes);
    } else if (after) {
        snprintf(text, room, "%zu bytes before an allocation of %zu bytes", after->at - offset,
                 after->bytes);
    } else {
        snprintf(text, room, "where nothing is allocated");
    }
}

/* When the numbers run out, all that has been becomes the host's. */
static void restart_tags(void) {
    rg_emu_memory *memory = &rg_emu_device;
    for (int i = 0; i < memory->count; i++) {
        size_t first = memory->allocation[i].at / 4, words = (memory->allocation[i].bytes + 3) / 4;
        for (size_t j = first; j < first + words; j++) {
            rg_emulate_cell *cell = &memory->cell[j];
            if (cell->writer > RG_EMULATE_HOST) cell->writer = RG_EMULATE_HOST;
            cell->reader = 0;
        }
    }
    memory->next_tag = 4;
}

uint32_t rg_emu_memory_tags(uint32_t blocks) {
    rg_emu_memory *memory = &rg_emu_device;
    if (memory->next_tag > UINT32_MAX - RG_EMULATE_STAGES * ((uint64_t)blocks + 2)) restart_tags();
    uint32_t first = memory->next_tag;
    memory->next_tag += RG_EMULATE_STAGES * (blocks + 1);
    return first;
}
