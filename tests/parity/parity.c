#include "parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../golden/formula.h"

static void print_diags(const parity *p) {
    for (const rg_diag *diag = p->ctx.first; diag; diag = diag->next)
        print_error("%s\n", rg_diag_format(p->ctx.arena, diag));
}

static void must(const parity *p, rg_status status) {
    if (status == RG_OK) return;
    print_diags(p);
    fail_msg("%s: %s", p->cli.spec, rg_status_name(status));
}

void *parity_alloc(size_t count, size_t size) {
    void *at = calloc(count ? count : 1, size);
    assert_non_null(at);
    return at;
}

/* ---- compiling and building ---- */

rg_status parity_try_open(parity *p, const char *spec, const parity_options *options) {
    *p = (parity){.cli = {.command = "train",
                          .spec = spec,
                          .target = "cpu",
                          .device = "cpu",
                          .isa = options->isa ? options->isa : "native",
                          .cache = RG_BINARY_DIR "/parity-cache",
                          .optimise = 1,
                          .quiet = true,
                          .batch = options->batch,
                          .only = options->variant}};
    p->job = (rg_job){.ctx = &p->ctx, .cli = &p->cli};
#ifdef RG_ADDRESS_SANITIZER
    p->cli.sanitize = true;
#endif
    assert_int_equal(rg_ctx_init(&p->ctx), RG_OK);
    RG_TRY(rg_job_compile(&p->job));
    const rg_graph *table = p->job.spec->graph;
    p->param = RG_NEW_ARRAY(p->ctx.arena, double *, table->param_count + 1);
    assert_non_null(p->param);
    for (int32_t row = 0; row < table->param_count; row++) {
        p->param[row] = RG_NEW_ARRAY(p->ctx.arena, double, parity_elements(p, row));
        assert_non_null(p->param[row]);
    }
    return RG_OK;
}

void parity_open(parity *p, const char *spec, uint32_t batch) {
    const parity_options options = {.batch = batch};
    must(p, parity_try_open(p, spec, &options));
}

void parity_build(parity *p, int threads) {
    must(p, rg_job_build(&p->job));
    parity_threads(p, threads);
}

void parity_threads(parity *p, int threads) {
    rg_exec_free(p->exec);
    must(p, rg_exec_new(&p->ctx, &p->job.planned.plan, p->job.kernel, threads, &p->exec));
}

void parity_close(parity *p) {
    rg_exec_free(p->exec);
    rg_job_close(&p->job);
    rg_ctx_free(&p->ctx);
}

/* ---- parameters ---- */

int64_t parity_elements(const parity *p, int32_t row) {
    return rg_type_elements(p->job.spec->graph->param[row].type);
}

int64_t parity_reorder(const rg_param *param, int64_t i) {
    if (param->type.cls != RG_T_WEIGHT) return i;
    const int32_t *d = param->type.dim;
    int64_t s = i % d[2], r = i / d[2] % d[1], c = i / d[2] / d[1] % d[3],
            k = i / d[2] / d[1] / d[3];
    return ((k * d[1] + r) * d[2] + s) * d[3] + c;
}

void parity_from_torch(const rg_param *param, const double *from, double *to) {
    int64_t count = rg_type_elements(param->type);
    for (int64_t i = 0; i < count; i++) to[parity_reorder(param, i)] = from[i];
}

void parity_to_torch(const rg_param *param, const double *from, double *to) {
    int64_t count = rg_type_elements(param->type);
    for (int64_t i = 0; i < count; i++) to[i] = from[parity_reorder(param, i)];
}

int32_t parity_find(const parity *p, const char *name) {
    const rg_graph *table = p->job.spec->graph;
    for (int32_t row = 0; row < table->param_count; row++)
        if (strcmp(table->param[row].name, name) == 0) return row;
    return -1;
}

int64_t parity_fan_in(const parity *p, int32_t row) {
    char name[256];
    const char *own = p->job.spec->graph->param[row].name, *dot = strrchr(own, '.');
    int layer = dot ? (int)(dot - own) : 0;
    snprintf(name, sizeof name, "%.*s.running_mean", layer, own);
    if (parity_find(p, name) >= 0) return 0;
    snprintf(name, sizeof name, "%.*s.weight", layer, own);
    int32_t weight = parity_find(p, name);
    assert_true(weight >= 0);
    return parity_elements(p, weight) / p->job.spec->graph->param[weight].type.dim[0];
}

void parity_params_by_formula(parity *p, const char *prefix) {
    const rg_graph *table = p->job.spec->graph;
    for (int32_t row = 0; row < table->param_count; row++) {
        const rg_param *param = &table->param[row];
        char name[300];
        snprintf(name, sizeof name, "%s%s", prefix, param->name);
        uint64_t seed = golden_seed(name);
        int64_t count = parity_elements(p, row), fan_in = parity_fan_in(p, row);
        for (int64_t i = 0; i < count; i++)
            p->param[row][parity_reorder(param, i)] =
                (double)golden_value(param->name, seed, (uint64_t)i, fan_in);
    }
}

/* ---- the interpreter ---- */

static void fill_leaf(const parity *p, rg_interp *interp, const rg_graph *graph, rg_vid v,
                      const parity_batch *batch) {
    const rg_value *value = &graph->value[v];
    const double *from = value->kind == RG_V_INPUT ? batch->image : p->param[value->param];
    if (value->kind == RG_V_INPUT && strcmp(value->name, "label") == 0) from = batch->label;
    memcpy(rg_interp_value(interp, v), from, (size_t)rg_interp_count(interp, v) * sizeof *from);
}

rg_interp *parity_interpret(parity *p, const rg_graph *graph, const parity_batch *batch) {
    rg_interp *interp;
    must(p, rg_interp_new(&p->ctx, graph, batch->count, &interp));
    for (rg_vid v = 0; v < graph->value_count; v++)
        if (graph->value[v].kind != RG_V_NODE) fill_leaf(p, interp, graph, v, batch);
    rg_ctrl ctrl = rg_exec_ctrl(&p->job.planned.plan, batch->count, 1, p->job.spec->optim.lr);
    must(p, rg_interp_run(&p->ctx, interp, &ctrl));
    return interp;
}

const double *parity_result(rg_interp *interp, const rg_graph *graph, rg_out_kind kind,
                            int32_t param) {
    for (int32_t i = 0; i < graph->result_count; i++) {
        const rg_result *result = &graph->result[i];
        if (result->kind == kind && (param < 0 || result->param == param))
            return rg_interp_value(interp, result->value);
    }
    return NULL;
}

/* ---- the kernels ---- */

static uint32_t plan_row(const parity *p, int32_t row) {
    const rg_plan *plan = &p->job.planned.plan;
    const char *name = p->job.spec->graph->param[row].name;
    for (uint32_t i = 0; i < plan->param_count; i++)
        if (strcmp(rg_plan_text(plan, plan->param[i].name), name) == 0) return i;
    fail_msg("the plan has no parameter '%s'", name);
    return 0;
}

void parity_load(parity *p) {
    const rg_graph *table = p->job.spec->graph;
    for (int32_t row = 0; row < table->param_count; row++) {
        int64_t count = parity_elements(p, row);
        float *values = parity_alloc((size_t)count, sizeof *values);
        for (int64_t i = 0; i < count; i++)
            values[i] = (float)p->param[row][parity_reorder(&table->param[row], i)];
        rg_params_write(p->exec, plan_row(p, row),
                        table->param[row].trained ? RG_ARENA_PARAM : RG_ARENA_STATE, values);
        free(values);
    }
    rg_ctrl ctrl = rg_exec_ctrl(&p->job.planned.plan, 1, 1, 0);
    must(p, rg_exec_run(&p->ctx, p->exec, RG_PP_DERIVE, &ctrl));
}

/* A gradient's padding is zero by contract and stays so: only what a program owns wholly is
 * poisoned. */
static void poison(parity *p) {
    const rg_plan *plan = &p->job.planned.plan;
    for (uint32_t i = 0; i < plan->buffer_count; i++) {
        const rg_plan_buffer *buffer = &plan->buffer[i];
        if (buffer->arena != RG_ARENA_WORK) continue;
        float *at = rg_exec_buffer(p->exec, i);
        for (uint64_t k = 0; k < buffer->bytes / sizeof *at; k++) at[k] = NAN;
    }
}

/* Images beyond the batch are zeros, as the program `input` leaves them. */
static void fill_batch(parity *p, const parity_batch *batch) {
    const rg_plan *plan = &p->job.planned.plan;
    const rg_plan_buffer *image = &plan->buffer[plan->io.image];
    uint32_t pixels = image->dim[0] * image->dim[1], channels = image->dim[2], cp = image->dim[3];
    float *to = rg_exec_buffer(p->exec, plan->io.image),
          *label = rg_exec_buffer(p->exec, plan->io.label);
    uint32_t count = (uint32_t)batch->count, whole = (count + RG_BLOCK - 1) / RG_BLOCK * RG_BLOCK;
    for (uint32_t n = 0; n < whole; n++) {
        label[n] = n < count ? (float)batch->label[n] : 0.0f;
        for (uint32_t i = 0; i < pixels; i++) {
            float *pixel =
                to + (((size_t)(n / RG_BLOCK) * pixels + i) * RG_BLOCK + n % RG_BLOCK) * cp;
            for (uint32_t c = 0; c < cp; c++)
                pixel[c] = n < count && c < channels
                               ? (float)batch->image[((size_t)n * pixels + i) * channels + c]
                               : 0.0f;
        }
    }
}

void parity_run(parity *p, rg_plan_program_id program, const parity_batch *batch, uint64_t step) {
    poison(p);
    fill_batch(p, batch);
    rg_ctrl ctrl = rg_exec_ctrl(&p->job.planned.plan, batch->count, step, p->job.spec->optim.lr);
    must(p, rg_exec_run(&p->ctx, p->exec, program, &ctrl));
}

void parity_read(parity *p, int32_t row, rg_plan_arena which, double *to) {
    int64_t count = parity_elements(p, row);
    float *values = parity_alloc((size_t)count, sizeof *values);
    rg_params_read(p->exec, plan_row(p, row), which, values);
    for (int64_t i = 0; i < count; i++)
        to[parity_reorder(&p->job.spec->graph->param[row], i)] = (double)values[i];
    free(values);
}

float parity_loss(parity *p) {
    return rg_exec_buffer(p->exec, p->job.planned.plan.io.loss)[0];
}

void parity_logits(parity *p, int32_t count, double *to) {
    const rg_plan *plan = &p->job.planned.plan;
    const rg_plan_buffer *buffer = &plan->buffer[plan->io.logits];
    uint32_t classes = buffer->dim[2], cp = buffer->dim[3];
    const float *from = rg_exec_buffer(p->exec, plan->io.logits);
    for (uint32_t n = 0; n < (uint32_t)count; n++)
        for (uint32_t k = 0; k < classes; k++) to[n * classes + k] = (double)from[n * cp + k];
}

/* ---- comparing ---- */

double parity_norm(const double *a, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * a[i];
    return sqrt(sum);
}

double parity_distance(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

/* NaN counts as larger than anything. */
double parity_largest_difference(const double *a, const double *b, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= most)) most = isnan(a[i] - b[i]) ? INFINITY : fabs(a[i] - b[i]);
    return most;
}
