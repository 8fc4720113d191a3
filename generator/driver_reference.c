/* --device=reference: training by the graph's interpreter, in double precision, on the graph as it
 * is before `decompose`: each op by its own reference. Slow, and the meaning of a network. With
 * --precision it is the graph after `precision`: all in double but what is rounded there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "rg_report.h"

typedef struct reference {
    rg_job *job;
    rg_ctx *ctx;
    const rg_graph *table;
    double **param;     /* by row of the parameter table, in the interpreter's order (K R S C) */
    double **moment[2]; /* the same for trained rows */
    rg_interp *train, *eval;
    rg_resize *resize;
    uint8_t *bytes, *scratch; /* one plane */
    uint64_t steps;
    uint64_t optim_steps;    /* those of the moments, which begin with zeros */
    rg_loss_scaling scaling; /* f16 */
} reference;

static const rg_graph *train_graph(const rg_job *job) {
    bool plain = job->target.precision == RG_KFORMAT_F32;
    return plain ? job->train_graph : job->planned.program[RG_PP_GRAD].graph;
}

static const rg_graph *eval_graph(const rg_job *job) {
    bool plain = job->target.precision == RG_KFORMAT_F32;
    return plain ? job->eval_graph : job->planned.program[RG_PP_EVAL].graph;
}

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- parameters ---- */

static int64_t elements(const rg_param *param) {
    return rg_type_elements(param->type);
}

/* Element i of the logical order (K C R S) in the interpreter's order (K R S C). */
static int64_t reorder(const rg_param *param, int64_t i) {
    if (param->type.cls != RG_T_WEIGHT) return i;
    const int32_t *d = param->type.dim;
    int64_t s = i % d[2], r = i / d[2] % d[1], c = i / d[2] / d[1] % d[3],
            k = i / d[2] / d[1] / d[3];
    return ((k * d[1] + r) * d[2] + s) * d[3] + c;
}

/* The row of the plan's table with this name: the plan has counters besides. */
static uint32_t plan_row(const rg_plan *plan, const char *name) {
    uint32_t row = 0;
    while (row < plan->param_count && strcmp(rg_plan_text(plan, plan->param[row].name), name) != 0)
        row++;
    return row;
}

/* Initial values are those of the kernels: f32, from the same stream or file. */
static rg_status read_params(reference *ref) {
    const rg_plan *plan = &ref->job->planned.plan;
    rg_cpu_kernel *none = RG_NEW_ARRAY(ref->ctx->arena, rg_cpu_kernel, plan->kernel_count + 1);
    rg_exec *exec = NULL;
    if (!none) return rg_nomem(ref->ctx);
    RG_TRY(rg_exec_new(ref->ctx, plan, none, 1, &exec));
    rg_params_init(exec, ref->job->spec->seed);
    rg_status status = RG_OK;
    rg_trained done = {0};
    if (ref->job->cli->init) status = rg_params_load(ref->ctx, exec, ref->job->cli->init, &done);
    ref->steps = done.steps;
    if (done.optim_steps && !ref->job->cli->quiet)
        printf("%s: its optimiser's part is ignored: the reference starts the optimiser afresh\n",
               ref->job->cli->init);
    for (int32_t row = 0; status == RG_OK && row < ref->table->param_count; row++) {
        const rg_param *param = &ref->table->param[row];
        int64_t count = elements(param);
        float *values = malloc((size_t)count * sizeof *values);
        ref->param[row] = RG_NEW_ARRAY(ref->ctx->arena, double, count);
        for (int m = 0; m < 2; m++)
            ref->moment[m][row] = RG_NEW_ARRAY(ref->ctx->arena, double, count);
        if (!values || !ref->param[row] || !ref->moment[0][row] || !ref->moment[1][row]) {
            status = rg_nomem(ref->ctx);
        } else {
            rg_params_read(exec, plan_row(plan, param->name),
                           param->trained ? RG_ARENA_PARAM : RG_ARENA_STATE, values);
            for (int64_t i = 0; i < count; i++)
                ref->param[row][reorder(param, i)] = (double)values[i];
        }
        free(values);
    }
    rg_exec_free(exec);
    return status;
}

static rg_status save_params(reference *ref) {
    rg_arena *arena = ref->ctx->arena;
    int32_t rows = ref->table->param_count;
    rg_safetensors file = {.entry = RG_NEW_ARRAY(arena, rg_tensor_entry, 2 * rows + 1)};
    int64_t *steps = RG_NEW(arena, int64_t);
    if (!file.entry || !steps) return rg_nomem(ref->ctx);
    *steps = (int64_t)ref->steps;
    const rg_plan *plan = &ref->job->planned.plan;
    for (uint32_t i = 0; i < plan->param_count; i++) {
        rg_tensor_entry *entry = &file.entry[file.count++];
        entry->name = rg_plan_text(plan, plan->param[i].name);
        entry->rank = plan->param[i].rank;
        memcpy(entry->shape, plan->param[i].shape, sizeof plan->param[i].shape);
        if (plan->param[i].kind == RG_PK_COUNTER) {
            entry->dtype = "I64";
            entry->data = (const uint8_t *)steps;
            entry->bytes = sizeof *steps;
            continue;
        }
        int32_t row = 0;
        while (strcmp(ref->table->param[row].name, entry->name) != 0) row++;
        const rg_param *param = &ref->table->param[row];
        double *values = RG_NEW_ARRAY(arena, double, elements(param));
        if (!values) return rg_nomem(ref->ctx);
        for (int64_t k = 0; k < elements(param); k++)
            values[k] = ref->param[row][reorder(param, k)];
        entry->dtype = "F64";
        entry->data = (const uint8_t *)values;
        entry->bytes = (uint64_t)elements(param) * sizeof *values;
    }
    return rg_safetensors_write(ref->ctx, ref->job->cli->save, &file);
}

/* ---- batches ---- */

static void fill_image(reference *ref, const rg_dataset *set, uint32_t image, double *to) {
    const rg_spec *spec = ref->job->spec;
    size_t in = (size_t)set->height * set->width, out = (size_t)spec->height * (size_t)spec->width;
    for (uint32_t c = 0; c < set->channels; c++) {
        rg_resize_plane(ref->resize, set->pixels + ((size_t)image * set->channels + c) * in,
                        ref->bytes, ref->scratch);
        for (size_t i = 0; i < out; i++)
            to[i * set->channels + c] = (ref->bytes[i] / 255.0 - spec->mean[c]) / spec->std[c];
    }
}

static void fill_leaves(reference *ref, rg_interp *interp, const rg_graph *graph,
                        const rg_dataset *set, const uint32_t *order, int32_t live) {
    int64_t size = (int64_t)ref->job->spec->height * ref->job->spec->width * set->channels;
    for (rg_vid v = 0; v < graph->value_count; v++) {
        const rg_value *value = &graph->value[v];
        if (value->kind == RG_V_NODE) continue;
        double *to = rg_interp_value(interp, v);
        bool label = value->kind == RG_V_INPUT && strcmp(value->name, "label") == 0;
        if (value->kind == RG_V_INPUT && strcmp(value->name, RG_LOSS_SCALE) == 0) {
            *to = ref->scaling.scale;
            continue;
        }
        if (value->kind != RG_V_INPUT) {
            memcpy(to, ref->param[value->param], (size_t)rg_interp_count(interp, v) * sizeof *to);
            continue;
        }
        memset(to, 0, (size_t)rg_interp_count(interp, v) * sizeof *to);
        for (int32_t i = 0; i < live; i++) {
            if (label)
                to[i] = set->labels[order[i]];
            else
                fill_image(ref, set, order[i], to + i * size);
        }
    }
}

static const double *result(rg_interp *interp, const rg_graph *graph, rg_out_kind kind) {
    for (int32_t i = 0; i < graph->result_count; i++)
        if (graph->result[i].kind == kind) return rg_interp_value(interp, graph->result[i].value);
    return NULL;
}

/* ---- the optimiser ---- */

/* f16: gradients as they would be without a scale, and the next one; false: one is not finite, and
 * the step is left out. */
static bool unscale(reference *ref, const rg_graph *graph) {
    double largest = 0, factor = 1;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) factor = rg_loss_scaling_next(&ref->scaling, largest);
        for (int32_t r = 0; r < graph->result_count; r++) {
            if (graph->result[r].kind != RG_O_GRAD) continue;
            double *value = rg_interp_value(ref->train, graph->result[r].value);
            int64_t count = rg_interp_count(ref->train, graph->result[r].value);
            for (int64_t i = 0; i < count; i++) {
                if (pass == 1) value[i] *= factor;
                if (pass == 0 && !isnan(largest) && !(fabs(value[i]) <= largest))
                    largest = fabs(value[i]);
            }
        }
    }
    return factor > 0;
}

static rg_status update(reference *ref, const rg_graph *graph) {
    bool scaled = ref->job->target.precision == RG_KFORMAT_F16;
    bool good = !scaled || unscale(ref, graph);
    for (int32_t r = 0; r < graph->result_count; r++) {
        int32_t row = graph->result[r].param;
        const double *value = rg_interp_value(ref->train, graph->result[r].value);
        int64_t count = rg_interp_count(ref->train, graph->result[r].value);
        if (graph->result[r].kind == RG_O_STATE)
            memcpy(ref->param[row], value, (size_t)count * sizeof *value);
        if (graph->result[r].kind != RG_O_GRAD || !good) continue;
        double *const moment[2] = {ref->moment[0][row], ref->moment[1][row]};
        RG_TRY(rg_optim_step(ref->ctx, &ref->job->spec->optim, ref->optim_steps, ref->param[row],
                             value, moment, count));
    }
    return RG_OK;
}

/* ---- epochs ---- */

typedef struct sums {
    double loss, correct;
    uint64_t images;
} sums;

static rg_ctrl control(reference *ref, int32_t live) {
    return rg_exec_ctrl(&ref->job->planned.plan, live, ref->optim_steps + 1,
                        ref->job->spec->optim.lr);
}

static rg_status run_batch(reference *ref, bool training, const rg_dataset *set,
                           const uint32_t *order, int32_t live, sums *total, double *loss) {
    rg_interp *interp = training ? ref->train : ref->eval;
    const rg_graph *graph = training ? train_graph(ref->job) : eval_graph(ref->job);
    fill_leaves(ref, interp, graph, set, order, live);
    rg_ctrl ctrl = control(ref, live);
    RG_TRY(rg_interp_run(ref->ctx, interp, &ctrl));
    *loss = result(interp, graph, RG_O_LOSS)[0];
    if (!isfinite(*loss))
        return rg_fail(ref->ctx, RG_E_NUMERIC, "loss is %g after %llu steps", *loss,
                       (unsigned long long)ref->steps);
    total->loss += *loss * live;
    total->correct += result(interp, graph, RG_O_CORRECT)[0];
    total->images += (uint64_t)live;
    if (!training) return RG_OK;
    ref->steps++;
    ref->optim_steps++;
    return update(ref, graph);
}

static rg_status train_set(reference *ref, uint32_t epoch, const rg_dataset *set,
                           const uint32_t *order, uint64_t last, sums *total) {
    uint32_t batch = (uint32_t)ref->job->spec->batch;
    for (uint32_t at = 0, step = 0; at < set->count && ref->steps < last; at += batch, step++) {
        int32_t live = (int32_t)(set->count - at < batch ? set->count - at : batch);
        double loss;
        RG_TRY(run_batch(ref, true, set, order + at, live, total, &loss));
        if (ref->job->cli->steps && !ref->job->cli->quiet)
            printf("epoch %u step %u loss %.17g\n", epoch, step, loss);
    }
    return RG_OK;
}

/* No more than `most` batches. */
static rg_status eval_set(reference *ref, const rg_dataset *set, uint32_t *order, uint64_t most,
                          rg_epoch *epoch) {
    uint32_t batch = (uint32_t)ref->job->spec->eval_batch;
    sums total = {0};
    for (uint32_t i = 0; i < set->count; i++) order[i] = i;
    for (uint32_t at = 0; at < set->count && at / batch < most; at += batch) {
        int32_t live = (int32_t)(set->count - at < batch ? set->count - at : batch);
        double loss;
        RG_TRY(run_batch(ref, false, set, order + at, live, &total, &loss));
    }
    epoch->validated = true;
    epoch->valid_loss = total.loss / (double)total.images;
    epoch->valid_acc = total.correct / (double)total.images;
    epoch->valid_images = total.images;
    epoch->valid_count = set->count;
    return RG_OK;
}

/* Batches of an evaluation: where steps are counted there is none. */
static uint64_t eval_steps(const rg_cli *cli) {
    bool few = cli->eval_steps == RG_EVAL_UNSET && cli->steps;
    return few ? 0 : cli->eval_steps;
}

static rg_status run_epochs(reference *ref, const rg_dataset *train, const rg_dataset *valid) {
    uint32_t most = train->count > valid->count ? train->count : valid->count;
    uint32_t *order = RG_NEW_ARRAY(ref->ctx->arena, uint32_t, most);
    if (!order) return rg_nomem(ref->ctx);
    uint64_t last = ref->job->cli->steps ? ref->steps + ref->job->cli->steps : UINT64_MAX;
    for (uint32_t e = 0; e < (uint32_t)ref->job->spec->epochs && ref->steps < last; e++) {
        double start = now_seconds();
        sums t = {0};
        for (uint32_t i = 0; i < most; i++) order[i] = i;
        if (!ref->job->cli->no_shuffle)
            rg_random_permutation(ref->job->spec->seed, e, train->count, order);
        RG_TRY(train_set(ref, e, train, order, last, &t));
        rg_epoch epoch = {.epoch = e,
                          .steps = ref->steps,
                          .images = t.images,
                          .train_loss = t.loss / (double)t.images,
                          .train_acc = t.correct / (double)t.images};
        uint64_t batches = eval_steps(ref->job->cli);
        if (batches) RG_TRY(eval_set(ref, valid, order, batches, &epoch));
        epoch.seconds = now_seconds() - start;
        char line[256];
        rg_epoch_format(&epoch, line, sizeof line);
        printf("%s\n", line);
        fflush(stdout);
    }
    return RG_OK;
}

static rg_status prepare(reference *ref, const rg_dataset *set) {
    const rg_spec *spec = ref->job->spec;
    rg_arena *arena = ref->ctx->arena;
    size_t rows = (size_t)ref->table->param_count + 1;
    ref->param = RG_NEW_ARRAY(arena, double *, rows);
    for (int m = 0; m < 2; m++) ref->moment[m] = RG_NEW_ARRAY(arena, double *, rows);
    ref->bytes = RG_NEW_ARRAY(arena, uint8_t, (size_t)spec->height * (size_t)spec->width);
    ref->scratch = RG_NEW_ARRAY(arena, uint8_t, (size_t)set->height * (size_t)spec->width);
    if (!ref->param || !ref->moment[0] || !ref->moment[1] || !ref->bytes || !ref->scratch)
        return rg_nomem(ref->ctx);
    if ((int32_t)set->channels != spec->channels)
        return rg_fail(ref->ctx, RG_E_SHAPE, "the data set has %u channels, the network %d",
                       set->channels, spec->channels);
    RG_TRY(read_params(ref));
    RG_TRY(rg_resize_new(ref->ctx, set->height, set->width, (uint32_t)spec->height,
                         (uint32_t)spec->width, &ref->resize));
    RG_TRY(rg_interp_new(ref->ctx, train_graph(ref->job), spec->batch, &ref->train));
    return rg_interp_new(ref->ctx, eval_graph(ref->job), spec->eval_batch, &ref->eval);
}

rg_status rg_reference_train(rg_job *job) {
    reference ref = {.job = job,
                     .ctx = job->ctx,
                     .table = job->spec->graph,
                     .scaling = {.scale = RG_LOSS_SCALE_FIRST}};
    rg_dataset train = {0}, valid = {0};
    const char *told;
    rg_status status = rg_job_data(job, &train, &valid, &told);
    if (status == RG_OK && !job->cli->quiet) printf("%s\n", told);
    if (status == RG_OK) status = prepare(&ref, &train);
    if (status == RG_OK) status = run_epochs(&ref, &train, &valid);
    if (status == RG_OK && job->cli->save) status = save_params(&ref);
    rg_interp_free(ref.train);
    rg_interp_free(ref.eval);
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
    return status;
}
