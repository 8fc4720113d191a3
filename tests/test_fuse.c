/* Contractions that ride: which may, what their kernel is, and when the plan has them. */
#include "spec_helpers.h"

#include "driver.h"
#include "rg_fuse.h"

/* ---- a training program before fuse ---- */

static rg_graph *run_pass(rg_status (*pass)(rg_ctx *, const rg_graph *, rg_graph **),
                          const rg_graph *in) {
    rg_graph *out = NULL;
    if (pass(&ctx, in, &out) != RG_OK) {
        print_diagnostics();
        fail_msg("a pass fails");
    }
    return out;
}

static rg_graph *program(const rg_spec *spec) {
    return run_pass(rg_pass_simplify,
                    run_pass(rg_pass_decompose, run_pass(rg_pass_grad, spec->graph)));
}

/* Of a network of one's own: its body is a function of x, [3,8,8]. */
static rg_graph *own_program(const char *body) {
    char text[1024];
    rg_spec *spec;
    snprintf(text, sizeof text, "function network(x)\n%s\nend", body);
    if (load_text(text, &spec) != RG_OK) {
        print_diagnostics();
        fail_msg("'%s' does not load", body);
    }
    return program(spec);
}

static rg_fusion *fuse(const rg_graph *graph, const rg_ride *rides, int32_t count) {
    rg_fusion *fusion;
    assert_int_equal(rg_fuse(&ctx, graph, rides, count, &fusion), RG_OK);
    return fusion;
}

static int32_t find_rides(const rg_graph *graph, rg_ride **rides) {
    int32_t count;
    assert_int_equal(rg_fuse_find_rides(&ctx, fuse(graph, NULL, 0), rides, &count), RG_OK);
    return count;
}

static bool is_named(const rg_graph *graph, rg_nid n, const char *name) {
    return strcmp(graph->node[n].name, name) == 0;
}

/* ---- which may ---- */

static void test_the_shortcut_can_ride_with_the_filter_beside_it(void **state) {
    (void)state;
    const rg_graph *graph = program(load("specs/resnet18_cifar.lua"));
    rg_ride *rides;
    assert_int_equal(find_rides(graph, &rides), 3);
    static const char *const names[][2] = {{"block3.0.conv1", "block3.0.conv3"},
                                           {"block4.0.conv1", "block4.0.conv3"},
                                           {"block5.0.conv1", "block5.0.conv3"}};
    for (int i = 0; i < 3; i++) {
        assert_true(is_named(graph, rides[i].anchor, names[i][0]));
        assert_true(is_named(graph, rides[i].rider, names[i][1]));
    }
}

static void test_who_cannot_ride_does_not(void **state) {
    (void)state;
    static const struct {
        const char *body;
        int32_t rides;
    } rows[] = {
        /* one of the other's result */
        {"x = x:conv('a', {out = 8, kernel = 3, pad = 1}) "
         "x = x:conv('b', {out = 8, kernel = 1}) return x:flatten():linear('c', {out = 4})",
         0},
        /* other extents */
        {"local a = x:conv('a', {out = 8, kernel = 3, pad = 1}):avgpool{kernel = 8} "
         "local b = x:conv('b', {out = 8, kernel = 3, stride = 2, pad = 1}):avgpool{kernel = 4} "
         "return (a + b):flatten():linear('c', {out = 4})",
         0},
        /* other channels */
        {"local a = x:conv('a', {out = 8, kernel = 3, pad = 1}):relu():flatten() "
         "local b = x:conv('b', {out = 16, kernel = 1}):relu():flatten() "
         "return a:linear('c', {out = 4}) + b:linear('d', {out = 4})",
         0},
        /* one of them can, the third goes alone */
        {"local a = x:conv('a', {out = 8, kernel = 3, pad = 1}):relu() "
         "local b = x:conv('b', {out = 8, kernel = 1}):relu() "
         "local c = x:conv('c', {out = 8, kernel = 5, pad = 2}):relu() "
         "return (a * b + c):flatten():linear('d', {out = 4})",
         1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rg_ride *rides;
        int32_t count = find_rides(own_program(rows[i].body), &rides);
        if (count != rows[i].rides) fail_msg("row %zu: %d rides", i, count);
    }
}

/* ---- what their kernel is ---- */

/* No group waits for itself: visited depth first, 1 is on the way, 2 is done. */
static void visit(const rg_fusion *fusion, int32_t group, char *mark) {
    int32_t *needs, count;
    if (mark[group] == 1) fail_msg("group %d needs itself", group);
    if (mark[group] == 2) return;
    mark[group] = 1;
    assert_int_equal(rg_fuse_needs(&ctx, fusion, group, &needs, &count), RG_OK);
    for (int32_t i = 0; i < count; i++) visit(fusion, needs[i], mark);
    mark[group] = 2;
}

static bool reads_acc(const rg_ksite *site, int32_t leaf) {
    for (int32_t i = 0; i < site->expr.count; i++)
        if (site->expr.node[i].op == RG_EXPR_ACC && site->expr.node[i].leaf == leaf) return true;
    return false;
}

static void test_two_that_ride_are_one_kernel_with_one_prologue(void **state) {
    (void)state;
    const rg_graph *graph = program(load("specs/resnet18_cifar.lua"));
    rg_ride *rides;
    int32_t count = find_rides(graph, &rides);
    const rg_fusion *apart = fuse(graph, NULL, 0), *fusion = fuse(graph, rides, count);
    assert_int_equal(fusion->group_count, apart->group_count - count);
    char *mark = RG_NEW_ARRAY(ctx.arena, char, fusion->group_count);
    for (int32_t g = 0; g < fusion->group_count; g++) visit(fusion, g, mark);
    for (int32_t i = 0; i < count; i++) {
        rg_vid result = graph->node[rides[i].anchor].out[0],
               ridden = graph->node[rides[i].rider].out[0];
        int32_t g = fusion->home[result].group;
        assert_int_equal(fusion->home[ridden].group, g);
        rg_frozen frozen;
        assert_int_equal(rg_freeze(&ctx, fusion, g, 16, &frozen), RG_OK);
        const rg_kdesc *desc = &frozen.desc;
        assert_int_equal(rg_kdesc_check(&ctx, desc), RG_OK);
        assert_int_equal(desc->contr_count, 2);
        assert_int_equal(desc->site_count, 2);
        assert_int_equal(desc->contr[1].acc, 1);
        assert_int_equal(frozen.bind[desc->contr[0].w_arg].value,
                         graph->node[rides[i].anchor].in[1]);
        assert_int_equal(frozen.bind[desc->contr[1].w_arg].value,
                         graph->node[rides[i].rider].in[1]);
        assert_true(reads_acc(&desc->site[1], 0) && reads_acc(&desc->site[1], 1));
    }
}

/* ---- when the plan has them ---- */

static double cost_of(const rg_job *job, rg_plan_program_id program, int *launches, int *ridden) {
    double us = 0;
    *launches = *ridden = 0;
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        if (launch->program != program) continue;
        us += launch->desc.variant.cost_us;
        ++*launches;
        *ridden += rg_kdesc_sums(&launch->desc) > 1;
    }
    return us;
}

static void compile(rg_job *job, const rg_cli *cli) {
    *job = (rg_job){.ctx = &ctx, .cli = cli};
    if (rg_job_compile(job) == RG_OK) return;
    print_diagnostics();
    fail_msg("%s does not compile", cli->spec);
}

/* The same as for a target whose templates keep two sums, or one. */
static void plan_again(rg_job *job, bool riders) {
    job->target.riders = riders;
    job->planned.launch_count = job->planned.launch_capacity = 0;
    job->planned.buffer_count = job->planned.buffer_capacity = 0;
    assert_int_equal(rg_planner_run(&ctx, job->tpl, &job->target, &job->planned), RG_OK);
}

static const rg_cli cuda = {.command = "build",
                            .spec = "specs/resnet18_cifar.lua",
                            .target = "cuda",
                            .device = "cuda",
                            .isa = "native",
                            .arch = "sm_90",
                            .precision = "bf16",
                            .dump = "",
                            .optimise = 1,
                            .quiet = true};

/* Every program has riders where the cost model says that it gains by them. */
static void test_a_plan_has_riders_where_it_is_cheaper_with_them(void **state) {
    (void)state;
    rg_job with, without;
    compile(&with, &cuda);
    compile(&without, &cuda);
    plan_again(&without, false);
    for (rg_plan_program_id p = RG_PP_GRAD; p <= RG_PP_PREDICT; p++) {
        int launches[2], ridden[2];
        if (!with.planned.program[p].graph) continue;
        double us = cost_of(&with, p, &launches[0], &ridden[0]);
        double apart = cost_of(&without, p, &launches[1], &ridden[1]);
        assert_int_equal(ridden[1], 0);
        assert_true(ridden[0] > 0 && us < apart);
        assert_int_equal(launches[0], launches[1] - ridden[0]);
    }
    rg_job_close(&with);
    rg_job_close(&without);
}

/* Its target does not ask for them; if it did, no variant would apply to such a kernel, and there
 * would be two launches all the same. */
static void test_the_cpu_has_none(void **state) {
    (void)state;
    rg_cli cpu = cuda;
    cpu.target = cpu.device = "cpu";
    cpu.isa = "avx2";
    cpu.precision = NULL;
    rg_job job;
    compile(&job, &cpu);
    assert_false(job.target.riders);
    for (int asked = 0; asked < 2; asked++) {
        int launches, ridden;
        if (asked) plan_again(&job, true);
        cost_of(&job, RG_PP_GRAD, &launches, &ridden);
        assert_true(launches > 0);
        assert_int_equal(ridden, 0);
    }
    assert_int_equal(ctx.count, 0);
    rg_job_close(&job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_the_shortcut_can_ride_with_the_filter_beside_it),
        TEST(test_who_cannot_ride_does_not),
        TEST(test_two_that_ride_are_one_kernel_with_one_prologue),
        TEST(test_a_plan_has_riders_where_it_is_cheaper_with_them),
        TEST(test_the_cpu_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
