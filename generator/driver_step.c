/* `resgen bench`: the whole step and evaluation, and where the step's time goes. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "driver_parts.h"

enum {
    STEP_RUNS = 9,
    OP_RUNS = 5,
    WARM_RUNS = 2,
    WARM_MS = 300, /* a GPU that was idle raises its clocks meanwhile */
};

typedef struct step_row {
    const char *layer, *kernel;
    double us, floor_us, gflop, mbytes;
} step_row;

/* Where batches come from: the device (kept >= 0), or the host. */
typedef struct step_source {
    const rg_dataset *set;
    rg_resize *resize;
    int kept;
} step_source;

typedef struct step_times {
    double fill[STEP_RUNS], step[STEP_RUNS], eval[STEP_RUNS]; /* milliseconds */
    step_row *row; /* data, then every kernel, in the plan's order */
    int32_t row_count;
} step_times;

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

/* ---- the whole ---- */

static rg_status batch_of(rg_job *job, const step_source *from, int32_t live, int run,
                          rg_exec_batch *batch) {
    uint32_t *order = RG_NEW_ARRAY(job->ctx->arena, uint32_t, live);
    if (!order) return rg_nomem(job->ctx);
    for (int32_t i = 0; i < live; i++) order[i] = (uint32_t)(run * live + i) % from->set->count;
    *batch = (rg_exec_batch){from->kept, order, live};
    return RG_OK;
}

/* *ms: how long it takes, alone. */
static rg_status one_batch(rg_job *job, rg_exec *exec, const step_source *from, int32_t live,
                           int run, double *ms) {
    rg_exec_batch batch;
    RG_TRY(batch_of(job, from, live, run, &batch));
    double start = rg_now_ms();
    if (from->kept >= 0)
        RG_TRY(rg_exec_work_run(job->ctx, exec, &(rg_exec_work){.next = &batch}));
    else
        RG_TRY(rg_data_fill(job->ctx, exec, from->set, from->resize, batch.order, live));
    if (from->kept >= 0) RG_TRY(rg_exec_finish(job->ctx, exec));
    *ms = rg_now_ms() - start;
    return RG_OK;
}

/* Programs as training or evaluation runs them: the batch made by the host before, or the next one
 * by the device beside them. *ms: with the host's batch. */
static rg_status run_once(rg_job *job, rg_exec *exec, const step_source *from,
                          const rg_exec_work *work, int run, double fill_ms, double *ms) {
    rg_exec_batch next;
    rg_exec_work whole = *work;
    RG_TRY(batch_of(job, from, work->ctrl.live, run + 1, &next));
    if (from->kept >= 0) whole.next = &next;
    double start = rg_now_ms();
    RG_TRY(rg_exec_work_run(job->ctx, exec, &whole));
    RG_TRY(rg_exec_finish(job->ctx, exec));
    *ms = rg_now_ms() - start + (from->kept >= 0 ? 0 : fill_ms);
    return RG_OK;
}

static rg_status one_step(rg_job *job, rg_exec *exec, const step_source *from, int run,
                          double *fill_ms, double *step_ms) {
    const rg_plan *plan = &job->planned.plan;
    int32_t batch = (int32_t)plan->data.batch;
    rg_exec_work work = {.program = {RG_PP_GRAD, RG_PP_UPDATE}, .count = 2};
    work.ctrl = rg_exec_ctrl(plan, batch, (uint64_t)run + 1, plan->data.lr);
    RG_TRY(one_batch(job, exec, from, batch, run, fill_ms));
    return run_once(job, exec, from, &work, run, *fill_ms, step_ms);
}

static rg_status time_steps(rg_job *job, rg_exec *exec, const step_source *from, step_times *t) {
    const rg_plan *plan = &job->planned.plan;
    rg_ctrl ctrl = rg_exec_ctrl(plan, (int32_t)plan->data.batch, 1, 0);
    RG_TRY(rg_exec_run(job->ctx, exec, RG_PP_DERIVE, &ctrl));
    double start = rg_now_ms();
    int warm = 0;
    for (; warm < WARM_RUNS || rg_now_ms() - start < WARM_MS; warm++)
        RG_TRY(one_step(job, exec, from, warm, &t->fill[0], &t->step[0]));
    for (int run = 0; run < STEP_RUNS; run++)
        RG_TRY(one_step(job, exec, from, warm + run, &t->fill[run], &t->step[run]));
    return RG_OK;
}

static rg_status time_evals(rg_job *job, rg_exec *exec, const step_source *from, step_times *t) {
    const rg_plan *plan = &job->planned.plan;
    int32_t batch = (int32_t)plan->data.eval_batch;
    double fill_ms;
    for (int run = -1; run < STEP_RUNS; run++) {
        int at = run < 0 ? 0 : run;
        rg_exec_work work = {.program = {RG_PP_EVAL}, .count = 1};
        work.ctrl = rg_exec_ctrl(plan, batch, 1, 0);
        RG_TRY(one_batch(job, exec, from, batch, at, &fill_ms));
        RG_TRY(run_once(job, exec, from, &work, at, fill_ms, &t->eval[at]));
    }
    return RG_OK;
}

/* ---- kernel by kernel ---- */

static const rg_kdesc *desc_of(const rg_job *job, const char *key) {
    for (int32_t i = 0; i < job->planned.launch_count; i++)
        if (strcmp(job->planned.launch[i].name.key, key) == 0) return &job->planned.launch[i].desc;
    return NULL;
}

static double tenths(double us) {
    return round(us * 10) / 10;
}

static double hundredths(double us) {
    return round(us * 100) / 100;
}

static step_row row_of(const rg_job *job, const rg_plan_op *op, const rg_peak *peak, double us) {
    const rg_plan *plan = &job->planned.plan;
    step_row row = {.layer = rg_plan_text(plan, op->label), .kernel = "zeros", .us = tenths(us)};
    if (op->kind != RG_PO_LAUNCH) return row;
    const rg_plan_kernel *kernel = &plan->kernel[op->kernel];
    const rg_kdesc *desc = desc_of(job, rg_plan_text(plan, kernel->key));
    row.kernel = rg_plan_text(plan, kernel->symbol);
    if (!desc) return row;
    int32_t batch = (int32_t)plan->data.batch;
    const char *told;
    rg_peak of = job->cuda ? rg_floor_peak(rg_job_cuda_name(job), desc, &told) : *peak;
    row.floor_us = hundredths(rg_peak_floor(&of, desc, batch));
    row.gflop = rg_kdesc_flop(desc, true) * batch / 1e9;
    row.mbytes = rg_kdesc_bytes(desc, (batch + RG_BLOCK - 1) / RG_BLOCK) / 1e6;
    return row;
}

/* A barrier around each, so that the times add up. */
static rg_status time_program(rg_job *job, rg_exec *exec, rg_plan_program_id id,
                              const rg_peak *peak, step_times *t) {
    const rg_plan *plan = &job->planned.plan;
    const rg_plan_program *program = &plan->program[id];
    rg_ctrl ctrl = rg_exec_ctrl(plan, (int32_t)plan->data.batch, 20, plan->data.lr);
    uint32_t ops = program->op_count;
    double *us[OP_RUNS];
    for (int run = 0; run < OP_RUNS; run++) {
        us[run] = RG_NEW_ARRAY(job->ctx->arena, double, ops + 1);
        if (!us[run]) return rg_nomem(job->ctx);
        RG_TRY(rg_exec_run_timed(job->ctx, exec, id, &ctrl, us[run]));
    }
    for (uint32_t i = 0; i < ops; i++) {
        double each[OP_RUNS];
        for (int run = 0; run < OP_RUNS; run++) each[run] = us[run][i];
        t->row[t->row_count++] =
            row_of(job, &plan->op[program->first_op + i], peak, median(each, OP_RUNS));
    }
    return RG_OK;
}

static rg_status time_ops(rg_job *job, rg_exec *exec, const rg_peak *peak, step_times *t) {
    const rg_plan *plan = &job->planned.plan;
    uint32_t ops = plan->program[RG_PP_GRAD].op_count + plan->program[RG_PP_UPDATE].op_count;
    t->row = RG_NEW_ARRAY(job->ctx->arena, step_row, ops + 1);
    if (!t->row) return rg_nomem(job->ctx);
    double us = tenths(1e3 * median(t->fill, STEP_RUNS));
    t->row[t->row_count++] =
        (step_row){.layer = "data", .kernel = "resize and normalise", .us = us};
    RG_TRY(time_program(job, exec, RG_PP_GRAD, peak, t));
    return time_program(job, exec, RG_PP_UPDATE, peak, t);
}

/* ---- output ---- */

static step_row sum_of(const step_times *t) {
    step_row sum = {.layer = "sum"};
    for (int32_t i = 0; i < t->row_count; i++) {
        sum.us += t->row[i].us;
        sum.floor_us += t->row[i].floor_us;
        sum.gflop += t->row[i].gflop;
        sum.mbytes += t->row[i].mbytes;
    }
    return sum;
}

static void print_row(const step_row *row, double whole_us) {
    printf("%10.1f %6.1f %10.2f %7.1f %8.3f %8.2f  %-24s", row->us, 100 * row->us / whole_us,
           row->floor_us, row->us > 0 ? 100 * row->floor_us / row->us : 0, row->gflop, row->mbytes,
           row->layer);
    if (row->kernel) printf(" %s", row->kernel);
    printf("\n");
}

static void print_step(const rg_job *job, const step_times *t, const char *told) {
    step_row sum = sum_of(t);
    printf("%s\n%10s %6s %10s %7s %8s %8s  %-24s %s\n", told, "us", "%", "floor us", "floor %",
           "GFLOP", "MB", "layer", "kernel");
    for (int32_t i = 0; i < t->row_count; i++) print_row(&t->row[i], sum.us);
    print_row(&sum, sum.us);
    printf("step of %d images: median %.2f ms in one go (data %.2f ms of it; the table has a "
           "barrier after each kernel)\nevaluation of %d images: median %.2f ms\n",
           job->spec->batch, median(t->step, STEP_RUNS), median(t->fill, STEP_RUNS),
           job->spec->eval_batch, median(t->eval, STEP_RUNS));
}

static json_t *list_of(const double *list) {
    json_t *array = json_array();
    for (int i = 0; i < STEP_RUNS; i++) json_array_append_new(array, json_real(list[i]));
    return array;
}

static json_t *rows_of(const step_times *t) {
    json_t *array = json_array();
    for (int32_t i = 0; i < t->row_count; i++) {
        const step_row *row = &t->row[i];
        json_array_append_new(array,
                              json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "layer", row->layer,
                                        "kernel", row->kernel, "us", row->us, "floor_us",
                                        row->floor_us, "gflop", row->gflop, "mb", row->mbytes));
    }
    return array;
}

static rg_status put_step(rg_job *job, const step_times *t, const char *told, json_t *into) {
    bool failed = json_object_set_new(into, "data", json_string(told)) != 0;
    failed |= json_object_set_new(into, "step_ms", list_of(t->step)) != 0;
    failed |= json_object_set_new(into, "fill_ms", list_of(t->fill)) != 0;
    failed |= json_object_set_new(into, "eval_ms", list_of(t->eval)) != 0;
    failed |= json_object_set_new(into, "step_rows", rows_of(t)) != 0;
    failed |= json_object_set_new(into, "step_rows_us", json_real(sum_of(t).us)) != 0;
    return failed ? rg_nomem(job->ctx) : RG_OK;
}

static rg_status time_all(rg_job *job, rg_exec *exec, const rg_dataset *set, const rg_peak *peak,
                          step_times *t) {
    const rg_plan_data *data = &job->planned.plan.data;
    step_source from = {.set = set};
    const char *why;
    double ms;
    RG_TRY(
        rg_resize_new(job->ctx, set->height, set->width, data->height, data->width, &from.resize));
    RG_TRY(rg_data_keep(job->ctx, exec, set, from.resize, &from.kept, &why));
    rg_params_init(exec, job->spec->seed);
    RG_TRY(time_steps(job, exec, &from, t));
    RG_TRY(time_evals(job, exec, &from, t));
    RG_TRY(one_batch(job, exec, &from, (int32_t)data->batch, 0, &ms));
    return time_ops(job, exec, peak, t);
}

rg_status rg_bench_step(rg_job *job, const rg_peak *peak, json_t *into) {
    rg_exec *exec = NULL;
    rg_dataset train = {0}, valid = {0};
    const char *told;
    step_times t = {.row = NULL};
    rg_status status = rg_job_data(job, &train, &valid, &told);
    if (status == RG_OK) status = rg_job_exec(job, &exec);
    if (status == RG_OK) status = time_all(job, exec, &train, peak, &t);
    if (status == RG_OK && into) status = put_step(job, &t, told, into);
    if (status == RG_OK && !into) print_step(job, &t, told);
    rg_exec_free(exec);
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
    return status;
}
