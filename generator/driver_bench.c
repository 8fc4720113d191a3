/* `resgen bench`: each kernel of the plan with every variant that applies, and the whole step. A variant is timed only after its values
 * passed. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "rg_harness.h"

enum { RUNS = 7, STEP_RUNS = 9 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- the machine's peak ---- */

/* Twelve chains of fused multiply-adds on vectors of the target, in every thread: what the arithmetic can do at best. */
static const char peak_source[] =
    "#if defined(__AVX512F__)\n#define VW 16\n#define FMA(a,b,c) __builtin_ia32_vfmaddps512_mask(a,b,c,-1,4)\n"
    "#else\n#define VW 8\n#define FMA(a,b,c) __builtin_ia32_vfmaddps256(a,b,c)\n#endif\n"
    "typedef float vf __attribute__((vector_size(VW*4)));\nstruct rg_ctrl;\n"
    "void rg_peak(float *const *a, const struct rg_ctrl *c, int tile, float *s) {\n"
    "    (void)c; (void)s;\n    float *o = a[0] + 1024 * tile;\n    vf x = {0}, acc[12];\n    x += o[0];\n"
    "    for (int i = 0; i < 12; i++) acc[i] = x + (float)i;\n"
    "    for (int n = 0; n < 200000; n++)\n        for (int i = 0; i < 12; i++) acc[i] = FMA(acc[i], x, x);\n"
    "    vf r = acc[0];\n    for (int i = 1; i < 12; i++) r += acc[i];\n    for (int i = 0; i < VW; i++) o[i] = r[i];\n}\n";

static rg_status measure_peak(rg_job *job, double *gflops) {
    char key[33];
    rg_hash_hex(rg_hash_bytes(peak_source, sizeof peak_source), key);
    rg_cpu_source source = {"rg_peak", key, peak_source};
    rg_cpu_options options = {.isa = job->target.isa, .cc = job->cli->cc, .cache_dir = job->cli->cache, .optimise = 3};
    rg_cpu_stats stats;
    rg_cpu_kernel kernel;
    rg_cpu_library *library = NULL;
    RG_TRY(rg_cpu_build(job->ctx, &source, 1, &options, &kernel, &stats, &library));
    int threads = rg_job_threads(job);
    float *out = calloc((size_t)threads * 1024, sizeof *out);
    if (!out) {
        rg_cpu_close(library);
        return rg_nomem(job->ctx);
    }
    double best = 1e30;
    for (int run = 0; run < 5; run++) {
        double start = now_ms();
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++) kernel((float *const[]){out}, NULL, t, NULL);
        double took = now_ms() - start;
        if (took < best) best = took;
    }
    *gflops = 2.0 * 12 * job->target.vector * 200000 * threads / best / 1e6;
    free(out);
    rg_cpu_close(library);
    return RG_OK;
}

/* ---- one kernel, every variant ---- */

typedef struct bench_row {
    const rg_launch *launch;
    const char *variant;
    bool picked, passed;
    double error, min_us, median_us, gflops, gbps;
    int launches;
} bench_row;

typedef struct bench_state {
    rg_job *job;
    double peak;
    json_t *rows;
    double picked_us, fastest_us; /* of all launches of a step */
    int failed;
} bench_state;

/* The description with another variant: its weight argument in the form that the variant wants. */
static rg_status with_variant(rg_job *job, const rg_launch *launch, const rg_candidate *candidate, rg_kdesc *desc) {
    *desc = launch->desc;
    desc->variant = candidate->variant;
    desc->arg = rg_arena_copy(job->ctx->arena, desc->arg, (size_t)desc->arg_count * sizeof *desc->arg);
    if (!desc->arg) return rg_nomem(job->ctx);
    for (int32_t i = 0; i < desc->arg_count; i++)
        if (desc->arg[i].layout == RG_LAYOUT_PART && desc->arg[i].written)
            desc->arg[i].parts_per_block = candidate->variant.parts_per_block;
    if (desc->kind == RG_K_WGRAD) {
        rg_karg *w = &desc->arg[desc->contr[0].w_arg];
        w->layout = RG_LAYOUT_WEIGHT;
        if (!candidate->variant.complete) {
            w->length = rg_karg_floats(w, 1);
            w->layout = RG_LAYOUT_PARTW;
            w->parts_per_block = candidate->variant.parts_per_block;
        }
    }
    if (desc->kind == RG_K_CONV) {
        rg_karg *w = &desc->arg[desc->contr[0].w_arg];
        bool wino = strncmp(candidate->weights, "wino", 4) == 0;
        w->layout = wino ? RG_LAYOUT_WINO : RG_LAYOUT_WEIGHT;
        w->h = wino ? candidate->wino_m : 0;
    }
    return RG_OK;
}

static rg_status bench_variant(bench_state *state, const rg_launch *launch, const rg_candidate *candidate, bench_row *row) {
    rg_job *job = state->job;
    rg_kdesc desc;
    RG_TRY(with_variant(job, launch, candidate, &desc));
    rg_emitted made;
    RG_TRY(rg_emit_kernel(job->ctx, job->tpl, &desc, &made));
    rg_cpu_source source = {made.symbol, made.key, made.source};
    rg_cpu_options options = {.isa = job->target.isa, .cc = job->cli->cc, .cache_dir = job->cli->cache, .optimise = job->cli->optimise};
    rg_cpu_stats stats;
    rg_cpu_kernel kernel;
    rg_cpu_library *library = NULL;
    RG_TRY(rg_cpu_build(job->ctx, &source, 1, &options, &kernel, &stats, &library));
    rg_harness_result result;
    rg_harness_times times = {0, 0};
    rg_status status = rg_harness_check(job->ctx, &desc, kernel, RG_BLOCK, job->spec->seed, &result);
    int32_t live = job->planned.program[RG_PP_GRAD].batch;
    if (launch->program == RG_PP_EVAL || launch->program == RG_PP_PREDICT) live = job->planned.program[launch->program].batch;
    if (status == RG_OK && result.passed)
        status = rg_harness_time(job->ctx, &desc, kernel, live, rg_job_threads(job), RUNS, &times);
    rg_cpu_close(library);
    if (status != RG_OK) return status;
    row->variant = candidate->variant.name;
    row->passed = result.passed;
    row->error = result.error;
    row->min_us = times.min_us;
    row->median_us = times.median_us;
    if (result.passed) {
        row->gflops = rg_kdesc_flop(&desc, false) * live / times.median_us / 1e3;
        row->gbps = rg_kdesc_bytes(&desc, (live + RG_BLOCK - 1) / RG_BLOCK) / times.median_us / 1e3;
    }
    state->failed += !result.passed;
    return RG_OK;
}

static void print_row(bench_state *state, const bench_row *row) {
    const char *kind = row->picked ? "pick" : "    ";
    if (state->job->cli->json) {
        json_array_append_new(state->rows, json_pack("{s:s, s:s, s:s, s:b, s:b, s:f, s:f, s:f, s:f, s:f, s:i}", "kernel",
                              row->launch->name.symbol, "layer", row->launch->label, "variant", row->variant, "pick",
                              row->picked, "passed", row->passed, "error", row->error, "min_us", row->min_us, "median_us",
                              row->median_us, "gflops", row->gflops, "gbps", row->gbps, "launches", row->launches));
        return;
    }
    printf("%s %-12s %2dx  min %8.0f  median %8.0f us  %6.1f GFLOP/s %5.1f %%  %6.1f GB/s  error %.1e%s  %s\n", kind,
           row->variant, row->launches, row->min_us, row->median_us, row->gflops, 100 * row->gflops / state->peak, row->gbps,
           row->error, row->passed ? "" : "  WRONG, not timed", row->picked ? row->launch->name.symbol : "");
    fflush(stdout);
}

static rg_status bench_launch(bench_state *state, const rg_launch *launch, int launches) {
    double fastest = 1e30;
    for (int32_t c = 0; c < launch->candidate_count; c++) {
        bench_row row = {.launch = launch, .picked = c == 0, .launches = launches};
        RG_TRY(bench_variant(state, launch, &launch->candidate[c], &row));
        print_row(state, &row);
        bool step = launch->program == RG_PP_GRAD || launch->program == RG_PP_UPDATE;
        if (row.picked && step) state->picked_us += row.median_us * launches;
        if (row.passed && row.median_us < fastest) fastest = row.median_us;
        if (c + 1 == launch->candidate_count && step) state->fastest_us += fastest * launches;
    }
    return RG_OK;
}

static rg_status bench_kernels(bench_state *state) {
    const rg_planned *planned = &state->job->planned;
    for (int32_t i = 0; i < planned->launch_count; i++) {
        int launches = 0;
        bool before = false;
        for (int32_t k = 0; k < planned->launch_count; k++) {
            bool same = strcmp(planned->launch[i].name.key, planned->launch[k].name.key) == 0 &&
                        planned->launch[i].program == planned->launch[k].program;
            launches += same;
            before |= same && k < i;
        }
        if (!before) RG_TRY(bench_launch(state, &planned->launch[i], launches));
    }
    return RG_OK;
}

/* ---- the whole step and evaluation ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *list, int count) {
    double copy[STEP_RUNS];
    memcpy(copy, list, (size_t)count * sizeof *copy);
    qsort(copy, (size_t)count, sizeof *copy, compare);
    return copy[count / 2];
}

typedef struct step_times {
    double fill[STEP_RUNS], step[STEP_RUNS], eval[STEP_RUNS];
    double *op_us[2]; /* GRAD, UPDATE: sums over the runs */
    double loss;
} step_times;

static rg_status one_batch(rg_job *job, rg_exec *exec, const rg_dataset *set, const rg_resize *resize, int32_t live, int run) {
    uint32_t *order = RG_NEW_ARRAY(job->ctx->arena, uint32_t, live);
    if (!order) return rg_nomem(job->ctx);
    for (int32_t i = 0; i < live; i++) order[i] = (uint32_t)(run * live + i) % set->count;
    return rg_data_fill(job->ctx, exec, set, resize, order, live);
}

static rg_status time_steps(rg_job *job, rg_exec *exec, const rg_dataset *set, step_times *t) {
    const rg_plan *plan = &job->planned.plan;
    rg_resize *resize;
    RG_TRY(rg_resize_new(job->ctx, set->height, set->width, plan->data.height, plan->data.width, &resize));
    int32_t batch = (int32_t)plan->data.batch, eval_batch = (int32_t)plan->data.eval_batch;
    rg_ctrl ctrl = rg_exec_ctrl(plan, batch, 1, 0);
    rg_exec_run(exec, RG_PP_DERIVE, &ctrl);
    for (int run = -2; run < STEP_RUNS; run++) {
        int at = run < 0 ? 0 : run;
        double start = now_ms();
        RG_TRY(one_batch(job, exec, set, resize, batch, at));
        t->fill[at] = now_ms() - start;
        ctrl = rg_exec_ctrl(plan, batch, (uint64_t)(run + 3), plan->data.lr);
        rg_exec_run(exec, RG_PP_GRAD, &ctrl);
        rg_exec_run(exec, RG_PP_UPDATE, &ctrl);
        t->step[at] = now_ms() - start;
    }
    t->loss = rg_exec_buffer(exec, plan->io.loss)[0];
    for (int run = -1; run < STEP_RUNS; run++) {
        int at = run < 0 ? 0 : run;
        double start = now_ms();
        RG_TRY(one_batch(job, exec, set, resize, eval_batch, at));
        ctrl = rg_exec_ctrl(plan, eval_batch, 1, 0);
        rg_exec_run(exec, RG_PP_EVAL, &ctrl);
        t->eval[at] = now_ms() - start;
    }
    return RG_OK;
}

/* The step op by op: a barrier around each, so that the times add up. */
static rg_status time_ops(rg_job *job, rg_exec *exec, step_times *t) {
    static const rg_plan_program_id program[2] = {RG_PP_GRAD, RG_PP_UPDATE};
    const rg_plan *plan = &job->planned.plan;
    rg_ctrl ctrl = rg_exec_ctrl(plan, (int32_t)plan->data.batch, 20, plan->data.lr);
    for (int p = 0; p < 2; p++) {
        uint32_t ops = plan->program[program[p]].op_count;
        t->op_us[p] = RG_NEW_ARRAY(job->ctx->arena, double, ops + 1);
        double *once = RG_NEW_ARRAY(job->ctx->arena, double, ops + 1);
        if (!t->op_us[p] || !once) return rg_nomem(job->ctx);
        for (int run = 0; run < 3; run++) {
            rg_exec_run_timed(exec, program[p], &ctrl, once);
            for (uint32_t i = 0; i < ops; i++)
                if (run == 0 || once[i] < t->op_us[p][i]) t->op_us[p][i] = once[i];
        }
    }
    return RG_OK;
}

/* Time that the machine needs at least: useful arithmetic at the measured peak, or bytes at `gbps`. */
static double floor_us(const rg_launch *launch, int32_t live, double peak, double gbps) {
    double work = rg_kdesc_flop(&launch->desc, true) * live / peak / 1e3;
    double traffic = rg_kdesc_bytes(&launch->desc, (live + RG_BLOCK - 1) / RG_BLOCK) / gbps / 1e3;
    return work > traffic ? work : traffic;
}

static void print_ops(rg_job *job, const step_times *t, double peak) {
    static const rg_plan_program_id program[2] = {RG_PP_GRAD, RG_PP_UPDATE};
    enum { GBPS = 25 };
    double total = 0, floors = 0;
    printf("%10s %10s  %-28s %s\n", "us", "floor us", "layer", "kernel");
    for (int p = 0; p < 2; p++) {
        uint32_t at = 0;
        for (int32_t i = 0; i < job->planned.launch_count; i++) {
            const rg_launch *launch = &job->planned.launch[i];
            if (launch->program != program[p]) continue;
            double us = t->op_us[p][at++], least = floor_us(launch, job->spec->batch, peak, GBPS);
            total += us;
            floors += least;
            printf("%10.0f %10.0f  %-28s %s\n", us, least, launch->label, launch->name.symbol);
        }
    }
    printf("%10.0f %10.0f  all kernels of a step, one after the other (floor: the measured peak of %.0f GFLOP/s, or %d GB/s)\n",
           total, floors, peak, GBPS);
}

static json_t *list_of(const double *list) {
    json_t *array = json_array();
    for (int i = 0; i < STEP_RUNS; i++) json_array_append_new(array, json_real(list[i]));
    return array;
}

static rg_status bench_step(rg_job *job, double peak) {
    rg_exec *exec = NULL;
    rg_dataset train = {0}, valid = {0};
    const char *told;
    step_times t = {0};
    rg_status status = rg_job_data(job, &train, &valid, &told);
    if (status == RG_OK)
        status = rg_exec_new(job->ctx, &job->planned.plan, job->kernel, rg_job_threads(job), &exec);
    if (status == RG_OK) {
        rg_params_init(exec, job->spec->seed);
        status = time_steps(job, exec, &train, &t);
    }
    if (status == RG_OK && !job->cli->json) status = time_ops(job, exec, &t);
    if (status == RG_OK && job->cli->json) {
        json_t *all = json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:f}", "spec", job->cli->spec, "threads", rg_job_threads(job),
                                "isa", job->target.isa, "step_ms", list_of(t.step), "fill_ms", list_of(t.fill), "eval_ms",
                                list_of(t.eval), "peak_gflops", peak);
        if (!all || json_dumpf(all, stdout, JSON_REAL_PRECISION(6)) != 0) status = rg_fail(job->ctx, RG_E_IO, "cannot write JSON");
        printf("\n");
        json_decref(all);
    } else if (status == RG_OK) {
        print_ops(job, &t, peak);
        printf("%s\nstep of %d images: median %.1f ms (data %.1f ms of it), evaluation of %d images: %.1f ms\n", told,
               job->spec->batch, median(t.step, STEP_RUNS), median(t.fill, STEP_RUNS), job->spec->eval_batch,
               median(t.eval, STEP_RUNS));
    }
    rg_exec_free(exec);
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
    return status;
}

rg_status rg_command_bench(rg_job *job) {
    bench_state state = {.job = job, .rows = json_array()};
    rg_status status = state.rows ? rg_job_build(job) : rg_nomem(job->ctx);
    if (status == RG_OK) status = measure_peak(job, &state.peak);
    if (status == RG_OK && !job->cli->json) printf("peak %.0f GFLOP/s with %d threads\n", state.peak, rg_job_threads(job));
    if (status == RG_OK && job->cli->step_only) {
        status = bench_step(job, state.peak);
    } else if (status == RG_OK) {
        status = bench_kernels(&state);
        if (status == RG_OK && job->cli->json && json_dumpf(state.rows, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0)
            status = rg_fail(job->ctx, RG_E_IO, "cannot write JSON");
        if (status == RG_OK && !job->cli->json)
            printf("a step: %.1f ms as picked, %.1f ms with the fastest variant of each kernel\n", state.picked_us / 1e3,
                   state.fastest_us / 1e3);
        if (status == RG_OK && !job->cli->json) status = bench_step(job, state.peak);
    }
    json_decref(state.rows);
    if (status == RG_OK && state.failed)
        return rg_fail(job->ctx, RG_E_NUMERIC, "bench: %d variants gave wrong values and were not timed", state.failed);
    return status;
}
