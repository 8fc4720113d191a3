/* Random small networks: the kernels in float against the graph's interpreter in double. The seed
 * and the spec are printed on failure; RG_SEED and RG_GRAPHS choose others. */
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "draw.h"
#include "golden.h"
#include "kinks.h"

/* A rounding is 6e-8, sums have up to some thousand terms in blocks, and BN over a handful of
 * values amplifies both by its condition: 2e-3 is above all of that and below what one wrong
 * element in a tensor of some thousand makes (1/sqrt(n), a percent and more). */
static const double gradient_bound = 2e-3;
/* Weights and images are drawn again until everything keeps this from the kinks, in units of its
 * tensor: ten to a hundred roundings. */
static const double kink_margin = 1e-5;
static const double loss_bound = 1e-4;
/* A bias in front of BN has gradient zero: what remains is rounding of the largest gradients. */
static const double zero_gradient = 2e-5;

typedef struct property {
    draw network;
    parity net;
    uint64_t seed;
    int trouble;
    double worst;
} property;

static char folder[256];

static uint64_t number_from(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : fallback;
}

static void complain(property *p, const char *what, const char *name, double off, double bound) {
    if (p->trouble++ == 0)
        print_error("seed %llu (RG_SEED=%llu RG_GRAPHS=1)%s, variant %s:\n%s",
                    (unsigned long long)p->seed, (unsigned long long)p->seed,
                    p->network.narrow ? ", avx2" : "",
                    p->network.variant ? p->network.variant : "by cost", p->network.text.data);
    print_error("    %s %s: off by %.3e, bound %.1e\n", what, name, off, bound);
}

static void expect(property *p, const char *what, const char *name, double off, double bound) {
    if (off / bound > p->worst) p->worst = off / bound;
    if (!(off <= bound)) complain(p, what, name, off, bound);
}

/* ---- one program against its interpreter ---- */

static void compare_loss(property *p, rg_interp *interp, const rg_graph *graph, const char *what) {
    double want = parity_result(interp, graph, RG_O_LOSS, -1)[0],
           got = (double)parity_loss(&p->net);
    expect(p, what, "loss", fabs(got - want), loss_bound * (1 + fabs(want)));
    float correct = rg_exec_buffer(p->net.exec, p->net.job.planned.plan.io.correct)[0];
    expect(p, what, "right answers",
           fabs((double)correct - parity_result(interp, graph, RG_O_CORRECT, -1)[0]), 0.5);
}

static double largest_gradient(const property *p, rg_interp *interp, const rg_graph *graph) {
    double most = 0;
    for (int32_t row = 0; row < graph->param_count; row++)
        if (graph->param[row].trained)
            most = fmax(most, parity_norm(parity_result(interp, graph, RG_O_GRAD, row),
                                          parity_elements(&p->net, row)));
    return most;
}

static void compare_tensors(property *p, rg_interp *interp, const rg_graph *graph,
                            const char *what) {
    double most = largest_gradient(p, interp, graph);
    for (int32_t row = 0; row < graph->param_count; row++) {
        bool trained = graph->param[row].trained;
        int64_t count = parity_elements(&p->net, row);
        const double *want = parity_result(interp, graph, trained ? RG_O_GRAD : RG_O_STATE, row);
        double *got = parity_alloc((size_t)count, sizeof *got), norm = parity_norm(want, count);
        parity_read(&p->net, row, trained ? RG_ARENA_GRAD : RG_ARENA_STATE, got);
        double bound =
            trained ? gradient_bound * norm + zero_gradient * most : loss_bound * (1 + norm);
        expect(p, what, graph->param[row].name, parity_distance(got, want, count), bound);
        free(got);
    }
}

static void check_training(property *p, const parity_batch *batch, const char *what) {
    const rg_graph *graph = p->net.job.train_graph;
    rg_interp *interp = parity_interpret(&p->net, graph, batch);
    parity_load(&p->net);
    parity_run(&p->net, RG_PP_GRAD, batch, 1);
    compare_loss(p, interp, graph, what);
    compare_tensors(p, interp, graph, what);
    rg_interp_free(interp);
}

static void check_evaluation(property *p, const parity_batch *batch) {
    const rg_graph *graph = p->net.job.eval_graph;
    int32_t classes = p->net.job.spec->classes;
    rg_interp *interp = parity_interpret(&p->net, graph, batch);
    parity_load(&p->net);
    parity_run(&p->net, RG_PP_EVAL, batch, 1);
    compare_loss(p, interp, graph, "evaluation");
    parity_run(&p->net, RG_PP_PREDICT, batch, 1);
    double *logits = parity_alloc((size_t)(batch->count * classes), sizeof *logits);
    parity_logits(&p->net, batch->count, logits);
    const double *want = parity_result(interp, graph, RG_O_LOGITS, -1);
    if (want)
        expect(p, "prediction", "logits", parity_distance(logits, want, batch->count * classes),
               loss_bound * (1 + parity_norm(want, batch->count * classes)));
    free(logits);
    rg_interp_free(interp);
}

/* The optimiser on the kernels' own gradients: a few roundings. */
static void check_update(property *p, const parity_batch *batch) {
    const rg_graph *table = p->net.job.spec->graph;
    parity_load(&p->net);
    parity_run(&p->net, RG_PP_GRAD, batch, 1);
    rg_ctrl ctrl =
        rg_exec_ctrl(&p->net.job.planned.plan, batch->count, 1, p->net.job.spec->optim.lr);
    assert_int_equal(rg_exec_run(&p->net.ctx, p->net.exec, RG_PP_UPDATE, &ctrl), RG_OK);
    for (int32_t row = 0; row < table->param_count; row++) {
        if (!table->param[row].trained) continue;
        int64_t count = parity_elements(&p->net, row);
        double *block = parity_alloc(5 * (size_t)count, sizeof *block), *grad = block,
               *want = block + count;
        double *const moment[2] = {block + 2 * count, block + 3 * count};
        parity_read(&p->net, row, RG_ARENA_GRAD, grad);
        memcpy(want, p->net.param[row], (size_t)count * sizeof *want);
        assert_int_equal(
            rg_optim_step(&p->net.ctx, &p->net.job.spec->optim, 1, want, grad, moment, count),
            RG_OK);
        parity_read(&p->net, row, RG_ARENA_PARAM, block + 4 * count);
        expect(p, "update", table->param[row].name,
               parity_largest_difference(block + 4 * count, want, count), 1e-6);
        free(block);
    }
}

/* ---- one network ---- */

/* Weights and images that keep from the kinks; the best of some draws where none does. */
static double draw_values(property *p, int32_t count, parity_batch *batch) {
    double best = -1;
    char prefix[64], chosen[64] = "";
    for (int i = 0; i < 12 && best < kink_margin; i++) {
        snprintf(prefix, sizeof prefix, "seed %llu draw %d:", (unsigned long long)p->seed, i);
        parity_params_by_formula(&p->net, prefix);
        *batch = golden_batch(&p->net, count, prefix);
        rg_interp *interp = parity_interpret(&p->net, p->net.job.train_graph, batch);
        double margin = parity_nearest_kink(interp, p->net.job.train_graph, count);
        rg_interp_free(interp);
        golden_batch_free(batch);
        if (margin <= best) continue;
        best = margin;
        memcpy(chosen, prefix, sizeof chosen);
    }
    parity_params_by_formula(&p->net, chosen);
    *batch = golden_batch(&p->net, count, chosen);
    return best;
}

static void check_batch(property *p, int32_t count, const char *what) {
    parity_batch batch;
    if (draw_values(p, count, &batch) >= kink_margin)
        check_training(p, &batch, what);
    else
        print_message("seed %llu, %s: no draw keeps from the kinks, gradients not compared\n",
                      (unsigned long long)p->seed, what);
    if (count == p->network.batch) check_update(p, &batch);
    golden_batch_free(&batch);
}

static void check_network(property *p) {
    p->net.cli.cache = folder;
    parity_build(&p->net, 2);
    check_batch(p, p->network.batch, "full batch");
    if (p->network.live < p->network.batch) check_batch(p, p->network.live, "partial batch");
    parity_batch batch = golden_batch(&p->net, p->network.eval_batch, "evaluation:");
    check_evaluation(p, &batch);
    if (batch.count > 1) {
        batch.count--;
        check_evaluation(p, &batch);
    }
    golden_batch_free(&batch);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Number of mistakes; a network that does not compile is one. */
static int run_seed(uint64_t seed, double *worst) {
    static property p;
    char path[300];
    p = (property){.seed = seed};
    draw_network(&p.network, seed);
    assert_false(p.network.text.failed);
    snprintf(path, sizeof path, "%s/network.lua", folder);
    write_text(path, p.network.text.data);
    const parity_options options = {.isa = p.network.narrow ? "avx2" : NULL,
                                    .variant = p.network.variant};
    if (parity_try_open(&p.net, path, &options) != RG_OK)
        complain(&p, "does not compile:", p.net.ctx.first ? p.net.ctx.first->text : "", NAN, 0);
    else
        check_network(&p);
    parity_close(&p.net);
    rg_text_free(&p.network.text);
    if (p.worst > *worst) *worst = p.worst;
    return p.trouble;
}

static void test_random_networks_agree_with_the_interpreter(void **state) {
    (void)state;
    uint64_t first = number_from("RG_SEED", 1), count = number_from("RG_GRAPHS", 25);
    int failed = 0;
    double worst = 0;
    for (uint64_t i = 0; i < count; i++) failed += run_seed(first + i, &worst) > 0;
    print_message("%llu networks, %d failed, the worst at %.0f %% of its bound\n",
                  (unsigned long long)count, failed, 100 * worst);
    assert_int_equal(failed, 0);
}

/* ---- the folder of kernels ---- */

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s/property.XXXXXX", RG_BINARY_DIR);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info, (void)type, (void)place;
    return remove(path);
}

static int remove_folder(void **state) {
    (void)state;
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_networks_agree_with_the_interpreter)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
