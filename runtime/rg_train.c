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
    int kept;        /* on the device, which makes the batches; -1: the host does */
} train_source;

typedef struct train_sums {
    double loss, correct; /* over images */
    uint64_t images;
} train_sums;

/* A step that runs, or has run, and whose results have not been asked for. */
typedef struct train_pending {
    bool any;
    int32_t live;
    uint32_t epoch;
    uint64_t step;
} train_pending;

typedef struct train_state {
    rg_ctx *ctx;
    rg_exec *exec;
    const rg_plan *plan;
    const rg_train_options *options;
    train_source train, valid;
    uint64_t steps;     /* all of them */
    uint64_t last_step; /* where to stop; UINT64_MAX: nowhere */
    uint64_t filled;    /* the batch that the next step finds, by its first image */
    train_pending pending;
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

/* `why` (a line, or NULL): the device could make batches, and does not make these. */
static rg_status open_source(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set,
                             train_source *source, const char **why) {
    const rg_plan_data *data = &rg_exec_plan(exec)->data;
    *source = (train_source){.set = set, .kept = -1};
    if (set->count == 0) return rg_fail(ctx, RG_E_USAGE, "the data set has no images");
    if (set->channels != data->channels || set->classes > data->classes)
        return rg_fail(ctx, RG_E_SHAPE,
                       "the data set has %u channels and %u classes, the network %u and %u",
                       set->channels, set->classes, data->channels, data->classes);
    RG_TRY(rg_resize_new(ctx, set->height, set->width, data->height, data->width, &source->resize));
    source->order = malloc(set->count * sizeof *source->order);
    if (!source->order) return rg_nomem(ctx);
    for (uint32_t i = 0; i < set->count; i++) source->order[i] = i;
    return rg_data_keep(ctx, exec, set, source->resize, &source->kept, why);
}

static void close_source(rg_exec *exec, train_source *source) {
    if (source->order) rg_exec_drop(exec, source->kept);
    free(source->order);
    source->order = NULL;
}

static int32_t live_images(const train_source *source, uint64_t first, uint32_t batch) {
    uint64_t left = source->set->count - first;
    return (int32_t)(left < batch ? left : batch);
}

/* Takes what a grad or eval program has left, once it is done. */
static rg_status take_results(rg_ctx *ctx, rg_exec *exec, int back, int32_t live, train_sums *sums,
                              double *loss) {
    double correct;
    RG_TRY(rg_exec_results(ctx, exec, back, loss, &correct));
    sums->loss += *loss * live;
    sums->correct += correct;
    sums->images += (uint64_t)live;
    return RG_OK;
}

static rg_exec_batch batch_at(const train_source *source, uint64_t first, uint32_t batch) {
    return (rg_exec_batch){source->kept, source->order + first, live_images(source, first, batch)};
}

/* The batch for the next run, by whoever makes it. */
static rg_status fill_batch(rg_ctx *ctx, rg_exec *exec, const train_source *source, uint64_t first,
                            uint32_t batch) {
    rg_exec_batch next = batch_at(source, first, batch);
    if (source->kept < 0)
        return rg_data_fill(ctx, exec, source->set, source->resize, next.order, next.live);
    return rg_exec_work_run(ctx, exec, &(rg_exec_work){.next = &next});
}

/* Programs on the batch at `first`, which is there, and beside them the one after it, if there is
 * to be one. */
static rg_status run_batch(rg_ctx *ctx, rg_exec *exec, const train_source *source, uint64_t first,
                           uint32_t batch, bool more, const rg_exec_work *work) {
    uint64_t after = first + batch;
    rg_exec_batch next;
    rg_exec_work whole = *work;
    more = more && after < source->set->count;
    if (more && source->kept >= 0) {
        next = batch_at(source, after, batch);
        whole.next = &next;
    }
    RG_TRY(rg_exec_work_run(ctx, exec, &whole));
    if (!more || source->kept >= 0 || !rg_exec_overlaps(exec)) return RG_OK;
    return fill_batch(ctx, exec, source, after, batch);
}

/* ---- evaluation ---- */

/* Is the batch behind `first` there once the run on `first` was asked for? */
static bool makes_next(const rg_exec *exec, const train_source *source) {
    return source->kept >= 0 || rg_exec_overlaps(exec);
}

static rg_status eval_batches(rg_ctx *ctx, rg_exec *exec, const train_source *source,
                              const rg_eval_options *options, train_sums *sums) {
    const rg_plan *plan = rg_exec_plan(exec);
    uint32_t batch = plan->data.eval_batch;
    uint64_t steps = (source->set->count + (uint64_t)batch - 1) / batch;
    int32_t before = 0; /* images of the run whose results are still to come */
    double loss;
    if (options->steps && options->steps < steps) steps = options->steps;
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t first = step * batch;
        if (is_stopped(options->stop)) return RG_E_INTERRUPTED; /* the caller says what was saved */
        if (options->evaluating) options->evaluating(options->user, step, steps);
        if (step == 0 || !makes_next(exec, source))
            RG_TRY(fill_batch(ctx, exec, source, first, batch));
        int32_t live = live_images(source, first, batch);
        rg_exec_work work = {.program = {RG_PP_EVAL}, .count = 1};
        work.ctrl = rg_exec_ctrl(plan, live, 1, 0);
        RG_TRY(run_batch(ctx, exec, source, first, batch, step + 1 < steps, &work));
        bool late = rg_exec_overlaps(exec);
        if (!late || before)
            RG_TRY(take_results(ctx, exec, late, late ? before : live, sums, &loss));
        before = late ? live : 0;
    }
    return before ? take_results(ctx, exec, 0, before, sums, &loss) : RG_OK;
}

static rg_status eval_source(rg_ctx *ctx, rg_exec *exec, const train_source *source,
                             const rg_eval_options *options, rg_evaluation *result) {
    const rg_plan *plan = rg_exec_plan(exec);
    train_sums sums = {0};
    rg_ctrl ctrl = rg_exec_ctrl(plan, (int32_t)plan->data.eval_batch, 1, 0);
    RG_TRY(rg_exec_run(ctx, exec, RG_PP_DERIVE, &ctrl)); /* parameters or statistics changed */
    rg_exec_range(exec, "evaluation");
    rg_status status = eval_batches(ctx, exec, source, options, &sums);
    rg_exec_range(exec, NULL);
    *result = (rg_evaluation){.loss = sums.loss / (double)sums.images,
                              .accuracy = sums.correct / (double)sums.images,
                              .images = sums.images};
    return status;
}

static rg_status need_program(rg_ctx *ctx, const rg_plan *plan, rg_plan_program_id id,
                              const char *name) {
    if (plan->program[id].op_count > 0) return RG_OK;
    return rg_fail(ctx, RG_E_UNSUPPORTED, "this plan has no program '%s'", name);
}

rg_status rg_eval(rg_ctx *ctx, rg_exec *exec, const rg_eval_options *options,
                  rg_evaluation *result) {
    train_source source = {.order = NULL};
    const char *why = NULL;
    RG_TRY(need_program(ctx, rg_exec_plan(exec), RG_PP_EVAL, "eval"));
    rg_status status = open_source(ctx, exec, options->set, &source, &why);
    if (status == RG_OK && why && options->line) options->line(options->user, why);
    if (status == RG_OK) status = eval_source(ctx, exec, &source, options, result);
    close_source(exec, &source);
    return status == RG_E_INTERRUPTED ? rg_fail(ctx, status, "interrupted") : status;
}

/* ---- lines ---- */

void rg_evaluation_format(const rg_evaluation *found, uint64_t count, char *text, size_t size) {
    char part[64] = "";
    if (found->images < count)
        snprintf(part, sizeof part, ", the first %llu of %llu images",
                 (unsigned long long)found->images, (unsigned long long)count);
    snprintf(text, size, "Valid:(L=%.6f, Acc=%.6f%s)", found->loss, found->accuracy, part);
}

void rg_epoch_format(const rg_epoch *epoch, char *text, size_t size) {
    char valid[160] = "", part[64] = "";
    unsigned long seconds = (unsigned long)epoch->seconds;
    rg_evaluation found = {epoch->valid_loss, epoch->valid_acc, epoch->valid_images};
    if (epoch->validated) rg_evaluation_format(&found, epoch->valid_count, valid, sizeof valid);
    if (epoch->first_step > 0)
        snprintf(part, sizeof part, ", steps %llu to %llu alone",
                 (unsigned long long)epoch->first_step, (unsigned long long)epoch->last_step);
    snprintf(text, size, "[%2u] Train:(L=%.6f, Acc=%.6f%s)%s%s, T: %02lu:%02lu:%02lu", epoch->epoch,
             epoch->train_loss, epoch->train_acc, part, epoch->validated ? ", " : "", valid,
             seconds / 3600, seconds / 60 % 60, seconds % 60);
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

/* After all of its steps. */
static rg_trained trained(const train_state *state) {
    rg_trained now = {
        .steps = state->steps, .batch = state->plan->data.batch, .seed = state->options->seed};
    now.optim_steps = state->options->done.optim_steps + now.steps - state->options->done.steps;
    return now;
}

/* In a scratch context: the permanent arena must not grow by a checkpoint each epoch. */
static rg_status save(train_state *state) {
    const rg_train_options *options = state->options;
    const rg_trained now = trained(state);
    rg_status status = RG_OK;
    rg_ctx scratch;
    if (!options->save && !options->checkpoint) return RG_OK;
    if (rg_ctx_init(&scratch) != RG_OK) return rg_nomem(state->ctx);
    if (options->save) status = rg_params_save(&scratch, state->exec, options->save, now.steps);
    if (status == RG_OK && options->checkpoint)
        status = rg_checkpoint_save(&scratch, state->exec, options->checkpoint, &now);
    if (status != RG_OK)
        rg_fail(state->ctx, status, "%s", scratch.last ? scratch.last->text : "cannot save");
    rg_ctx_free(&scratch);
    return status;
}

static rg_status interrupt(train_state *state) {
    const rg_train_options *options = state->options;
    const char *saved = options->checkpoint ? options->checkpoint : options->save;
    RG_TRY(save(state));
    if (!saved)
        return rg_fail(state->ctx, RG_E_INTERRUPTED, "interrupted after step %llu; nothing saved",
                       (unsigned long long)state->steps);
    return rg_fail(state->ctx, RG_E_INTERRUPTED, "interrupted after step %llu; saved '%s'",
                   (unsigned long long)state->steps, saved);
}

/* ---- steps and epochs ---- */

static rg_status check_loss(const train_state *state, const rg_progress *progress) {
    if (isfinite(progress->loss)) return RG_OK;
    return rg_fail(state->ctx, RG_E_NUMERIC,
                   "loss is %s at epoch %u step %llu; try a smaller learning rate than %g",
                   isnan(progress->loss) ? "nan" : "inf", progress->epoch,
                   (unsigned long long)progress->step, state->plan->data.lr);
}

/* What is known once a step's results are there. */
static rg_status settle_step(train_state *state, int back, rg_progress *progress,
                             train_sums *sums) {
    train_pending *pending = &state->pending;
    if (!pending->any) return RG_OK;
    pending->any = false;
    progress->step = pending->step;
    RG_TRY(take_results(state->ctx, state->exec, back, pending->live, sums, &progress->loss));
    return check_loss(state, progress);
}

/* On the host a loss that is not finite changes no parameter. */
static rg_status step_on_host(train_state *state, const rg_ctrl *ctrl, rg_progress *progress,
                              train_sums *sums) {
    RG_TRY(rg_exec_run(state->ctx, state->exec, RG_PP_GRAD, ctrl));
    RG_TRY(settle_step(state, 0, progress, sums));
    return rg_exec_run(state->ctx, state->exec, RG_PP_UPDATE, ctrl);
}

/* A device works through the whole step while the next batch is made; the results of the step
 * before are taken meanwhile. *known: progress is a step's. */
static rg_status step_on_device(train_state *state, uint64_t first, const rg_ctrl *ctrl,
                                train_pending mine, rg_progress *progress, train_sums *sums,
                                bool *known) {
    uint32_t batch = state->plan->data.batch;
    rg_exec_work work = {.program = {RG_PP_GRAD, RG_PP_UPDATE}, .count = 2, .ctrl = *ctrl};
    bool more = state->steps + 1 < state->last_step;
    RG_TRY(run_batch(state->ctx, state->exec, &state->train, first, batch, more, &work));
    if (more) state->filled = first + batch;
    *known = state->pending.any;
    RG_TRY(settle_step(state, 1, progress, sums));
    state->pending = mine;
    return RG_OK;
}

static rg_status train_step(train_state *state, uint64_t step, rg_progress *progress,
                            train_sums *sums, bool *known) {
    const rg_plan_data *data = &state->plan->data;
    uint64_t first = step * data->batch;
    int32_t live = live_images(&state->train, first, data->batch);
    train_pending mine = {true, live, progress->epoch, step};
    if (state->filled != first)
        RG_TRY(fill_batch(state->ctx, state->exec, &state->train, first, data->batch));
    state->filled = NOTHING_FILLED;
    rg_ctrl ctrl = rg_exec_ctrl(state->plan, live, trained(state).optim_steps + 1, data->lr);
    *known = true;
    if (rg_exec_overlaps(state->exec)) {
        RG_TRY(step_on_device(state, first, &ctrl, mine, progress, sums, known));
    } else {
        state->pending = mine;
        RG_TRY(step_on_host(state, &ctrl, progress, sums));
    }
    state->steps++;
    return RG_OK;
}

static void tell_progress(const train_state *state, rg_progress *progress, const train_sums *sums,
                          double start) {
    progress->images_per_second = (double)sums->images / (now_seconds() - start);
    tell_step(state, progress);
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
        bool known;
        if ((*stopped = is_stopped(state->options->stop))) break;
        RG_TRY(train_step(state, step, &progress, sums, &known));
        if (known) tell_progress(state, &progress, sums, start);
    }
    if (!state->pending.any) return RG_OK;
    RG_TRY(settle_step(state, 0, &progress, sums));
    tell_progress(state, &progress, sums, start);
    return RG_OK;
}

static rg_status validate(train_state *state, rg_epoch *record) {
    const rg_train_options *options = state->options;
    if (!options->valid) return RG_OK;
    rg_eval_options how = {.set = options->valid,
                           .steps = options->eval_steps,
                           .stop = options->stop,
                           .evaluating = options->evaluating,
                           .user = options->user};
    rg_evaluation found;
    rg_status status = eval_source(state->ctx, state->exec, &state->valid, &how, &found);
    if (status != RG_OK) return status == RG_E_INTERRUPTED ? interrupt(state) : status;
    record->validated = true;
    record->valid_loss = found.loss;
    record->valid_acc = found.accuracy;
    record->valid_images = found.images;
    record->valid_count = options->valid->count;
    return RG_OK;
}

static rg_status train_epoch(train_state *state, uint32_t epoch, uint64_t step) {
    const rg_train_options *options = state->options;
    const uint64_t before = state->steps;
    rg_epoch record = {.epoch = epoch, .first_step = step};
    train_sums sums = {0};
    bool stopped = false;
    double start = now_seconds();
    if (options->shuffle)
        rg_random_permutation(options->seed, epoch, state->train.set->count, state->train.order);
    rg_exec_range(state->exec, "epoch");
    rg_status status = train_batches(state, epoch, step, &sums, &stopped);
    rg_exec_range(state->exec, NULL);
    RG_TRY(status);
    if (stopped) return interrupt(state);
    record.train_seconds = now_seconds() - start;
    record.steps = state->steps;
    record.last_step = step + (state->steps - before) - 1;
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
    uint64_t epoch = state->steps / per_epoch, step = state->steps % per_epoch;
    if (epoch >= state->options->epochs || state->steps >= state->last_step) return save(state);
    for (; epoch < state->options->epochs && state->steps < state->last_step; epoch++, step = 0)
        RG_TRY(train_epoch(state, (uint32_t)epoch, step));
    return RG_OK;
}

static rg_status open_sources(train_state *state) {
    const rg_train_options *options = state->options;
    const char *why = NULL, *why_valid = NULL;
    RG_TRY(open_source(state->ctx, state->exec, options->train, &state->train, &why));
    if (options->valid)
        RG_TRY(open_source(state->ctx, state->exec, options->valid, &state->valid, &why_valid));
    if (!why) why = why_valid;
    if (why && options->line) options->line(options->user, why);
    return RG_OK;
}

rg_status rg_train(rg_ctx *ctx, rg_exec *exec, const rg_train_options *options,
                   uint64_t *steps_done) {
    train_state state = {.ctx = ctx, .exec = exec, .plan = rg_exec_plan(exec), .options = options};
    state.steps = *steps_done = options->done.steps;
    state.last_step = options->steps ? options->steps : UINT64_MAX;
    RG_TRY(need_program(ctx, state.plan, RG_PP_GRAD, "grad"));
    RG_TRY(need_program(ctx, state.plan, RG_PP_UPDATE, "update"));
    if (options->valid) RG_TRY(need_program(ctx, state.plan, RG_PP_EVAL, "eval"));
    rg_status status = open_sources(&state);
    if (status == RG_OK) status = train_epochs(&state);
    close_source(exec, &state.train);
    close_source(exec, &state.valid);
    *steps_done = state.steps;
    return status;
}
