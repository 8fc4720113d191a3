/* A plan on a CUDA device, which here is the emulator's: the same results as on the processor,
 * through graphs and without, and every failing call told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rg_cuda.h"
#include "rg_emulate.h"
#include "rg_train.h"
#include "test_plan.h"

/* ---- a network of one weight: loss = mean of image * w, on both devices in the same order ---- */

enum { PIXELS = 4, TILE = PIXELS * RG_BLOCK, KERNELS = 3, IMAGES = 80 };

static void cpu_scale(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    for (int i = tile * TILE; i < (tile + 1) * TILE; i++) a[2][i] = a[0][i] * a[1][0];
}

static void cpu_loss(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)tile, (void)scratch;
    float sum = 0;
    for (int i = 0; i < ctrl->blocks * TILE; i++) sum += a[0][i];
    a[1][0] = a[3][0] = sum * ctrl->scalar[RG_CTRL_INV_COUNT];
    a[2][0] = a[1][0] > 0 ? 1.0f : 0.0f;
}

static void cpu_update(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)tile, (void)scratch;
    float step = ctrl->scalar[RG_CTRL_LR] * a[1][0];
    a[0][0] = a[0][0] - step;
    a[2][0] = a[2][0] + 1;
}

#define PROLOGUE                                                                                   \
    "#ifndef RG_EMULATE\n#define RG_KERNEL extern \"C\" __global__\n#endif\n"                      \
    "struct rg_ctrl {\n    int live, blocks;\n    float scalar[6];\n};\n"

static const rg_cuda_source sources[KERNELS] = {
    {"rg_scale", PROLOGUE "RG_KERNEL void rg_scale(const float *a0, const float *a1, float *a2, "
                          "const rg_ctrl *ctl) {\n"
                          "    (void)ctl;\n    const int i = rg_block() * 64 + rg_tid();\n"
                          "    a2[i] = a0[i] * a1[0];\n}\n"},
    {"rg_loss", PROLOGUE "RG_KERNEL void rg_loss(const float *a0, float *a1, float *a2, float *a3, "
                         "const rg_ctrl *ctl) {\n"
                         "    if (rg_tid() != 0) return;\n    float sum = 0;\n"
                         "    for (int i = 0; i < ctl->blocks * 64; i++) sum += a0[i];\n"
                         "    a1[0] = a3[0] = sum * ctl->scalar[1];\n"
                         "    a2[0] = a1[0] > 0 ? 1.0f : 0.0f;\n}\n"},
    {"rg_update", PROLOGUE "RG_KERNEL void rg_update(float *a0, const float *a1, float *a2, "
                           "const rg_ctrl *ctl) {\n"
                           "    if (rg_tid() != 0) return;\n"
                           "    const float step = ctl->scalar[2] * a1[0];\n"
                           "    a0[0] = a0[0] - step;\n    a2[0] = a2[0] + 1;\n}\n"},
};

static test_plan tp;
static uint32_t weight, steps_taken, gradient, work, zeros;

static void make_plan(void) {
    tp_init(&tp, 2);
    uint32_t image = tp_act(&tp, "image", RG_ARENA_IO, 2, 2, 1);
    uint32_t label = tp_act(&tp, "label", RG_ARENA_IO, 1, 1, 1);
    uint32_t loss = tp_vec(&tp, "loss", RG_ARENA_IO, 1);
    uint32_t correct = tp_vec(&tp, "correct", RG_ARENA_IO, 1);
    weight = tp_vec(&tp, "w", RG_ARENA_PARAM, 1);
    gradient = tp_vec(&tp, "dw", RG_ARENA_GRAD, 1);
    steps_taken = tp_vec(&tp, "steps", RG_ARENA_STATE, 1);
    work = tp_act(&tp, "scaled", RG_ARENA_WORK, 2, 2, 1);
    zeros = tp_act(&tp, "zeros", RG_ARENA_WORK, 2, 2, 1);
    tp.plan.io = (rg_plan_io){image, label, loss, correct, UINT32_MAX};
    uint32_t scale = tp_kernel(&tp, "rg_scale", cpu_scale, 3, 1, 0);
    uint32_t sum = tp_kernel(&tp, "rg_loss", cpu_loss, 4, 0, 1);
    uint32_t update = tp_kernel(&tp, "rg_update", cpu_update, 3, 0, 1);
    tp.kernel[scale].threads = TILE;
    tp.kernel[sum].threads = tp.kernel[update].threads = 32;
    const rg_plan_program_id program[] = {RG_PP_GRAD, RG_PP_EVAL};
    for (int i = 0; i < 2; i++) {
        tp_fill(&tp, program[i], zeros, 0);
        tp_launch(&tp, program[i], scale, (uint32_t[]){image, weight, work}, 0);
        tp_launch(&tp, program[i], sum, (uint32_t[]){work, loss, correct, gradient}, 1);
    }
    tp_launch(&tp, RG_PP_UPDATE, update, (uint32_t[]){weight, gradient, steps_taken}, 0);
    tp_param(&tp, "w", weight);
    tp_param(&tp, "steps", steps_taken);
    tp.param[0].init = RG_PI_CONST;
    tp.param[0].value = 0.5;
}

/* ---- executors ---- */

static rg_ctx ctx;
static rg_exec *exec;
static char root[64], cache[128];
static const rg_cuda_api *api;
static rg_cuda_stats stats;
static rg_cuda_object object[KERNELS];

static const rg_cuda_api *emulator(const char *fail_call, int fail_nth) {
    rg_emulate_options options = {.seed = 1,
                                  .memory_bytes = 1 << 24,
                                  .threads = 1,
                                  .fail_call = fail_call,
                                  .fail_nth = fail_nth};
    return rg_emulate_api(&options);
}

static void must(rg_status status) {
    if (status != RG_OK) fail_msg("%s", ctx.last ? ctx.last->text : "no diagnostic");
}

static rg_status open_with(const rg_cuda_exec_options *options) {
    rg_exec_backend backend;
    exec = NULL;
    RG_TRY(rg_cuda_backend(&ctx, api, &tp.plan, object, options, &backend));
    RG_TRY(rg_exec_new_backend(&ctx, &tp.plan, &backend, &exec));
    rg_params_init(exec, 1);
    return RG_OK;
}

static rg_status open_cuda(bool stream) {
    return open_with(&(rg_cuda_exec_options){.stream = stream});
}

static rg_status open_apart(void) {
    return open_with(&(rg_cuda_exec_options){.stream = true, .apart = true});
}

static void open_cpu(void) {
    must(rg_exec_new(&ctx, &tp.plan, tp.function, 1, &exec));
    rg_params_init(exec, 1);
}

static void close_exec(void) {
    rg_exec_free(exec);
    exec = NULL;
}

static int open_group(void **state) {
    (void)state;
    strcpy(root, "/tmp/resgen-test-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int close_group(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int setup(void **state) {
    (void)state;
    snprintf(cache, sizeof cache, "%s/cache", root);
    rg_cuda_build_options options = {.arch = 90, .cache_dir = cache};
    make_plan();
    api = emulator(NULL, 0);
    if (rg_ctx_init(&ctx) != RG_OK) return -1;
    return rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    close_exec();
    rg_ctx_free(&ctx);
    return rg_emulate_alive() == 0 ? 0 : -1;
}

/* ---- the same bits as on the processor ---- */

static uint8_t pixels[IMAGES * PIXELS], labels[IMAGES];
static rg_dataset set = {.count = IMAGES, .height = 2, .width = 2, .channels = 1, .classes = 2};

static void make_set(void) {
    for (int i = 0; i < IMAGES * PIXELS; i++) pixels[i] = (uint8_t)(i * 37 + i / 7);
    for (int i = 0; i < IMAGES; i++) labels[i] = (uint8_t)(i & 1);
    set.pixels = pixels;
    set.labels = labels;
}

typedef struct trained {
    rg_epoch epoch[2];
    float weight;
    int epochs;
} trained;

static void on_epoch(void *user, const rg_epoch *epoch) {
    trained *to = user;
    to->epoch[to->epochs++] = *epoch;
}

/* Eighty images by batches of 32: two sizes of graph in training, two in evaluation. */
static trained train_all(void) {
    trained made = {.epochs = 0};
    uint64_t steps = 0;
    make_set();
    rg_train_options options = {.train = &set,
                                .valid = &set,
                                .epochs = 2,
                                .shuffle = true,
                                .seed = 3,
                                .epoch = on_epoch,
                                .user = &made};
    must(rg_train(&ctx, exec, &options, &steps));
    assert_int_equal(steps, 6);
    must(rg_exec_fetch_params(&ctx, exec));
    rg_params_read(exec, 0, RG_ARENA_PARAM, &made.weight);
    close_exec();
    return made;
}

static void test_training_gives_the_processors_bits(void **state) {
    (void)state;
    open_cpu();
    trained want = train_all();
    for (int way = 0; way < 3; way++) {
        must(way == 2 ? open_apart() : open_cuda(way == 1));
        trained got = train_all();
        assert_true(got.weight == want.weight && got.weight != 0.5f);
        assert_int_equal(got.epochs, 2);
        for (int i = 0; i < 2; i++) {
            assert_true(got.epoch[i].train_loss == want.epoch[i].train_loss);
            assert_true(got.epoch[i].valid_loss == want.epoch[i].valid_loss);
            assert_true(got.epoch[i].train_acc == want.epoch[i].train_acc);
        }
    }
}

/* The batch in the image buffer is the evaluation's when the next epoch begins. */
static void test_an_epoch_of_one_batch_begins_with_its_own_images(void **state) {
    (void)state;
    trained made = {.epochs = 0};
    rg_dataset few = {.count = 20, .height = 2, .width = 2, .channels = 1, .classes = 2};
    uint64_t steps = 0;
    make_set();
    few.pixels = pixels + 30 * PIXELS;
    few.labels = labels;
    tp.plan.data.lr = 0;
    must(open_cuda(false));
    rg_train_options options = {
        .train = &few, .valid = &set, .epochs = 2, .epoch = on_epoch, .user = &made};
    must(rg_train(&ctx, exec, &options, &steps));
    assert_true(made.epoch[0].train_loss == made.epoch[1].train_loss);
}

/* ---- graphs and control blocks ---- */

static void run_grad(int32_t live) {
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, live, 1, 0.5);
    must(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl));
}

static void test_a_graph_is_made_once_for_each_number_of_blocks(void **state) {
    (void)state;
    must(open_cuda(false));
    long before = rg_emulate_calls_of("cuGraphInstantiateWithFlags");
    const int32_t lives[] = {32, 20, 7, 32, 16};
    for (int i = 0; i < 20; i++) run_grad(lives[i % 5]);
    assert_int_equal(rg_emulate_calls_of("cuGraphInstantiateWithFlags") - before,
                     2 * 2); /* two slots, in turn */
    assert_int_equal(rg_emulate_calls_of("cuLaunchKernel"), 0);
}

/* More runs under way than there are control blocks in the ring. */
static void test_each_run_sees_its_own_control_block(void **state) {
    (void)state;
    float want = 0.5f, got;
    must(open_cuda(false));
    rg_exec_buffer(exec, gradient)[0] = 1;
    rg_exec_touch(exec, RG_ARENA_GRAD);
    for (int i = 0; i < 20; i++) {
        rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 16, 1, 0.25 * i);
        must(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl));
        want -= 0.25f * (float)i;
    }
    must(rg_exec_fetch_params(&ctx, exec));
    rg_params_read(exec, 0, RG_ARENA_PARAM, &got);
    assert_true(got == want);
    rg_params_read(exec, 1, RG_ARENA_STATE, &got);
    assert_true(got == 20);
}

static void test_zeros_are_filled_in(void **state) {
    (void)state;
    must(open_cuda(false));
    memset(rg_exec_buffer(exec, zeros), 0x3f, tp.buffer[zeros].bytes);
    must(rg_exec_send(&ctx, exec, zeros));
    run_grad(32);
    memset(rg_exec_buffer(exec, zeros), 0x3f, tp.buffer[zeros].bytes);
    must(rg_exec_fetch(&ctx, exec, zeros));
    for (uint64_t i = 0; i < tp.buffer[zeros].bytes / sizeof(float); i++)
        assert_true(rg_exec_buffer(exec, zeros)[i] == 0);
}

static void test_every_op_has_a_time(void **state) {
    (void)state;
    must(open_cuda(false));
    double us[3] = {-1, -1, -1};
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 32, 1, 0.5);
    must(rg_exec_run_timed(&ctx, exec, RG_PP_GRAD, &ctrl, us));
    for (int i = 0; i < 3; i++) assert_true(us[i] >= 0);
}

/* ---- parameters and files ---- */

static void test_a_checkpoint_goes_through_the_device(void **state) {
    (void)state;
    char path[128];
    float value = 3, back = 0;
    snprintf(path, sizeof path, "%s/a.safetensors", root);
    must(open_cuda(false));
    run_grad(16);
    rg_params_write(exec, 0, RG_ARENA_PARAM, &value);
    must(rg_exec_fetch_params(&ctx, exec)); /* must not undo what is not sent yet */
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 16, 1, 0);
    must(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl)); /* changes the state alone */
    must(rg_params_save(&ctx, exec, path, 1));
    rg_params_init(exec, 1);
    must(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl));
    must(rg_params_load(&ctx, exec, path, NULL));
    must(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl));
    must(rg_exec_fetch_params(&ctx, exec));
    rg_params_read(exec, 0, RG_ARENA_PARAM, &back);
    assert_true(back == 3);
    rg_params_read(exec, 1, RG_ARENA_STATE, &back);
    assert_true(back == 2);
}

/* ---- failures ---- */

/* Closing is left out of *calls: what fails there is no error. */
static rg_status whole_life(const char *symbol, bool stream, long *calls) {
    uint64_t steps = 0;
    make_set();
    rg_train_options options = {.train = &set, .valid = &set, .epochs = 1, .seed = 3};
    rg_status status = open_cuda(stream);
    if (status == RG_OK) status = rg_train(&ctx, exec, &options, &steps);
    if (status == RG_OK) status = rg_exec_fetch_params(&ctx, exec);
    *calls = rg_emulate_calls_of(symbol);
    close_exec();
    return status;
}

/* Calls that give something back: their failure is no error. */
static bool is_release(const char *symbol) {
    return strstr(symbol, "Destroy") || strstr(symbol, "Free") || strstr(symbol, "Unload") ||
           strstr(symbol, "Release");
}

/* Returns how many calls there are to fail. */
static int fail_each(const char *symbol, bool stream) {
    for (int nth = 1;; nth++) {
        long calls;
        int count = ctx.count;
        api = emulator(symbol, nth);
        rg_status status = whole_life(symbol, stream, &calls);
        if (rg_emulate_alive() != 0)
            fail_msg("%s %d: %d things are left", symbol, nth, rg_emulate_alive());
        if (calls < nth) return nth - 1;
        if (status != RG_E_DEVICE && status != RG_E_NOMEM)
            fail_msg("%s %d: status %d", symbol, nth, (int)status);
        assert_int_equal(ctx.count, count + 1);
        assert_null(strchr(ctx.last->text, '\n'));
    }
}

static void test_each_failing_call_is_one_diagnostic(void **state) {
    (void)state;
    static const char *const symbols[] = {
#define X(field, symbol, parameters) #symbol,
        RG_CUDA_DRIVER_LIST(X)
#undef X
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        if (!is_release(symbols[i])) failed += fail_each(symbols[i], false);
    }
    assert_true(failed > 80);
    assert_int_equal(fail_each("cuLaunchKernel", true), 3 * 3 + 2 * 2); /* steps, evaluations */
    assert_int_equal(fail_each("cuMemsetD32Async", true), 3 + 2);
}

static void test_a_fault_names_its_kernel(void **state) {
    (void)state;
    tp.kernel[0].threads = 128; /* two tiles' worth: the last block writes behind the buffer */
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 48, 1, 0.5);
    must(open_cuda(true));
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_E_DEVICE);
    assert_non_null(strstr(ctx.last->text, "cuStreamSynchronize (kernel 'rg_scale' of 'layer')"));
    close_exec();
    must(open_cuda(false));
    rg_status status = rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl);
    double loss, correct;
    if (status == RG_OK) status = rg_exec_results(&ctx, exec, 0, &loss, &correct);
    assert_int_equal(status, RG_E_DEVICE);
    print_message("%s\n", ctx.last->text);
    assert_non_null(strstr(ctx.last->text, "--stream tells which kernel failed"));
}

/* A tile too many writes into the buffer behind, which is there as long as they share an arena. */
static void test_a_kernel_that_leaves_its_buffer_is_seen_where_buffers_lie_apart(void **state) {
    (void)state;
    tp.kernel[0].tiles_fixed = 1;
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 48, 1, 0.5);
    must(open_cuda(true));
    must(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl));
    close_exec();
    must(open_apart());
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_E_DEVICE);
    assert_non_null(strstr(ctx.last->text, "kernel 'rg_scale' of 'layer'"));
    assert_non_null(strstr(ctx.last->text, "out of bounds"));
}

/* In the working memory two buffers may have one offset, where they live at different times. */
static void test_buffers_that_lie_apart_are_fetched_each_from_its_own_place(void **state) {
    (void)state;
    tp.buffer[zeros].offset = tp.buffer[work].offset;
    must(open_apart());
    memset(rg_exec_buffer(exec, zeros), 0x3f, tp.buffer[zeros].bytes);
    must(rg_exec_send(&ctx, exec, zeros));
    must(rg_exec_fetch(&ctx, exec, zeros));
    assert_true(rg_exec_buffer(exec, zeros)[0] > 0);
    rg_exec_buffer(exec, tp.plan.io.image)[0] = 1;
    must(rg_exec_send(&ctx, exec, tp.plan.io.image));
    run_grad(32);
    must(rg_exec_fetch(&ctx, exec, work));
    assert_true(rg_exec_buffer(exec, work)[0] > 0);
    must(rg_exec_fetch(&ctx, exec, zeros));
    for (uint64_t i = 0; i < tp.buffer[zeros].bytes / sizeof(float); i++)
        assert_true(rg_exec_buffer(exec, zeros)[i] == 0);
}

/* What is kept has the compiler's report beside it, or is made again. */
static void test_a_kernel_without_its_compilers_log_is_not_kept(void **state) {
    (void)state;
    static const char *const symbols[] = {"nvrtcGetProgramLogSize", "nvrtcGetProgramLog"};
    const rg_cuda_build_options options = {.arch = 90, .cache_dir = cache, .jobs = 1};
    for (int i = 0; i < 2; i++) {
        snprintf(cache, sizeof cache, "%s/log-%d", root, i);
        for (int start = 0; start < 3; start++) {
            api = emulator(start == 0 ? symbols[i] : NULL, 2);
            must(rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats));
            assert_int_equal(stats.compiled, start == 0 ? KERNELS : start == 1 ? 1 : 0);
            const char *told = stats.note ? stats.note : "";
            assert_true(!strstr(told, "1 of the built kernels are not kept") == (start > 0));
        }
        assert_int_equal(ctx.count, 0);
    }
}

/* In the place of every cubin a folder: what the system refuses to replace by a file. */
static void block_entries(void) {
    glob_t found;
    char pattern[160];
    snprintf(pattern, sizeof pattern, "%s/*.cubin", cache);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, KERNELS);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        assert_int_equal(unlink(found.gl_pathv[i]), 0);
        assert_int_equal(mkdir(found.gl_pathv[i], 0700), 0);
    }
    globfree(&found);
}

/* Whoever comes first, the note is of the first kernel in the list. */
static void test_a_cache_that_takes_no_more_costs_a_note(void **state) {
    (void)state;
    rg_cuda_build_options options = {.arch = 90, .cache_dir = cache};
    char note[512] = "";
    snprintf(cache, sizeof cache, "%s/full", root);
    must(rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats));
    assert_null(stats.note);
    assert_string_equal(stats.nvrtc, "13.0, emulated");
    block_entries();
    for (int start = 0; start < 2; start++) {
        options.jobs = start == 0 ? 1 : KERNELS;
        must(rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats));
        assert_int_equal(stats.compiled, KERNELS);
        assert_non_null(stats.note);
        assert_non_null(strstr(stats.note, "built kernels are not kept any more: cannot rename"));
        assert_non_null(strstr(stats.note, "Is a directory"));
        assert_true(start == 0 || strcmp(note, stats.note) == 0);
        snprintf(note, sizeof note, "%s", stats.note);
        for (int i = 0; i < KERNELS; i++) assert_memory_equal(object[i].cubin, "\177ELF", 4);
    }
    assert_int_equal(ctx.count, 0);
    must(open_cuda(false));
    run_grad(32);
}

static void end_process(void *user, int done, int total) {
    (void)user, (void)total;
    if (done == 2) _exit(0);
}

static void test_a_build_that_is_cut_short_has_kept_what_it_made(void **state) {
    (void)state;
    rg_cuda_build_options options = {.arch = 90, .cache_dir = cache, .jobs = 1};
    int ended;
    snprintf(cache, sizeof cache, "%s/short", root);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        options.progress = end_process;
        rg_status status = rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats);
        _exit(status == RG_OK ? 1 : 2);
    }
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    must(rg_cuda_build(&ctx, api, sources, KERNELS, &options, object, &stats));
    assert_int_equal(stats.cached, 2);
}

/* The compiler ends with rg_wrong.cu only when another kernel has failed. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rg_nvrtc_program wrong;
    bool failed;
} turn = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static rg_nvrtc_result create_in_turn(rg_nvrtc_program *program, const char *source,
                                      const char *name, int headers, const char *const *header,
                                      const char *const *include) {
    rg_nvrtc_result result = api->nvrtc.create(program, source, name, headers, header, include);
    pthread_mutex_lock(&turn.lock);
    if (strcmp(name, "rg_wrong.cu") == 0) turn.wrong = *program;
    pthread_mutex_unlock(&turn.lock);
    return result;
}

static rg_nvrtc_result compile_in_turn(rg_nvrtc_program program, int options,
                                       const char *const *option) {
    pthread_mutex_lock(&turn.lock);
    while (program == turn.wrong && !turn.failed) pthread_cond_wait(&turn.changed, &turn.lock);
    pthread_mutex_unlock(&turn.lock);
    rg_nvrtc_result result = api->nvrtc.compile(program, options, option);
    pthread_mutex_lock(&turn.lock);
    turn.failed |= result != RG_NVRTC_SUCCESS;
    pthread_cond_broadcast(&turn.changed);
    pthread_mutex_unlock(&turn.lock);
    return result;
}

static void test_of_wrong_kernels_the_first_is_told_and_the_good_ones_are_kept(void **state) {
    (void)state;
    const rg_cuda_source some[] = {{"rg_wrong", "wrong"}, sources[0], {"rg_worse", "worse"}};
    const rg_cuda_build_options options = {.arch = 90, .cache_dir = cache, .jobs = 2};
    rg_cuda_api late = *api;
    late.nvrtc.create = create_in_turn;
    late.nvrtc.compile = compile_in_turn;
    snprintf(cache, sizeof cache, "%s/wrong", root);
    assert_int_equal(rg_cuda_build(&ctx, &late, some, 3, &options, object, &stats), RG_E_BUILD);
    assert_int_equal(ctx.count, 1);
    assert_non_null(strstr(ctx.last->text, "cannot compile kernel 'rg_wrong'"));
    must(rg_cuda_build(&ctx, api, sources, 1, &options, object, &stats));
    assert_int_equal(stats.cached, 1);
}

static void test_too_many_threads_are_told(void **state) {
    (void)state;
    tp.kernel[2].threads = 2048;
    assert_int_equal(open_cuda(false), RG_E_DEVICE);
    assert_non_null(strstr(ctx.last->text, "kernel 'rg_update' wants 2048 threads a block"));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_training_gives_the_processors_bits),
        T(test_an_epoch_of_one_batch_begins_with_its_own_images),
        T(test_a_graph_is_made_once_for_each_number_of_blocks),
        T(test_each_run_sees_its_own_control_block),
        T(test_zeros_are_filled_in),
        T(test_every_op_has_a_time),
        T(test_a_checkpoint_goes_through_the_device),
        T(test_each_failing_call_is_one_diagnostic),
        T(test_a_fault_names_its_kernel),
        T(test_a_kernel_that_leaves_its_buffer_is_seen_where_buffers_lie_apart),
        T(test_buffers_that_lie_apart_are_fetched_each_from_its_own_place),
        T(test_a_kernel_without_its_compilers_log_is_not_kept),
        T(test_a_cache_that_takes_no_more_costs_a_note),
        T(test_a_build_that_is_cut_short_has_kept_what_it_made),
        T(test_of_wrong_kernels_the_first_is_told_and_the_good_ones_are_kept),
        T(test_too_many_threads_are_told),
    };
    return cmocka_run_group_tests(tests, open_group, close_group);
}
