/* The tiny residual network against PyTorch's numbers in double: the interpreter on the graph as
 * the spec gives it and after the passes, the optimiser, and the kernels in float. */
#include "golden.h"

#define SPEC RG_SOURCE_DIR "/specs/tiny/tiny_residual.lua"

/* Double against double: sums of some thousand products of size 1 in another order. */
static const double exact = 1e-9;
/* Float against double; the smooth fixture keeps 1e-4 from every kink, and PyTorch's own float is
 * within 1e-5 there. */
static const double single = 1e-4;

typedef struct golden {
    parity net;
    rg_safetensors file;
    parity_batch batch;
} golden;

static void open_golden(golden *g, const char *name, const char *prefix) {
    parity_open(&g->net, SPEC, 0);
    golden_open(&g->net, name, &g->file);
    parity_params_by_formula(&g->net, prefix);
    g->batch = golden_batch(&g->net, 4, prefix);
}

static void close_golden(golden *g) {
    golden_batch_free(&g->batch);
    parity_close(&g->net);
}

static void expect(const golden *g, const char *prefix, const char *name, const double *got,
                   int64_t count, double bound) {
    const double *want = golden_f64(&g->file, prefix, name, count);
    double difference = parity_largest_difference(got, want, count);
    if (!(difference <= bound))
        fail_msg("%s%s: off by %.3e, bound %.1e", prefix, name, difference, bound);
}

/* A parameter's tensor against PyTorch's: the largest difference, or relative in L2. */
static void expect_param(const golden *g, const char *prefix, int32_t row, const double *value,
                         double bound, bool relative) {
    const rg_param *param = &g->net.job.spec->graph->param[row];
    int64_t count = parity_elements(&g->net, row);
    double *got = parity_alloc((size_t)count, sizeof *got);
    parity_to_torch(param, value, got);
    if (!relative) {
        expect(g, prefix, param->name, got, count, bound);
    } else {
        const double *want = golden_f64(&g->file, prefix, param->name, count);
        double off = parity_distance(got, want, count) / parity_norm(want, count);
        if (!(off <= bound))
            fail_msg("%s%s: %.3e off in L2, bound %.1e", prefix, param->name, off, bound);
    }
    free(got);
}

static void test_formula_makes_the_batch_of_the_fixture(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny.safetensors", "");
    const double *image = golden_f64(&g.file, "", "image", 4 * 3 * 16 * 16);
    for (int n = 0; n < 4; n++)
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 256; i++)
                assert_true(image[(n * 3 + c) * 256 + i] == g.batch.image[(n * 256 + i) * 3 + c]);
    const rg_tensor_entry *label = rg_safetensors_find(&g.file, "label");
    assert_non_null(label);
    for (int n = 0; n < 4; n++) {
        int64_t value;
        memcpy(&value, label->data + 8 * n, sizeof value);
        assert_true((double)value == g.batch.label[n]);
    }
    close_golden(&g);
}

/* Logits, loss, every gradient, every statistic. */
static void check_training(golden *g, const rg_graph *graph) {
    const rg_graph *table = g->net.job.spec->graph;
    rg_interp *interp = parity_interpret(&g->net, graph, &g->batch);
    expect(g, "", "logits", parity_result(interp, graph, RG_O_LOGITS, -1), 40, exact);
    expect(g, "", "loss", parity_result(interp, graph, RG_O_LOSS, -1), 1, exact);
    for (int32_t row = 0; row < table->param_count; row++) {
        bool trained = table->param[row].trained;
        const double *value = parity_result(interp, graph, trained ? RG_O_GRAD : RG_O_STATE, row);
        assert_non_null(value);
        expect_param(g, trained ? "grad/" : "state/", row, value, exact, false);
    }
    rg_interp_free(interp);
}

static void test_interpreter_has_the_numbers_of_pytorch(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny.safetensors", "");
    check_training(&g, g.net.job.train_graph);
    close_golden(&g);
}

static void test_decomposed_graph_has_the_same_numbers(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny.safetensors", "");
    check_training(&g, g.net.job.planned.program[RG_PP_GRAD].graph);
    close_golden(&g);
}

static void check_evaluation(golden *g, const rg_graph *graph) {
    rg_interp *interp = parity_interpret(&g->net, graph, &g->batch);
    const double *loss = parity_result(interp, graph, RG_O_LOSS, -1);
    const double *logits = parity_result(interp, graph, RG_O_LOGITS, -1);
    if (loss) expect(g, "eval/", "loss", loss, 1, exact);
    if (logits) expect(g, "eval/", "logits", logits, 40, exact);
    assert_true(loss || logits);
    rg_interp_free(interp);
}

static void test_evaluation_has_the_numbers_of_pytorch(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny.safetensors", "");
    check_evaluation(&g, g.net.job.eval_graph);
    check_evaluation(&g, g.net.job.planned.program[RG_PP_EVAL].graph); /* folded */
    check_evaluation(&g, g.net.job.planned.program[RG_PP_PREDICT].graph);
    close_golden(&g);
}

/* One step of the reference: gradients by the interpreter, the update in double. */
static double adam_step(golden *g, uint64_t step, double **moment[2]) {
    parity *net = &g->net;
    const rg_graph *graph = net->job.train_graph;
    rg_interp *interp = parity_interpret(net, graph, &g->batch);
    double loss = parity_result(interp, graph, RG_O_LOSS, -1)[0];
    for (int32_t row = 0; row < graph->param_count; row++) {
        bool trained = graph->param[row].trained;
        const double *value = parity_result(interp, graph, trained ? RG_O_GRAD : RG_O_STATE, row);
        int64_t count = parity_elements(net, row);
        double *const moments[2] = {moment[0][row], moment[1][row]};
        if (trained)
            assert_int_equal(rg_optim_step(&net->ctx, &net->job.spec->optim, step, net->param[row],
                                           value, moments, count),
                             RG_OK);
        else
            memcpy(net->param[row], value, (size_t)count * sizeof *value);
    }
    rg_interp_free(interp);
    return loss;
}

static void test_ten_steps_of_adam_end_where_pytorch_does(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny.safetensors", "");
    const rg_graph *table = g.net.job.spec->graph;
    double **moment[2], losses[10];
    for (int m = 0; m < 2; m++) {
        moment[m] = parity_alloc((size_t)table->param_count, sizeof *moment[m]);
        for (int32_t row = 0; row < table->param_count; row++)
            moment[m][row] = parity_alloc((size_t)parity_elements(&g.net, row), sizeof(double));
    }
    for (uint64_t step = 1; step <= 10; step++) losses[step - 1] = adam_step(&g, step, moment);
    expect(&g, "adam10/", "losses", losses, 10, exact);
    for (int32_t row = 0; row < table->param_count; row++) {
        expect_param(&g, "adam10/", row, g.net.param[row], exact, false);
        for (int m = 0; m < 2; m++) free(moment[m][row]);
    }
    for (int m = 0; m < 2; m++) free(moment[m]);
    close_golden(&g);
}

static void check_kernels(golden *g) {
    const rg_graph *table = g->net.job.spec->graph;
    double logits[40], loss;
    parity_load(&g->net);
    parity_run(&g->net, RG_PP_GRAD, &g->batch, 1);
    loss = (double)parity_loss(&g->net);
    expect(g, "", "loss", &loss, 1, single);
    for (int32_t row = 0; row < table->param_count; row++) {
        bool trained = table->param[row].trained;
        double *value = parity_alloc((size_t)parity_elements(&g->net, row), sizeof *value);
        parity_read(&g->net, row, trained ? RG_ARENA_GRAD : RG_ARENA_STATE, value);
        expect_param(g, trained ? "grad/" : "state/", row, value, single, trained);
        free(value);
    }
    parity_load(&g->net); /* the initial statistics again */
    parity_run(&g->net, RG_PP_EVAL, &g->batch, 1);
    loss = (double)parity_loss(&g->net);
    expect(g, "eval/", "loss", &loss, 1, single);
    parity_run(&g->net, RG_PP_PREDICT, &g->batch, 1);
    parity_logits(&g->net, 4, logits);
    expect(g, "eval/", "logits", logits, 40, single);
}

static void test_kernels_have_the_numbers_of_pytorch(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny_smooth.safetensors", "");
    const char *prefix = NULL;
    for (uint32_t i = 0; i < g.file.meta_count; i++)
        if (strcmp(g.file.meta[i][0], "prefix") == 0) prefix = g.file.meta[i][1];
    assert_non_null(prefix);
    golden_batch_free(&g.batch);
    parity_params_by_formula(&g.net, prefix);
    g.batch = golden_batch(&g.net, 4, prefix);
    parity_build(&g.net, 2);
    check_kernels(&g);
    close_golden(&g);
}

/* The file that --init reads says the same as the formula. */
static void test_initial_files_hold_the_formula(void **state) {
    (void)state;
    golden g;
    open_golden(&g, GOLDEN_FOLDER "tiny_init.safetensors", "");
    const rg_graph *table = g.net.job.spec->graph;
    for (int32_t row = 0; row < table->param_count; row++) {
        const rg_tensor_entry *entry = rg_safetensors_find(&g.file, table->param[row].name);
        assert_non_null(entry);
        int64_t count = parity_elements(&g.net, row);
        for (int64_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, entry->data + 4 * i, sizeof value);
            assert_true((double)value == g.net.param[row][parity_reorder(&table->param[row], i)]);
        }
    }
    close_golden(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula_makes_the_batch_of_the_fixture),
        cmocka_unit_test(test_initial_files_hold_the_formula),
        cmocka_unit_test(test_interpreter_has_the_numbers_of_pytorch),
        cmocka_unit_test(test_decomposed_graph_has_the_same_numbers),
        cmocka_unit_test(test_evaluation_has_the_numbers_of_pytorch),
        cmocka_unit_test(test_ten_steps_of_adam_end_where_pytorch_does),
        cmocka_unit_test(test_kernels_have_the_numbers_of_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
