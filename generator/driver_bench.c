/* `resgen bench`: each kernel of the plan with every variant that applies, and the whole step. A
 * variant is timed only after its values passed. */
#include <jansson.h>
#include <string.h>

#include "driver_parts.h"
#include "rg_harness.h"
#include "rg_harness_adjoint.h"
#include "rg_report.h"

enum { RUNS = 7 };

/* A kernel of the plan at one number of images, however many launches it has. */
typedef struct bench_case {
    const rg_launch *launch; /* the first */
    int32_t live, launches;  /* launches: in the program of the first */
    int32_t first, count;    /* its variants */
    double picked_us, fastest_us, est_us, floor_us;
} bench_case;

typedef struct bench_variant {
    const rg_candidate *candidate;
    bool picked;
    rg_kdesc desc;
    rg_harness_result check;
    rg_harness_times times;
    double est_us, floor_us, gflops, gbps; /* gflops 0: it has no multiplications */
} bench_variant;

typedef struct bench_state {
    rg_job *job;
    rg_peak peak;
    rg_report report;
    json_t *json, *rows; /* NULL: text */
    bench_case *cases;
    bench_variant *variant;
    rg_cpu_source *source;
    rg_cpu_kernel *kernel;
    int32_t case_count, variant_count;
    int failed;
} bench_state;

static const char *const program_name[] = {
#define X(id, text) text,
    RG_PLAN_PROGRAM_LIST(X)
#undef X
};

/* ---- what there is to time ---- */

static int32_t images_of(const rg_job *job, const rg_launch *launch) {
    bool eval = launch->program == RG_PP_EVAL || launch->program == RG_PP_PREDICT;
    return eval ? job->spec->eval_batch : job->spec->batch;
}

static bench_case *find_case(bench_state *state, const rg_launch *launch) {
    int32_t live = images_of(state->job, launch);
    for (int32_t i = 0; i < state->case_count; i++) {
        bench_case *old = &state->cases[i];
        if (old->live == live && strcmp(old->launch->name.key, launch->name.key) == 0) return old;
    }
    return NULL;
}

/* Costs are of a full training batch; what a tile of images costs grows with the batch. */
static double estimate(const rg_job *job, const rg_candidate *candidate, int32_t live) {
    int32_t blocks = (live + RG_BLOCK - 1) / RG_BLOCK;
    bool grows = candidate->variant.tiles_per_block > 0;
    return candidate->variant.cost_us * (grows ? (double)blocks / job->target.max_blocks : 1);
}

static rg_status add_variant(bench_state *state, bench_case *one, const rg_candidate *candidate) {
    rg_job *job = state->job;
    rg_emitted made;
    bench_variant *to = &state->variant[state->variant_count];
    to->candidate = candidate;
    to->picked = strcmp(candidate->variant.name, one->launch->desc.variant.name) == 0;
    for (int32_t i = one->first; i < state->variant_count; i++)
        to->picked &= !state->variant[i].picked;
    to->est_us = estimate(job, candidate, one->live);
    RG_TRY(rg_harness_settle(job->ctx, &one->launch->desc, candidate, &to->desc));
    RG_TRY(rg_emit_kernel(job->ctx, job->tpl, &to->desc, &made));
    rg_cpu_source *source = &state->source[state->variant_count];
    *source = (rg_cpu_source){rg_arena_strdup(job->ctx->arena, made.symbol),
                              rg_arena_strdup(job->ctx->arena, made.key), made.source};
    if (!source->symbol || !source->key) return rg_nomem(job->ctx);
    to->floor_us = rg_peak_floor(&state->peak, &to->desc, one->live);
    state->variant_count++;
    one->count++;
    return RG_OK;
}

static rg_status collect(bench_state *state) {
    const rg_planned *planned = &state->job->planned;
    rg_arena *arena = state->job->ctx->arena;
    int32_t most = 1;
    for (int32_t i = 0; i < planned->launch_count; i++) most += planned->launch[i].candidate_count;
    state->cases = RG_NEW_ARRAY(arena, bench_case, planned->launch_count + 1);
    state->variant = RG_NEW_ARRAY(arena, bench_variant, most);
    state->source = RG_NEW_ARRAY(arena, rg_cpu_source, most);
    state->kernel = RG_NEW_ARRAY(arena, rg_cpu_kernel, most);
    if (!state->cases || !state->variant || !state->source || !state->kernel)
        return rg_nomem(state->job->ctx);
    for (int32_t i = 0; i < planned->launch_count; i++) {
        const rg_launch *launch = &planned->launch[i];
        bench_case *one = find_case(state, launch);
        if (one) {
            one->launches += one->launch->program == launch->program;
            continue;
        }
        one = &state->cases[state->case_count++];
        *one = (bench_case){.launch = launch, .live = images_of(state->job, launch), .launches = 1};
        one->first = state->variant_count;
        for (int32_t c = 0; c < launch->candidate_count; c++)
            RG_TRY(add_variant(state, one, &launch->candidate[c]));
    }
    return RG_OK;
}

/* ---- output ---- */

static void print_head(void) {
    printf("\n%-4s  %-12s %8s %9s %9s %9s %9s %9s %7s %7s %9s  %s\n", "", "variant", "launches",
           "est us", "min us", "median us", "floor us", "GFLOP/s", "% peak", "GB/s", "error",
           "layer, kernel");
}

static void print_heading(const bench_state *state, int32_t c) {
    const bench_case *one = &state->cases[c];
    if (c > 0 && state->cases[c - 1].launch->program == one->launch->program) return;
    printf("%s, %d images:\n", program_name[one->launch->program], one->live);
}

static void print_variant(const bench_state *state, const bench_case *one, const bench_variant *v) {
    printf("%-4s  %-12s %8d %9.1f ", v->picked ? "pick" : "", v->candidate->variant.name,
           one->launches, v->est_us);
    if (v->check.passed)
        printf("%9.1f %9.1f %9.1f ", v->times.min_us, v->times.median_us, v->floor_us);
    else
        printf("%29s ", "WRONG, not timed");
    if (v->gflops > 0)
        printf("%9.1f %7.1f ", v->gflops, 100 * v->gflops / state->peak.gflops);
    else
        printf("%9s %7s ", "-", "-");
    if (v->check.passed)
        printf("%7.1f ", v->gbps);
    else
        printf("%7s ", "-");
    printf("%9.1e", v->check.error);
    if (v->picked) printf("  %s  %s", one->launch->label, one->launch->name.symbol);
    if (v->check.trouble) printf("  %s", v->check.trouble);
    printf("\n");
    fflush(stdout);
}

static rg_status json_variant(bench_state *state, const bench_case *one, const bench_variant *v) {
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:b, s:b, s:f, s:f, s:f}", "program",
        program_name[one->launch->program], "layer", one->launch->label, "kernel",
        state->source[v - state->variant].symbol, "variant", v->candidate->variant.name, "images",
        one->live, "launches", one->launches, "pick", v->picked, "passed", v->check.passed, "error",
        rg_number_for_json(v->check.error), "est_us", v->est_us, "floor_us", v->floor_us);
    if (row && v->check.passed) {
        json_object_set_new(row, "min_us", json_real(v->times.min_us));
        json_object_set_new(row, "median_us", json_real(v->times.median_us));
        json_object_set_new(row, "gbps", json_real(v->gbps));
    }
    if (row && v->gflops > 0) {
        json_object_set_new(row, "gflops", json_real(v->gflops));
        double percent = 100 * v->gflops / state->peak.gflops;
        json_object_set_new(row, "peak_percent", json_real(percent));
    }
    if (row && v->check.trouble) json_object_set_new(row, "trouble", json_string(v->check.trouble));
    return json_array_append_new(state->rows, row) == 0 ? RG_OK : rg_nomem(state->job->ctx);
}

static void show_progress(bench_state *state, int32_t variant) {
    if (!state->report.live) return;
    rg_report_clear(&state->report);
    fprintf(state->report.err, "timing %d/%d %s", variant + 1, state->variant_count,
            state->source[variant].symbol);
    fflush(state->report.err);
    state->report.shown = true;
}

/* ---- one kernel ---- */

static rg_status bench_variant_of(bench_state *state, const bench_case *one, int32_t index) {
    rg_job *job = state->job;
    bench_variant *v = &state->variant[index];
    rg_cpu_kernel kernel = state->kernel[index];
    RG_TRY(rg_harness_check(job->ctx, &v->desc, kernel, RG_BLOCK, job->spec->seed, &v->check));
    state->failed += !v->check.passed;
    if (!v->check.passed) return RG_OK;
    RG_TRY(rg_harness_time(job->ctx, &v->desc, kernel, one->live, rg_job_threads(job), RUNS,
                           &v->times));
    int32_t blocks = (one->live + RG_BLOCK - 1) / RG_BLOCK;
    v->gflops = rg_kdesc_flop(&v->desc, false) * one->live / v->times.median_us / 1e3;
    v->gbps = rg_kdesc_bytes(&v->desc, blocks) / v->times.median_us / 1e3;
    return RG_OK;
}

static void note_case(bench_case *one, const bench_variant *v) {
    if (v->picked) {
        one->picked_us = v->times.median_us;
        one->est_us = v->est_us;
        one->floor_us = v->floor_us;
    }
    double us = v->times.median_us;
    if (v->check.passed && (one->fastest_us == 0 || us < one->fastest_us)) one->fastest_us = us;
}

static rg_status bench_case_of(bench_state *state, int32_t c) {
    bench_case *one = &state->cases[c];
    for (int32_t i = one->first; i < one->first + one->count; i++) {
        show_progress(state, i);
        rg_status status = bench_variant_of(state, one, i);
        rg_report_clear(&state->report);
        RG_TRY(status);
        note_case(one, &state->variant[i]);
        if (state->json)
            RG_TRY(json_variant(state, one, &state->variant[i]));
        else
            print_variant(state, one, &state->variant[i]);
    }
    return RG_OK;
}

/* ---- totals ---- */

/* All launches of some programs, one after the other. */
static bench_case total_of(bench_state *state, rg_plan_program_id a, rg_plan_program_id b) {
    const rg_planned *planned = &state->job->planned;
    bench_case total = {0};
    for (int32_t i = 0; i < planned->launch_count; i++) {
        const rg_launch *launch = &planned->launch[i];
        if (launch->program != a && launch->program != b) continue;
        const bench_case *one = find_case(state, launch);
        total.launches++;
        total.picked_us += one->picked_us;
        total.fastest_us += one->fastest_us;
        total.est_us += one->est_us;
        total.floor_us += one->floor_us;
    }
    return total;
}

static rg_status show_total(bench_state *state, const char *what, const bench_case *t) {
    if (!state->json) {
        printf("%-20s %4d launches: %.2f ms as picked (the model said %.2f), %.2f ms with the "
               "fastest variant of each, floor %.2f ms\n",
               what, t->launches, t->picked_us / 1e3, t->est_us / 1e3, t->fastest_us / 1e3,
               t->floor_us / 1e3);
        return RG_OK;
    }
    json_t *total =
        json_pack("{s:i, s:f, s:f, s:f, s:f}", "launches", t->launches, "picked_us", t->picked_us,
                  "est_us", t->est_us, "fastest_us", t->fastest_us, "floor_us", t->floor_us);
    return json_object_set_new(state->json, what, total) == 0 ? RG_OK : rg_nomem(state->job->ctx);
}

static rg_status show_totals(bench_state *state) {
    bench_case step = total_of(state, RG_PP_GRAD, RG_PP_UPDATE);
    bench_case eval = total_of(state, RG_PP_EVAL, RG_PP_EVAL);
    if (!state->json) printf("\n");
    RG_TRY(show_total(state, state->json ? "step_kernels" : "a training step", &step));
    RG_TRY(show_total(state, state->json ? "eval_kernels" : "an evaluation batch", &eval));
    if (!state->json)
        printf("est: the cost model, for two threads. floor: the variant's own multiplications at "
               "the peak, or its arguments once\nfrom memory (a cache may be faster). GFLOP/s: "
               "counted as the direct algorithm, padding included.\n\n");
    return RG_OK;
}

static rg_status bench_kernels(bench_state *state) {
    rg_job *job = state->job;
    rg_cpu_stats stats;
    rg_cpu_library *library = NULL;
    RG_TRY(collect(state));
    rg_status status =
        rg_job_objects(job, state->source, state->variant_count, state->kernel, &stats, &library);
    if (status == RG_OK && !state->json) print_head();
    for (int32_t c = 0; status == RG_OK && c < state->case_count; c++) {
        if (!state->json) print_heading(state, c);
        status = bench_case_of(state, c);
    }
    if (status == RG_OK) status = show_totals(state);
    if (library) rg_cpu_close(library);
    return status;
}

/* ---- the command ---- */

static rg_status begin_output(bench_state *state) {
    rg_job *job = state->job;
    int threads = rg_job_threads(job);
    if (!job->cli->json) {
        printf("%s, %s, %d threads: peak %.0f GFLOP/s, memory %.1f GB/s\n", job->cli->spec,
               job->target.isa, threads, state->peak.gflops, state->peak.gbps);
        return RG_OK;
    }
    state->json = json_pack("{s:s, s:s, s:i, s:f, s:f}", "spec", job->cli->spec, "isa",
                            job->target.isa, "threads", threads, "peak_gflops", state->peak.gflops,
                            "memory_gbps", state->peak.gbps);
    if (!state->json) return rg_nomem(job->ctx);
    if (job->cli->step_only) return RG_OK;
    state->rows = json_array(); /* borrowed from state->json */
    return json_object_set_new(state->json, "variants", state->rows) == 0 ? RG_OK
                                                                          : rg_nomem(job->ctx);
}

/* Kernels of a device are timed one after the other within the step alone. */
static rg_status begin_cuda(bench_state *state) {
    rg_job *job = state->job;
    const rg_kdesc plain = {.contr_count = 0};
    const char *device = rg_job_cuda_name(job), *told;
    bool emulated = strcmp(job->cli->device, "emulate") == 0;
    state->peak = rg_floor_peak(device, &plain, &told);
    if (job->cli->json) {
        state->json = json_pack("{s:s, s:s, s:s, s:b}", "spec", job->cli->spec, "device", device,
                                "floors", told, "emulated", emulated);
        return state->json ? RG_OK : rg_nomem(job->ctx);
    }
    printf("%s, %s: floors are an %s's\n", job->cli->spec, device, told);
    if (emulated) printf("the emulator's times are no times: they tell nothing of a device\n");
    return RG_OK;
}

static rg_status bench_all(bench_state *state) {
    rg_job *job = state->job;
    RG_TRY(rg_job_build(job));
    if (!job->cuda) RG_TRY(rg_peak_measure(job, &state->peak));
    RG_TRY(job->cuda ? begin_cuda(state) : begin_output(state));
    if (!job->cuda && !job->cli->step_only) RG_TRY(bench_kernels(state));
    RG_TRY(rg_bench_step(job, &state->peak, state->json));
    if (!state->json) return RG_OK;
    if (json_dumpf(state->json, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0)
        return rg_fail(job->ctx, RG_E_IO, "cannot write JSON");
    printf("\n");
    return RG_OK;
}

rg_status rg_command_bench(rg_job *job) {
    bench_state state = {.job = job};
    rg_report_init(&state.report, stdout, stderr, job->cli->quiet);
    rg_status status = bench_all(&state);
    if (state.json) json_decref(state.json);
    if (status == RG_OK && state.failed)
        return rg_fail(job->ctx, RG_E_NUMERIC,
                       "bench: %d variants gave wrong values and were not timed", state.failed);
    return status;
}
