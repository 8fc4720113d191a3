/* Times of one kernel, all its tiles by several threads as in the runtime. */
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "rg_harness.h"
#include "rg_harness_data.h"

enum { MORE = 10, ENOUGH_US = 10000, SPINS = 2000 };

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Where threads meet. One that waits long lets others run: on a busy machine a thread that is not
 * running would else be waited for in vain. */
typedef struct gate {
    int threads, arrived, round;
} gate;

static void meet(gate *g) {
    int round = __atomic_load_n(&g->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&g->arrived, 1, __ATOMIC_ACQ_REL) == g->threads) {
        __atomic_store_n(&g->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&g->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spin = 0; __atomic_load_n(&g->round, __ATOMIC_ACQUIRE) == round; spin++)
        if (spin > SPINS) sched_yield();
}

typedef struct timing {
    rg_cpu_kernel kernel;
    const rg_hdata *data;
    gate gate;
    int32_t tiles, next;
    int runs, count; /* count: -1 while the first run, which does not count, is under way */
    double *time, spent;
} timing;

static void take_tiles(timing *t, float *scratch) {
    for (int32_t tile; (tile = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->tiles;)
        t->kernel(t->data->arg, &t->data->ctrl, tile, scratch);
}

static bool is_enough(const timing *t) {
    return t->count >= t->runs && (t->spent >= ENOUGH_US || t->count >= MORE * t->runs);
}

/* Every thread's part; the first keeps the time. */
static void time_runs(timing *t, bool first, float *scratch) {
    unsigned state = rg_harness_flush();
    while (!is_enough(t)) {
        double start = now_us();
        if (first) t->next = 0;
        meet(&t->gate);
        take_tiles(t, scratch);
        meet(&t->gate);
        if (first) {
            double took = now_us() - start;
            if (t->count >= 0) {
                t->time[t->count] = took;
                t->spent += took;
            }
            t->count++;
        }
        meet(&t->gate);
    }
    rg_harness_unflush(state);
}

static void free_scratch(float **scratch, int threads) {
    for (int i = 0; scratch && i < threads; i++) free(scratch[i]);
    free(scratch);
}

static float **new_scratch(int64_t floats, int threads) {
    float **scratch = calloc((size_t)threads, sizeof *scratch);
    for (int i = 0; scratch && i < threads; i++) {
        scratch[i] = aligned_alloc(64, ((size_t)floats * sizeof(float) + 127) / 64 * 64);
        if (!scratch[i]) {
            free_scratch(scratch, i);
            return NULL;
        }
    }
    return scratch;
}

rg_status rg_harness_time(rg_ctx *ctx, const rg_kdesc *desc, rg_cpu_kernel kernel, int32_t live,
                          int threads, int runs, rg_harness_times *times) {
    if (threads < 1 || runs < 1) return rg_fail(ctx, RG_E_USAGE, "timing needs a thread and a run");
    rg_hdata data = {0};
    float **scratch = new_scratch(desc->variant.scratch_floats, threads);
    double *time = calloc((size_t)runs * MORE, sizeof *time);
    rg_status status = scratch && time ? rg_hdata_new(ctx, desc, live, &data) : rg_nomem(ctx);
    if (status == RG_OK) status = rg_hdata_fill(ctx, desc, 1, &data);
    if (status == RG_OK) {
        timing t = {.kernel = kernel, .data = &data, .runs = runs, .count = -1, .time = time};
        t.tiles = rg_harness_tiles(desc, data.ctrl.blocks);
#pragma omp parallel num_threads(threads)
        {
#pragma omp single
            t.gate.threads = omp_get_num_threads();
            time_runs(&t, omp_get_thread_num() == 0, scratch[omp_get_thread_num()]);
        }
        qsort(time, (size_t)t.count, sizeof *time, by_size);
        *times = (rg_harness_times){time[0], time[t.count / 2]};
    }
    free_scratch(scratch, threads);
    free(time);
    rg_hdata_free(&data);
    return status;
}
