/* The reference network against PyTorch in double, on made-up weights and small batches: fixtures
 * hold logits and loss, and of every other tensor its norm and four products. */
#include "golden.h"

#define SPEC RG_SOURCE_DIR "/specs/resnet18_cifar.lua"

static void expect(const rg_safetensors *file, const char *key, const char *name, const double *got,
                   int64_t count, double bound) {
    const double *want = golden_f64(file, key, name, count);
    double off = parity_largest_difference(got, want, count);
    if (!(off <= bound)) fail_msg("%s%s: off by %.3e, bound %.1e", key, name, off, bound);
}

/* Norm and products, relative to the norm where that is above 1. */
static void expect_summary(const parity *net, const rg_safetensors *file, const char *key,
                           int32_t row, const double *value, double bound) {
    const rg_param *param = &net->job.spec->graph->param[row];
    int64_t count = parity_elements(net, row);
    double *torch = parity_alloc((size_t)count, sizeof *torch), got[5];
    parity_to_torch(param, value, torch);
    golden_summary(param->name, torch, (size_t)count, got);
    free(torch);
    double norm = golden_f64(file, key, param->name, 5)[0];
    expect(file, key, param->name, got, 5, bound * fmax(1.0, norm));
}

static void open_net(parity *net, rg_safetensors *file) {
    parity_open(net, SPEC, 3); /* at most 3 images */
    golden_open(net, GOLDEN_FOLDER "notebook.safetensors", file);
    parity_params_by_formula(net, "");
}

static void check_training(int32_t count, bool decomposed) {
    parity net;
    rg_safetensors file;
    char key[64];
    open_net(&net, &file);
    const rg_graph *graph =
        decomposed ? net.job.planned.program[RG_PP_GRAD].graph : net.job.train_graph;
    parity_batch batch = golden_batch(&net, count, "");
    rg_interp *interp = parity_interpret(&net, graph, &batch);
    snprintf(key, sizeof key, "batch%d/", count);
    expect(&file, key, "logits", parity_result(interp, graph, RG_O_LOGITS, -1), 10 * count, 1e-9);
    expect(&file, key, "loss", parity_result(interp, graph, RG_O_LOSS, -1), 1, 1e-9);
    for (int32_t row = 0; row < graph->param_count; row++) {
        bool trained = graph->param[row].trained;
        const double *value = parity_result(interp, graph, trained ? RG_O_GRAD : RG_O_STATE, row);
        assert_non_null(value);
        snprintf(key, sizeof key, "batch%d/%s/", count, trained ? "grad" : "state");
        expect_summary(&net, &file, key, row, value, 1e-9);
    }
    rg_interp_free(interp);
    golden_batch_free(&batch);
    parity_close(&net);
}

static void test_formula_makes_the_parameters_of_the_fixture(void **state) {
    (void)state;
    parity net;
    rg_safetensors file;
    open_net(&net, &file);
    for (int32_t row = 0; row < net.job.spec->graph->param_count; row++)
        expect_summary(&net, &file, "init/", row, net.param[row], 1e-12);
    parity_close(&net);
}

static void test_interpreter_trains_a_batch_of_two_as_pytorch_does(void **state) {
    (void)state;
    check_training(2, false);
}

static void test_interpreter_trains_a_batch_of_three_as_pytorch_does(void **state) {
    (void)state;
    check_training(3, false);
}

static void test_decomposed_graph_trains_a_batch_of_two_as_pytorch_does(void **state) {
    (void)state;
    check_training(2, true);
}

static void test_evaluation_has_the_numbers_of_pytorch(void **state) {
    (void)state;
    parity net;
    rg_safetensors file;
    open_net(&net, &file);
    parity_batch batch = golden_batch(&net, 2, "");
    const rg_graph *graphs[2] = {net.job.eval_graph, net.job.planned.program[RG_PP_EVAL].graph};
    for (int i = 0; i < 2; i++) {
        rg_interp *interp = parity_interpret(&net, graphs[i], &batch);
        const double *logits = parity_result(interp, graphs[i], RG_O_LOGITS, -1);
        expect(&file, "batch2/eval/", "loss", parity_result(interp, graphs[i], RG_O_LOSS, -1), 1,
               1e-9);
        if (logits) expect(&file, "batch2/eval/", "logits", logits, 20, 1e-9);
        rg_interp_free(interp);
    }
    golden_batch_free(&batch);
    parity_close(&net);
}

/* Gradients are left out: masks flip at this depth, in PyTorch's float as well. */
static void test_kernels_have_the_loss_and_statistics_of_pytorch(void **state) {
    (void)state;
    parity net;
    rg_safetensors file;
    open_net(&net, &file);
    parity_batch batch = golden_batch(&net, 3, "");
    parity_build(&net, 2);
    parity_load(&net);
    parity_run(&net, RG_PP_GRAD, &batch, 1);
    double loss = (double)parity_loss(&net), logits[30];
    expect(&file, "batch3/", "loss", &loss, 1, 1e-4);
    for (int32_t row = 0; row < net.job.spec->graph->param_count; row++) {
        if (net.job.spec->graph->param[row].trained) continue;
        double *value = parity_alloc((size_t)parity_elements(&net, row), sizeof *value);
        parity_read(&net, row, RG_ARENA_STATE, value);
        expect_summary(&net, &file, "batch3/state/", row, value, 1e-4);
        free(value);
    }
    parity_load(&net);
    parity_run(&net, RG_PP_EVAL, &batch, 1);
    loss = (double)parity_loss(&net);
    expect(&file, "batch3/eval/", "loss", &loss, 1, 1e-4);
    parity_run(&net, RG_PP_PREDICT, &batch, 1);
    parity_logits(&net, 3, logits);
    expect(&file, "batch3/eval/", "logits", logits, 30, 1e-4);
    golden_batch_free(&batch);
    parity_close(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula_makes_the_parameters_of_the_fixture),
        cmocka_unit_test(test_interpreter_trains_a_batch_of_two_as_pytorch_does),
        cmocka_unit_test(test_interpreter_trains_a_batch_of_three_as_pytorch_does),
        cmocka_unit_test(test_decomposed_graph_trains_a_batch_of_two_as_pytorch_does),
        cmocka_unit_test(test_evaluation_has_the_numbers_of_pytorch),
        cmocka_unit_test(test_kernels_have_the_loss_and_statistics_of_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
