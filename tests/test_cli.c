/* The command as its users meet it: exit codes, one clear line for each failure, output that other
 * programs can read. */
#define FOLDER RG_BINARY_DIR "/test_cli"

#include "cli_run.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>

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
        {SPEC, "--dump=floor", NULL, "--dump=floor is of devices alone: add --target=cuda"},
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
    RUN("train", SPEC, "--device=reference", "--resume=x");
    expect_line(2, "--resume is for train, on kernels");
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

static void test_a_file_that_cannot_be_written_is_told_before_training(void **state) {
    (void)state;
    static const char *const options[] = {
        "--save=" FOLDER "/nowhere/a.safetensors", "--resume=" FOLDER "/nowhere/a.safetensors",
        "--save=" FOLDER "/file/a.safetensors", "--resume=" FOLDER "/file/a.safetensors"};
    write_text(FOLDER "/file", "");
    for (int i = 0; i < 4; i++) {
        RUN("train", SPEC, "--data=synthetic", "--steps=1", options[i], QUICK);
        expect_line(1,
                    i < 2 ? "/nowhere/': No such file or directory" : "/file/': Not a directory");
        assert_string_equal(last.out, "");
    }
    RUN("train", SPEC, "--save=" FOLDER "/a", "--resume=" FOLDER "/a");
    expect_line(2, "--save and --resume are both '" FOLDER "/a'");
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
                                             {"--steps=35", "--steps=22"}};
    for (int i = 0; i < 2; i++) {
        unlink(FOLDER "/whole.safetensors");
        unlink(FOLDER "/parts.safetensors");
        resume("whole", limits[i][0]);
        assert_non_null(strstr(last.out, "whole.safetensors: not there yet, training starts "));
        resume("parts", limits[i][1]);
        for (int again = 0; again < 2; again++) {
            resume("parts", limits[i][0]);
            assert_null(strstr(last.out, "afresh"));
            assert_true(!strstr(last.out, "nothing left to train: ") == !again);
        }
        expect_same_files(FOLDER "/whole.safetensors", FOLDER "/parts.safetensors");
    }
    unlink(FOLDER "/late.safetensors");
    RUN("train", SPEC, "--data=synthetic", "--batch=256", "--steps=9",
        "--resume=" FOLDER "/whole.safetensors", "--save=" FOLDER "/late.safetensors", QUICK);
    expect_done();
    assert_non_null(strstr(last.out, "nothing left to train: 35 steps were done before\n"));
    assert_non_null(strstr(last.out, "saved " FOLDER "/late.safetensors\n"));
    expect_same_files(FOLDER "/whole.safetensors", FOLDER "/parts.safetensors");
    assert_null(strstr(last.out, "goes on with"));
    RUN("eval", SPEC, "--data=synthetic", "--init=" FOLDER "/late.safetensors", QUICK);
    expect_done();
    RUN("train", SPEC, "--data=synthetic", "--batch=128", "--seed=5", "--steps=9",
        "--resume=" FOLDER "/parts.safetensors", QUICK);
    expect_done();
    assert_non_null(strstr(last.out, "parts.safetensors: trained with --batch=256 --seed="));
    assert_non_null(strstr(last.out, ", goes on with --batch=128 --seed=5: other images than "));
    RUN("train", SPEC, "--data=synthetic", "--steps=2", "--save=" FOLDER "/parts.safetensors",
        QUICK);
    expect_done();
    resume("parts", "--steps=3"); /* PyTorch's file */
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
                                          {"--resume=" FOLDER "/half-parts", "--steps=4"}};
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

/* Without batch norm no counter tells that PyTorch's file was trained. */
static void test_an_optimiser_that_starts_afresh_is_told_without_counters_too(void **state) {
    (void)state;
    RUN("train", FOLDER "/half.lua", "--data=synthetic", "--steps=1", "--save=" FOLDER "/plain",
        QUICK);
    expect_done();
    assert_null(strstr(last.out, "afresh"));
    RUN("train", FOLDER "/half.lua", "--data=synthetic", "--steps=1", "--init=" FOLDER "/plain",
        QUICK);
    expect_done();
    assert_non_null(strstr(last.out, "holds nothing of the optimiser, which starts afresh"));
}

static void train_by(const char *optimiser, const char *first) {
    char text[512];
    snprintf(text, sizeof text,
             "data {dataset = 'synthetic', height = 3, width = 5, channels = 3, classes = 10}\n"
             "train {batch = 16, epochs = 1, lr = 1e-3, optimizer = %s}\n"
             "function network(x)\n"
             "    return x:relu():flatten():linear('classifier', {out = 10})\n"
             "end\n",
             optimiser);
    write_text(FOLDER "/by.lua", text);
    RUN("train", FOLDER "/by.lua", "--data=synthetic", "--steps=1", "--eval-steps=0",
        "--save=" FOLDER "/by", first, QUICK);
    expect_done();
}

static void test_moments_that_the_optimiser_does_not_keep_are_told(void **state) {
    (void)state;
    static const char both[] = "/adam: its optim.moment1 and optim.moment2 are ignored: this ",
                      second[] = "/adam: its optim.moment2 is ignored: this ",
                      first[] = "/momentum: its optim.moment1 is ignored: this ";
    unlink(FOLDER "/adam");
    unlink(FOLDER "/momentum");
    train_by("'adam'", "--resume=" FOLDER "/adam");
    train_by("'sgd', momentum = 0.9", "--resume=" FOLDER "/momentum");
    train_by("'adam'", "--resume=" FOLDER "/adam");
    assert_null(strstr(last.out, "ignored"));
    train_by("'sgd', momentum = 0.9", "--init=" FOLDER "/adam");
    assert_non_null(strstr(last.out, second));
    train_by("'sgd'", "--init=" FOLDER "/adam");
    assert_non_null(strstr(last.out, both));
    train_by("'sgd'", "--resume=" FOLDER "/momentum");
    assert_non_null(strstr(last.out, first));
    RUN("eval", FOLDER "/by.lua", "--data=synthetic", "--init=" FOLDER "/adam", QUICK);
    expect_done();
    assert_null(strstr(last.out, "ignored"));
    RUN("train", FOLDER "/by.lua", "--data=synthetic", "--steps=1", "--device=reference",
        "--init=" FOLDER "/adam");
    expect_done();
    assert_non_null(strstr(last.out, "/adam: its optimiser's part is ignored: the reference "));
    train_by("'sgd'", "--resume=" FOLDER "/adam");
    assert_non_null(strstr(last.out, both));
}

/* The optimiser's part of a file is no more to be trusted than its parameters. */
static void expect_no_moment(const char *name, float value) {
    static uint8_t bytes[1 << 20];
    char option[] = "--resume=" FOLDER "/bad.safetensors";
    rg_ctx ctx;
    rg_safetensors file;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_safetensors_read(&ctx, FOLDER "/moments.safetensors", &file), RG_OK);
    for (uint32_t i = 0; i < file.count; i++) {
        if (strcmp(file.entry[i].name, name) != 0) continue;
        assert_true(file.entry[i].bytes <= sizeof bytes);
        memcpy(bytes, file.entry[i].data, file.entry[i].bytes);
        memcpy(bytes + file.entry[i].bytes - sizeof value, &value, sizeof value);
        file.entry[i].data = bytes;
    }
    assert_int_equal(rg_safetensors_write(&ctx, FOLDER "/bad.safetensors", &file), RG_OK);
    rg_ctx_free(&ctx);
    RUN("train", SPEC, "--data=synthetic", "--steps=9", option, QUICK);
    expect_line(1, name);
}

static void test_moments_that_none_can_be_are_refused(void **state) {
    (void)state;
    unlink(FOLDER "/moments.safetensors");
    resume("moments", "--steps=1");
    expect_no_moment("optim.moment1.fc2.weight", INFINITY);
    expect_no_moment("optim.moment2.fc2.weight", NAN);
    expect_no_moment("optim.moment2.fc2.weight", -1);
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
    unlink(FOLDER "/json-resumed");
    for (int i = 0; i < 2; i++) {
        RUN("train", SPEC, "--data=synthetic", i ? "--steps=5" : "--steps=3", "--json",
            "--eval-steps=0", "--resume=" FOLDER "/json-resumed", QUICK);
        expect_done();
        expect_json_lines("train_loss", 1);
        assert_non_null(strstr(last.out, i ? "\"first_step\": 3, \"last_step\": 4, "
                                           : "\"first_step\": 0, \"last_step\": 2, "));
    }
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_is_no_error),
        cmocka_unit_test(test_wrong_options_are_usage_errors),
        cmocka_unit_test(test_missing_or_wrong_spec_says_where),
        cmocka_unit_test(test_missing_and_truncated_data_are_named),
        cmocka_unit_test(test_wrong_checkpoints_are_refused_by_name),
        cmocka_unit_test(test_checkpoint_of_another_network_is_refused_by_name),
        cmocka_unit_test(test_a_file_that_cannot_be_written_is_told_before_training),
        cmocka_unit_test(test_a_run_stopped_and_resumed_gives_the_bits_of_one_never_stopped),
        cmocka_unit_test(test_so_does_one_in_half_precision_on_the_emulator),
        cmocka_unit_test(test_an_optimiser_that_starts_afresh_is_told_without_counters_too),
        cmocka_unit_test(test_moments_that_the_optimiser_does_not_keep_are_told),
        cmocka_unit_test(test_moments_that_none_can_be_are_refused),
        cmocka_unit_test(test_missing_compiler_is_one_line_that_says_what_to_install),
        cmocka_unit_test(test_loss_that_is_no_number_stops_at_its_step),
        cmocka_unit_test(test_the_reference_names_steps_as_kernels_do),
        cmocka_unit_test(test_an_evaluation_can_be_cut_short_or_left_out),
        cmocka_unit_test(test_interrupted_training_saves_and_says_so),
        cmocka_unit_test(test_json_output_is_json),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
