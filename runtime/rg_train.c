/* The training loop: batches, steps, epochs, checkpoints. */
#include "rg_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOTHING_FILLED UINT64_MAX

/* A set that is gone through in batches. */
typedef struct train_source {
    const rg_dataset *set;
    rg_resize *resize;
    uint32_t *order; /* of images. Owner: malloc */
} train_source;

typedef struct train_sums {
    double loss, correct; /* over images */
    uint64_t images;
} train_sums;

typedef struct train_state {
    rg_ctx *ctx;
    rg_exec *exec;
    const rg_plan *plan;
    const rg_train_options *options;
    train_source train, valid;
    uint64_t steps;     /* all of them */
    uint64_t last_step; /* where to stop; UINT64_MAX: nowhere */
    uint64_t filled;    /* the batch in the image buffer, by its first image */
} train_state;

static double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static bool is_stopped(const volatile sig_atomic_t *stop) {
    return stop && *stop;
}

/* ---- sources ---- */

static rg_status open_source(rg_ctx *ctx, const rg_plan *plan, const rg_dataset *set,
                             train_source *source) {
    const rg_plan_data *data = &plan->data;
    *source = (train_source){.set = set};
    if (set->count == 0) return rg_fail(ctx, RG_E_USAGE, "the data set has no images");
    if (set->channels != data->channels || set->classes > data->classes)
        return rg_fail(ctx, RG_E_SHAPE,
                       "the data set has %u channels and %u classes, the network %u and %u",
                       set->channels, set->classes, data->channels, data->classes);
    RG_TRY(rg_resize_new(ctx, set->height, set->width, data->height, data->width, &source->resize));
    source->order = malloc(set->count * sizeof *source->order);
    if (!source->order) return rg_nomem(ctx);
    for (uint32_t i = 0; i < set->count; i++) source->order[i] = i;
    return RG_OK;
}

static void close_source(train_source *source) {
    free(source->order);
    source->order = NULL;
}

static int32_t live_images(const train_source *source, uint64_t first, uint32_t batch) {
    uint64_t left = source->set->count - first;
    return (int32_t)(left < batch ? left : batch);
}

/* Takes what a grad or eval program has left, once it is done. */
static rg_status take_results(rg_ctx *ctx, rg_exec *exec, int32_t live, train_sums *sums,
                              double *loss) {
    const rg_plan *plan = rg_exec_plan(exec);
    RG_TRY(rg_exec_fetch(ctx, exec, plan->io.loss));
    RG_TRY(rg_exec_fetch(ctx, exec, plan->io.correct));
    *loss = rg_exec_buffer(exec, plan->io.loss)[0];
    sums->loss += *loss * live;
    sums->correct += rg_exec_buffer(exec, plan->io.correct)[0];
    sums->images += (uint64_t)live;
    return RG_OK;
}

/* ---- evaluation ---- */

static rg_status eval_source(rg_ctx *ctx, rg_exec *exec, const train_source *source,
                             const volatile sig_atomic_t *stop, double *loss, double *accuracy) {
    const rg_plan *plan = rg_exec_plan(exec);
    uint32_t batch = plan->data.eval_batch;
    train_sums sums = {0};
    double batch_loss;
    rg_ctrl ctrl = rg_exec_ctrl(plan, (int32_t)batch, 1, 0);
    RG_TRY(rg_exec_run(ctx, exec, RG_PP_DERIVE, &ctrl)); /* parameters or statistics changed */
    for (uint64_t first = 0; first < source->set->count; first += batch) {
        if (is_stopped(stop)) return RG_E_INTERRUPTED; /* the caller says what was saved */
        int32_t live = live_images(source, first, batch);
        RG_TRY(rg_data_fill(ctx, exec, source->set, source->resize, source->order + first, live));
        ctrl = rg_exec_ctrl(plan, live, 1, 0);
        RG_TRY(rg_exec_run(ctx, exec, RG_PP_EVAL, &ctrl));
        RG_TRY(take_results(ctx, exec, live, &sums, &batch_loss));
    }
    *loss = sums.loss / (double)sums.images;
    *accuracy = sums.correct / (double)sums.images;
    return RG_OK;
}

static rg_status need_program(rg_ctx *ctx, const rg_plan *plan, rg_plan_program_id id,
                              const char *name) {
    if (plan->program[id].op_count > 0) return RG_OK;
    return rg_fail(ctx, RG_E_UNSUPPORTED, "this plan has no program '%s'", name);
}

rg_status rg_eval(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set,
                  const volatile sig_atomic_t *stop, double *loss, double *accuracy) {
    train_source source;
    RG_TRY(need_program(ctx, rg_exec_plan(exec), RG_PP_EVAL, "eval"));
    rg_status status = open_source(ctx, rg_exec_plan(exec), set, &source);
    if (status == RG_OK) status = eval_source(ctx, exec, &source, stop, loss, accuracy);
    close_source(&source);
    return status == RG_E_INTERRUPTED ? rg_fail(ctx, status, "interrupted") : status;
}

/* ---- lines ---- */

void rg_epoch_format(const rg_epoch *epoch, char *text, size_t size) {
    char valid[80] = "";
    unsigned long seconds = (unsigned long)epoch->seconds;
    if (epoch->validated)
        snprintf(valid, sizeof valid, ", Valid:(L=%.6f, Acc=%.6f)", epoch->valid_loss,
                 epoch->valid_acc);
    snprintf(text, size, "[%2u] Train:(L=%.6f, Acc=%.6f)%s, T: %02lu:%02lu:%02lu", epoch->epoch,
             epoch->train_loss, epoch->train_acc, valid, seconds / 3600, seconds / 60 % 60,
             seconds % 60);
}

static void tell_step(const train_state *state, const rg_progress *progress) {
    const rg_train_options *options = state->options;
    char text[128];
    if (options->print_steps && options->line) {
        /* Nine digits give back an f32 to the bit. */
        snprintf(text, sizeof text, "epoch %u step %llu loss %.9g", progress->epoch,
                 (unsigned long long)progress->step, progress->loss);
        options->line(options->user, text);
    }
    if (options->progress) options->progress(options->user, progress);
}

static void tell_epoch(const train_state *state, const rg_epoch *epoch) {
    const rg_train_options *options = state->options;
    char text[256];
    rg_epoch_format(epoch, text, sizeof text);
    if (options->line) options->line(options->user, text);
    if (options->epoch) options->epoch(options->user, epoch);
}

/* ---- checkpoints ---- */

/* In a scratch context: the permanent arena must not grow by a checkpoint each epoch. */
static rg_status save(train_state *state) {
    rg_ctx scratch;
    if (!state->options->save) return RG_OK;
    if (rg_ctx_init(&scratch) != RG_OK) return rg_nomem(state->ctx);
    rg_status status = rg_params_save(&scratch, state->exec, state->options->save, state->steps);
    if (status != RG_OK)
        rg_fail(state->ctx, status, "%s", scratch.last ? scratch.last->text : "cannot save");
    rg_ctx_free(&scratch);
    return status;
}

static rg_status interrupt(train_state *state) {
    RG_TRY(save(state));
    if (!state->options->save)
        return rg_fail(state->ctx, RG_E_INTERRUPTED, "interrupted after step %llu; nothing saved",
                       (unsigned long long)state->steps);
    return rg_fail(state->ctx, RG_E_INTERRUPTED, "interrupted after step %llu; saved '%s'",
                   (unsigned long long)state->steps, state->options->save);
}

/* ---- steps and epochs ---- */

static rg_status fill_batch(train_state *state, uint64_t first) {
    const train_source *source = &state->train;
    state->filled = first;
    return rg_data_fill(state->ctx, state->exec, source->set, source->resize, source->order + first,
                        live_images(source, first, state->plan->data.batch));
}

static rg_status check_loss(const train_state *state, const rg_progress *progress) {
    if (isfinite(progress->loss)) return RG_OK;
    return rg_fail(state->ctx, RG_E_NUMERIC,
                   "loss is %s at epoch %u step %llu; try a smaller learning rate than %g",
                   isnan(progress->loss) ? "nan" : "inf", progress->epoch,
                   (unsigned long long)progress->step, state->plan->data.lr);
}

/* A device works through the whole step while the next batch is made here; on the host a loss that
 * is not finite changes no parameter. */
static rg_status train_step(train_state *state, uint64_t first, rg_progress *progress,
                            train_sums *sums) {
    const rg_plan_data *data = &state->plan->data;
    rg_ctx *ctx = state->ctx;
    bool overlaps = rg_exec_overlaps(state->exec);
    int32_t live = live_images(&state->train, first, data->batch);
    uint64_t next = first + data->batch;
    if (state->filled != first) RG_TRY(fill_batch(state, first));
    rg_ctrl ctrl = rg_exec_ctrl(state->plan, live, state->steps + 1, data->lr);
    RG_TRY(rg_exec_run(ctx, state->exec, RG_PP_GRAD, &ctrl));
    if (overlaps) {
        RG_TRY(rg_exec_run(ctx, state->exec, RG_PP_UPDATE, &ctrl));
        bool more = next < state->train.set->count && state->steps + 1 < state->last_step;
        if (more) RG_TRY(fill_batch(state, next));
    }
    RG_TRY(take_results(ctx, state->exec, live, sums, &progress->loss));
    RG_TRY(check_loss(state, progress));
    if (!overlaps) RG_TRY(rg_exec_run(ctx, state->exec, RG_PP_UPDATE, &ctrl));
    state->steps++;
    return RG_OK;
}

/* All steps of an epoch from `step` on, or as many as are wanted; sets *stopped when the caller
 * wants to stop. */
static rg_status train_batches(train_state *state, uint32_t epoch, uint64_t step, train_sums *sums,
                               bool *stopped) {
    uint32_t batch = state->plan->data.batch, count = state->train.set->count;
    rg_progress progress = {.epoch = epoch,
                            .steps_per_epoch = (count + (uint64_t)batch - 1) / batch};
    double start = now_seconds();
    state->filled = NOTHING_FILLED; /* another order, or the evaluation's batch */
    for (; step < progress.steps_per_epoch && state->steps < state->last_step; step++) {
        if ((*stopped = is_stopped(state->options->stop))) break;
        progress.step = step;
        RG_TRY(train_step(state, step * batch, &progress, sums));
        progress.images_per_second = (double)sums->images / (now_seconds() - start);
        tell_step(state, &progress);
    }
    return RG_OK;
}

static rg_status validate(train_state *state, rg_epoch *record) {
    if (!state->options->valid) return RG_OK;
    rg_status status = eval_source(state->ctx, state->exec, &state->valid, state->options->stop,
                                   &record->valid_loss, &record->valid_acc);
    record->validated = true;
    return status == RG_E_INTERRUPTED ? interrupt(state) : status;
}

static rg_status train_epoch(train_state *state, uint32_t epoch, uint64_t step) {
    const rg_train_options *options = state->options;
    rg_epoch record = {.epoch = epoch};
    train_sums sums = {0};
    bool stopped = false;
    double start = now_seconds();
    if (options->shuffle)
        rg_random_permutation(options->seed, epoch, state->train.set->count, state->train.order);
    RG_TRY(train_batches(state, epoch, step, &sums, &stopped));
    if (stopped) return interrupt(state);
    record.train_seconds = now_seconds() - start;
    record.steps = state->steps;
    record.images = sums.images;
    record.train_loss = sums.loss / (double)sums.images;
    record.train_acc = sums.correct / (double)sums.images;
    RG_TRY(save(state)); /* before validation, which may be long */
    RG_TRY(validate(state, &record));
    record.seconds = now_seconds() - start;
    tell_epoch(state, &record);
    return RG_OK;
}

static rg_status train_epochs(train_state *state) {
    uint64_t per_epoch =
        (state->train.set->count + (uint64_t)state->plan->data.batch - 1) / state->plan->data.batch;
    rg_ctrl ctrl = rg_exec_ctrl(state->plan, (int32_t)state->plan->data.batch, 1, 0);
    RG_TRY(rg_exec_run(state->ctx, state->exec, RG_PP_DERIVE, &ctrl));
    for (uint64_t epoch = state->steps / per_epoch, step = state->steps % per_epoch;
         epoch < state->options->epochs && state->steps < state->last_step; epoch++, step = 0)
        RG_TRY(train_epoch(state, (uint32_t)epoch, step));
    return RG_OK;
}

rg_status rg_train(rg_ctx *ctx, rg_exec *exec, const rg_train_options *options,
                   uint64_t *steps_done) {
    train_state state = {.ctx = ctx, .exec = exec, .plan = rg_exec_plan(exec), .options = options};
    state.steps = *steps_done = options->steps_done;
    if (options->steps == 0 ||
        __builtin_add_overflow(options->steps_done, options->steps, &state.last_step))
        state.last_step = UINT64_MAX;
    RG_TRY(need_program(ctx, state.plan, RG_PP_GRAD, "grad"));
    RG_TRY(need_program(ctx, state.plan, RG_PP_UPDATE, "update"));
    if (options->valid) RG_TRY(need_program(ctx, state.plan, RG_PP_EVAL, "eval"));
    rg_status status = open_source(ctx, state.plan, options->train, &state.train);
    if (status == RG_OK && options->valid)
        status = open_source(ctx, state.plan, options->valid, &state.valid);
    if (status == RG_OK) status = train_epochs(&state);
    close_source(&state.train);
    close_source(&state.valid);
    *steps_done = state.steps;
    return status;
}
