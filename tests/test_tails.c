/* Tails: a kernel and what gathers its parts as one, against the two of them, on the emulator, and
 * in the plan; and launches of several instances in the plan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cu_bench.h"
#include "driver.h"

static bool has_parts(const rg_kdesc *desc) {
    for (int32_t i = 0; i < desc->arg_count; i++) {
        rg_layout layout = desc->arg[i].layout;
        if (desc->arg[i].written && (layout == RG_LAYOUT_PART || layout == RG_LAYOUT_PARTW))
            return true;
    }
    return false;
}

/* A description that shares nothing with the case. */
static rg_kdesc settled(rg_ctx *ctx, const rg_case *one, const rg_kvariant *variant) {
    rg_kdesc desc = one->desc;
    desc.arg = rg_arena_copy(ctx->arena, desc.arg, (size_t)desc.arg_count * sizeof *desc.arg);
    assert_non_null(desc.arg);
    rg_case_settle(&desc, variant, 0);
    return desc;
}

/* ---- the meaning ---- */

/* Doubles for the arguments of one description: values and bounds. */
typedef struct numbers {
    double **value, **error;
} numbers;

/* A number in [1/2, 3/2) that depends on i alone: of one sign, so that no bound drowns a value. */
static double number(int64_t i) {
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u;
    x ^= x >> 31;
    x *= 0xd6e8feb86659fd93u;
    return (double)(x >> 11) * 0x1p-53 + 0.5;
}

static numbers numbers_for(rg_ctx *ctx, const rg_kdesc *desc, int32_t blocks) {
    numbers n = {RG_NEW_ARRAY(ctx->arena, double *, desc->arg_count),
                 RG_NEW_ARRAY(ctx->arena, double *, desc->arg_count)};
    assert_true(n.value && n.error);
    for (int32_t i = 0; i < desc->arg_count; i++) {
        int64_t count = rg_karg_elements(&desc->arg[i], blocks);
        n.value[i] = RG_NEW_ARRAY(ctx->arena, double, count);
        n.error[i] = RG_NEW_ARRAY(ctx->arena, double, count);
        assert_true(n.value[i] && n.error[i]);
        for (int64_t j = 0; j < count; j++) n.value[i][j] = number(j * 31 + i);
    }
    return n;
}

static void interpret(rg_ctx *ctx, const rg_kdesc *desc, int32_t live, const numbers *n) {
    rg_ctrl ctrl = {.live = live, .blocks = (live + RG_BLOCK - 1) / RG_BLOCK};
    if (rg_kdesc_interpret_bound(ctx, desc, &ctrl, n->value, n->error) != RG_OK)
        fail_with(ctx, desc->name);
}

/* The kernel, then the one that gathers its argument `part`, against both as one. Did the parts
 * have bounds of their own? */
static bool compare_pair(rg_ctx *ctx, const rg_case *one, const rg_kdesc *desc, int32_t part) {
    int32_t blocks = (one->live + RG_BLOCK - 1) / RG_BLOCK, same[3] = {part, -1, -1};
    rg_kdesc vec, both = *desc;
    assert_true(rg_case_finish(ctx->arena, VECTOR, desc, part, &vec));
    if (rg_kdesc_add_tail(ctx, &both, &vec, same) != RG_OK) fail_with(ctx, one->label);
    if (rg_kdesc_add_counter(ctx, &both) != RG_OK) fail_with(ctx, one->label);
    numbers first = numbers_for(ctx, desc, blocks), second = numbers_for(ctx, &vec, blocks),
            merged = numbers_for(ctx, &both, blocks);
    interpret(ctx, desc, one->live, &first);
    second.value[0] = first.value[part];
    for (int32_t i = 1; i < vec.arg_count; i++)
        for (int64_t j = 0; j < rg_karg_elements(&vec.arg[i], blocks); j++)
            merged.value[same[i]][j] = second.value[i][j];
    interpret(ctx, &vec, one->live, &second);
    interpret(ctx, &both, one->live, &merged);
    int32_t y = vec.arg_count - 1;
    int64_t count = vec.arg[y].layout == RG_LAYOUT_VEC ? vec.arg[y].c : vec.arg[y].length;
    double own = 0, carried = 0;
    for (int64_t j = 0; j < count; j++) {
        assert_true(merged.value[same[y]][j] == second.value[y][j]);
        assert_true(merged.error[same[y]][j] >= second.error[y][j]);
        own += second.error[y][j];
        carried += merged.error[same[y]][j];
    }
    return carried > own;
}

static void test_a_tail_means_what_the_kernel_after_would(void **state) {
    (void)state;
    rg_ctx ctx;
    int32_t count, tried = 0, carried = 0;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    const rg_case *cases = rg_cases(ctx.arena, VECTOR, &count);
    assert_non_null(cases);
    const rg_kvariant variant = {.name = "any", .parts_per_block = 3, .complete = false};
    for (int32_t i = 0; i < count; i++) {
        if (cases[i].desc.kind == RG_K_VEC) continue;
        rg_kdesc desc = settled(&ctx, &cases[i], &variant);
        for (int32_t a = 0; a < desc.arg_count; a++) {
            const rg_karg *arg = &desc.arg[a];
            rg_layout part = desc.kind == RG_K_WGRAD ? RG_LAYOUT_PARTW : RG_LAYOUT_PART;
            if (arg->layout != part || !arg->written) continue;
            carried += compare_pair(&ctx, &cases[i], &desc, a);
            tried++;
        }
    }
    assert_true(tried > 20 && carried > 20); /* a maximum has none */
    rg_ctx_free(&ctx);
}

/* ---- descriptions ---- */

static void refused(rg_ctx *ctx, const rg_kdesc *desc) {
    assert_int_equal(rg_kdesc_check(ctx, desc), RG_E_INTERNAL);
}

static void test_wrong_tails_are_refused(void **state) {
    (void)state;
    rg_ctx ctx;
    int32_t count, tails, at = 0;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    const rg_case *cases = rg_cases(ctx.arena, VECTOR, &count);
    assert_non_null(cases);
    while (at < count && strcmp(cases[at].label, "residual add, moments") != 0) at++;
    assert_true(at < count);
    const rg_kvariant variant = {.name = "any", .parts_per_block = 3, .complete = true};
    rg_kdesc good = settled(&ctx, &cases[at], &variant);
    assert_true(rg_case_add_tails(&ctx, VECTOR, &good, &tails));
    assert_int_equal(rg_kdesc_check(&ctx, &good), RG_OK);
    rg_kdesc bad = good;
    bad.counter_arg = 0; /* no counter */
    refused(&ctx, &bad);
    bad = good;
    bad.variant.counters = 2; /* it has one */
    refused(&ctx, &bad);
    good.arg[good.fin[0].arg].written = false; /* another kernel's parts */
    refused(&ctx, &good);
    good.arg[good.fin[0].arg].written = true;
    good.tail[0].site.h = 2; /* no run */
    refused(&ctx, &good);
    rg_ctx_free(&ctx);
}

/* A run that leaves parts may have tails; then it gathers none itself. */
static void test_a_run_gathers_parts_or_leaves_them(void **state) {
    (void)state;
    rg_ctx ctx;
    int32_t count, tails, at = 0;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    const rg_case *cases = rg_format_cases(ctx.arena, VECTOR, RG_KFORMAT_F16, &count);
    assert_non_null(cases);
    while (at < count && strcmp(cases[at].label, "largest of a run") != 0) at++;
    assert_true(at < count);
    const rg_kvariant variant = {.name = "any", .parts_per_block = 3, .complete = true};
    rg_kdesc desc = settled(&ctx, &cases[at], &variant);
    assert_true(rg_case_add_tails(&ctx, VECTOR, &desc, &tails));
    assert_int_equal(tails, 1);
    assert_int_equal(rg_kdesc_check(&ctx, &desc), RG_OK);
    rg_enode *leaf = &desc.site[0].expr.node[0];
    *leaf = (rg_enode){.op = RG_EXPR_FIN, .leaf = 0};
    refused(&ctx, &desc);
    rg_ctx_free(&ctx);
}

/* ---- on the emulator ---- */

/* All variants of a case that leave parts, with tails. */
static void add_case(bench *b, const rg_case *one) {
    rg_candidate *list;
    int32_t count, tails;
    rg_status status = rg_tpl_candidates(&b->ctx, b->tpl, &one->desc, one->dgrad, &list, &count);
    if (status == RG_E_UNSUPPORTED && one->optional) return;
    if (status != RG_OK) fail_with(&b->ctx, one->label);
    for (int32_t i = 0; i < count; i++) {
        rg_kdesc desc = settled(&b->ctx, one, &list[i].variant);
        if (!has_parts(&desc)) continue;
        assert_true(rg_case_add_tails(&b->ctx, VECTOR, &desc, &tails));
        bench_add(b, one->label, &desc, one->live);
    }
}

/* The cases whose label begins so, in formats of 16 bits contractions and runs alone; of these
 * every n-th, since a tail knows no more of them than their channels. */
static void add_cases(bench *b, const char *label, int n) {
    int32_t count, seen = 0;
    bool plain = b->format == RG_KFORMAT_F32;
    const rg_case *cases = plain ? rg_cases(b->ctx.arena, VECTOR, &count)
                                 : rg_format_cases(b->ctx.arena, VECTOR, b->format, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++) {
        rg_kkind kind = cases[i].desc.kind;
        bool contracts = kind == RG_K_CONV || kind == RG_K_WGRAD;
        if (kind == RG_K_PACK || (!contracts && !plain && kind != RG_K_VEC)) continue;
        if (strncmp(cases[i].label, label, strlen(label)) != 0) continue;
        if (!contracts || seen++ % n == 0) add_case(b, &cases[i]);
    }
}

static int32_t check_all(bench *b, int32_t live) {
    int32_t wrong = 0;
    assert_true(b->count > 0);
    if (!b->object) bench_build(b, RG_BINARY_DIR "/cu-tails-cache");
    for (int32_t i = 0; i < b->count; i++) {
        rg_harness_result result;
        bool ran = bench_run(b, i, live, &result);
        if (ran && result.passed && result.compared > 0) continue;
        wrong++;
        if (ran)
            print_message("WRONG  %s, %d images, %s: %s\n", b->subject[i].label, live,
                          b->subject[i].text.symbol, result.trouble);
    }
    print_message("tails, emulated, %s: %d kernels of %d images, %d wrong\n",
                  rg_kformat_name(b->format), b->count, live, wrong);
    return wrong;
}

/* One image block and three; of contractions every n-th. */
static void check_last_block(rg_kformat format, int n) {
    bench b;
    bench_open(&b, ARCH, 4, format);
    const char *label = getenv("RG_TEST_CASE");
    add_cases(&b, label ? label : "", label ? 1 : n);
    int32_t wrong = check_all(&b, 5) + check_all(&b, 37);
    bench_close(&b);
    assert_int_equal(wrong, 0);
}

static void test_the_last_block_gathers_what_all_have_left(void **state) {
    (void)state;
    check_last_block(RG_KFORMAT_F32, 3);
}

/* Parts of the matrix unit's sums, from results of 16 bits. */
static void test_the_same_after_matrix_units(void **state) {
    (void)state;
    check_last_block(RG_KFORMAT_BF16, 4);
    check_last_block(RG_KFORMAT_F16, 5);
}

static void test_the_last_block_of_a_run_does_so_too(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 4, RG_KFORMAT_F16);
    add_cases(&b, "largest of a run", 1);
    int32_t wrong = check_all(&b, 5) + check_all(&b, 37);
    bench_close(&b);
    assert_int_equal(wrong, 0);
}

static int32_t count_texts(const bench *b, const char *text) {
    int32_t found = 0;
    for (int32_t i = 0; i < b->count; i++) found += strstr(b->subject[i].text.source, text) != NULL;
    return found;
}

/* Hundreds of parts of weights: neighbouring ones first, the last of them fewer; then one alone. */
static void check_stages(rg_kformat format, int32_t planned, int n) {
    bench b;
    bench_open(&b, ARCH, planned, format);
    add_cases(&b, "wgrad", n);
    assert_true(count_texts(&b, "heaps =") > 0);
    int32_t wrong = check_all(&b, 16 * 37 - 3) + check_all(&b, 5);
    bench_close(&b);
    assert_int_equal(wrong, 0);
}

static void test_hundreds_of_parts_are_added_up_in_two_stages(void **state) {
    (void)state;
    check_stages(RG_KFORMAT_F32, 300, 5);
    check_stages(RG_KFORMAT_BF16, 300, 5);
}

/* Its counters do for any batch. */
static void test_more_parts_than_were_planned_are_added_up(void **state) {
    (void)state;
    check_stages(RG_KFORMAT_F32, 4, 2);
}

/* More parts than a block has threads, and none for some of these. */
static void test_more_parts_than_threads_are_gathered_whole(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 300, RG_KFORMAT_F32);
    add_cases(&b, "softmax cross-entropy", 1);
    int32_t wrong = check_all(&b, 16 * 300 - 3);
    bench_close(&b);
    assert_int_equal(wrong, 0);
}

/* A batch of 300 blocks: a thread has more parts than it adds up one by one. */
static void test_a_large_batch_is_gathered_in_several_chains(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 300, RG_KFORMAT_F32);
    add_cases(&b, "residual add, moments", 1);
    assert_true(count_texts(&b, "chain0") > 0);
    int32_t wrong = check_all(&b, 16 * 20 - 3);
    bench_close(&b);
    assert_int_equal(wrong, 0);
}

/* ---- the plan ---- */

static void plan_of(rg_job *job, rg_ctx *ctx, rg_cli *cli, const char *spec, const char *format) {
    *cli = (rg_cli){.command = "train",
                    .spec = spec,
                    .target = "cuda",
                    .device = "emulate",
                    .arch = "sm_90",
                    .precision = format,
                    .optimise = 1,
                    .quiet = true};
    *job = (rg_job){.ctx = ctx, .cli = cli};
    assert_int_equal(rg_ctx_init(ctx), RG_OK);
    if (rg_job_compile(job) != RG_OK) fail_with(ctx, spec);
}

static int32_t launches_of_a_step(const char *spec, const char *format) {
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    plan_of(&job, &ctx, &cli, spec, format);
    int32_t count = 0;
    for (int32_t i = 0; i < job.planned.launch_count; i++) {
        const rg_launch *launch = &job.planned.launch[i];
        count += launch->program == RG_PP_GRAD || launch->program == RG_PP_UPDATE;
    }
    rg_job_close(&job);
    rg_ctx_free(&ctx);
    return count;
}

/* 21 fprops, 17 dgrads, 21 wgrads of which four pairs share a launch, four windows, the loss, the
 * optimiser; with matrix units a shortcut rides, and in 16 bits a fifth pair shares; in f16 there
 * are the largest gradient and the loss scale. */
static void test_a_step_of_the_reference_network_has_few_launches(void **state) {
    (void)state;
    static const char *const formats[] = {"f32", "tf32", "bf16", "f16"};
    static const int32_t most[] = {61, 60, 59, 60};
    for (int i = 0; i < 4; i++) {
        int32_t count = launches_of_a_step(RG_SOURCE_DIR "/specs/resnet18_cifar.lua", formats[i]);
        print_message("launches of a step, %s: %d\n", formats[i], count);
        assert_in_range(count, 1, most[i]);
    }
}

/* Each launch has counters of its own: launches may run side by side. */
static void test_launches_share_no_counters(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    plan_of(&job, &ctx, &cli, RG_SOURCE_DIR "/specs/tiny/tiny_residual.lua", "f32");
    bool *taken = RG_NEW_ARRAY(ctx.arena, bool, job.planned.buffer_count);
    int32_t tails = 0;
    assert_non_null(taken);
    for (int32_t i = 0; i < job.planned.launch_count; i++) {
        const rg_launch *launch = &job.planned.launch[i];
        if (launch->desc.tail_count == 0) continue;
        uint32_t counters = launch->buffer[launch->desc.counter_arg];
        assert_int_equal(job.planned.buffer[counters].arena, RG_ARENA_DERIVED);
        assert_false(taken[counters]);
        taken[counters] = true;
        tails++;
    }
    assert_true(tails > 5);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
}

/* ---- instances in the plan ---- */

#define REPEATED RG_SOURCE_DIR "/specs/tiny/repeated.lua"

/* The launch of a training step's kind and label; NULL where there is none. */
static const rg_launch *launch_of(const rg_job *job, rg_kkind kind, const char *label) {
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        if (launch->program == RG_PP_GRAD && launch->desc.kind == kind &&
            strcmp(launch->label, label) == 0)
            return launch;
    }
    return NULL;
}

/* One launch of weight gradients, instance i's that of layer[i]. */
static void expect_instances(const rg_job *job, const char *label, const char *const *layer,
                             int32_t n) {
    const rg_launch *launch = launch_of(job, RG_K_WGRAD, label);
    if (!launch) fail_msg("no launch '%s'", label);
    int32_t own = rg_kdesc_own_args(&launch->desc), found = 0;
    assert_int_equal(rg_kdesc_instances(&launch->desc), n);
    for (int32_t i = 0; i < n * own; i++) {
        const rg_pbuffer *buffer = &job->planned.buffer[launch->buffer[i]];
        if (buffer->arena != RG_ARENA_GRAD) continue;
        assert_true(strncmp(buffer->name, layer[i / own], strlen(layer[i / own])) == 0);
        found++;
    }
    assert_int_equal(found, n);
    for (int32_t i = 0; i < n; i++) assert_null(launch_of(job, RG_K_WGRAD, layer[i]));
}

/* Five equal ones are three and two; of ten convolutions the input is an activation's in turn. */
static void test_equal_weight_gradients_share_a_launch(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    plan_of(&job, &ctx, &cli, REPEATED, "f32");
    expect_instances(&job, "{block5,block4,block3}.conv2",
                     (const char *const[]){"block5.conv2", "block4.conv2", "block3.conv2"}, 3);
    expect_instances(&job, "{block2,block1}.conv2",
                     (const char *const[]){"block2.conv2", "block1.conv2"}, 2);
    expect_instances(&job, "{gated2,gated1}.gate",
                     (const char *const[]){"gated2.gate", "gated1.gate"}, 2);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
}

/* The second gate's sums are gathered for a gradient that the first gate's come from. */
static void test_equal_launches_that_wait_for_one_another_do_not_share(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    plan_of(&job, &ctx, &cli, REPEATED, "f32");
    const rg_launch *first = launch_of(&job, RG_K_VEC, "gated1.gate"),
                    *second = launch_of(&job, RG_K_VEC, "gated2.gate");
    assert_true(first && second);
    assert_string_equal(first->name.key, second->name.key);
    assert_true(first->phase > second->phase);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
}

/* Their memory is another launch's as soon as it is free: no launch writes what another instance of
 * it touches. */
static void test_instances_touch_nothing_that_another_writes(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    int32_t several = 0;
    plan_of(&job, &ctx, &cli, REPEATED, "bf16");
    for (int32_t l = 0; l < job.planned.launch_count; l++) {
        const rg_launch *launch = &job.planned.launch[l];
        int32_t own = rg_kdesc_own_args(&launch->desc);
        several += launch->desc.instances > 1;
        for (int32_t i = own; i < launch->desc.arg_count; i++)
            for (int32_t j = 0; j < i / own * own; j++)
                if (launch->desc.arg[i].written || launch->desc.arg[j].written)
                    assert_int_not_equal(launch->buffer[i], launch->buffer[j]);
    }
    assert_true(several > 3);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
}

static rg_status verify_instances(rg_planner *pl, rg_launch *launch, const rg_launch *one,
                                  int32_t n) {
    int32_t own = one->desc.arg_count;
    launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, n * own);
    assert_non_null(launch->buffer);
    for (int32_t i = 0; i < n * own; i++) launch->buffer[i] = one->buffer[i % own];
    assert_int_equal(rg_kdesc_repeat(pl->ctx, &one->desc, n, &launch->desc), RG_OK);
    return rg_plan_verify(pl);
}

static void test_no_launch_has_more_arguments_than_can_be_passed(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    int32_t at = 0;
    plan_of(&job, &ctx, &cli, REPEATED, "f32");
    job.planned.program[RG_PP_GRAD].graph = NULL; /* what it asks of gradients is not wanted */
    rg_planner pl = {.ctx = &ctx, .target = &job.target, .out = &job.planned};
    assert_int_equal(rg_plan_verify(&pl), RG_OK);
    const rg_launch *list = job.planned.launch;
    while (at < job.planned.launch_count &&
           (list[at].desc.instances > 1 || RG_PLAN_MAX_ARGS % list[at].desc.arg_count != 0))
        at++;
    assert_true(at < job.planned.launch_count);
    const rg_launch one = list[at];
    int32_t most = RG_PLAN_MAX_ARGS / one.desc.arg_count;
    assert_int_equal(verify_instances(&pl, &job.planned.launch[at], &one, most), RG_OK);
    assert_int_equal(verify_instances(&pl, &job.planned.launch[at], &one, most + 1), RG_E_LIMIT);
    assert_non_null(strstr(ctx.last->text, "arguments, at most 255 can be passed"));
    rg_job_close(&job);
    rg_ctx_free(&ctx);
}

/* ---- a network ---- */

/* The losses that `resgen train` prints. */
enum { STEPS = 20 };

static int read_losses(const char *spec, const char *options, double *loss, int steps) {
    char command[512], line[256];
    snprintf(command, sizeof command,
             "%s train %s/specs/tiny/%s --data=synthetic --steps=%d --eval-steps=0 "
             "--cache=%s/cu-tails-cache --out=%s/cu-tails-out %s 2>&1",
             RG_PROGRAM, RG_SOURCE_DIR, spec, steps, RG_BINARY_DIR, RG_BINARY_DIR, options);
    FILE *out = popen(command, "r");
    int count = 0;
    assert_non_null(out);
    while (fgets(line, sizeof line, out)) {
        if (count < steps && sscanf(line, "epoch 0 step %*d loss %lf", &loss[count]) == 1) count++;
        if (strstr(line, "error")) print_message("%s", line);
    }
    assert_int_equal(pclose(out), 0);
    return count;
}

static void expect_losses_of_the_cpu(const char *spec, int steps) {
    double cpu[STEPS], cuda[STEPS];
    assert_true(steps <= STEPS);
    assert_int_equal(read_losses(spec, "--target=cpu", cpu, steps), steps);
    assert_int_equal(read_losses(spec, "--device=emulate", cuda, steps), steps);
    for (int i = 0; i < steps; i++) assert_true(fabs(cpu[i] - cuda[i]) < 1e-4);
}

/* Steps feel their tails: statistics, gradients of BN and of biases, the loss itself. */
static void test_training_with_tails_prints_the_losses_of_the_cpu(void **state) {
    (void)state;
    expect_losses_of_the_cpu("tiny_residual.lua", STEPS);
}

/* And each instance's weight gradient, from the second step on. */
static void test_training_with_instances_prints_the_losses_of_the_cpu(void **state) {
    (void)state;
    expect_losses_of_the_cpu("repeated.lua", 3);
}

static double mean_loss(const char *options) {
    double loss[STEPS], sum = 0;
    assert_int_equal(read_losses("tiny_residual.lua", options, loss, STEPS), STEPS);
    for (int i = 0; i < STEPS; i++) sum += loss[i];
    return sum / STEPS;
}

/* Operands are off by half a unit of their format; the mean of the losses by no more than one. */
static void test_training_in_other_formats_stays_near(void **state) {
    (void)state;
    double plain = mean_loss("--target=cpu");
    static const struct {
        const char *options;
        double unit;
    } formats[] = {{"--device=emulate --precision=tf32", 0x1p-10},
                   {"--device=emulate --precision=bf16", 0x1p-7},
                   {"--device=emulate --precision=f16", 0x1p-10}};
    for (int i = 0; i < 3; i++) {
        double off = fabs(mean_loss(formats[i].options) - plain);
        print_message("%s: mean loss of %d steps off by %.2g, %.2f units\n", formats[i].options,
                      STEPS, off, off / plain / formats[i].unit);
        assert_true(off <= formats[i].unit * plain);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tail_means_what_the_kernel_after_would),
        cmocka_unit_test(test_wrong_tails_are_refused),
        cmocka_unit_test(test_a_run_gathers_parts_or_leaves_them),
        cmocka_unit_test(test_the_last_block_gathers_what_all_have_left),
        cmocka_unit_test(test_the_same_after_matrix_units),
        cmocka_unit_test(test_the_last_block_of_a_run_does_so_too),
        cmocka_unit_test(test_hundreds_of_parts_are_added_up_in_two_stages),
        cmocka_unit_test(test_more_parts_than_were_planned_are_added_up),
        cmocka_unit_test(test_more_parts_than_threads_are_gathered_whole),
        cmocka_unit_test(test_a_large_batch_is_gathered_in_several_chains),
        cmocka_unit_test(test_a_step_of_the_reference_network_has_few_launches),
        cmocka_unit_test(test_launches_share_no_counters),
        cmocka_unit_test(test_equal_weight_gradients_share_a_launch),
        cmocka_unit_test(test_equal_launches_that_wait_for_one_another_do_not_share),
        cmocka_unit_test(test_instances_touch_nothing_that_another_writes),
        cmocka_unit_test(test_no_launch_has_more_arguments_than_can_be_passed),
        cmocka_unit_test(test_training_with_tails_prints_the_losses_of_the_cpu),
        cmocka_unit_test(test_training_with_instances_prints_the_losses_of_the_cpu),
        cmocka_unit_test(test_training_in_other_formats_stays_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
