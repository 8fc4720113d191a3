/* The same bits for the same input: run after run, for any number of threads, in the generated
 * text; and what must hold for networks unlike a ResNet. */
#include <math.h>
#include <string.h>

#include "golden.h"

#define TINY     RG_SOURCE_DIR "/specs/tiny/tiny_residual.lua"
#define BRANCHES RG_SOURCE_DIR "/specs/tiny/branches.lua"

static const rg_plan_arena trained_arenas[] = {RG_ARENA_PARAM, RG_ARENA_STATE, RG_ARENA_GRAD,
                                               RG_ARENA_MOMENT1, RG_ARENA_MOMENT2};

/* ---- the same bits ---- */

/* Hash of everything that a training leaves: parameters, statistics, gradients, moments, losses. */
static rg_hash train_hash(parity *net, int threads, int steps) {
    rg_text bytes = {0};
    const rg_plan *plan = &net->job.planned.plan;
    parity_threads(net, threads);
    parity_load(net);
    for (int step = 1; step <= steps; step++) {
        int32_t count = step == steps && net->job.spec->batch > 1 ? net->job.spec->batch - 1
                                                                  : net->job.spec->batch;
        char prefix[32];
        snprintf(prefix, sizeof prefix, "step %d:", step);
        parity_batch batch = golden_batch(net, count, prefix);
        parity_run(net, RG_PP_GRAD, &batch, (uint64_t)step);
        float loss = parity_loss(net);
        assert_true(isfinite(loss));
        rg_text_add_bytes(&bytes, &loss, sizeof loss);
        rg_ctrl ctrl = rg_exec_ctrl(plan, count, (uint64_t)step, plan->data.lr);
        assert_int_equal(rg_exec_run(&net->ctx, net->exec, RG_PP_UPDATE, &ctrl), RG_OK);
        golden_batch_free(&batch);
    }
    for (uint32_t i = 0; i < plan->buffer_count; i++)
        for (size_t a = 0; a < sizeof trained_arenas / sizeof *trained_arenas; a++)
            if (plan->buffer[i].arena == (uint32_t)trained_arenas[a])
                rg_text_add_bytes(&bytes, rg_exec_buffer(net->exec, i),
                                  (size_t)plan->buffer[i].bytes);
    assert_false(bytes.failed);
    assert_true(bytes.length > 0);
    rg_hash hash = rg_hash_bytes(bytes.data, bytes.length);
    rg_text_free(&bytes);
    return hash;
}

static bool same_hash(rg_hash a, rg_hash b) {
    return a.high == b.high && a.low == b.low;
}

static void check_bits(const char *spec, uint32_t batch) {
    parity net;
    parity_open(&net, spec, batch);
    parity_params_by_formula(&net, "");
    parity_build(&net, 1);
    rg_hash first = train_hash(&net, 1, 4);
    for (int threads = 1; threads <= 3; threads++)
        for (int run = 0; run < 2; run++)
            if (!same_hash(first, train_hash(&net, threads, 4)))
                fail_msg("%s, batch %u: other bits with %d threads", spec, batch, threads);
    parity_close(&net);
}

static void test_training_gives_the_same_bits_for_any_number_of_threads(void **state) {
    (void)state;
    check_bits(TINY, 0);
    check_bits(TINY, 40); /* several blocks of images, the last one partial */
    check_bits(BRANCHES, 0);
    check_bits(BRANCHES, 33);
}

/* Logits of the first images do not depend on who else is in the batch. */
static void test_partial_batch_evaluates_as_the_full_one_does(void **state) {
    (void)state;
    parity net;
    parity_open(&net, TINY, 40);
    parity_params_by_formula(&net, "");
    parity_build(&net, 2);
    parity_load(&net);
    double all[80], part[80];
    for (int32_t count = 1; count <= 8; count++) {
        parity_batch batch = golden_batch(&net, 8, "");
        parity_run(&net, RG_PP_PREDICT, &batch, 1);
        parity_logits(&net, 8, all);
        batch.count = count;
        parity_run(&net, RG_PP_PREDICT, &batch, 1);
        parity_logits(&net, count, part);
        assert_memory_equal(all, part, (size_t)count * 10 * sizeof *all);
        rg_interp *interp = parity_interpret(&net, net.job.eval_graph, &batch);
        parity_run(&net, RG_PP_EVAL, &batch, 1);
        double want = parity_result(interp, net.job.eval_graph, RG_O_LOSS, -1)[0];
        if (!(fabs((double)parity_loss(&net) - want) <= 1e-5 * want))
            fail_msg("%d images: loss %.9g, not %.9g", count, (double)parity_loss(&net), want);
        rg_interp_free(interp);
        golden_batch_free(&batch);
    }
    parity_close(&net);
}

/* ---- the same text ---- */

static void collect_sources(const char *spec, const char *isa, rg_text *text) {
    parity net;
    rg_emitted made;
    const parity_options options = {.isa = isa};
    assert_int_equal(parity_try_open(&net, spec, &options), RG_OK);
    for (int32_t i = 0; i < net.job.planned.launch_count; i++) {
        assert_int_equal(
            rg_emit_kernel(&net.ctx, net.job.tpl, &net.job.planned.launch[i].desc, &made), RG_OK);
        rg_text_add(text, "%s %s\n%s\n", made.symbol, made.key, made.source);
    }
    assert_false(text->failed);
    parity_close(&net);
}

static void check_text(const char *spec, const char *isa) {
    rg_text first = {0}, second = {0};
    collect_sources(spec, isa, &first);
    collect_sources(spec, isa, &second);
    assert_true(first.length > 10000);
    assert_string_equal(first.data, second.data);
    assert_null(strstr(first.data, RG_SOURCE_DIR)); /* no path of a machine */
    rg_text_free(&first);
    rg_text_free(&second);
}

static void test_two_compilations_emit_the_same_text(void **state) {
    (void)state;
    check_text(TINY, "avx2");
    check_text(TINY, "avx512");
    check_text(BRANCHES, "avx512");
}

/* ---- statistics of a channel far from zero ---- */

/* Layers that hand on values of mean 1000 and deviation 0.1 as they are, so that the moments are
 * taken in each kind of kernel; then BN, whose results the logits show one by one. */
typedef struct far_case {
    const char *layers;
    double image_mean, bias; /* one of the two is 1000 */
} far_case;

static const far_case far_cases[] = {
    {"x", 1000, 0},
    {"x:conv('first', {out = 5, kernel = 1, bias = false})", 1000, 0},
    {"x:conv('first', {out = 5, kernel = 1})", 0, 1000},
    {"x:conv('first', {out = 18, kernel = 3, pad = 1})", 0, 1000},
    {"x:maxpool {kernel = 1}", 1000, 0},
    {"x:avgpool {kernel = 1}", 1000, 0},
    {"x:conv('first', {out = 5, kernel = 1}) + x:conv('second', {out = 5, kernel = 1, bias = "
     "false})",
     0, 1000},
};

static void write_far_spec(const far_case *c, const char *path) {
    char text[1024];
    int length =
        snprintf(text, sizeof text,
                 "data {dataset = 'synthetic', height = 4, width = 5, channels = 3, classes = 10}\n"
                 "train {batch = 20, optimizer = 'sgd', lr = 0.1}\n"
                 "function network(x)\n"
                 "    x = %s\n"
                 "    return x:bn('bn'):flatten():linear('last', {out = 10})\n"
                 "end\n",
                 c->layers);
    rg_ctx ctx;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_file_write(&ctx, path, text, (size_t)length), RG_OK);
    rg_ctx_free(&ctx);
}

static void set_param(parity *net, const char *name, double value) {
    int32_t row = parity_find(net, name);
    if (row < 0) return;
    for (int64_t i = 0; i < parity_elements(net, row); i++) net->param[row][i] = value;
}

/* Output k of a convolution is channel k % 3 at the window's middle, output k of the head its (7k +
 * 3)-th input. */
static void set_far_params(parity *net, const far_case *c) {
    const rg_graph *table = net->job.spec->graph;
    set_param(net, "first.bias", c->bias);
    set_param(net, "second.weight", 0);
    set_param(net, "last.bias", 0);
    set_param(net, "last.weight", 0);
    set_param(net, "bn.weight", 1);
    set_param(net, "bn.bias", 0);
    int32_t first = parity_find(net, "first.weight"), last = parity_find(net, "last.weight");
    set_param(net, "first.weight", 0);
    for (int32_t k = 0; first >= 0 && k < table->param[first].type.dim[0]; k++) {
        const int32_t *d = table->param[first].type.dim;
        net->param[first][((k * d[1] + d[1] / 2) * d[2] + d[2] / 2) * d[3] + k % 3] = 1;
    }
    int64_t inputs = parity_elements(net, last) / 10;
    for (int64_t k = 0; k < 10; k++) net->param[last][k * inputs + (7 * k + 3) % inputs] = 1;
}

/* A uniform number of deviation 0.1 about the mean, as float. */
static parity_batch far_batch(const parity *net, double mean) {
    parity_batch batch = golden_batch(net, 20, "");
    double *image = (double *)(uintptr_t)batch.image;
    for (int64_t i = 0; i < 20 * 4 * 5 * 3; i++)
        image[i] = (double)(float)(mean + sqrt(3.0) * 0.1 * image[i]);
    return batch;
}

/* All logits within `bound` of the truth, in deviations. */
static void expect_logits(parity *net, const rg_graph *graph, rg_plan_program_id program,
                          const parity_batch *batch, double bound, const char *what) {
    double logits[200];
    rg_interp *interp = parity_interpret(net, graph, batch);
    parity_load(net);
    parity_run(net, program, batch, 1);
    parity_logits(net, 20, logits);
    double off =
        parity_largest_difference(logits, parity_result(interp, graph, RG_O_LOGITS, -1), 200);
    if (!(off <= bound)) fail_msg("%s: %.2e deviations off, bound %.0e", what, off, bound);
    rg_interp_free(interp);
}

/* Running statistics after the first step from zero: a tenth of mean and variance. */
static void expect_statistics(parity *net, const parity_batch *batch, const char *what) {
    const rg_graph *graph = net->job.train_graph;
    rg_interp *interp = parity_interpret(net, graph, batch);
    int32_t mean = parity_find(net, "bn.running_mean"), var = parity_find(net, "bn.running_var");
    for (int64_t k = 0; k < parity_elements(net, mean); k++) {
        double value[64], want_mean = parity_result(interp, graph, RG_O_STATE, mean)[k];
        double want_var = parity_result(interp, graph, RG_O_STATE, var)[k];
        assert_true(fabs(want_mean - 100) < 0.01 &&
                    fabs(want_var - 1e-3) < 1e-4); /* the case is what it says */
        parity_read(net, mean, RG_ARENA_STATE, value);
        if (!(fabs(value[k] - want_mean) <= 0.1 * 0.1 * 1e-3))
            fail_msg("%s: mean %.9g, not %.9g", what, value[k], want_mean);
        parity_read(net, var, RG_ARENA_STATE, value);
        if (!(fabs(value[k] - want_var) <= 2e-3 * want_var))
            fail_msg("%s: variance %.9g, not %.9g", what, value[k], want_var);
    }
    rg_interp_free(interp);
}

static void check_far(const far_case *c) {
    parity net;
    char path[300];
    snprintf(path, sizeof path, "%s/far_from_zero.lua", RG_BINARY_DIR);
    write_far_spec(c, path);
    parity_open(&net, path, 0);
    parity_build(&net, 2);
    set_far_params(&net, c);
    parity_batch batch = far_batch(&net, c->image_mean);
    expect_logits(&net, net.job.train_graph, RG_PP_GRAD, &batch, 1e-3, c->layers);
    expect_statistics(&net, &batch, c->layers);
    set_param(&net, "bn.running_mean", 1000);
    set_param(&net, "bn.running_var", 0.01);
    /* The mean is a float here: x - mean is exact, where scale*x + shift would be 2e-4 off. A bias
     * rounds x itself by 3e-4. */
    expect_logits(&net, net.job.eval_graph, RG_PP_PREDICT, &batch, c->bias == 0 ? 1e-6 : 1e-3,
                  c->layers);
    golden_batch_free(&batch);
    parity_close(&net);
}

static void
test_channel_of_mean_1000_and_deviation_a_tenth_is_normalised_at_the_first_step(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof far_cases / sizeof *far_cases; i++) check_far(&far_cases[i]);
}

/* ---- a network unlike a ResNet trains ---- */

/* One step of the interpreter, on the weights in `net`. Returns its loss. */
static double reference_step(parity *net, const parity_batch *batch, uint64_t step,
                             double **moment) {
    const rg_graph *graph = net->job.train_graph;
    rg_interp *interp = parity_interpret(net, graph, batch);
    double loss = parity_result(interp, graph, RG_O_LOSS, -1)[0];
    for (int32_t row = 0; row < graph->param_count; row++) {
        bool trained = graph->param[row].trained;
        const double *value = parity_result(interp, graph, trained ? RG_O_GRAD : RG_O_STATE, row);
        int64_t count = parity_elements(net, row);
        double *const moments[2] = {moment[row], NULL};
        if (!trained)
            memcpy(net->param[row], value, (size_t)count * sizeof *value);
        else
            assert_int_equal(rg_optim_step(&net->ctx, &net->job.spec->optim, step, net->param[row],
                                           value, moments, count),
                             RG_OK);
    }
    rg_interp_free(interp);
    return loss;
}

/* Steps of both sides, each on its own weights; the losses must stay together. */
static void check_losses(const char *spec, uint32_t batch_size) {
    parity net;
    parity_open(&net, spec, batch_size);
    parity_params_by_formula(&net, "");
    parity_build(&net, 2);
    parity_load(&net);
    int32_t rows = net.job.train_graph->param_count;
    double **moment = parity_alloc((size_t)rows, sizeof *moment);
    for (int32_t row = 0; row < rows; row++)
        moment[row] = parity_alloc((size_t)parity_elements(&net, row), sizeof(double));
    parity_batch batch = golden_batch(&net, (int32_t)batch_size, "same:");
    for (uint64_t step = 1; step <= 6; step++) {
        double want = reference_step(&net, &batch, step, moment);
        parity_run(&net, RG_PP_GRAD, &batch, step);
        double got = (double)parity_loss(&net);
        if (!(fabs(got - want) <= 1e-4 * (1 + want)))
            fail_msg("batch %u, step %d: loss %.9g, not %.9g", batch_size, (int)step, got, want);
        rg_ctrl ctrl =
            rg_exec_ctrl(&net.job.planned.plan, batch.count, step, net.job.spec->optim.lr);
        assert_int_equal(rg_exec_run(&net.ctx, net.exec, RG_PP_UPDATE, &ctrl), RG_OK);
    }
    golden_batch_free(&batch);
    for (int32_t row = 0; row < rows; row++) free(moment[row]);
    free(moment);
    parity_close(&net);
}

static void test_branches_train_with_the_losses_of_the_interpreter(void **state) {
    (void)state;
    check_losses(BRANCHES, 1);
    check_losses(BRANCHES, 3);
    check_losses(BRANCHES, 5);
}

static void test_sum_that_repeats_a_value_is_not_taken_for_a_shared_accumulator(void **state) {
    (void)state;
    check_losses(RG_SOURCE_DIR "/specs/tiny/broadcast_sum.lua", 3);
}

static void test_values_that_share_their_parts_compile_and_train(void **state) {
    (void)state;
    check_losses(RG_SOURCE_DIR "/specs/tiny/shared_parts.lua", 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_gives_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(test_partial_batch_evaluates_as_the_full_one_does),
        cmocka_unit_test(test_two_compilations_emit_the_same_text),
        cmocka_unit_test(
            test_channel_of_mean_1000_and_deviation_a_tenth_is_normalised_at_the_first_step),
        cmocka_unit_test(test_branches_train_with_the_losses_of_the_interpreter),
        cmocka_unit_test(test_sum_that_repeats_a_value_is_not_taken_for_a_shared_accumulator),
        cmocka_unit_test(test_values_that_share_their_parts_compile_and_train),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
