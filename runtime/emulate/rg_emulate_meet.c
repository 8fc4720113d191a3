/* What came before what, among the blocks of a launch: a block that counts last at a counter of
 * rg_last_block comes after all that the others did before they counted there, and after all that
 * came before that. Nothing else orders two blocks. */
#include <stdlib.h>

#include "rg_emulate_impl.h"

/* At a counter until somebody is last there, then that block's. */
struct rg_emu_meeting {
    struct rg_emu_meeting *next;
    const unsigned *counter;
    uint8_t before[]; /* by block: its accesses of so many stages */
};

static rg_emu_meeting *meeting_at(rg_emu_launch *launch, const unsigned *counter) {
    for (rg_emu_meeting *m = launch->meeting; m; m = m->next)
        if (m->counter == counter) return m;
    rg_emu_meeting *made = calloc(1, sizeof *made + launch->blocks);
    if (!made) return NULL;
    made->counter = counter;
    made->next = launch->meeting;
    launch->meeting = made;
    return made;
}

static void take(rg_emu_worker *worker, rg_emu_meeting *meeting) {
    rg_emu_meeting **at = &worker->launch->meeting;
    while (*at != meeting) at = &(*at)->next;
    *at = meeting->next;
    rg_emu_meeting_leave(worker);
    worker->meeting = meeting;
}

static void join(rg_emu_worker *worker, rg_emu_meeting *meeting, uint8_t stages) {
    const rg_emu_meeting *known = worker->meeting;
    for (uint32_t b = 0; known && b < worker->launch->blocks; b++)
        if (known->before[b] > meeting->before[b]) meeting->before[b] = known->before[b];
    meeting->before[worker->seen.block] = stages;
}

unsigned rg_emu_meeting_count(rg_emu_worker *worker, unsigned *counter, unsigned count,
                              uint8_t stages) {
    rg_emu_launch *launch = worker->launch;
    unsigned had = UINT32_MAX;
    pthread_mutex_lock(&launch->meeting_lock);
    rg_emu_meeting *meeting = meeting_at(launch, counter);
    if (meeting) {
        join(worker, meeting, stages);
        had = (*counter)++;
        if (had == count - 1) {
            *counter = 0;
            take(worker, meeting);
        }
    }
    pthread_mutex_unlock(&launch->meeting_lock);
    return had;
}

bool rg_emu_meeting_knows(const rg_emu_worker *worker, uint32_t block, unsigned stage) {
    return worker->meeting && stage < worker->meeting->before[block];
}

void rg_emu_meeting_leave(rg_emu_worker *worker) {
    free(worker->meeting);
    worker->meeting = NULL;
}

void rg_emu_meetings_free(rg_emu_launch *launch) {
    while (launch->meeting) {
        rg_emu_meeting *next = launch->meeting->next;
        free(launch->meeting);
        launch->meeting = next;
    }
}
