/* The build command as its users meet it: layers, sources, dumps. */
#define FOLDER RG_BINARY_DIR "/test_cli_build"

#include "cli_run.h"

#include <math.h>

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

/* A driver's look-alike is an sm_86, whose blocks have less shared memory than an sm_80's. */
static void test_a_named_architecture_must_fit_the_device(void **state) {
    (void)state;
    static const char ampere[] = "--cuda-path=" RG_BINARY_DIR "/cuda-ampere";
    write_text(FOLDER "/wide.lua",
               "data {dataset = \"synthetic\", height = 8, width = 8, channels = 3, classes = 10,\n"
               "      mean = 0.5, std = 0.5}\n"
               "train {batch = 16, epochs = 1, optimizer = \"sgd\", lr = 0.05}\n"
               "function network(x)\n"
               "    x = x:conv(\"a\", {out = 128, kernel = 1}):relu()\n"
               "    x = x:conv(\"b\", {out = 256, kernel = 3, pad = 1}):relu()\n"
               "    return x:flatten():linear(\"classifier\", {out = 10})\nend\n");
    RUN("verify", FOLDER "/wide.lua", "--device=cuda", "--arch=sm_80", "--precision=bf16", ampere);
    expect_line(1, " for sm_80 wants 1");
    assert_non_null(strstr(last.err, "a block of an Ampere has 101376"));
    RUN("verify", FOLDER "/wide.lua", "--device=cuda", "--arch=sm_87", ampere);
    expect_line(2, "--arch=sm_87: device 0 (an Ampere) is an sm_86");
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

#define NVRTC_FOLDER RG_BINARY_DIR "/cuda-nvrtc"

static void build_cuda(const char *path) {
    RUN(SPEC, "--target=cuda", "--arch=sm_90", path, "--cache=" FOLDER "/cuda-cache",
        "--out=" FOLDER "/cuda");
    expect_done();
}

static void expect_out(const char *part) {
    if (strstr(last.out, part)) return;
    show();
    fail_msg("expected '%s'", part);
}

static void test_the_nvrtc_that_built_the_kernels_is_told(void **state) {
    (void)state;
    build_cuda("--cuda-path=" NVRTC_FOLDER);
    expect_out("\nNVRTC              11.99, " NVRTC_FOLDER "/libnvrtc.so\n");
    assert_null(strstr(last.out, "\nnote "));
    setenv("CUDA_PATH", NVRTC_FOLDER, 1);
    build_cuda("--cuda-path=" RG_SOURCE_DIR "/docs");
    expect_out("\nNVRTC              11.99, " NVRTC_FOLDER "/libnvrtc.so\n");
    expect_out("\nnote               there is no NVRTC to load under --cuda-path=" RG_SOURCE_DIR
               "/docs\n");
    write_text(FOLDER "/libnvrtc.so.12", "no library");
    build_cuda("--cuda-path=" FOLDER);
    expect_out("under --cuda-path=" FOLDER "; " FOLDER "/libnvrtc.so.12: file too short\n");
    write_text(FOLDER "/no-folder", "");
    RUN(SPEC, "--target=cuda", "--arch=sm_90", "--cuda-path=" RG_SOURCE_DIR "/docs",
        "--cache=" FOLDER "/no-folder", "--out=" FOLDER "/cuda");
    expect_done();
    expect_out("--cuda-path=" RG_SOURCE_DIR "/docs; built kernels are not kept: ");
    unsetenv("CUDA_PATH");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_prints_the_layers_and_leaves_the_sources),
        cmocka_unit_test(test_a_build_removes_what_an_earlier_one_wrote_and_nothing_else),
        cmocka_unit_test(test_traffic_before_and_after_fusion_counts_the_same_images),
        cmocka_unit_test(test_the_nvrtc_that_built_the_kernels_is_told),
        cmocka_unit_test(test_every_stage_can_be_dumped),
        cmocka_unit_test(test_a_named_variant_is_taken_by_every_kind_that_has_it),
        cmocka_unit_test(test_a_named_architecture_must_fit_the_device),
        cmocka_unit_test(test_the_longest_path_takes_each_phases_longest_launch),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
