/* Times of one kernel, all its tiles by several threads as in the runtime. */
#include <omp.h>
#include <stdlib.h>
#include <time.h>

#include "rg_harness.h"
#include "rg_harness_data.h"

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double run_once(const rg_kdesc *desc, rg_cpu_kernel kernel, const rg_hdata *data,
                       int threads, float *const *scratch) {
    int32_t tiles = rg_harness_tiles(desc, data->ctrl.blocks), next = 0;
    double start = now_us();
#pragma omp parallel num_threads(threads)
    {
        unsigned state = rg_harness_flush();
        for (int32_t tile = 0; tile < tiles;) {
#pragma omp atomic capture
            tile = next++;
            if (tile < tiles) kernel(data->arg, &data->ctrl, tile, scratch[omp_get_thread_num()]);
        }
        rg_harness_unflush(state);
    }
    return now_us() - start;
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
    double *time = calloc((size_t)runs, sizeof *time);
    rg_status status = scratch && time ? rg_hdata_new(ctx, desc, live, &data) : rg_nomem(ctx);
    if (status == RG_OK) status = rg_hdata_fill(ctx, desc, 1, &data);
    if (status == RG_OK) {
        run_once(desc, kernel, &data, threads, scratch);
        for (int i = 0; i < runs; i++) time[i] = run_once(desc, kernel, &data, threads, scratch);
        qsort(time, (size_t)runs, sizeof *time, by_size);
        *times = (rg_harness_times){time[0], time[runs / 2]};
    }
    free_scratch(scratch, threads);
    free(time);
    rg_hdata_free(&data);
    return status;
}
