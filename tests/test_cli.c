/* The command as its users meet it: exit codes, one clear line for each failure, output that other
 * programs can read. Runs the program itself. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "rg_core.h"

#define FOLDER RG_BINARY_DIR "/test_cli"
#define SPEC   "specs/tiny/mlp.lua"
/* Quick kernels in a cache that the tests of this build share. */
#define QUICK "--optimise=1", "--cache=" RG_BINARY_DIR "/parity-cache"

enum { MOST = 16, OUTPUT = 1 << 16 };

typedef struct result {
    int code; /* 128 + signal where one ended it */
    char out[OUTPUT], err[OUTPUT];
} result;

static result last;

/* ---- running ---- */

static int open_for_child(const char *name) {
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    return file;
}

static pid_t start(char *const *argv, char *const *envp, int out, int err) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    if (dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execve(RG_PROGRAM, argv, envp);
    _exit(127);
}

static int wait_for(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void slurp(const char *name, char *to) {
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    to[fread(to, 1, OUTPUT - 1, file)] = '\0';
    fclose(file);
}

static void run_in(char *const *envp, const char *const *words) {
    char *argv[MOST + 2] = {RG_PROGRAM};
    for (int i = 0; words[i]; i++) {
        assert_true(i < MOST);
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    int out = open_for_child(FOLDER "/out"), err = open_for_child(FOLDER "/err");
    last.code = wait_for(start(argv, envp, out, err));
    close(out);
    close(err);
    slurp(FOLDER "/out", last.out);
    slurp(FOLDER "/err", last.err);
}

#define RUN(...) run_in(environ, (const char *const[]){__VA_ARGS__, NULL})

/* ---- expectations ---- */

static void show(void) {
    print_error("exit code %d\n-- output:\n%s-- errors:\n%s", last.code, last.out, last.err);
}

/* This code, and one line on standard error that holds `text`. */
static void expect_line(int code, const char *text) {
    size_t length = strlen(last.err);
    bool one = length > 1 && strchr(last.err, '\n') == last.err + length - 1;
    if (last.code == code && one && strstr(last.err, text)) return;
    show();
    fail_msg("expected exit code %d and one line with '%s'", code, text);
}

static void expect_done(void) {
    if (last.code == 0 && last.err[0] == '\0') return;
    show();
    fail_msg("expected exit code 0 and no errors");
}

static void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

/* ---- usage ---- */

static void test_help_is_no_error(void **state) {
    (void)state;
    RUN("--help");
    expect_done();
    assert_non_null(strstr(last.out, "usage: resgen SPEC.lua"));
    assert_non_null(strstr(last.out, "--no-shuffle"));
    run_in(environ, (const char *const[]){NULL});
    assert_int_equal(last.code, 2);
    assert_non_null(strstr(last.err, "usage: resgen SPEC.lua"));
}

static void test_wrong_options_are_usage_errors(void **state) {
    (void)state;
    static const char *const cases[][4] = {
        {SPEC, "--frob", NULL, "--frob"},
        {SPEC, "--threads", NULL, "--threads"},
        {SPEC, "--threads=0", NULL, "--threads=0: expected a whole number from 1 to 256"},
        {SPEC, "--batch=5x", NULL, "--batch=5x: expected a whole number"},
        {SPEC, "--seed=-1", NULL, "--seed=-1"},
        {SPEC, "--seed=99999999999999999999", NULL, "--seed=99999999999999999999"},
        {SPEC, "--steps=0", NULL, "--steps=0"},
        {SPEC, "--target=fpga", NULL, "--target=fpga: expected cpu or cuda"},
        {SPEC, "--device=abacus", NULL, "--device=abacus"},
        {SPEC, "--isa=sse", NULL, "--isa=sse: expected avx2"},
        {SPEC, "--dump=everything", NULL, "--dump=everything: expected infer"},
        {"frobnicate", SPEC, NULL, "unknown command 'frobnicate'"},
        {"train", SPEC, "other.lua", "'other.lua' is too much"},
        {"train", NULL, NULL, "no spec"},
        {"eval", SPEC, NULL, "--init=FILE"},
        {"eval", SPEC, "--resume=x", "--resume is for train, on kernels"},
        {"eval", SPEC, "--eval-steps=0", "--eval-steps=0: eval has nothing else to do"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_in(environ, (const char *const[]){cases[i][0], cases[i][1],
                                              cases[i][1] ? cases[i][2] : NULL, NULL});
        expect_line(2, cases[i][3]);
    }
}

/* ---- specs and data ---- */

static void test_missing_or_wrong_spec_says_where(void **state) {
    (void)state;
    RUN("no/such/spec.lua");
    expect_line(1, "no/such/spec.lua");
    RUN("specs/bad/unknown_option.lua");
    expect_line(1, "specs/bad/unknown_option.lua:");
    RUN("specs/tiny");
    assert_int_equal(last.code, 2);
    assert_int_equal(mkdir(FOLDER "/folder.lua", 0700) == 0 || errno == EEXIST, 1);
    RUN(FOLDER "/folder.lua");
    expect_line(1, "folder.lua");
}

static void test_missing_and_truncated_data_are_named(void **state) {
    (void)state;
    static const uint8_t bytes[3073 + 100] = {1};
    RUN("train", SPEC, "--data=" FOLDER "/nowhere", QUICK);
    expect_line(1, FOLDER "/nowhere");
    assert_int_equal(mkdir(FOLDER "/data", 0700) == 0 || errno == EEXIST, 1);
    write_bytes(FOLDER "/data/data_batch_1.bin", bytes, sizeof bytes);
    RUN("train", SPEC, "--data=" FOLDER "/data", QUICK);
    expect_line(1, "data_batch_1.bin");
    write_bytes(FOLDER "/data/data_batch_1.bin", bytes, 3073);
    RUN("train", SPEC, "--data=" FOLDER "/data", QUICK);
    expect_line(1, "data_batch_2.bin");
}

/* ---- checkpoints ---- */

/* A safetensors file whose header is this JSON, with `zeros` bytes behind it. */
static void write_tensors(const char *path, const char *json, size_t zeros) {
    rg_text text = {0};
    uint64_t length = strlen(json);
    rg_text_add_bytes(&text, &length, sizeof length);
    rg_text_add_bytes(&text, json, strlen(json));
    for (size_t i = 0; i < zeros; i++) rg_text_add_bytes(&text, "", 1);
    assert_false(text.failed);
    write_bytes(path, text.data, text.length);
    rg_text_free(&text);
}

static void expect_refused(const char *text) {
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/bad.safetensors", QUICK);
    expect_line(1, text);
    assert_non_null(strstr(last.err, "bad.safetensors"));
}

static void test_wrong_checkpoints_are_refused_by_name(void **state) {
    (void)state;
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/none.safetensors", QUICK);
    expect_line(1, "none.safetensors");
    write_tensors(FOLDER "/bad.safetensors",
                  "{\"classifier.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}",
                  16);
    expect_refused("classifier.bias"); /* bytes that are not shape times type */
    write_tensors(FOLDER "/bad.safetensors",
                  "{\"classifier.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
                  11);
    expect_refused("classifier.bias"); /* past the end of the file */
    write_text(FOLDER "/bad.safetensors",
               "\xff\xff\xff\xff\xff\xff\xff\x7f{}"); /* a header longer than the file */
    expect_refused("header");
    write_text(FOLDER "/bad.safetensors", "abc");
    expect_refused("bad.safetensors");
}

/* What `train` saved, changed and written again as the file that is to be refused. */
static void write_changed(void (*change)(rg_safetensors *, rg_tensor_entry *)) {
    rg_ctx ctx;
    rg_safetensors file;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_safetensors_read(&ctx, FOLDER "/good.safetensors", &file), RG_OK);
    for (uint32_t i = 0; i < file.count; i++)
        if (strcmp(file.entry[i].name, "fc2.weight") == 0) change(&file, &file.entry[i]);
    assert_int_equal(rg_safetensors_write(&ctx, FOLDER "/bad.safetensors", &file), RG_OK);
    rg_ctx_free(&ctx);
}

static void turn_shape(rg_safetensors *file, rg_tensor_entry *entry) {
    (void)file;
    uint64_t first = entry->shape[0];
    entry->shape[0] = entry->shape[1];
    entry->shape[1] = first;
}

static void leave_out(rg_safetensors *file, rg_tensor_entry *entry) {
    *entry = file->entry[--file->count];
}

static void rename_entry(rg_safetensors *file, rg_tensor_entry *entry) {
    rg_tensor_entry *more = &file->entry[file->count - 1];
    (void)entry;
    more->name = "fc3.weight";
}

static void test_checkpoint_of_another_network_is_refused_by_name(void **state) {
    (void)state;
    RUN("train", SPEC, "--data=synthetic", "--steps=2", "--save=" FOLDER "/good.safetensors",
        QUICK);
    expect_done();
    write_changed(turn_shape);
    expect_refused("'fc2.weight'");
    write_changed(leave_out);
    expect_refused("'fc2.weight' is missing");
    write_changed(rename_entry);
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/bad.safetensors", QUICK);
    assert_int_equal(last.code, 1);
    assert_non_null(
        strstr(last.err, "'fc3.weight'")); /* a name too many, and one that is missing */
}

static void expect_same_files(const char *one, const char *two) {
    rg_ctx ctx;
    char *a, *b;
    size_t a_length, b_length;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_file_read(&ctx, ctx.arena, one, 1 << 24, &a, &a_length), RG_OK);
    assert_int_equal(rg_file_read(&ctx, ctx.arena, two, 1 << 24, &b, &b_length), RG_OK);
    assert_int_equal(a_length, b_length);
    assert_memory_equal(a, b, a_length);
    rg_ctx_free(&ctx);
}

/* Trains to `limit` and keeps FOLDER/<name>.safetensors up to date. */
static void resume(const char *name, const char *limit) {
    char option[256];
    snprintf(option, sizeof option, "--resume=" FOLDER "/%s.safetensors", name);
    RUN("train", SPEC, "--data=synthetic", "--batch=256", "--eval-steps=1", option, limit, QUICK);
    expect_done();
}

/* Parameters, Adam's moments and steps: the files are the same, byte by byte. */
static void test_a_run_stopped_and_resumed_gives_the_bits_of_one_never_stopped(void **state) {
    (void)state;
    static const char *const limits[2][2] = {{"--epochs=2", "--epochs=1"},
                                             {"--steps=45", "--steps=22"}};
    for (int i = 0; i < 2; i++) {
        unlink(FOLDER "/whole.safetensors");
        unlink(FOLDER "/parts.safetensors");
        resume("whole", limits[i][0]);
        assert_non_null(strstr(last.out, "whole.safetensors: not there yet, training starts "));
        resume("parts", limits[i][1]);
        resume("parts", i ? "--steps=23" : limits[i][0]);
        assert_null(strstr(last.out, "afresh"));
        expect_same_files(FOLDER "/whole.safetensors", FOLDER "/parts.safetensors");
    }
    RUN("train", SPEC, "--data=synthetic", "--steps=2", "--save=" FOLDER "/parts.safetensors",
        QUICK);
    expect_done();
    resume("parts", "--steps=1"); /* PyTorch's file */
    assert_non_null(strstr(last.out, "holds nothing of the optimiser, which starts afresh"));
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/parts.safetensors", QUICK);
    expect_done();
}

/* In f16 so do the loss scale and the count of its good steps. */
static void test_so_does_one_in_half_precision_on_the_emulator(void **state) {
    (void)state;
    write_text(FOLDER "/half.lua",
               "data {dataset = 'synthetic', height = 3, width = 5, channels = 3, classes = 10}\n"
               "train {batch = 16, epochs = 1, optimizer = 'adam', lr = 1e-2}\n"
               "function network(x)\n"
               "    return x:relu():flatten():linear('classifier', {out = 10})\n"
               "end\n");
    static const char *const runs[][2] = {{"--resume=" FOLDER "/half-whole", "--steps=4"},
                                          {"--resume=" FOLDER "/half-parts", "--steps=3"},
                                          {"--resume=" FOLDER "/half-parts", "--steps=1"}};
    unlink(FOLDER "/half-whole");
    unlink(FOLDER "/half-parts");
    for (int i = 0; i < 3; i++) {
        RUN("train", FOLDER "/half.lua", "--device=emulate", "--precision=f16", "--data=synthetic",
            "--eval-steps=0", runs[i][0], runs[i][1], QUICK);
        expect_done();
    }
    expect_same_files(FOLDER "/half-whole", FOLDER "/half-parts");
    rg_ctx ctx;
    rg_safetensors file;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_safetensors_read(&ctx, FOLDER "/half-parts", &file), RG_OK);
    const rg_tensor_entry *good = rg_safetensors_find(&file, "optim.loss_scale_steps");
    float steps = 0;
    assert_non_null(good);
    memcpy(&steps, good->data, sizeof steps);
    assert_true(steps == 4);
    rg_ctx_free(&ctx);
}

/* ---- compilers ---- */

static void test_missing_compiler_is_one_line_that_says_what_to_install(void **state) {
    (void)state;
    static char *const empty[] = {"PATH=", "HOME=" FOLDER, NULL};
    RUN(SPEC, "--cc=/nonexistent", "--cache=" FOLDER "/cache");
    expect_line(1, "/nonexistent");
    assert_non_null(strstr(last.err, "gcc"));
    run_in(empty, (const char *const[]){SPEC, "--cache=" FOLDER "/cache", NULL});
    expect_line(1, "no C compiler");
    RUN(SPEC, "--cc=/bin/false", "--cache=" FOLDER "/cache");
    expect_line(1, "/bin/false");
}

/* ---- training that goes wrong or is stopped ---- */

static void test_loss_that_is_no_number_stops_at_its_step(void **state) {
    (void)state;
    write_text(FOLDER "/explode.lua",
               "data {dataset = 'synthetic', height = 5, width = 6, channels = 3, classes = 3}\n"
               "train {batch = 16, epochs = 1, optimizer = 'sgd', lr = 1e6}\n"
               "function network(x)\n"
               "    return x:flatten():linear('a', {out = 8}):linear('b', {out = 3})\n"
               "end\n");
    RUN("train", FOLDER "/explode.lua", "--data=synthetic", "--steps=20",
        "--save=" FOLDER "/explode.safetensors", QUICK);
    expect_line(1, "at epoch 0 step ");
    assert_non_null(strstr(last.err, "error[numeric]: loss is "));
    assert_non_null(strstr(last.err, "1e+06"));
    assert_int_not_equal(access(FOLDER "/explode.safetensors", F_OK), 0); /* nothing is saved */
    RUN("train", FOLDER "/explode.lua", "--data=synthetic", "--steps=60", "--device=reference");
    expect_line(1, "error[numeric]: loss is ");
}

static void test_the_reference_names_steps_as_kernels_do(void **state) {
    (void)state;
    for (int reference = 0; reference < 2; reference++) {
        RUN("train", SPEC, "--data=synthetic", "--steps=2", "--batch=4",
            reference ? "--device=reference" : "--device=cpu", QUICK);
        expect_done();
        const char *first = strstr(last.out, "\nepoch 0 step 0 loss ");
        assert_non_null(first);
        assert_non_null(strstr(first, "\nepoch 0 step 1 loss "));
    }
}

static void test_an_evaluation_can_be_cut_short_or_left_out(void **state) {
    (void)state;
    static const char *const devices[] = {"--device=cpu", "--device=reference"};
    for (int i = 0; i < 2; i++) {
        RUN("train", SPEC, "--data=synthetic", "--steps=1", "--eval-steps=0", devices[i], QUICK);
        expect_done();
        assert_non_null(strstr(last.out, "[ 0] Train:("));
        assert_null(strstr(last.out, "Valid"));
        RUN("train", SPEC, "--data=synthetic", "--steps=1", "--eval-steps=2", devices[i], QUICK);
        expect_done();
        assert_non_null(strstr(last.out, ", the first 32 of 2000 images), T: "));
    }
    RUN("train", SPEC, "--data=synthetic", "--steps=1", QUICK);
    expect_done();
    assert_non_null(strstr(last.out, ", Valid:(L="));
    assert_null(strstr(last.out, "first"));
}

/* The signal comes once the first step has been told. */
static void test_interrupted_training_saves_and_says_so(void **state) {
    (void)state;
    char *argv[] = {RG_PROGRAM,
                    "train",
                    SPEC,
                    "--data=synthetic",
                    "--steps=1000",
                    "--epochs=1000",
                    "--save=" FOLDER "/stopped.safetensors",
                    QUICK,
                    NULL};
    int pipes[2];
    char text[4096], line[512];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    int err = open_for_child(FOLDER "/err");
    pid_t child = start(argv, environ, pipes[1], err);
    close(pipes[1]);
    close(err);
    FILE *out = fdopen(pipes[0], "r");
    assert_non_null(out);
    while (fgets(line, sizeof line, out) && !strstr(line, "step 0 ")) {
    }
    assert_int_equal(kill(child, SIGINT), 0);
    while (fread(text, 1, sizeof text, out) > 0) {
    }
    fclose(out);
    last.code = wait_for(child);
    last.out[0] = '\0';
    slurp(FOLDER "/err", last.err);
    expect_line(130, "saved '" FOLDER "/stopped.safetensors'");
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/stopped.safetensors", QUICK);
    expect_done();
}

/* ---- JSON ---- */

/* Each line is an object with a number `key`. */
static void expect_json_lines(const char *key, int least) {
    int count = 0;
    char *next, *line = strtok_r(last.out, "\n", &next);
    for (; line; line = strtok_r(NULL, "\n", &next), count++) {
        json_error_t error;
        json_t *value = json_loads(line, 0, &error);
        if (!value) fail_msg("%s: %s", error.text, line);
        assert_true(json_is_number(json_object_get(value, key)));
        json_decref(value);
    }
    assert_true(count >= least);
}

static void test_json_output_is_json(void **state) {
    (void)state;
    RUN("train", SPEC, "--data=synthetic", "--steps=3", "--json",
        "--save=" FOLDER "/json.safetensors", QUICK);
    expect_done();
    expect_json_lines("train_loss", 1);
    RUN("eval", SPEC, "--data=synthetic", "--json", "--init=" FOLDER "/json.safetensors", QUICK);
    expect_done();
    expect_json_lines("accuracy", 1);
    RUN("verify", SPEC, "--json", QUICK);
    expect_done();
    expect_json_lines("error", 5);
    RUN("bench", SPEC, "--step", "--json", QUICK);
    expect_done();
    json_t *value = json_loads(last.out, 0, NULL);
    assert_true(json_is_array(json_object_get(value, "step_ms")));
    json_decref(value);
}

/* ---- the build command ---- */

static void test_build_prints_the_layers_and_leaves_the_sources(void **state) {
    (void)state;
    RUN(SPEC, "--out=" FOLDER "/sources", QUICK);
    expect_done();
    assert_non_null(strstr(last.out, "classifier"));
    assert_non_null(strstr(last.out, "parameters"));
    assert_int_equal(access(FOLDER "/sources/MANIFEST", R_OK), 0);
    RUN(SPEC, "--out=" FOLDER "/sources", "--quiet", QUICK);
    expect_done();
    assert_string_equal(last.out, "");
}

static bool is_there(const char *name) {
    char path[512];
    snprintf(path, sizeof path, FOLDER "/stale/%s", name);
    return access(path, F_OK) == 0;
}

static void test_a_build_removes_what_an_earlier_one_wrote_and_nothing_else(void **state) {
    (void)state;
    char *manifest = malloc(OUTPUT), file[256];
    assert_non_null(manifest);
    RUN(SPEC, "--out=" FOLDER "/stale", "--isa=avx2", QUICK);
    expect_done();
    slurp(FOLDER "/stale/MANIFEST", manifest);
    assert_int_equal(sscanf(strstr(manifest, "\n\n"), "%*s %*s %255s", file), 1);
    assert_true(is_there(file));
    static const char *const others[] = {"rg_own__f32_1234abcd.c", "rg_other.h", "notes.c"};
    for (int i = 0; i < 3; i++) {
        char path[512];
        snprintf(path, sizeof path, FOLDER "/stale/%s", others[i]);
        write_text(path, "");
    }
    strcat(manifest, "grad    0    rg_other.h  x\ngrad    0    ../stale/notes.c  x\n");
    write_text(FOLDER "/stale/MANIFEST", manifest); /* names that no kernel has */
    RUN("specs/tiny/plain.lua", "--out=" FOLDER "/stale", "--isa=avx2", QUICK);
    expect_done();
    assert_false(is_there(file));
    for (int i = 0; i < 3; i++) assert_true(is_there(others[i]));
    slurp(FOLDER "/stale/MANIFEST", manifest);
    assert_int_equal(sscanf(strstr(manifest, "\n\n"), "%*s %*s %255s", file), 1);
    assert_true(is_there(file));
    free(manifest);
}

/* Both sides of the line count whole blocks of images: three images are a block, as sixteen are. */
static void test_traffic_before_and_after_fusion_counts_the_same_images(void **state) {
    (void)state;
    static const char *const batch[2] = {"--batch=3", "--batch=16"};
    char line[2][128];
    for (int i = 0; i < 2; i++) {
        RUN("specs/tiny/tiny_residual.lua", "--out=" FOLDER "/traffic", batch[i], QUICK);
        expect_done();
        const char *at = strstr(last.out, "memory traffic");
        assert_non_null(at);
        snprintf(line[i], sizeof line[i], "%.*s", (int)strcspn(at, "\n"), at);
    }
    assert_string_equal(line[0], line[1]);
}

static void test_every_stage_can_be_dumped(void **state) {
    (void)state;
    static const char *const stages[] = {"infer",    "grad",  "decompose", "fold",
                                         "simplify", "fuse",  "select",    "expand",
                                         "schedule", "check", "plan"};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        char option[64];
        snprintf(option, sizeof option, "--dump=%s", stages[i]);
        RUN(SPEC, option);
        expect_done();
        assert_true(strlen(last.out) > 100);
    }
}

/* The launches of a dump whose symbol begins so. */
static int count_launches(const char *symbol) {
    int count = 0;
    for (const char *at = last.out; (at = strstr(at, symbol)); at++) count += at[-1] == ' ';
    return count;
}

static void test_a_named_variant_is_taken_by_every_kind_that_has_it(void **state) {
    (void)state;
    RUN("specs/resnet18_cifar.lua", "--dump=select", "--variant=direct");
    expect_done();
    assert_int_equal(count_launches("rg_conv2d_wgrad_split"), 0);
    assert_int_equal(count_launches("rg_conv2d_wgrad_direct"), 21);
    RUN("specs/resnet18_cifar.lua", "--dump=select", "--variant=direct,split");
    expect_done();
    assert_true(count_launches("rg_conv2d_wgrad_split") > 0);
    assert_true(count_launches("rg_conv2d_wgrad_direct") > 0);
    assert_int_equal(count_launches("rg_conv2d_fprop_wino"), 0);
    RUN(SPEC, "--dump=select", "--variant=ffma");
    expect_line(2, "--variant=ffma: target cpu has no variant 'ffma', expected one of direct, ");
    RUN(SPEC, "--dump=select", "--target=cuda", "--arch=sm_90", "--variant=ffma,wino4");
    expect_line(2, "target cuda has no variant 'wino4', expected one of ffma, ffma_split, mma, ");
    RUN(SPEC, "--dump=select", "--target=cuda", "--arch=sm_90", "--variant=ffma");
    expect_done();
    assert_int_equal(count_launches("rg_conv2d_wgrad_ffma_split"), 0);
}

typedef struct step_row {
    int phase; /* of all programs */
    double floor_us, model_us;
} step_row;

/* The launches of a training step, in order: their phases from one dump, their times of the H100's
 * column and of the model's from the other. */
static int read_step(step_row *row, int room, double *told_us) {
    int count = 0, timed = 0;
    char *next, *line;
    RUN("specs/tiny/tiny_residual.lua", "--target=cuda", "--arch=sm_90", "--dump=select");
    expect_done();
    for (line = strtok_r(last.out, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        bool update = sscanf(line, "update phase %d", &row[count].phase) == 1;
        if (update) row[count].phase += 1000;
        if (!update && sscanf(line, "grad phase %d", &row[count].phase) != 1) continue;
        assert_true(++count < room);
    }
    RUN("specs/tiny/tiny_residual.lua", "--target=cuda", "--arch=sm_90", "--dump=floor");
    expect_done();
    *told_us = 0;
    for (line = strtok_r(last.out, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        step_row *to = &row[timed];
        if (timed < count && sscanf(line, "%*f %*f %lf %*f %lf", &to->floor_us, &to->model_us) == 2)
            timed++;
        sscanf(line, "longest path by the model: H100 %lf us", told_us);
    }
    assert_int_equal(timed, count);
    return count;
}

static void test_the_longest_path_takes_each_phases_longest_launch(void **state) {
    (void)state;
    step_row row[256];
    double told_us, path_us = 0, sum_us = 0;
    int count = read_step(row, 256, &told_us), end;
    for (int first = 0; first < count; first = end) {
        double longest_us = 0, floor_us = 0;
        for (end = first; end < count && row[end].phase == row[first].phase; end++) {
            floor_us += row[end].floor_us;
            sum_us += row[end].model_us;
            if (row[end].model_us > longest_us) longest_us = row[end].model_us;
        }
        path_us += longest_us > floor_us ? longest_us : floor_us;
    }
    assert_true(fabs(told_us - path_us) <= 0.005 * (count + 1)); /* two digits are printed */
    assert_true(told_us < sum_us - 1); /* some launches do stand together */
}

static int make_folder(void **state) {
    (void)state;
    unsetenv("RG_CIFAR10_DIR"); /* no data but what a test names */
    if (chdir(RG_SOURCE_DIR) != 0) return -1;
    return mkdir(FOLDER, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_is_no_error),
        cmocka_unit_test(test_wrong_options_are_usage_errors),
        cmocka_unit_test(test_missing_or_wrong_spec_says_where),
        cmocka_unit_test(test_missing_and_truncated_data_are_named),
        cmocka_unit_test(test_wrong_checkpoints_are_refused_by_name),
        cmocka_unit_test(test_checkpoint_of_another_network_is_refused_by_name),
        cmocka_unit_test(test_a_run_stopped_and_resumed_gives_the_bits_of_one_never_stopped),
        cmocka_unit_test(test_so_does_one_in_half_precision_on_the_emulator),
        cmocka_unit_test(test_missing_compiler_is_one_line_that_says_what_to_install),
        cmocka_unit_test(test_loss_that_is_no_number_stops_at_its_step),
        cmocka_unit_test(test_the_reference_names_steps_as_kernels_do),
        cmocka_unit_test(test_an_evaluation_can_be_cut_short_or_left_out),
        cmocka_unit_test(test_interrupted_training_saves_and_says_so),
        cmocka_unit_test(test_json_output_is_json),
        cmocka_unit_test(test_build_prints_the_layers_and_leaves_the_sources),
        cmocka_unit_test(test_a_build_removes_what_an_earlier_one_wrote_and_nothing_else),
        cmocka_unit_test(test_traffic_before_and_after_fusion_counts_the_same_images),
        cmocka_unit_test(test_every_stage_can_be_dumped),
        cmocka_unit_test(test_a_named_variant_is_taken_by_every_kind_that_has_it),
        cmocka_unit_test(test_the_longest_path_takes_each_phases_longest_launch),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
