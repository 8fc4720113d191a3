/* The training loop, over a network of one weight: loss = mean of (w - label)^2 / 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rg_report.h"
#include "test_plan.h"

enum { TRAIN = 70, VALID = 50, CLASSES = 4, BATCH = 32 };

static rg_ctx ctx;
static test_plan tp;
static rg_exec *exec;
static uint32_t weight;
static uint8_t pixels[TRAIN * 4], labels[TRAIN];
static rg_dataset train, valid;
static rg_train_options options;
static uint64_t steps;

/* What happened: d derive, g<live> grad, u<live> update, e<live> eval; and all lines. */
static char events[4096], lines[4096];
static int nan_at;  /* the grad run whose loss is NaN */
static int stop_at; /* the step after which the caller wants to stop */
static int grad_runs;
static volatile sig_atomic_t stop;
static rg_epoch last_epoch;

static void log_event(const char *format, int live) {
    size_t used = strlen(events);
    snprintf(events + used, sizeof events - used, format, live);
}

/* ---- kernels; a: label loss correct w g image ---- */

static void loss_kernel(float *const *a, const rg_ctrl *ctrl, bool gradient) {
    float loss = 0, correct = 0, sum = 0;
    for (int i = 0; i < ctrl->live; i++) {
        float error = a[3][0] - a[0][i];
        loss += error * error / 2;
        sum += error;
        correct += a[0][i] == 0;
    }
    a[1][0] = loss * ctrl->scalar[RG_CTRL_INV_COUNT];
    a[2][0] = correct;
    if (gradient) a[4][0] = sum * ctrl->scalar[RG_CTRL_INV_COUNT];
}

static void grad_kernel(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)tile, (void)scratch;
    log_event("g%d ", ctrl->live);
    loss_kernel(a, ctrl, true);
    if (++grad_runs == nan_at) a[1][0] = NAN;
}

static void eval_kernel(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)tile, (void)scratch;
    log_event("e%d ", ctrl->live);
    loss_kernel(a, ctrl, false);
}

static void update_kernel(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)tile, (void)scratch;
    log_event("u%d ", ctrl->live);
    a[0][0] -= ctrl->scalar[RG_CTRL_LR] * a[1][0];
}

static void derive_kernel(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)a, (void)ctrl, (void)tile, (void)scratch;
    log_event("d ", 0);
}

/* ---- set-up ---- */

static void make_plan(void) {
    tp_init(&tp, CLASSES);
    tp.plan.data.optim_kind = 0;
    uint32_t image = tp_act(&tp, "image", RG_ARENA_IO, 2, 2, 1);
    uint32_t label = tp_act(&tp, "label", RG_ARENA_IO, 1, 1, 1);
    uint32_t loss = tp_vec(&tp, "loss", RG_ARENA_IO, 1);
    uint32_t correct = tp_vec(&tp, "correct", RG_ARENA_IO, 1);
    weight = tp_vec(&tp, "w", RG_ARENA_PARAM, 1);
    uint32_t gradient = tp_vec(&tp, "g", RG_ARENA_GRAD, 1);
    tp.plan.io = (rg_plan_io){image, label, loss, correct, UINT32_MAX};
    tp_param(&tp, "w", weight);
    tp.param[tp.plan.param_count++] = (rg_plan_param){
        .name = tp_text(&tp, "num_batches_tracked"), .kind = RG_PK_COUNTER, .buffer = UINT32_MAX};
    uint32_t all[] = {label, loss, correct, weight, gradient, image}, both[] = {weight, gradient};
    tp_launch(&tp, RG_PP_GRAD, tp_kernel(&tp, "grad", grad_kernel, 6, 0, 1), all, 0);
    tp_launch(&tp, RG_PP_UPDATE, tp_kernel(&tp, "update", update_kernel, 2, 0, 1), both, 0);
    tp_launch(&tp, RG_PP_DERIVE, tp_kernel(&tp, "derive", derive_kernel, 2, 0, 1), both, 0);
    tp_launch(&tp, RG_PP_EVAL, tp_kernel(&tp, "eval", eval_kernel, 6, 0, 1), all, 0);
}

static void on_line(void *user, const char *text) {
    size_t used = strlen(lines);
    assert_ptr_equal(user, &ctx);
    snprintf(lines + used, sizeof lines - used, "%s\n", text);
}

static void on_progress(void *user, const rg_progress *progress) {
    assert_ptr_equal(user, &ctx);
    assert_int_equal(progress->steps_per_epoch, 3);
    assert_true(progress->images_per_second > 0);
    if (grad_runs == stop_at) stop = 1;
}

static void on_epoch(void *user, const rg_epoch *epoch) {
    (void)user;
    last_epoch = *epoch;
}

static int setup(void **state) {
    (void)state;
    make_plan();
    nan_at = stop_at = grad_runs = 0;
    stop = 0;
    events[0] = lines[0] = 0;
    for (int i = 0; i < TRAIN; i++) labels[i] = (uint8_t)(i * 7 / 3 % CLASSES);
    train = (rg_dataset){TRAIN, 2, 2, 1, CLASSES, pixels, labels};
    valid = train;
    valid.count = VALID;
    options = (rg_train_options){.train = &train,
                                 .valid = &valid,
                                 .epochs = 2,
                                 .shuffle = true,
                                 .seed = 5,
                                 .stop = &stop,
                                 .line = on_line,
                                 .progress = on_progress,
                                 .epoch = on_epoch,
                                 .user = &ctx};
    if (rg_ctx_init(&ctx) != RG_OK || rg_plan_check(&ctx, &tp.plan) != RG_OK) return -1;
    return rg_exec_new(&ctx, &tp.plan, tp.function, 2, &exec) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_exec_free(exec);
    rg_ctx_free(&ctx);
    return 0;
}

static void train_well(void) {
    if (rg_train(&ctx, exec, &options, &steps) != RG_OK) fail_msg("%s", ctx.last->text);
}

/* The weight after some steps of plain gradient descent, and each epoch's mean loss. */
static double descend(uint32_t epochs, double *mean_loss) {
    double w = 0;
    for (uint32_t e = 0; e < epochs; e++) {
        uint32_t order[TRAIN];
        double total = 0;
        rg_random_permutation(5, e, TRAIN, order);
        for (int first = 0; first < TRAIN; first += BATCH) {
            int live = TRAIN - first < BATCH ? TRAIN - first : BATCH;
            double g = 0;
            for (int i = first; i < first + live; i++) {
                g += w - labels[order[i]];
                total += (w - labels[order[i]]) * (w - labels[order[i]]) / 2;
            }
            w -= tp.plan.data.lr * g / live;
        }
        mean_loss[e] = total / TRAIN;
    }
    return w;
}

/* ---- tests ---- */

static void test_programs_run_in_order_with_the_last_partial_batch(void **state) {
    (void)state;
    train_well();
    assert_string_equal(events, "d g32 u32 g32 u32 g6 u6 d e48 e2 g32 u32 g32 u32 g6 u6 d e48 e2 ");
    assert_int_equal(steps, 6);
    assert_int_equal(ctx.count, 0);
}

static void test_shuffled_training_is_gradient_descent(void **state) {
    (void)state;
    double mean_loss[2], w = descend(2, mean_loss);
    train_well();
    /* Sums of 70 f32 terms: 70 * 2^-24 relative, with room. */
    assert_float_equal(rg_exec_buffer(exec, weight)[0], w, 1e-5);
    assert_float_equal(last_epoch.train_loss, mean_loss[1], 1e-5);
    assert_int_equal(last_epoch.images, TRAIN);
    assert_int_equal(last_epoch.steps, 6);
    assert_int_equal(last_epoch.epoch, 1);
    assert_true(last_epoch.validated && last_epoch.seconds >= last_epoch.train_seconds);
    double loss = 0;
    int zeros = 0, train_zeros = 0;
    for (int i = 0; i < VALID; i++) loss += (w - labels[i]) * (w - labels[i]) / 2;
    for (int i = 0; i < VALID; i++) zeros += labels[i] == 0;
    for (int i = 0; i < TRAIN; i++) train_zeros += labels[i] == 0;
    assert_float_equal(last_epoch.valid_loss, loss / VALID, 1e-5);
    assert_float_equal(last_epoch.valid_acc, (double)zeros / VALID, 1e-12);
    assert_float_equal(last_epoch.train_acc, (double)train_zeros / TRAIN, 1e-12);
}

static void test_evaluation_alone_gives_the_validations_numbers(void **state) {
    (void)state;
    const rg_eval_options how = {.set = &valid, .stop = &stop};
    rg_evaluation found;
    train_well();
    assert_int_equal(rg_eval(&ctx, exec, &how, &found), RG_OK);
    assert_true(found.loss == last_epoch.valid_loss && found.accuracy == last_epoch.valid_acc);
    stop = 1;
    assert_int_equal(rg_eval(&ctx, exec, &how, &found), RG_E_INTERRUPTED);
}

static void test_the_epoch_line_has_the_notebooks_form(void **state) {
    (void)state;
    char text[256];
    rg_epoch epoch = {.train_loss = 1.50698,
                      .train_acc = 0.449868,
                      .validated = true,
                      .valid_loss = 1.119623,
                      .valid_acc = 0.598596,
                      .seconds = 48.9};
    rg_epoch_format(&epoch, text, sizeof text);
    assert_string_equal(text, "[ 0] Train:(L=1.506980, Acc=0.449868), "
                              "Valid:(L=1.119623, Acc=0.598596), T: 00:00:48");
    epoch.epoch = 12;
    epoch.seconds = 3 * 3600 + 25 * 60 + 7.2;
    epoch.validated = false;
    rg_epoch_format(&epoch, text, sizeof text);
    assert_string_equal(text, "[12] Train:(L=1.506980, Acc=0.449868), T: 03:25:07");
    epoch.first_step = 5;
    epoch.last_step = 9;
    rg_epoch_format(&epoch, text, sizeof text);
    assert_string_equal(text,
                        "[12] Train:(L=1.506980, Acc=0.449868, steps 5 to 9 alone), T: 03:25:07");
    train_well();
    assert_non_null(strstr(lines, "[ 0] Train:(L="));
    assert_non_null(strstr(lines, "\n[ 1] Train:(L="));
}

static void on_evaluating(void *user, uint64_t step, uint64_t count) {
    (void)user;
    assert_int_equal(count, 1);
    log_event("v%d ", (int)step);
}

static void test_an_evaluation_of_some_batches_says_so(void **state) {
    (void)state;
    options.epochs = 1;
    options.eval_steps = 1;
    options.evaluating = on_evaluating;
    train_well();
    assert_string_equal(events, "d g32 u32 g32 u32 g6 u6 d v0 e48 ");
    assert_int_equal(last_epoch.valid_images, 48);
    assert_non_null(strstr(lines, ", the first 48 of 50 images), T: "));
    const rg_eval_options how = {.set = &valid, .steps = 1};
    rg_evaluation found;
    assert_int_equal(rg_eval(&ctx, exec, &how, &found), RG_OK);
    assert_true(found.loss == last_epoch.valid_loss && found.images == 48);
    options.eval_steps = 3; /* more than there are */
    options.evaluating = NULL;
    train_well();
    assert_int_equal(last_epoch.valid_images, 50);
    assert_null(strstr(strchr(lines, '\n') + 1, "first"));
}

static void test_step_losses_are_printed_to_the_bit(void **state) {
    (void)state;
    options.print_steps = true;
    options.shuffle = false;
    options.valid = NULL;
    options.steps = 1;
    train_well();
    float loss = rg_exec_buffer(exec, tp.plan.io.loss)[0], printed = 0;
    assert_int_equal(sscanf(lines, "epoch 0 step 0 loss %f\n", &printed), 1);
    assert_true(printed == loss);
}

static void test_a_step_limit_ends_training_within_an_epoch(void **state) {
    (void)state;
    options.steps = 4;
    train_well();
    assert_int_equal(steps, 4);
    assert_string_equal(events, "d g32 u32 g32 u32 g6 u6 d e48 e2 g32 u32 d e48 e2 ");
    assert_int_equal(last_epoch.images, 32);
}

static void test_a_loss_that_is_not_finite_stops_with_its_place(void **state) {
    (void)state;
    char path[] = "/tmp/resgen-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    options.save = path;
    nan_at = 3;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_NUMERIC);
    assert_int_equal(ctx.count, 1);
    assert_non_null(strstr(ctx.last->text, "loss is nan at epoch 0 step 2; "));
    assert_string_equal(events, "d g32 u32 g32 u32 g6 "); /* no update with it */
    assert_int_equal(access(path, F_OK), -1);             /* nothing saved with it */
}

static void test_an_interrupt_finishes_the_step_and_saves(void **state) {
    (void)state;
    char path[] = "/tmp/resgen-test-XXXXXX";
    rg_trained saved = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    options.save = path;
    stop_at = 2;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_INTERRUPTED);
    assert_string_equal(events, "d g32 u32 g32 u32 ");
    assert_non_null(strstr(ctx.last->text, "after step 2; saved '/tmp/resgen-test-"));
    float w = rg_exec_buffer(exec, weight)[0];
    rg_exec_buffer(exec, weight)[0] = 99;
    assert_int_equal(rg_params_load(&ctx, exec, path, &saved), RG_OK);
    assert_int_equal(saved.steps, 2);
    assert_true(rg_exec_buffer(exec, weight)[0] == w);
    unlink(path);
}

static void test_an_interrupt_during_validation_saves_too(void **state) {
    (void)state;
    char path[] = "/tmp/resgen-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    options.save = path;
    stop_at = 3;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_INTERRUPTED);
    assert_string_equal(events, "d g32 u32 g32 u32 g6 u6 d ");
    assert_non_null(strstr(ctx.last->text, "after step 3; saved"));
    assert_string_equal(lines, "");
    unlink(path);
}

static void test_a_resumed_run_gives_the_bits_of_one_never_stopped(void **state) {
    (void)state;
    train_well();
    float whole = rg_exec_buffer(exec, weight)[0];
    for (int stopped = 1; stopped <= 5; stopped++) {
        rg_exec_buffer(exec, weight)[0] = 0;
        options.done.steps = 0;
        options.steps = (uint64_t)stopped;
        train_well();
        options.done.steps = steps;
        options.steps = 0;
        train_well();
        assert_int_equal(steps, 6);
        assert_true(rg_exec_buffer(exec, weight)[0] == whole);
    }
}

static void test_a_resumed_epoch_tells_its_own_steps(void **state) {
    (void)state;
    options.steps = 4; /* of epochs of three */
    train_well();
    assert_true(last_epoch.first_step == 0 && last_epoch.last_step == 0);
    options.done.steps = 4;
    options.steps = 5;
    lines[0] = 0;
    train_well();
    assert_true(last_epoch.first_step == 1 && last_epoch.last_step == 1);
    assert_int_equal(last_epoch.images, 32);
    assert_non_null(strstr(lines, ", steps 1 to 1 alone), Valid:("));
    options.done.steps = 1;
    options.steps = 0;
    lines[0] = 0;
    train_well();
    assert_true(last_epoch.first_step == 0 && last_epoch.last_step == 2);
    const char *alone = strstr(lines, ", steps 1 to 2 alone), Valid:(");
    assert_non_null(alone);
    assert_null(strstr(strchr(alone, '\n'), "alone"));
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    const rg_eval_options how = {.set = &valid};
    rg_evaluation found;
    train.classes = CLASSES + 1;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_SHAPE);
    train.classes = CLASSES;
    train.channels = 3;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_SHAPE);
    train.channels = 1;
    train.count = 0;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_USAGE);
    train.count = TRAIN;
    tp.plan.program[RG_PP_EVAL].op_count = 0;
    assert_int_equal(rg_train(&ctx, exec, &options, &steps), RG_E_UNSUPPORTED);
    assert_int_equal(rg_eval(&ctx, exec, &how, &found), RG_E_UNSUPPORTED);
    assert_int_equal(ctx.count, 5);
    options.valid = NULL;
    train_well();
}

/* ---- report ---- */

static size_t read_back(FILE *file, char *text, size_t size) {
    rewind(file);
    size_t length = fread(text, 1, size - 1, file);
    text[length] = 0;
    return length;
}

static void test_no_progress_goes_into_a_pipe(void **state) {
    (void)state;
    char text[256];
    FILE *out = tmpfile(), *err = tmpfile();
    rg_report report;
    rg_progress progress = {.steps_per_epoch = 3};
    rg_report_init(&report, out, err, false);
    rg_report_progress(&report, &progress);
    rg_report_build(&report, 1, 2);
    rg_report_line(&report, "one line");
    read_back(out, text, sizeof text);
    assert_string_equal(text, "one line\n");
    assert_int_equal(read_back(err, text, sizeof text), 0);
    fclose(out);
    fclose(err);
}

static void test_progress_on_a_terminal_is_erased_before_a_line(void **state) {
    (void)state;
    char text[512];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        print_message("skipped: no pseudo terminal (/dev/pts is not mounted)\n");
        skip();
    }
    FILE *out = tmpfile(), *err = fopen(ptsname(master), "w");
    assert_true(out && err);
    rg_report report;
    rg_progress progress = {.step = 1, .steps_per_epoch = 3, .loss = 2.5, .images_per_second = 99};
    rg_report_init(&report, out, err, false);
    rg_report_progress(&report, &progress);
    rg_report_progress(&report, &progress); /* too soon */
    rg_report_line(&report, "one line");
    rg_report_evaluating(&report, 0, 16);
    rg_report_clear(&report);
    fputs("end", err);
    fflush(err);
    static const char expected[] = "\r\033[Kepoch 0  step 2/3  loss 2.5000  99 img/s\r\033[K"
                                   "\r\033[Kevaluation  step 1/16\r\033[Kend";
    size_t length = 0;
    for (ssize_t got; length < sizeof expected - 1; length += (size_t)got) {
        got = read(master, text + length, sizeof expected - 1 - length);
        assert_true(got > 0);
    }
    text[length] = 0;
    assert_string_equal(text, expected);
    fclose(out);
    fclose(err);
    close(master);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_programs_run_in_order_with_the_last_partial_batch),
        T(test_shuffled_training_is_gradient_descent),
        T(test_evaluation_alone_gives_the_validations_numbers),
        T(test_the_epoch_line_has_the_notebooks_form),
        T(test_an_evaluation_of_some_batches_says_so),
        T(test_step_losses_are_printed_to_the_bit),
        T(test_a_step_limit_ends_training_within_an_epoch),
        T(test_a_loss_that_is_not_finite_stops_with_its_place),
        T(test_an_interrupt_finishes_the_step_and_saves),
        T(test_an_interrupt_during_validation_saves_too),
        T(test_a_resumed_run_gives_the_bits_of_one_never_stopped),
        T(test_a_resumed_epoch_tells_its_own_steps),
        T(test_what_does_not_fit_is_refused),
        T(test_no_progress_goes_into_a_pipe),
        T(test_progress_on_a_terminal_is_erased_before_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
