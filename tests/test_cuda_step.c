/* Training on a device from the spec to the checkpoint, here the emulator's: a step is one launch,
 * batches are made of bytes that stay on the device, and whatever fails is told once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"
#include "rg_emulate.h"

enum { IMAGES = 40, BATCH = 16, STEPS_PER_EPOCH = 3, EPOCHS = 2, STEPS = STEPS_PER_EPOCH * EPOCHS };

static rg_ctx ctx;
static rg_cli cli;
static rg_job job;
static rg_exec *exec;
static char root[64], spec[128], cache[128], saved[128];

static void must(rg_status status) {
    if (status != RG_OK) fail_msg("%s", ctx.last ? ctx.last->text : "no diagnostic");
}

/* ---- specs ---- */

static void write_spec(int height, int width, const char *rest) {
    FILE *file = fopen(spec, "w");
    assert_non_null(file);
    fprintf(
        file,
        "data {dataset = \"synthetic\", height = %d, width = %d, channels = 3, classes = 10,\n"
        "      mean = {0.4, 0.5, 0.6}, std = {0.25, 0.5, 0.3}}\n"
        "train {batch = %d, epochs = %d, optimizer = \"sgd\", lr = 0.05}\n"
        "function network(x)\n    return x:%s:flatten():linear(\"classifier\", {out = 10})\nend\n",
        height, width, BATCH, EPOCHS, rest);
    assert_int_equal(fclose(file), 0);
}

static rg_status open_job(bool stream, const char *kernels) {
    cli = (rg_cli){.command = "train",
                   .spec = spec,
                   .target = "cuda",
                   .device = "emulate",
                   .cache = kernels,
                   .threads = 1,
                   .quiet = true,
                   .stream = stream};
    job = (rg_job){.ctx = &ctx, .cli = &cli};
    exec = NULL;
    RG_TRY(rg_job_compile(&job));
    RG_TRY(rg_job_build(&job));
    RG_TRY(rg_job_exec(&job, &exec));
    rg_params_init(exec, 1);
    return RG_OK;
}

static void close_job(void) {
    rg_exec_free(exec);
    rg_job_close(&job);
    exec = NULL;
    job = (rg_job){.ctx = NULL};
}

static int open_group(void **state) {
    (void)state;
    strcpy(root, "/tmp/resgen-test-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(spec, sizeof spec, "%s/one_layer.lua", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    snprintf(saved, sizeof saved, "%s/saved.safetensors", root);
    return 0;
}

static int close_group(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int setup(void **state) {
    (void)state;
    unsetenv("RG_EMULATE_FAIL");
    write_spec(3, 5, "relu()");
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    close_job();
    rg_ctx_free(&ctx);
    return rg_emulate_alive() == 0 ? 0 : -1;
}

static rg_dataset make_set(void) {
    rg_dataset set;
    must(rg_dataset_synthetic(&ctx, 7, true, IMAGES, 10, &set));
    return set;
}

/* ---- batches ---- */

/* The image and label buffers of the last batch, for whole blocks of images. */
static size_t copy_batch(float *image, float *label, int32_t live) {
    const rg_plan *plan = rg_exec_plan(exec);
    size_t images = (size_t)(live + RG_BLOCK - 1) / RG_BLOCK * RG_BLOCK;
    size_t floats = images * plan->data.height * plan->data.width * plan->data.channels;
    must(rg_exec_fetch(&ctx, exec, plan->io.image));
    must(rg_exec_fetch(&ctx, exec, plan->io.label));
    memcpy(image, rg_exec_buffer(exec, plan->io.image), floats * sizeof *image);
    memcpy(label, rg_exec_buffer(exec, plan->io.label), images * sizeof *label);
    return floats;
}

static void compare_batches(const rg_dataset *set, const rg_resize *resize, int kept,
                            const uint32_t *order, int32_t live) {
    const rg_plan *plan = rg_exec_plan(exec);
    size_t most = (size_t)plan->buffer[plan->io.image].bytes;
    float *want = malloc(most), *got = malloc(most), label[2][8 * RG_BLOCK];
    assert_true(want && got && plan->max_blocks <= 8);
    must(rg_data_fill(&ctx, exec, set, resize, order, live));
    size_t floats = copy_batch(want, label[0], live);
    const rg_exec_batch batch = {kept, order, live};
    must(rg_exec_work_run(&ctx, exec, &(rg_exec_work){.next = &batch}));
    copy_batch(got, label[1], live);
    assert_memory_equal(got, want, floats * sizeof *want);
    assert_memory_equal(label[1], label[0], (size_t)(live + 15) / 16 * 16 * sizeof *label[0]);
    free(want);
    free(got);
}

/* Upwards by a whole number, as CIFAR's images are for ResNets; down; both; and not at all. */
static void test_the_device_makes_the_hosts_batches_to_the_bit(void **state) {
    (void)state;
    static const int shapes[][2] = {{96, 96}, {17, 23}, {41, 9}, {32, 32}};
    uint32_t order[2 * RG_BLOCK];
    for (uint32_t i = 0; i < 2 * RG_BLOCK; i++) order[i] = (i * 17 + 3) % IMAGES;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        rg_dataset set = make_set();
        rg_resize *resize;
        const char *why;
        int kept;
        write_spec(shapes[i][0], shapes[i][1], "global_avgpool()");
        must(open_job(false, cache));
        must(rg_resize_new(&ctx, 32, 32, (uint32_t)shapes[i][0], (uint32_t)shapes[i][1], &resize));
        must(rg_data_keep(&ctx, exec, &set, resize, &kept, &why));
        assert_true(kept >= 0 && !why);
        compare_batches(&set, resize, kept, order, RG_BLOCK);
        compare_batches(&set, resize, kept, order + 5, 11);
        rg_exec_drop(exec, kept);
        rg_dataset_free(&set);
        close_job();
    }
}

/* ---- steps ---- */

typedef struct told {
    double loss[STEPS], valid[EPOCHS];
    int steps, epochs;
    char line[256];
} told;

static void on_step(void *user, const rg_progress *progress) {
    told *to = user;
    to->loss[to->steps++] = progress->loss;
}

static void on_epoch(void *user, const rg_epoch *epoch) {
    told *to = user;
    to->valid[to->epochs++] = epoch->valid_loss;
}

static void on_line(void *user, const char *text) {
    told *to = user;
    if (strstr(text, "host")) snprintf(to->line, sizeof to->line, "%s", text);
}

static rg_status train(told *to) {
    rg_dataset set = make_set();
    uint64_t steps = 0;
    *to = (told){.steps = 0};
    rg_train_options options = {.train = &set,
                                .valid = &set,
                                .epochs = EPOCHS,
                                .shuffle = true,
                                .seed = 3,
                                .save = saved,
                                .line = on_line,
                                .progress = on_step,
                                .epoch = on_epoch,
                                .user = to};
    rg_status status = rg_train(&ctx, exec, &options, &steps);
    rg_dataset_free(&set);
    return status;
}

/* The first batch of an epoch and of an evaluation, and derived values, are launches of their own.
 */
static void test_a_step_is_one_launch(void **state) {
    (void)state;
    told got;
    must(open_job(false, cache));
    assert_true(rg_exec_plan(exec)->program[RG_PP_INPUT].op_count == 1);
    bool derives = rg_exec_plan(exec)->program[RG_PP_DERIVE].op_count > 0;
    must(train(&got));
    assert_int_equal(rg_exec_plan(exec)->data.eval_batch, BATCH);
    long evals = STEPS, alone = EPOCHS + EPOCHS, derived = derives ? 1 + EPOCHS : 0;
    assert_int_equal(got.steps, STEPS);
    assert_int_equal(rg_emulate_calls_of("cuGraphLaunch"), STEPS + evals + alone + derived);
    assert_int_equal(rg_emulate_calls_of("cuLaunchKernel"), 0);
    /* parameters go to the device before the first run, nothing later */
    assert_true(rg_emulate_calls_of("cuMemcpyHtoDAsync") <= 5);
}

static void test_every_way_gives_the_same_losses(void **state) {
    (void)state;
    told want, got;
    must(open_job(false, cache));
    must(train(&want));
    close_job();
    must(open_job(true, cache));
    must(train(&got));
    assert_memory_equal(got.loss, want.loss, sizeof want.loss);
    assert_memory_equal(got.valid, want.valid, sizeof want.valid);
    assert_string_equal(got.line, "");
}

static rg_status evaluate(told *to) {
    rg_dataset set = make_set();
    rg_evaluation found;
    *to = (told){.steps = 0};
    rg_eval_options options = {.set = &set, .line = on_line, .user = to};
    rg_status status = rg_eval(&ctx, exec, &options, &found);
    rg_dataset_free(&set);
    return status;
}

/* The data set is what is allocated last. */
static void test_a_data_set_without_room_stays_on_the_host(void **state) {
    (void)state;
    told want, got;
    char fail[64];
    must(open_job(false, cache));
    snprintf(fail, sizeof fail, "cuMemAlloc:%ld", rg_emulate_calls_of("cuMemAlloc") + 1);
    must(train(&want));
    close_job();
    setenv("RG_EMULATE_FAIL", fail, 1);
    must(open_job(false, cache));
    must(train(&got));
    assert_non_null(strstr(got.line, "does not fit into the device's memory"));
    assert_memory_equal(got.loss, want.loss, sizeof want.loss);
    assert_memory_equal(got.valid, want.valid, sizeof want.valid);
    close_job();
    must(open_job(false, cache));
    must(evaluate(&got));
    assert_non_null(strstr(got.line, "does not fit into the device's memory"));
}

/* ---- a profiler's picture ---- */

/* The table is the emulator's, its ranges a library's. */
static void take_ranges(const rg_cuda_api *from) {
    ((rg_cuda_api *)rg_emulate_api(NULL))->ranges = from->ranges;
}

static char *read_ranges(const char *path) {
    size_t length;
    char *text;
    must(rg_file_read(&ctx, ctx.arena, path, 1 << 16, &text, &length));
    return text;
}

/* An epoch of three batches and its evaluation; a batch is made beside the step before it. */
static void test_nvtx_is_told_what_runs(void **state) {
    (void)state;
    static const char epoch[] = "epoch\n"
                                "input\n.\n"
                                "grad\n.\ngrad\n.\ngrad\n.\n"
                                ".\n"
                                "evaluation\n"
                                "input\n.\n"
                                "eval\n.\neval\n.\neval\n.\n"
                                ".\n";
    char path[96], want[512];
    rg_cuda_api real;
    told got;
    snprintf(path, sizeof path, "%s/ranges", root);
    snprintf(want, sizeof want, "build\n.\n%s%s", epoch, epoch);
    setenv("RG_TEST_RANGES", path, 1);
    must(rg_cuda_open(&ctx, RG_BINARY_DIR "/cuda-ranges", RG_CUDA_DRIVER, &real));
    take_ranges(&real);
    must(open_job(false, cache));
    must(train(&got));
    assert_string_equal(read_ranges(path), want);
    take_ranges(&(rg_cuda_api){.name = NULL});
    rg_cuda_close(&real);
    unsetenv("RG_TEST_RANGES");
}

/* ---- failures ---- */

static const char old_text[] = "what was there before";

static void write_old(void) {
    FILE *file = fopen(saved, "w");
    assert_non_null(file);
    fputs(old_text, file);
    assert_int_equal(fclose(file), 0);
}

/* As it was, or (true) whole and new. */
static bool check_saved(const char *what) {
    char text[sizeof old_text] = "";
    rg_safetensors read;
    rg_ctx own;
    FILE *file = fopen(saved, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    if (length == sizeof text - 1 && strcmp(text, old_text) == 0) return false;
    assert_int_equal(rg_ctx_init(&own), RG_OK);
    if (rg_safetensors_read(&own, saved, &read) != RG_OK) fail_msg("%s: a broken checkpoint", what);
    rg_ctx_free(&own);
    return true;
}

typedef struct outcome {
    rg_status status;
    told told;
    long calls, all_calls; /* to the end of training; and when everything was given back */
    char text[512];
    bool host; /* the batches were made there */
    bool saved;
} outcome;

/* From the spec to the checkpoint with the nth call of `symbol` failing; its own context. */
static outcome whole_life(const char *symbol, long nth, const char *kernels) {
    char fail[96];
    rg_ctx kept = ctx;
    outcome made = {.status = RG_OK};
    snprintf(fail, sizeof fail, "%s:%ld", symbol, nth);
    setenv("RG_EMULATE_FAIL", fail, 1);
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    write_old();
    made.status = open_job(false, kernels);
    if (made.status == RG_OK) made.status = train(&made.told);
    made.calls = rg_emulate_calls_of(symbol);
    made.host = made.told.line[0] != 0;
    snprintf(made.text, sizeof made.text, "%s", ctx.last ? ctx.last->text : "");
    if (made.status != RG_OK && ctx.count != 1)
        fail_msg("%s: %d diagnostics, the last '%s'", fail, ctx.count, made.text);
    close_job();
    made.all_calls = rg_emulate_calls_of(symbol);
    if (rg_emulate_alive() != 0) fail_msg("%s: %d things are left", fail, rg_emulate_alive());
    made.saved = check_saved(fail);
    rg_ctx_free(&ctx);
    ctx = kept;
    return made;
}

/* Their failure is no error: what gives something back, and what is asked for a better text alone.
 */
static bool may_fail(const char *symbol) {
    static const char *const names[] = {"Destroy", "Free",        "Unload",
                                        "Release", "ErrorString", "ProgramLog"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(symbol, names[i])) return true;
    return false;
}

/* The name without a version, as diagnostics have it. */
static bool names_call(const char *text, const char *symbol) {
    char name[64];
    snprintf(name, sizeof name, "%s", symbol);
    char *version = strstr(name, "_v2");
    if (version) *version = 0;
    return strstr(text, name) != NULL;
}

/* 0: the call is not made so often. */
static int fail_one(const char *symbol, long nth, const char *kernels) {
    outcome made = whole_life(symbol, nth, kernels);
    if (made.calls < nth) {
        if (made.status != RG_OK) fail_msg("%s: %s", symbol, made.text);
        return 0;
    }
    if (made.status == RG_OK && made.host) return 1;
    bool known = made.status == RG_E_DEVICE || made.status == RG_E_NOMEM ||
                 made.status == RG_E_BUILD || made.status == RG_E_UNSUPPORTED;
    if (!known) fail_msg("%s %ld: status %d '%s'", symbol, nth, (int)made.status, made.text);
    /* What the compiler says of a source is told in its own words. */
    bool compiler = strstr(made.text, "cannot compile kernel 'rg_") && strstr(symbol, "Compile");
    if (!compiler && !names_call(made.text, symbol))
        fail_msg("%s %ld: '%s'", symbol, nth, made.text);
    if (strchr(made.text, '\n')) fail_msg("%s %ld: more than a line", symbol, nth);
    return 1;
}

/* The first call, the third, and one in the midst of things. */
static void test_each_failing_driver_call_is_told_once(void **state) {
    (void)state;
    static const char *const symbols[] = {
#define X(field, symbol, parameters) #symbol,
        RG_CUDA_DRIVER_LIST(X)
#undef X
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        failed += !may_fail(symbols[i]) && fail_one(symbols[i], 1, cache) &&
                  fail_one(symbols[i], 3, cache) && fail_one(symbols[i], 7, cache);
    print_message("%d functions were called seven times or more\n", failed);
    assert_true(failed >= 8);
}

/* No kernel is in these caches: all are compiled. Nobody asks for PTX. */
static void test_each_failing_nvrtc_call_is_told_once(void **state) {
    (void)state;
    static const char *const symbols[] = {
#define X(field, symbol, parameters) #symbol,
        RG_CUDA_NVRTC_LIST(X)
#undef X
    };
    char empty[160];
    int failed = 0;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        if (may_fail(symbols[i]) || strstr(symbols[i], "PTX")) continue;
        snprintf(empty, sizeof empty, "%s/empty-%zu", root, i);
        failed += fail_one(symbols[i], 1, empty);
    }
    assert_int_equal(failed, 5); /* version, create, compile, size and bytes of the cubin */
    snprintf(empty, sizeof empty, "%s/empty-too", root);
    outcome made = whole_life("nvrtcGetCUBIN", 2, empty);
    assert_int_equal(made.status, RG_E_BUILD);
    assert_non_null(strstr(made.text, "cannot compile kernel 'rg_"));
}

/* `nth` of its calls fail in turn, and nobody notices: no line, the losses and the file of a run
 * where none does. 0: it is not called at all. */
static int fail_unnoticed(const char *symbol, long nth, const char *kernels, const told *want) {
    int failed = 0;
    for (long i = 1; i <= nth; i++) {
        outcome made = whole_life(symbol, i, kernels);
        if (made.status != RG_OK || made.text[0] || made.host || !made.saved)
            fail_msg("%s %ld: status %d '%s'", symbol, i, (int)made.status, made.text);
        assert_memory_equal(made.told.loss, want->loss, sizeof want->loss);
        assert_memory_equal(made.told.valid, want->valid, sizeof want->valid);
        failed += made.all_calls >= i;
    }
    return failed;
}

static void test_calls_that_give_back_may_fail(void **state) {
    (void)state;
    static const struct {
        const char *symbol;
        long nth; /* it is called so often, or more often */
    } row[] = {
        {"cuMemFree", 4},          {"cuMemFreeHost", 3},
        {"cuModuleUnload", 4},     {"cuGraphDestroy", 2},
        {"cuGraphExecDestroy", 2}, {"cuStreamDestroy", 1},
        {"cuEventDestroy", 5},     {"cuDevicePrimaryCtxRelease", 1},
    };
    outcome want = whole_life("cuInit", 9, cache);
    assert_int_equal(want.status, RG_OK);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(fail_unnoticed(row[i].symbol, row[i].nth, cache, &want.told), row[i].nth);
}

/* A log that cannot be read takes away the report, the compiler's words and the place in the cache,
 * no more. */
static void test_the_compilers_log_may_fail(void **state) {
    (void)state;
    static const char *const symbols[] = {"nvrtcGetProgramLogSize", "nvrtcGetProgramLog",
                                          "nvrtcDestroyProgram"};
    char empty[160];
    outcome want = whole_life("cuInit", 9, cache);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        snprintf(empty, sizeof empty, "%s/log-%zu", root, i);
        assert_int_equal(fail_unnoticed(symbols[i], 1, empty, &want.told), 1);
    }
}

static void test_a_device_that_is_lost_is_told_once(void **state) {
    (void)state;
    for (long nth = 1; nth < 40; nth += 6) {
        outcome made = whole_life("device", nth, cache);
        assert_int_equal(made.status, RG_E_DEVICE);
        assert_non_null(strstr(made.text, "unavailable (error 46)"));
    }
}

/* What gives something back is no failure. */
static void test_a_failed_command_ends_with_1_and_leaves_the_file(void **state) {
    (void)state;
    static const struct {
        const char *what;
        int code;
    } fails[] = {{"cuGraphLaunch:2", 1}, {"nvrtcVersion:1", 1}, {"device:5", 1},
                 {"cuGraphLounch:2", 1}, {"cuMemFree:1", 0},    {"cuModuleUnload:2", 0}};
    char keep[160], save[160];
    snprintf(keep, sizeof keep, "--cache=%s", cache);
    snprintf(save, sizeof save, "--save=%s", saved);
    char *argv[] = {"resgen",    "train", spec, "--device=emulate", "--data=synthetic",
                    "--steps=2", keep,    save, "--quiet",          NULL};
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        write_old();
        setenv("RG_EMULATE_FAIL", fails[i].what, 1);
        assert_int_equal(rg_driver_main((int)(sizeof argv / sizeof *argv) - 1, argv),
                         fails[i].code);
        assert_int_equal(rg_emulate_alive(), 0);
        assert_true(check_saved(fails[i].what) || fails[i].code != 0);
    }
}

/* What a command prints, in `text`. */
static void read_output(int count, char *const *argv, char *text, size_t size) {
    FILE *out = tmpfile();
    int before = dup(1);
    fflush(stdout);
    assert_true(out && before >= 0 && dup2(fileno(out), 1) == 1);
    int code = rg_driver_main(count, (char **)argv);
    fflush(stdout);
    assert_true(dup2(before, 1) == 1);
    close(before);
    rewind(out);
    text[fread(text, 1, size - 1, out)] = '\0';
    fclose(out);
    assert_int_equal(code, 0);
}

/* Checkpoints and tables, whatever the device. An evaluation during training is of one batch here,
 * that of `eval` of the whole set. */
static void test_the_other_commands_run_on_it_too(void **state) {
    (void)state;
    char keep[160], init[160], save[160];
    snprintf(keep, sizeof keep, "--cache=%s", cache);
    snprintf(init, sizeof init, "--init=%s", saved);
    snprintf(save, sizeof save, "--save=%s", saved);
    char *const command[][9] = {
        {"resgen", "train", spec, "--device=emulate", "--data=synthetic", keep, save, "--steps=1"},
        {"resgen", "eval", spec, "--device=emulate", "--data=synthetic", keep, init},
        {"resgen", "bench", spec, "--device=emulate", "--data=synthetic", keep},
    };
    for (size_t i = 0; i < sizeof command / sizeof *command; i++) {
        int count = 0;
        char text[4096];
        while (command[i][count]) count++;
        read_output(count, command[i], text, sizeof text);
        bool part = strstr(text, ", the first 16 of 2000 images)") != NULL;
        assert_int_equal(part, i == 0);
    }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_device_makes_the_hosts_batches_to_the_bit),
        T(test_a_step_is_one_launch),
        T(test_every_way_gives_the_same_losses),
        T(test_a_data_set_without_room_stays_on_the_host),
        T(test_nvtx_is_told_what_runs),
        T(test_each_failing_driver_call_is_told_once),
        T(test_each_failing_nvrtc_call_is_told_once),
        T(test_calls_that_give_back_may_fail),
        T(test_the_compilers_log_may_fail),
        T(test_a_device_that_is_lost_is_told_once),
        T(test_a_failed_command_ends_with_1_and_leaves_the_file),
        T(test_the_other_commands_run_on_it_too),
    };
    return cmocka_run_group_tests(tests, open_group, close_group);
}
