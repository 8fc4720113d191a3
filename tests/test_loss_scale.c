/* f16's loss scaling by the kernels of a plan on the emulator: gradients are poked in, the program
 * `update` runs alone, parameters, moments and the scale's state are read back. */
#include <math.h>
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
#include "rg_ops.h"

/* What an update changes; the copy is in 16 bits. SGD leaves the second moment alone. */
enum { PARAMETERS, MOMENT1, MOMENT2, COPY, KEPT };
static const char *const kept_name[KEPT] = {"all parameters", "moment 1", "moment 2",
                                            "all parameters.f16"};
enum { NONE = -1 }; /* no place */

static rg_ctx ctx;
static rg_cli cli;
static rg_job job;
static rg_exec *exec;
static char spec[] = "/tmp/resgen-test-XXXXXX";

static void must(rg_status status) {
    if (status != RG_OK) fail_msg("%s", ctx.last ? ctx.last->text : "no diagnostic");
}

/* ---- a plan ---- */

static void write_spec(const char *optimizer) {
    FILE *file = fopen(spec, "w");
    assert_non_null(file);
    fprintf(file,
            "data {dataset = \"synthetic\", height = 3, width = 5, classes = 3, mean = 0.5, "
            "std = 0.5}\n"
            "train {batch = 16, epochs = 1, %s}\n"
            "function network(x) return x:flatten():linear(\"classifier\", {out = 3}) end\n",
            optimizer);
    assert_int_equal(fclose(file), 0);
}

static void open_plan(const char *optimizer) {
    write_spec(optimizer);
    cli = (rg_cli){.command = "train",
                   .spec = spec,
                   .target = "cuda",
                   .device = "emulate",
                   .precision = "f16",
                   .cache = RG_BINARY_DIR "/cu-scale-cache",
                   .threads = 1,
                   .quiet = true};
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    job = (rg_job){.ctx = &ctx, .cli = &cli};
    must(rg_job_compile(&job));
    must(rg_job_build(&job));
    must(rg_job_exec(&job, &exec));
    rg_params_init(exec, 1);
    const rg_ctrl ctrl = rg_exec_ctrl(rg_exec_plan(exec), 16, 1, 0.05);
    must(rg_exec_run(&ctx, exec, RG_PP_DERIVE, &ctrl));
}

static void close_plan(void) {
    rg_exec_free(exec);
    rg_job_close(&job);
    rg_ctx_free(&ctx);
    exec = NULL;
    job = (rg_job){.ctx = NULL};
}

/* Of a test that failed, too. */
static int teardown(void **state) {
    (void)state;
    close_plan();
    return rg_emulate_alive() == 0 ? 0 : -1;
}

static const struct {
    const char *text;
    int changes; /* of what is kept */
} optimizers[] = {{"optimizer = \"adam\", lr = 0.05", 4},
                  {"optimizer = \"sgd\", momentum = 0.9, lr = 0.05", 3}};
enum { OPTIMIZERS = sizeof optimizers / sizeof *optimizers };

static int open_group(void **state) {
    (void)state;
    int file = mkstemp(spec);
    return file < 0 ? -1 : close(file);
}

static int close_group(void **state) {
    (void)state;
    return unlink(spec);
}

/* ---- buffers ---- */

static uint32_t find(const char *name) {
    const rg_plan *plan = rg_exec_plan(exec);
    uint32_t at = 0;
    while (at < plan->buffer_count && strcmp(rg_plan_text(plan, plan->buffer[at].name), name) != 0)
        at++;
    if (at == plan->buffer_count) fail_msg("the plan has no buffer '%s'", name);
    return at;
}

static float *host_side(const char *name, uint64_t *bytes) {
    uint32_t at = find(name);
    *bytes = rg_exec_plan(exec)->buffer[at].bytes;
    return rg_exec_buffer(exec, at);
}

static float read_one(const char *name) {
    uint64_t bytes;
    const float *at = host_side(name, &bytes);
    must(rg_exec_fetch(&ctx, exec, find(name)));
    return *at;
}

static void write_one(const char *name, float value) {
    uint64_t bytes;
    *host_side(name, &bytes) = value;
    must(rg_exec_send(&ctx, exec, find(name)));
}

static void set_state(float scale, float steps) {
    write_one("loss scale", scale);
    write_one("loss scale: steps", steps);
}

static void assert_state(float scale, float steps) {
    assert_true(read_one("loss scale") == scale);
    assert_true(read_one("loss scale: steps") == steps);
}

/* Everything that an update changes, as it is on the device. Owner: caller, each of them. */
typedef struct snapshot {
    void *bytes[KEPT];
    uint64_t size[KEPT];
} snapshot;

static snapshot take(void) {
    snapshot s = {{NULL}, {0}};
    for (int i = 0; i < KEPT; i++) {
        const float *at = host_side(kept_name[i], &s.size[i]);
        must(rg_exec_fetch(&ctx, exec, find(kept_name[i])));
        s.bytes[i] = malloc(s.size[i]);
        assert_non_null(s.bytes[i]);
        memcpy(s.bytes[i], at, s.size[i]);
    }
    return s;
}

static void put_back(const snapshot *s) {
    for (int i = 0; i < KEPT; i++) {
        uint64_t bytes;
        memcpy(host_side(kept_name[i], &bytes), s->bytes[i], s->size[i]);
        must(rg_exec_send(&ctx, exec, find(kept_name[i])));
    }
}

static void drop(snapshot *s) {
    for (int i = 0; i < KEPT; i++) free(s->bytes[i]);
}

/* How many of them differ in some bit. */
static int differing(const snapshot *a, const snapshot *b) {
    int count = 0;
    for (int i = 0; i < KEPT; i++) count += memcmp(a->bytes[i], b->bytes[i], a->size[i]) != 0;
    return count;
}

/* ---- updates ---- */

static uint64_t gradients(void) {
    uint64_t bytes;
    host_side("all gradients", &bytes);
    return bytes / sizeof(float);
}

/* Gradients that grow with their place, `scale` times; that at `place` is `odd`. */
static void update(float scale, int64_t place, float odd) {
    uint64_t bytes;
    float *to = host_side("all gradients", &bytes);
    for (uint64_t i = 0; i < bytes / sizeof *to; i++) to[i] = scale * (1 + (float)(i % 64)) / 64;
    if (place >= 0) to[place] = odd;
    must(rg_exec_send(&ctx, exec, find("all gradients")));
    const rg_ctrl ctrl = rg_exec_ctrl(rg_exec_plan(exec), 16, 3, 0.05);
    must(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl));
}

/* 512 times the gradients at 512 times the scale are the same step, to the bit. */
static void test_the_scale_is_taken_out_again(void **state) {
    (void)state;
    for (int o = 0; o < OPTIMIZERS; o++) {
        open_plan(optimizers[o].text);
        assert_state((float)RG_LOSS_SCALE_FIRST, 0);
        snapshot before = take(), after[2];
        for (int i = 0; i < 2; i++) {
            float scale = i ? 512 : 1;
            put_back(&before);
            set_state(scale, 5);
            update(scale, NONE, 0);
            assert_state(scale, 6);
            after[i] = take();
        }
        assert_int_equal(differing(&before, &after[0]), optimizers[o].changes);
        assert_int_equal(differing(&after[0], &after[1]), 0);
        drop(&before);
        drop(&after[0]);
        drop(&after[1]);
        close_plan();
    }
}

/* One gradient is enough, wherever it stands: nothing changes by a bit, the scale is halved, though
 * not below 1, and good steps are counted from 0 again. */
static void test_a_gradient_that_is_not_finite_leaves_the_step_out(void **state) {
    (void)state;
    const float odd[] = {INFINITY, -INFINITY, NAN, -NAN};
    for (int o = 0; o < OPTIMIZERS; o++) {
        open_plan(optimizers[o].text);
        const int64_t last = (int64_t)gradients() - 1, place[] = {0, last / 2, last};
        update((float)RG_LOSS_SCALE_FIRST, NONE, 0); /* moments that are not zero */
        snapshot before = take();
        for (int i = 0; i < 4 * 3; i++) {
            float scale = i < 6 ? 4096 : 1;
            set_state(scale, 1234);
            update(scale, place[i % 3], odd[i % 4]);
            snapshot after = take();
            assert_int_equal(differing(&before, &after), 0);
            assert_state(i < 6 ? 2048 : 1, 0);
            drop(&after);
        }
        set_state(2, 0);
        update(2, last, NAN);
        update(1, NONE, 0);
        assert_state(1, 1);
        drop(&before);
        close_plan();
    }
}

/* The largest finite gradient is none of those. */
static void test_2000_good_steps_double_the_scale(void **state) {
    (void)state;
    open_plan(optimizers[0].text);
    set_state(1024, (float)RG_LOSS_SCALE_STEPS - 2);
    update(1024, 0, 0x1.fffffep127f);
    assert_state(1024, (float)RG_LOSS_SCALE_STEPS - 1);
    update(1024, 0, -0x1.fffffep127f);
    assert_state(2048, 0);
    const float most = (float)RG_LOSS_SCALE_MOST;
    set_state(most / 2, (float)RG_LOSS_SCALE_STEPS - 1);
    update(most / 2, NONE, 0);
    assert_state(most, 0);
    set_state(most, (float)RG_LOSS_SCALE_STEPS - 1);
    update(most, NONE, 0);
    assert_state(most, 0);
    close_plan();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_scale_is_taken_out_again, teardown),
        cmocka_unit_test_teardown(test_a_gradient_that_is_not_finite_leaves_the_step_out, teardown),
        cmocka_unit_test_teardown(test_2000_good_steps_double_the_scale, teardown),
    };
    return cmocka_run_group_tests(tests, open_group, close_group);
}
