/* A launch: its blocks in random order, by one or several host threads. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static rg_emu_worker *pool[RG_EMU_MAX_WORKERS]; /* kept from launch to launch */

typedef struct helper {
    rg_emu_worker *worker;
    rg_emu_launch *launch;
    pthread_t thread;
} helper;

static void *help(void *argument) {
    const helper *self = argument;
    rg_emu_worker_run(self->worker, self->launch);
    return NULL;
}

static int host_threads(void) {
    long count = rg_emu.option.threads;
    if (count <= 0) count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > RG_EMU_MAX_WORKERS ? RG_EMU_MAX_WORKERS : (int)count;
}

/* Fewer workers than asked for are enough; none is a failure. */
static int open_workers(int wanted) {
    int count = 0;
    while (count < wanted) {
        if (!pool[count]) pool[count] = rg_emu_worker_new();
        if (!pool[count]) break;
        count++;
    }
    return count;
}

/* Owner: caller (free). */
static uint32_t *random_order(uint32_t blocks, uint64_t *state) {
    uint32_t *order = malloc((blocks ? blocks : 1) * sizeof *order);
    if (!order) return NULL;
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t j = rg_emu_random(state, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

static void run_all(rg_emu_launch *launch, int workers) {
    helper helpers[RG_EMU_MAX_WORKERS];
    int started = 1;
    for (; started < workers; started++) {
        helpers[started] = (helper){.worker = pool[started], .launch = launch};
        if (pthread_create(&helpers[started].thread, NULL, help, &helpers[started]) != 0) break;
    }
    rg_emu_worker_run(pool[0], launch);
    for (int i = 1; i < started; i++) pthread_join(helpers[i].thread, NULL);
}

bool rg_emu_grid_run(struct CUfunc_st *function, uint32_t blocks, int threads, size_t shared_bytes,
                     void *const *argument, char fault[RG_EMU_FAULT_BYTES]) {
    uint64_t state = ((rg_emu.option.seed + 1) * 0x9e3779b97f4a7c15ULL ^
                      ++rg_emu.launches * 0xd1342543de82ef95ULL) |
                     1;
    rg_emu_launch launch = {.function = function,
                            .argument = argument,
                            .blocks = blocks,
                            .threads = threads,
                            .shared_bytes = shared_bytes,
                            .fault = fault,
                            .lock = PTHREAD_MUTEX_INITIALIZER,
                            .meeting_lock = PTHREAD_MUTEX_INITIALIZER};
    int workers = host_threads();
    workers = open_workers((uint32_t)workers < blocks ? workers : (int)blocks);
    launch.order = random_order(blocks, &state);
    launch.seed = state;
    launch.first_tag = rg_emu_memory_tags(blocks);
    fault[0] = '\0';
    if (workers == 0 || !launch.order) {
        snprintf(fault, RG_EMU_FAULT_BYTES, "kernel %s: the emulator has no memory for its blocks",
                 function->kernel->name);
        launch.failed = 1;
    } else {
        run_all(&launch, workers);
    }
    rg_emu_meetings_free(&launch);
    free(launch.order);
    return !launch.failed;
}

void rg_emu_grid_close(void) {
    for (int i = 0; i < RG_EMU_MAX_WORKERS; i++) {
        rg_emu_worker_free(pool[i]);
        pool[i] = NULL;
    }
}
