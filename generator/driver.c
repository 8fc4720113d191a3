#include "driver.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver_parts.h"
#include "rg_report.h"

/* ---- stages: from the spec to the plan ---- */

static void print_text(rg_text *text) {
    if (text->data) fputs(text->data, stdout);
    rg_text_free(text);
}

static void dump_graph(const rg_job *job, const char *stage, const rg_graph *graph) {
    if (!job->cli->dump || strcmp(job->cli->dump, stage) != 0) return;
    rg_text text = {0};
    rg_text_add(&text, "-- %s: %s\n", stage, graph->name);
    rg_graph_dump(&text, graph);
    print_text(&text);
}

typedef rg_status (*graph_pass)(rg_ctx *, const rg_graph *, rg_graph **);

static rg_status infer_eval(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    return rg_pass_infer_mode(ctx, in, false, out);
}

static rg_status infer_predict(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    return rg_pass_infer_mode(ctx, in, true, out);
}

/* What each program goes through. `infer` (shapes) runs while the spec is read. */
typedef struct stage {
    const char *name;
    graph_pass pass[3]; /* GRAD, EVAL, PREDICT; NULL: not for this program */
} stage;

static const stage stages[] = {
    {"grad", {rg_pass_grad, infer_eval, infer_predict}},
    {"decompose", {rg_pass_decompose, rg_pass_decompose, NULL}},
    {"fold", {NULL, rg_pass_fold, rg_pass_fold}},
    {"simplify", {rg_pass_simplify, rg_pass_simplify, rg_pass_simplify}},
    {"precision", {rg_pass_precision, rg_pass_precision, rg_pass_precision}},
    /* then, on all programs together: fuse, select, expand, schedule, check (rg_planner_run) */
};

static const rg_plan_program_id programs[3] = {RG_PP_GRAD, RG_PP_EVAL, RG_PP_PREDICT};

static rg_status run_stages(rg_job *job) {
    rg_graph *graph[3] = {job->spec->graph, job->spec->graph, job->spec->graph};
    job->spec->graph->format = job->target.precision;
    dump_graph(job, "infer", job->spec->graph);
    for (size_t s = 0; s < sizeof stages / sizeof *stages; s++)
        for (int p = 0; p < 3; p++) {
            if (!stages[s].pass[p]) continue;
            RG_TRY(stages[s].pass[p](job->ctx, graph[p], &graph[p]));
            dump_graph(job, stages[s].name, graph[p]);
            if (s == 0 && p == 0) job->train_graph = graph[p];
            if (s == 0 && p == 1) job->eval_graph = graph[p];
        }
    for (int p = 0; p < 3; p++) {
        rg_program_graph *program = &job->planned.program[programs[p]];
        program->graph = graph[p];
        program->batch = p == 0 ? job->spec->batch : job->spec->eval_batch;
    }
    return RG_OK;
}

static void dump_launches(const rg_job *job, rg_text *text, bool kernels) {
    static const char *const name[] = {
#define X(id, text) text,
        RG_PLAN_PROGRAM_LIST(X)
#undef X
    };
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        rg_text_add(text, "%s phase %d%s  %s  (%s)  %s\n", name[launch->program], launch->phase,
                    launch->wait ? " after a barrier" : "", launch->name.symbol, launch->label,
                    launch->why);
        for (int32_t c = 0; !kernels && c < launch->candidate_count; c++)
            rg_text_add(text, "    %s %.0f us\n", launch->candidate[c].variant.name,
                        launch->candidate[c].variant.cost_us);
        if (kernels) rg_kdesc_print(text, &launch->desc, true);
        if (kernels) rg_text_add(text, "\n");
    }
}

static void dump_buffers(const rg_job *job, rg_text *text) {
    static const char *const arena[] = {
#define X(id, text) text,
        RG_PLAN_ARENA_LIST(X)
#undef X
    };
    for (int32_t i = 0; i < job->planned.buffer_count; i++) {
        const rg_pbuffer *b = &job->planned.buffer[i];
        rg_text_add(text, "%-8s %10llu + %10llu bytes  phases %d..%d  %s\n", arena[b->arena],
                    (unsigned long long)b->offset, (unsigned long long)rg_pbuffer_bytes(b),
                    b->first, b->last, b->name);
    }
}

static void dump_planned(const rg_job *job, bool complete) {
    const char *stage = job->cli->dump;
    if (!stage) return;
    rg_text text = {0};
    for (int p = 0; p < 3 && strcmp(stage, "fuse") == 0; p++) {
        if (!job->planned.program[programs[p]].fusion) continue;
        rg_text_add(&text, "-- fuse: %s\n", job->planned.program[programs[p]].graph->name);
        rg_fuse_dump(&text, job->planned.program[programs[p]].fusion);
    }
    if (strcmp(stage, "select") == 0) dump_launches(job, &text, false);
    if (strcmp(stage, "expand") == 0) dump_launches(job, &text, true);
    if (strcmp(stage, "schedule") == 0 || strcmp(stage, "plan") == 0) {
        dump_launches(job, &text, false);
        dump_buffers(job, &text);
    }
    if (strcmp(stage, "floor") == 0) rg_floor_dump(&text, job);
    if (complete && strcmp(stage, "check") == 0)
        rg_text_add(&text,
                    "%d launches, %d buffers: arguments fit their buffers, nothing is read before "
                    "it is written,\n"
                    "nothing alive shares bytes, each gradient is written once, no dgrad of a "
                    "first convolution\n",
                    job->planned.launch_count, job->planned.buffer_count);
    print_text(&text);
}

static rg_status set_target(rg_job *job) {
    const char *isa = job->cli->isa;
    if (strcmp(job->cli->target, "cuda") == 0) return rg_job_cuda_open(job);
    if (job->cli->dump && strcmp(job->cli->dump, "floor") == 0)
        return rg_fail(job->ctx, RG_E_USAGE, "--dump=floor is of devices alone: add --target=cuda");
    if (strcmp(isa, "native") == 0) isa = rg_cpu_native_isa();
    if (!isa)
        return rg_fail(job->ctx, RG_E_UNSUPPORTED,
                       "this processor has no AVX2: resgen's CPU kernels need it");
    int32_t blocks = (job->spec->batch + RG_BLOCK - 1) / RG_BLOCK;
    job->target = (rg_target){.name = "cpu",
                              .isa = isa,
                              .vector = strcmp(isa, "avx512") == 0 ? 16 : 8,
                              .max_blocks = blocks,
                              .only = job->cli->only};
    return RG_OK;
}

static void set_data(rg_job *job) {
    const rg_spec *spec = job->spec;
    rg_plan_data *data = &job->planned.plan.data;
    data->height = (uint32_t)spec->height;
    data->width = (uint32_t)spec->width;
    data->channels = (uint32_t)spec->channels;
    data->classes = (uint32_t)spec->classes;
    data->set_height = data->set_width = RG_DATASET_SIDE; /* CIFAR-10 or the synthetic set */
    for (int i = 0; i < 4; i++) {
        data->mean[i] = (float)spec->mean[i];
        data->std[i] = (float)spec->std[i];
    }
    data->batch = (uint32_t)spec->batch;
    data->eval_batch = (uint32_t)spec->eval_batch;
    data->epochs = (uint32_t)spec->epochs;
    data->seed = spec->seed;
    data->optim_kind = spec->optim.kind == RG_OPTIM_ADAM;
    data->lr = spec->optim.lr;
    data->beta1 = spec->optim.beta1;
    data->beta2 = spec->optim.beta2;
    job->planned.optim = spec->optim;
}

/* The spec's own batch was looked at when it was read; this one comes from the command line. */
static rg_status set_batch(rg_job *job) {
    if (!job->cli->batch) return RG_OK;
    job->spec->batch = (int32_t)job->cli->batch;
    const rg_graph *graph = job->spec->graph;
    for (rg_vid v = 0; v < graph->value_count; v++) {
        rg_type type = graph->value[v].type;
        bool image = type.cls == RG_T_ACT && type.dim[0] == RG_BATCH;
        if (image && rg_type_elements(type) > INT32_MAX / job->spec->batch)
            return rg_fail(
                job->ctx, RG_E_LIMIT,
                "--batch=%u: expected at most 2^31 elements a value, found %lld an image",
                job->cli->batch, (long long)rg_type_elements(type));
    }
    return RG_OK;
}

rg_status rg_job_compile(rg_job *job) {
    RG_TRY(rg_spec_load(job->ctx, job->cli->spec, &job->spec));
    RG_TRY(set_batch(job));
    if (job->cli->epochs) job->spec->epochs = (int32_t)job->cli->epochs;
    if (job->cli->seed_given) job->spec->seed = job->cli->seed;
    RG_TRY(set_target(job));
    RG_TRY(run_stages(job));
    set_data(job);
    job->planned.plan.source = job->spec->hash;
    RG_TRY(rg_tpl_open(job->ctx, &job->target, &job->tpl));
    RG_TRY(rg_tpl_check_only(job->ctx, job->tpl, &job->target));
    rg_status status = rg_planner_run(job->ctx, job->tpl, &job->target, &job->planned);
    dump_planned(job, status == RG_OK); /* whatever stage was reached */
    RG_TRY(status);
    return rg_plan_check(job->ctx, &job->planned.plan);
}

/* ---- sources and objects ---- */

uint32_t rg_job_kernel_of(const rg_job *job, const rg_launch *launch) {
    const rg_plan *plan = &job->planned.plan;
    uint32_t i = 0;
    while (i < plan->kernel_count &&
           strcmp(rg_plan_text(plan, plan->kernel[i].key), launch->name.key) != 0)
        i++;
    return i;
}

static rg_status emit_all(rg_job *job) {
    const rg_plan *plan = &job->planned.plan;
    job->source = RG_NEW_ARRAY(job->ctx->arena, rg_cpu_source, plan->kernel_count + 1);
    job->kernel = RG_NEW_ARRAY(job->ctx->arena, rg_cpu_kernel, plan->kernel_count + 1);
    if (!job->source || !job->kernel) return rg_nomem(job->ctx);
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        rg_cpu_source *source = &job->source[rg_job_kernel_of(job, launch)];
        if (source->source) continue;
        rg_emitted made;
        RG_TRY(rg_emit_kernel(job->ctx, job->tpl, &launch->desc, &made));
        *source = (rg_cpu_source){rg_arena_strdup(job->ctx->arena, made.symbol),
                                  rg_arena_strdup(job->ctx->arena, made.key), made.source};
        if (!source->symbol || !source->key) return rg_nomem(job->ctx);
    }
    return RG_OK;
}

rg_status rg_job_objects(rg_job *job, const rg_cpu_source *source, int count, rg_cpu_kernel *kernel,
                         rg_cpu_stats *stats, rg_cpu_library **library) {
    rg_report report;
    rg_report_init(&report, stdout, stderr, job->cli->quiet);
    rg_cpu_options options = {.isa = job->target.isa,
                              .cc = job->cli->cc,
                              .cache_dir = job->cli->cache,
                              .optimise = job->cli->optimise,
                              .sanitize = job->cli->sanitize,
                              .progress = rg_report_build,
                              .user = &report};
    rg_status status = rg_cpu_build(job->ctx, source, count, &options, kernel, stats, library);
    rg_report_clear(&report);
    return status;
}

rg_status rg_job_build(rg_job *job) {
    RG_TRY(emit_all(job));
    if (job->cuda) return rg_job_cuda_build(job);
    return rg_job_objects(job, job->source, (int)job->planned.plan.kernel_count, job->kernel,
                          &job->stats, &job->library);
}

void rg_job_close(rg_job *job) {
    if (job->library) rg_cpu_close(job->library);
    if (job->tpl) rg_tpl_close(job->tpl);
    rg_job_cuda_close(job);
}

rg_status rg_job_exec(rg_job *job, rg_exec **exec) {
    if (job->cuda) return rg_job_cuda_exec(job, exec);
    return rg_exec_new(job->ctx, &job->planned.plan, job->kernel, rg_job_threads(job), exec);
}

rg_status rg_job_check(rg_job *job, const rg_launch *launch, int32_t live, uint64_t seed,
                       rg_harness_result *result) {
    if (job->cuda) return rg_job_cuda_check(job, launch, live, seed, result);
    rg_cpu_kernel kernel = job->kernel[rg_job_kernel_of(job, launch)];
    return rg_harness_check(job->ctx, &launch->desc, kernel, live, seed, result);
}

int rg_job_threads(const rg_job *job) {
    if (job->cli->threads) return job->cli->threads;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
}

/* ---- the program ---- */

typedef struct command_row {
    const char *name;
    rg_status (*run)(rg_job *);
} command_row;

static const command_row commands[] = {
    {"build", rg_command_build},   {"train", rg_command_train}, {"eval", rg_command_eval},
    {"verify", rg_command_verify}, {"bench", rg_command_bench}, {"explain", rg_command_explain},
};

static rg_status run_command(rg_job *job) {
    omp_set_num_threads(rg_job_threads(job)); /* of what is no kernel: preparing data, parameters */
    RG_TRY(rg_job_compile(job));
    if (job->cli->dump) return RG_OK;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(job->cli->command, commands[i].name) == 0) return commands[i].run(job);
    return rg_fail(job->ctx, RG_E_USAGE, "unknown command '%s'", job->cli->command);
}

static void print_diags(const rg_ctx *ctx) {
    for (const rg_diag *diag = ctx->first; diag; diag = diag->next) {
        char *line = rg_diag_format(ctx->arena, diag);
        fprintf(stderr, "%s\n", line ? line : diag->text);
    }
}

int rg_driver_main(int argc, char **argv) {
    bool help = argc < 2 || strcmp(argv[1], "help") == 0;
    for (int i = 1; i < argc; i++) help |= strcmp(argv[i], "--help") == 0;
    if (help) {
        fputs(rg_cli_usage(), argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    rg_ctx ctx;
    if (rg_ctx_init(&ctx) != RG_OK) return 1;
    rg_cli cli;
    rg_job job = {.ctx = &ctx, .cli = &cli};
    rg_status status = rg_cli_parse(&ctx, argc, argv, &cli);
    if (status == RG_OK) status = run_command(&job);
    if (fflush(stdout) != 0 && status == RG_OK)
        status = rg_fail(&ctx, RG_E_IO, "cannot write to standard output");
    print_diags(&ctx);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
    if (status == RG_E_USAGE) return 2;
    if (status == RG_E_INTERRUPTED) return 130;
    return status == RG_OK ? 0 : 1;
}
