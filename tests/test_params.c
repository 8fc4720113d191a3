/* Parameters: logical order against the kernels' layouts, initialisation, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test_plan.h"

/* A convolution 5 x 3 x 2 x 4 in blocks of 4 output channels, its batch-norm, one bias. */
enum {
    K = 5,
    C = 3,
    R = 2,
    S = 4,
    KB = 4,
    KP = 8,
    WEIGHTS = K * C * R * S,
    STORED = KP * C * R * S
};
enum { WEIGHT, BIAS, MEAN, COUNTER, ROWS };

static rg_ctx ctx;
static test_plan tp;
static rg_exec *exec;
static uint32_t moment1, scaling[2];
static char path[64];

static void add_row(const char *name, rg_plan_param row) {
    row.name = tp_text(&tp, name);
    tp.param[tp.plan.param_count++] = row;
}

static void make_plan(void) {
    tp_init(&tp, 10);
    tp_vec(&tp, "pad", RG_ARENA_PARAM, 7);
    rg_plan_buffer weight = {.layout = RG_PL_WEIGHT, .dim = {K, R, S, C}, .cp = KP, .kb = KB};
    uint32_t w = tp_buffer(&tp, "conv.weight", RG_ARENA_PARAM, weight, STORED);
    uint32_t bias = tp_vec(&tp, "conv.bias", RG_ARENA_PARAM, K);
    uint32_t mean = tp_vec(&tp, "bn.running_mean", RG_ARENA_STATE, K);
    tp_buffer(&tp, "grads", RG_ARENA_GRAD, (rg_plan_buffer){.layout = RG_PL_RAW},
              tp.plan.arena_bytes[RG_ARENA_PARAM] / 4);
    /* the first moments have one buffer, and that not at the beginning */
    tp.plan.arena_bytes[RG_ARENA_MOMENT1] = tp.plan.arena_bytes[RG_ARENA_PARAM] - 64;
    moment1 = tp_vec(&tp, "conv.bias.m", RG_ARENA_MOMENT1, K);
    for (int i = 0; i < 2; i++) scaling[i] = tp_vec(&tp, "scaling", RG_ARENA_STATE, 1);
    add_row("conv.weight", (rg_plan_param){.kind = RG_PK_TRAINED,
                                           .rank = 4,
                                           .shape = {K, C, R, S},
                                           .buffer = w,
                                           .init = RG_PI_UNIFORM,
                                           .value = 0.25});
    add_row("conv.bias", (rg_plan_param){.kind = RG_PK_TRAINED,
                                         .rank = 1,
                                         .shape = {K},
                                         .buffer = bias,
                                         .init = RG_PI_UNIFORM,
                                         .value = 3});
    add_row("bn.running_mean", (rg_plan_param){.kind = RG_PK_STATE,
                                               .rank = 1,
                                               .shape = {K},
                                               .buffer = mean,
                                               .init = RG_PI_CONST,
                                               .value = 0.5});
    add_row("bn.num_batches_tracked", (rg_plan_param){.kind = RG_PK_COUNTER});
}

static int setup(void **state) {
    (void)state;
    make_plan();
    strcpy(path, "/tmp/rg_test_params.XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) != 0 || rg_ctx_init(&ctx) != RG_OK) return -1;
    return rg_exec_new(&ctx, &tp.plan, tp.function, 1, &exec) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_exec_free(exec);
    rg_ctx_free(&ctx);
    return unlink(path);
}

static bool has_error(const char *part) {
    for (const rg_diag *at = ctx.first; at; at = at->next)
        if (strstr(at->text, part)) return true;
    return false;
}

static float *stored(uint32_t row) {
    return rg_exec_buffer(exec, tp.param[row].buffer);
}

static void fill_with(float *buffer, size_t count, float value) {
    for (size_t i = 0; i < count; i++) buffer[i] = value;
}

/* ---- logical order ---- */

static void test_weights_lie_as_the_layout_says_and_come_back(void **state) {
    (void)state;
    float logical[WEIGHTS], back[WEIGHTS];
    assert_int_equal(rg_params_count(&tp.plan, WEIGHT), WEIGHTS);
    for (int i = 0; i < WEIGHTS; i++) logical[i] = (float)(i + 1);
    fill_with(stored(WEIGHT), STORED, 99.0f);
    rg_params_write(exec, WEIGHT, RG_ARENA_PARAM, logical);
    int zeros = 0;
    for (int k = 0; k < KP; k++)
        for (int r = 0; r < R; r++)
            for (int s = 0; s < S; s++)
                for (int c = 0; c < C; c++) {
                    float at = stored(WEIGHT)[((((k / KB) * R + r) * S + s) * C + c) * KB + k % KB];
                    assert_true(at == (k < K ? logical[((k * C + c) * R + r) * S + s] : 0.0f));
                    zeros += at == 0.0f;
                }
    assert_int_equal(zeros, STORED - WEIGHTS);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, back);
    assert_memory_equal(back, logical, sizeof back);
}

static void test_vectors_lie_in_order_and_surplus_lanes_are_zeros(void **state) {
    (void)state;
    const float logical[K] = {1, 2, 3, 4, 5};
    float back[K];
    fill_with(stored(MEAN), 16, 99.0f);
    rg_params_write(exec, MEAN, RG_ARENA_STATE, logical);
    for (int i = 0; i < 16; i++) assert_true(stored(MEAN)[i] == (i < K ? logical[i] : 0.0f));
    rg_params_read(exec, MEAN, RG_ARENA_STATE, back);
    assert_memory_equal(back, logical, sizeof back);
}

static void test_gradients_and_moments_share_the_parameters_offsets(void **state) {
    (void)state;
    float logical[WEIGHTS], back[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++) logical[i] = (float)(i + 1);
    static const rg_plan_arena arena[] = {RG_ARENA_GRAD, RG_ARENA_MOMENT1};
    for (int i = 0; i < 2; i++) {
        rg_params_write(exec, WEIGHT, arena[i], logical);
        rg_params_read(exec, WEIGHT, arena[i], back);
        assert_memory_equal(back, logical, sizeof back);
        rg_params_write(exec, BIAS, arena[i], logical);
    }
    uint64_t offset = tp.buffer[tp.param[WEIGHT].buffer].offset / sizeof(float);
    assert_true(rg_exec_buffer(exec, tp.param[BIAS].buffer + 2)[offset] ==
                1.0f); /* "grads" begins with its arena */
    assert_memory_equal(rg_exec_buffer(exec, moment1), logical, K * sizeof(float));
    for (int i = 0; i < STORED; i++) assert_true(stored(WEIGHT)[i] == 0.0f);
}

static void test_what_a_plan_has_not_got_reads_as_zeros(void **state) {
    (void)state;
    float back[K];
    static const struct {
        uint32_t row, count;
        rg_plan_arena arena;
    } absent[] = {
        {BIAS, K, RG_ARENA_MOMENT2}, {MEAN, K, RG_ARENA_GRAD}, {COUNTER, 1, RG_ARENA_PARAM}};
    for (int i = 0; i < 3; i++) {
        fill_with(back, K, 7.0f);
        rg_params_write(exec, absent[i].row, absent[i].arena, back);
        rg_params_read(exec, absent[i].row, absent[i].arena, back);
        for (uint32_t j = 0; j < K; j++)
            assert_true(back[j] == (j < absent[i].count ? 0.0f : 7.0f));
    }
    for (int i = 0; i < K; i++) assert_true(stored(MEAN)[i] == 0.0f);
}

/* ---- initialisation ---- */

static void test_initial_values_are_the_documented_draws(void **state) {
    (void)state;
    float weight[WEIGHTS], bias[K], mean[K];
    fill_with(stored(WEIGHT), STORED, 99.0f);
    rg_params_init(exec, 42);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, weight);
    rg_params_read(exec, BIAS, RG_ARENA_PARAM, bias);
    rg_params_read(exec, MEAN, RG_ARENA_STATE, mean);
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < WEIGHTS; i++) {
        double unit = rg_random_unit(42, RG_STREAM_INIT, WEIGHT, i);
        assert_true(weight[i] == (float)(-0.25 + 0.5 * unit));
        sum += weight[i], squares += weight[i] * weight[i];
    }
    for (uint32_t i = 0; i < K; i++) {
        assert_true(bias[i] ==
                    (float)((2.0 * rg_random_unit(42, RG_STREAM_INIT, BIAS, i) - 1.0) * 3.0));
        assert_true(mean[i] == 0.5f);
    }
    /* mean 0 and variance bound^2/3, within five deviations of each for 120 draws */
    assert_true(fabs(sum / WEIGHTS) < 5 * 0.25 / sqrt(3.0 * WEIGHTS));
    assert_true(fabs(squares / WEIGHTS / (0.25 * 0.25 / 3) - 1) < 5 * sqrt(0.8 / WEIGHTS));
    for (int i = 0; i < R * S * C; i++) /* lanes of the output channels 5 to 7 */
        for (int k = 1; k < KB; k++) assert_true(stored(WEIGHT)[STORED / 2 + i * KB + k] == 0.0f);
}

static void test_initial_values_depend_on_the_seed_alone(void **state) {
    (void)state;
    float first[WEIGHTS], second[WEIGHTS];
    int saved = omp_get_max_threads();
    rg_params_init(exec, 1);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, first);
    omp_set_num_threads(3);
    rg_params_init(exec, 1);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, second);
    omp_set_num_threads(saved);
    assert_memory_equal(first, second, sizeof first);
    rg_params_init(exec, 2);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, second);
    assert_memory_not_equal(first, second, sizeof first);
}

/* ---- files ---- */

static float weight_f32[WEIGHTS];
static double weight_f64[WEIGHTS];
static const float bias_f32[K] = {1.5f, -0.0f, 1e-45f, 3e38f, -2.0f}, mean_f32[K] = {9, 8, 7, 6, 5};
static const int64_t steps_i64 = 1ll << 40;
static int64_t negative_i64 = -1;

/* A file as PyTorch would write it for this plan, rows in its order. */
static rg_safetensors whole_file(rg_tensor_entry entry[ROWS + 1]) {
    for (int i = 0; i < WEIGHTS; i++) weight_f32[i] = (float)i / 7, weight_f64[i] = i / 7.0;
    entry[WEIGHT] = (rg_tensor_entry){.name = "conv.weight",
                                      .dtype = "F32",
                                      .rank = 4,
                                      .shape = {K, C, R, S},
                                      .data = (uint8_t *)weight_f32,
                                      .bytes = sizeof weight_f32};
    entry[BIAS] = (rg_tensor_entry){.name = "conv.bias",
                                    .dtype = "F32",
                                    .rank = 1,
                                    .shape = {K},
                                    .data = (const uint8_t *)bias_f32,
                                    .bytes = sizeof bias_f32};
    entry[MEAN] = (rg_tensor_entry){.name = "bn.running_mean",
                                    .dtype = "F32",
                                    .rank = 1,
                                    .shape = {K},
                                    .data = (const uint8_t *)mean_f32,
                                    .bytes = sizeof mean_f32};
    entry[COUNTER] = (rg_tensor_entry){.name = "bn.num_batches_tracked",
                                       .dtype = "I64",
                                       .data = (const uint8_t *)&steps_i64,
                                       .bytes = 8};
    return (rg_safetensors){.count = ROWS, .entry = entry};
}

static rg_status load(const rg_safetensors *file, rg_trained *trained) {
    assert_int_equal(rg_safetensors_write(&ctx, path, file), RG_OK);
    return rg_params_load(&ctx, exec, path, trained);
}

static void assert_loaded(void) {
    float back[WEIGHTS];
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, back);
    assert_memory_equal(back, weight_f32, sizeof back);
    rg_params_read(exec, BIAS, RG_ARENA_PARAM, back);
    assert_memory_equal(back, bias_f32, sizeof bias_f32);
    rg_params_read(exec, MEAN, RG_ARENA_STATE, back);
    assert_memory_equal(back, mean_f32, sizeof mean_f32);
}

static void test_a_file_is_loaded_by_name(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    rg_trained done = {0};
    rg_tensor_entry first = entry[WEIGHT];
    entry[WEIGHT] = entry[COUNTER], entry[COUNTER] = first;
    assert_int_equal(load(&file, &done), RG_OK);
    assert_loaded();
    assert_true(done.steps == 1ull << 40 && done.optim_steps == 0);
    assert_int_equal(rg_params_load(&ctx, exec, path, NULL), RG_OK);
}

static void test_doubles_are_rounded_to_nearest(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    float back[WEIGHTS];
    entry[WEIGHT].dtype = "F64", entry[WEIGHT].data = (uint8_t *)weight_f64,
    entry[WEIGHT].bytes = sizeof weight_f64;
    weight_f64[3] = INFINITY,
    weight_f64[4] = 3.4028235677973362e38; /* the last double that rounds to the largest float */
    assert_int_equal(load(&file, NULL), RG_OK);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, back);
    for (int i = 0; i < WEIGHTS; i++) assert_true(back[i] == (float)weight_f64[i]);
    weight_f64[4] = 3.4028235677973366e38;
    assert_int_equal(load(&file, NULL), RG_E_FORMAT);
    assert_true(has_error("tensor 'conv.weight' has a value beyond the range of F32"));
}

static void test_counters_may_be_absent(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    rg_trained done = {.steps = 7};
    file.count = COUNTER;
    assert_int_equal(load(&file, &done), RG_OK);
    assert_loaded();
    assert_int_equal(done.steps, 0);
}

static void test_every_mistake_of_a_file_is_told_and_nothing_changes(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    float before[WEIGHTS], after[WEIGHTS];
    rg_trained done = {.steps = 7};
    rg_params_init(exec, 1);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, before);
    entry[BIAS].name = "conv.bia\x1b";
    entry[MEAN].rank = 2, entry[MEAN].shape[1] = 1;
    entry[COUNTER].data = (const uint8_t *)&negative_i64;
    assert_int_equal(load(&file, &done), RG_E_FORMAT);
    assert_int_equal(ctx.count, 4);
    assert_true(has_error("tensor 'conv.bias' is missing"));
    assert_true(has_error("tensor 'conv.bia?' is none of the network's"));
    assert_true(
        has_error("tensor 'bn.running_mean' is F32 [5,1], the network wants F32 or F64 [5]"));
    assert_true(has_error("tensor 'bn.num_batches_tracked' is -1"));
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(done.steps, 7);
}

static void test_a_wrong_dtype_is_refused(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    entry[BIAS].dtype = "I32";
    entry[COUNTER].dtype = "F64";
    assert_int_equal(load(&file, NULL), RG_E_FORMAT);
    assert_true(has_error("tensor 'conv.bias' is I32 [5], the network wants F32 or F64 [5]"));
    assert_true(has_error("tensor 'bn.num_batches_tracked' is F64 [], the network wants I64 []"));
}

static void test_the_list_of_mistakes_stays_readable(void **state) {
    (void)state;
    enum { STRANGERS = 100 };
    static rg_tensor_entry entry[STRANGERS];
    static char name[STRANGERS][16];
    for (int i = 0; i < STRANGERS; i++) {
        snprintf(name[i], sizeof name[i], "layer%d", i);
        entry[i] = (rg_tensor_entry){.name = name[i], .dtype = "F32", .rank = 1};
    }
    rg_safetensors file = {.count = STRANGERS, .entry = entry};
    assert_int_equal(load(&file, NULL), RG_E_FORMAT);
    assert_int_equal(ctx.count, 21);
    assert_true(has_error("and 83 more")); /* 100 strangers and 3 missing, 20 told */
}

static void test_a_huge_file_is_refused_before_it_is_read(void **state) {
    (void)state;
    assert_int_equal(truncate(path, 1ll << 32), 0);
    assert_int_equal(rg_params_load(&ctx, exec, path, NULL), RG_E_LIMIT);
    assert_true(has_error("has 4294967296 bytes, the limit is"));
}

static void test_what_is_saved_is_loaded_to_the_bit(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry), saved;
    rg_trained done = {0};
    assert_int_equal(load(&file, NULL), RG_OK);
    assert_int_equal(rg_params_save(&ctx, exec, path, 123456789012), RG_OK);
    rg_params_init(exec, 5);
    assert_int_equal(rg_params_load(&ctx, exec, path, &done), RG_OK);
    assert_loaded();
    assert_true(done.steps == 123456789012 && done.optim_steps == 0);
    assert_int_equal(rg_safetensors_read(&ctx, path, &saved), RG_OK);
    assert_int_equal(saved.count, ROWS);
    assert_string_equal(saved.entry[0].name,
                        "bn.num_batches_tracked"); /* eight-byte numbers first: all is aligned */
    assert_string_equal(saved.entry[1].name, "conv.weight");
    assert_int_equal(saved.entry[0].rank, 0);
}

/* An optimiser with one moment, and f16's loss scaling. */
static void use_optimiser(void) {
    tp_launch(&tp, RG_PP_UPDATE, tp_kernel(&tp, "update", NULL, 1, 0, 1), &moment1, 0);
    tp.plan.scaling = (rg_plan_scaling){scaling[0], scaling[1]};
}

static float *number(int which) {
    return rg_exec_buffer(exec, scaling[which]);
}

static void save_checkpoint(float moment[2][WEIGHTS]) {
    use_optimiser();
    rg_params_init(exec, 5);
    for (int i = 0; i < 2 * WEIGHTS; i++) moment[i / WEIGHTS][i % WEIGHTS] = (float)i / 7 - 9;
    rg_params_write(exec, WEIGHT, RG_ARENA_MOMENT1, moment[0]);
    rg_params_write(exec, BIAS, RG_ARENA_MOMENT1, moment[1]);
    *number(0) = 512;
    *number(1) = 37;
    const rg_trained done = {.steps = 9, .optim_steps = 4, .batch = 24, .seed = UINT64_MAX};
    assert_int_equal(rg_checkpoint_save(&ctx, exec, path, &done), RG_OK);
}

static void assert_moments(const float *weight, const float *bias) {
    float back[WEIGHTS];
    rg_params_read(exec, WEIGHT, RG_ARENA_MOMENT1, back);
    assert_memory_equal(back, weight, sizeof back);
    rg_params_read(exec, BIAS, RG_ARENA_MOMENT1, back);
    assert_memory_equal(back, bias, sizeof bias_f32);
}

static void test_a_checkpoint_brings_back_what_the_optimiser_keeps(void **state) {
    (void)state;
    float moment[2][WEIGHTS], params[WEIGHTS], back[WEIGHTS];
    const float zeros[WEIGHTS] = {0};
    rg_trained done = {0};
    rg_safetensors file;
    save_checkpoint(moment);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, params);
    assert_int_equal(rg_safetensors_read(&ctx, path, &file), RG_OK);
    assert_int_equal(file.count, ROWS + 8); /* two moments, four counts, two numbers */
    const rg_tensor_entry *entry = rg_safetensors_find(&file, "optim.moment1.conv.weight");
    assert_true(entry && entry->rank == 4 && entry->shape[1] == C && entry->shape[3] == S);
    rg_params_init(exec, 6);
    rg_params_write(exec, WEIGHT, RG_ARENA_MOMENT1, zeros);
    rg_params_write(exec, BIAS, RG_ARENA_MOMENT1, zeros);
    *number(0) = *number(1) = 0;
    assert_int_equal(rg_params_load(&ctx, exec, path, &done), RG_OK);
    assert_true(done.steps == 9 && done.optim_steps == 4);
    assert_true(done.batch == 24 && done.seed == UINT64_MAX);
    assert_moments(moment[0], moment[1]);
    assert_true(*number(0) == 512 && *number(1) == 37);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, back);
    assert_memory_equal(back, params, sizeof params);
}

static void test_pytorchs_file_holds_nothing_of_the_optimiser(void **state) {
    (void)state;
    float moment[2][WEIGHTS];
    rg_trained done = {0};
    rg_safetensors file;
    save_checkpoint(moment);
    assert_int_equal(rg_params_save(&ctx, exec, path, 9), RG_OK);
    assert_int_equal(rg_safetensors_read(&ctx, path, &file), RG_OK);
    assert_int_equal(file.count, ROWS);
    assert_int_equal(rg_params_load(&ctx, exec, path, &done), RG_OK);
    assert_true(done.steps == 9 && done.optim_steps == 0);
}

static void test_a_checkpoint_of_another_optimiser_or_precision_is_read(void **state) {
    (void)state;
    float moment[2][WEIGHTS];
    const float zeros[WEIGHTS] = {0};
    rg_trained done = {0};
    save_checkpoint(moment);
    tp.plan.scaling = (rg_plan_scaling){UINT32_MAX, UINT32_MAX};
    *number(0) = 2;
    assert_int_equal(rg_params_load(&ctx, exec, path, &done), RG_OK);
    assert_true(*number(0) == 2 && done.optim_steps == 4);
    assert_true(!done.unused[0] && !done.unused[1]);
    tp.plan.program[RG_PP_UPDATE].op_count = 0; /* evaluation alone */
    rg_params_write(exec, WEIGHT, RG_ARENA_MOMENT1, zeros);
    rg_params_write(exec, BIAS, RG_ARENA_MOMENT1, zeros);
    assert_int_equal(rg_params_load(&ctx, exec, path, &done), RG_OK);
    assert_moments(zeros, zeros);
    assert_true(done.steps == 9);
    assert_true(done.unused[0] && !done.unused[1]);
}

static void refuse(rg_safetensors *file, const char *text) {
    const float zeros[WEIGHTS] = {0};
    rg_params_write(exec, WEIGHT, RG_ARENA_MOMENT1, zeros);
    rg_params_write(exec, BIAS, RG_ARENA_MOMENT1, zeros);
    assert_int_equal(load(file, NULL), RG_E_FORMAT);
    assert_true(has_error(text));
    assert_moments(zeros, zeros);
}

static void test_mistakes_in_the_optimisers_part_are_told(void **state) {
    (void)state;
    static const float wrong[] = {-1, 0.5f, 0x1p25f, INFINITY};
    static const char *const told[] = {"-1, expected 0 or 1 to 16777216", "0.5, expected 0",
                                       "3.35544e+07, expected 0", "inf, expected 0"};
    float moment[2][WEIGHTS];
    rg_safetensors file;
    save_checkpoint(moment);
    assert_int_equal(rg_safetensors_read(&ctx, path, &file), RG_OK);
    for (uint32_t i = 0; i < file.count; i++) {
        rg_tensor_entry *entry = &file.entry[i], good = *entry;
        bool scale = strcmp(entry->name, "optim.loss_scale") == 0;
        for (int w = 0; scale && w < 4; w++) {
            entry->data = (const uint8_t *)&wrong[w];
            refuse(&file, told[w]);
        }
        bool bias = strcmp(entry->name, "optim.moment1.conv.bias") == 0;
        if (bias) entry->name = "optim.moment3.conv.bias";
        if (bias) refuse(&file, "tensor 'optim.moment1.conv.bias' is missing");
        if (bias) assert_true(has_error("tensor 'optim.moment3.conv.bias' is none of"));
        bool optim = strcmp(entry->name, "optim.step") == 0;
        if (optim || strcmp(entry->name, "train.step") == 0) {
            entry->dtype = "F64";
            refuse(&file, optim ? "tensor 'optim.step' is F64 [], the network wants I64 []"
                                : "tensor 'train.step' is F64 [], the network wants I64 []");
        }
        *entry = good;
    }
    assert_int_equal(ctx.count, 8);
}

static void test_every_failed_allocation_leaves_the_parameters_alone(void **state) {
    (void)state;
    rg_tensor_entry entry[ROWS + 1];
    rg_safetensors file = whole_file(entry);
    float before[WEIGHTS], after[WEIGHTS];
    rg_params_init(exec, 1);
    rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, before);
    assert_int_equal(rg_safetensors_write(&ctx, path, &file), RG_OK);
    rg_status status = RG_E_NOMEM;
    long n = 0;
    for (;;) {
        rg_arena_fail_after(++n);
        status = rg_params_load(&ctx, exec, path, NULL);
        rg_arena_fail_after(0);
        if (status == RG_OK) break;
        assert_int_equal(status, RG_E_NOMEM);
        rg_params_read(exec, WEIGHT, RG_ARENA_PARAM, after);
        assert_memory_equal(before, after, sizeof before);
    }
    assert_in_range(n, 8, 30);
    assert_loaded();
}

#define RG_CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        RG_CASE(test_weights_lie_as_the_layout_says_and_come_back),
        RG_CASE(test_vectors_lie_in_order_and_surplus_lanes_are_zeros),
        RG_CASE(test_gradients_and_moments_share_the_parameters_offsets),
        RG_CASE(test_what_a_plan_has_not_got_reads_as_zeros),
        RG_CASE(test_initial_values_are_the_documented_draws),
        RG_CASE(test_initial_values_depend_on_the_seed_alone),
        RG_CASE(test_a_file_is_loaded_by_name),
        RG_CASE(test_doubles_are_rounded_to_nearest),
        RG_CASE(test_counters_may_be_absent),
        RG_CASE(test_every_mistake_of_a_file_is_told_and_nothing_changes),
        RG_CASE(test_a_wrong_dtype_is_refused),
        RG_CASE(test_the_list_of_mistakes_stays_readable),
        RG_CASE(test_a_huge_file_is_refused_before_it_is_read),
        RG_CASE(test_what_is_saved_is_loaded_to_the_bit),
        RG_CASE(test_a_checkpoint_brings_back_what_the_optimiser_keeps),
        RG_CASE(test_pytorchs_file_holds_nothing_of_the_optimiser),
        RG_CASE(test_a_checkpoint_of_another_optimiser_or_precision_is_read),
        RG_CASE(test_mistakes_in_the_optimisers_part_are_told),
        RG_CASE(test_every_failed_allocation_leaves_the_parameters_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
