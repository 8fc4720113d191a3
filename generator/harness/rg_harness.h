/* Checks and times one kernel: what `resgen verify`, `resgen bench` and the tests of the variants
 * share. */
#ifndef RG_HARNESS_H
#define RG_HARNESS_H

#include "rg_emit.h"
#include "rg_plan.h"

typedef struct rg_harness_result {
    bool passed;
    const char *trouble; /* one line where not passed: the element, or what was written that must
                            not be. Owner: ctx's arena */
    double error;        /* largest difference, relative to the RMS of its tensor */
    double worst;        /* largest difference, relative to its bound: above 1 fails */
    int64_t compared;    /* elements */
    int64_t open; /* of these, elements with a bound above the RMS: a comparison too close to call
                     stands before them */
} rg_harness_result;

/* Runs a kernel on fresh random data, tile by tile in a shuffled order, and compares every result
 * with rg_kdesc_interpret_bound.
 *
 * The bound is the interpreter's running error analysis: each sum of n numbers is charged min(n, 4
 * sqrt n) roundings of its terms' magnitude, each operator one (the prelude's functions four),
 * Winograd sums by the factor of their tile, and a comparison whose operands come within their
 * bounds counts as both ways. Results start as NaN, and so do inputs' images beyond `live` and
 * channels beyond c: what depends on them fails. Around each buffer and the scratch memory stand
 * red zones; inputs must come back unchanged. With an odd seed every fourth channel of what a mean
 * is subtracted from has mean 1000 and deviations of 0.1; betas are never 0, so that padding which
 * went through the prologue is seen. Partial results are gathered in their order first. Errors:
 * only what keeps the check from running (memory, a bad description); a wrong kernel is a result.
 */
rg_status rg_harness_check(rg_ctx *ctx, const rg_kdesc *desc, rg_cpu_kernel kernel, int32_t live,
                           uint64_t seed, rg_harness_result *result) RG_CHECKED;

/* How a kernel is run: all its tiles once over data->arg, which then holds the results. */
struct rg_hdata;
typedef struct rg_harness_run {
    rg_status (*tiles)(rg_ctx *ctx, void *user, const rg_kdesc *desc, uint64_t seed,
                       struct rg_hdata *data);
    void *user;
} rg_harness_run;

/* A kernel of the CPU, which must outlive the run. */
rg_harness_run rg_harness_run_cpu(rg_cpu_kernel *kernel);

/* The same check of a kernel that runs elsewhere (rg_harness_cuda.h). */
rg_status rg_harness_check_run(rg_ctx *ctx, const rg_kdesc *desc, const rg_harness_run *run,
                               int32_t live, uint64_t seed, rg_harness_result *result) RG_CHECKED;

typedef struct rg_harness_times {
    double min_us, median_us; /* all tiles once */
} rg_harness_times;

/* Times a kernel over all its tiles with `threads` OpenMP threads, at least `runs` times (short
 * ones up to ten times as often) after one that is not counted. */
rg_status rg_harness_time(rg_ctx *ctx, const rg_kdesc *desc, rg_cpu_kernel kernel, int32_t live,
                          int threads, int runs, rg_harness_times *times) RG_CHECKED;

#endif
