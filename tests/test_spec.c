/* Specs: the reference network is the notebook's, and the language means what its reference says.
 */
#include <dirent.h>
#include <math.h>

#include "spec_helpers.h"

/* ---- helpers ---- */

static const rg_param *find_param(const rg_graph *graph, const char *name) {
    for (int32_t i = 0; i < graph->param_count; i++)
        if (strcmp(graph->param[i].name, name) == 0) return &graph->param[i];
    fail_msg("no parameter '%s'", name);
    return NULL;
}

static const rg_spec_layer *find_layer(const rg_spec *spec, const char *name) {
    for (int32_t i = 0; i < spec->layer_count; i++)
        if (strcmp(spec->layer[i].name, name) == 0) return &spec->layer[i];
    fail_msg("no layer '%s'", name);
    return NULL;
}

static const rg_node *find_node(const rg_graph *graph, rg_op op, const char *name) {
    for (int32_t i = 0; i < graph->node_count; i++)
        if (graph->node[i].op == op && strcmp(graph->node[i].name, name) == 0)
            return &graph->node[i];
    fail_msg("no node '%s'", name);
    return NULL;
}

static void assert_type(rg_type type, int32_t n, int32_t h, int32_t w, int32_t c) {
    const rg_type wanted = {RG_T_ACT, {n, h, w, c}};
    assert_true(rg_type_equal(type, wanted));
}

/* ---- the reference network ---- */

/* The names of the notebook's state_dict, with shapes, written out by its rules. */
typedef struct expected {
    char name[64];
    int rank;
    int64_t shape[4];
} expected;

static int put(expected *row, int at, const char *name, int rank, int64_t a, int64_t b, int64_t c) {
    snprintf(row[at].name, sizeof row[at].name, "%s", name);
    row[at].rank = rank;
    const int64_t shape[4] = {a, b, c, c};
    for (int i = 0; i < rank; i++) row[at].shape[i] = shape[i];
    return at + 1;
}

static int put_norm(expected *row, int at, const char *block, int which, int64_t channels) {
    static const char *const part[] = {"weight", "bias", "running_mean", "running_var"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.bn%d.%s", block, which, part[i]);
        at = put(row, at, name, 1, channels, 0, 0);
    }
    return at;
}

static int put_residual(expected *row, int at, const char *block, int64_t cin, int64_t cout) {
    char name[64];
    snprintf(name, sizeof name, "%s.conv1.weight", block);
    at = put(row, at, name, 4, cout, cin, 3);
    at = put_norm(row, at, block, 1, cout);
    snprintf(name, sizeof name, "%s.conv2.weight", block);
    at = put(row, at, name, 4, cout, cout, 3);
    at = put_norm(row, at, block, 2, cout);
    if (cin == cout) return at;
    snprintf(name, sizeof name, "%s.conv3.weight", block);
    at = put(row, at, name, 4, cout, cin, 1);
    snprintf(name, sizeof name, "%s.conv3.bias", block);
    return put(row, at, name, 1, cout, 0, 0);
}

static int put_network(expected *row) {
    static const struct {
        const char *block;
        int64_t cin, cout;
    } residual[] = {{"block2.1", 64, 64},   {"block2.2", 64, 64},   {"block3.0", 64, 128},
                    {"block3.1", 128, 128}, {"block4.0", 128, 256}, {"block4.1", 256, 256},
                    {"block5.0", 256, 512}, {"block5.1", 512, 512}};
    int at = put(row, 0, "block1.weight", 4, 64, 3, 7);
    at = put(row, at, "block1.bias", 1, 64, 0, 0);
    for (size_t i = 0; i < sizeof residual / sizeof *residual; i++)
        at = put_residual(row, at, residual[i].block, residual[i].cin, residual[i].cout);
    at = put(row, at, "classifier.weight", 2, 10, 512, 0);
    return put(row, at, "classifier.bias", 1, 10, 0, 0);
}

static void test_reference_parameters_are_the_notebooks(void **state) {
    (void)state;
    expected row[128];
    int count = put_network(row);
    const rg_graph *graph = load("specs/resnet18_cifar.lua")->graph;
    assert_int_equal(graph->param_count, count);
    for (int i = 0; i < count; i++) {
        const rg_param *param = &graph->param[i];
        assert_string_equal(param->name, row[i].name);
        assert_int_equal(param->rank, row[i].rank);
        for (int k = 0; k < row[i].rank; k++) assert_int_equal(param->shape[k], row[i].shape[k]);
        assert_int_equal(param->trained, !strstr(row[i].name, "running_"));
    }
}

static void test_reference_shapes_are_the_notebooks(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int32_t h, w, c;
    } wanted[] = {{"block1", 45, 45, 64},  {"block2.0", 22, 22, 64}, {"block2", 22, 22, 64},
                  {"block3", 11, 11, 128}, {"block4", 6, 6, 256},    {"block5", 1, 1, 512},
                  {"classifier", 1, 1, 10}};
    const rg_spec *spec = load("specs/resnet18_cifar.lua");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const rg_spec_layer *layer = find_layer(spec, wanted[i].name);
        assert_type(spec->graph->value[layer->value].type, RG_BATCH, wanted[i].h, wanted[i].w,
                    wanted[i].c);
    }
    assert_string_equal(find_layer(spec, "block1")->kind, "conv2d 7x7/2");
    assert_string_equal(find_layer(spec, "block2.0")->kind, "maxpool 3x3/2");
    assert_ptr_equal(find_layer(spec, "block2.0") + 1, find_layer(spec, "block2.1"));
    assert_string_equal(find_layer(spec, "block2")->kind, "block");
    assert_int_equal(find_layer(spec, "block2.1.conv1")->depth, 2);
}

static void test_reference_training_is_the_notebooks(void **state) {
    (void)state;
    const rg_spec *spec = load("specs/resnet18_cifar.lua");
    assert_string_equal(spec->name, "resnet18_cifar");
    assert_string_equal(spec->dataset, "cifar10");
    assert_int_equal(spec->height, 96);
    assert_int_equal(spec->width, 96);
    assert_int_equal(spec->channels, 3);
    assert_int_equal(spec->classes, 10);
    assert_int_equal(spec->batch, 64);
    assert_int_equal(spec->eval_batch, 128);
    assert_int_equal(spec->epochs, 20);
    assert_int_equal(spec->optim.kind, RG_OPTIM_ADAM);
    assert_true(spec->optim.lr == 1e-3 && spec->optim.beta1 == 0.9 && spec->optim.beta2 == 0.999);
    assert_true(spec->optim.eps == 1e-8 && spec->optim.weight_decay == 0);
    for (int i = 0; i < 3; i++) assert_true(spec->mean[i] == 0.5 && spec->std[i] == 0.5);
}

/* Kaiming uniform with a = sqrt 5: bound 1/sqrt(fan_in) for weight and bias. */
static void test_initialisation_is_pytorchs_default(void **state) {
    (void)state;
    static const struct {
        const char *name;
        rg_init init;
        double fan_in, value;
    } wanted[] = {{"block1.weight", RG_INIT_UNIFORM, 147, 0},
                  {"block1.bias", RG_INIT_UNIFORM, 147, 0},
                  {"block3.0.conv1.weight", RG_INIT_UNIFORM, 576, 0},
                  {"block3.0.conv3.bias", RG_INIT_UNIFORM, 64, 0},
                  {"classifier.weight", RG_INIT_UNIFORM, 512, 0},
                  {"block2.1.bn1.weight", RG_INIT_CONST, 0, 1},
                  {"block2.1.bn1.bias", RG_INIT_CONST, 0, 0},
                  {"block2.1.bn1.running_mean", RG_INIT_CONST, 0, 0},
                  {"block2.1.bn1.running_var", RG_INIT_CONST, 0, 1}};
    const rg_graph *graph = load("specs/resnet18_cifar.lua")->graph;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const rg_param *param = find_param(graph, wanted[i].name);
        double value = wanted[i].fan_in > 0 ? 1 / sqrt(wanted[i].fan_in) : wanted[i].value;
        assert_int_equal(param->init, wanted[i].init);
        assert_true(fabs(param->value - value) < 1e-15);
    }
}

static void test_every_running_statistic_has_its_new_value(void **state) {
    (void)state;
    const rg_graph *graph = load("specs/resnet18_cifar.lua")->graph;
    int of_kind[RG_O_STATE + 1] = {0};
    for (int32_t i = 0; i < graph->result_count; i++) {
        const rg_result *result = &graph->result[i];
        of_kind[result->kind]++;
        if (result->kind != RG_O_STATE) continue;
        const rg_node *node = &graph->node[graph->value[result->value].def];
        assert_int_equal(node->op, RG_OP_BATCH_NORM);
        int out = result->value == node->out[1] ? 1 : 2;
        assert_int_equal(result->value, node->out[out]);
        assert_int_equal(graph->value[node->in[out + 2]].param, result->param);
        assert_non_null(
            strstr(graph->param[result->param].name, out == 1 ? ".running_mean" : ".running_var"));
    }
    assert_int_equal(of_kind[RG_O_STATE], 2 * 16);
    assert_int_equal(of_kind[RG_O_LOSS], 1);
    assert_int_equal(of_kind[RG_O_CORRECT], 1);
    assert_int_equal(of_kind[RG_O_LOGITS], 1);
}

/* ---- the language ---- */

static void test_linear_reads_the_image_as_its_filter(void **state) {
    (void)state;
    const rg_graph *graph = load("specs/tiny/branches.lua")->graph;
    const rg_node *node = find_node(graph, RG_OP_CONV2D_FPROP, "classifier");
    const rg_type weight = graph->value[node->in[1]].type, wanted = {RG_T_WEIGHT, {7, 3, 3, 18}};
    assert_true(rg_type_equal(weight, wanted));
    assert_int_equal(node->attr.r, 3);
    assert_int_equal(node->attr.s, 3);
    const rg_param *param = find_param(graph, "classifier.weight");
    assert_int_equal(param->rank, 2);
    assert_int_equal(param->shape[0], 7);
    assert_int_equal(param->shape[1], 18 * 3 * 3);
    assert_true(fabs(param->value - 1 / sqrt(162)) < 1e-15);
}

static void test_a_bias_is_a_sum_after_the_convolution(void **state) {
    (void)state;
    const rg_graph *graph = load("specs/resnet18_cifar.lua")->graph;
    const rg_node *conv = find_node(graph, RG_OP_CONV2D_FPROP, "block1");
    const rg_node *bias = find_node(graph, RG_OP_POINTWISE, "block1");
    assert_int_equal(bias->in_count, 2);
    assert_int_equal(bias->in[0], conv->out[0]);
    assert_type(graph->value[bias->in[1]].type, 1, 1, 1, 64);
}

static void test_every_example_loads(void **state) {
    (void)state;
    DIR *folder = opendir("specs/tiny");
    int count = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[512];
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 4, ".lua") != 0) continue;
        snprintf(path, sizeof path, "specs/tiny/%s", entry->d_name);
        load(path);
        count++;
    }
    closedir(folder);
    assert_true(count >= 5);
}

/* The same network in each of the ways of writing it. */
static void test_operators_methods_and_functions_are_one(void **state) {
    (void)state;
    static const char *const ways[] = {
        "local function f(x) return relu(x * 2 + x / x - 1) end",
        "local function f(x) return x:mul(2):add(x:div(x)):sub(1):relu() end",
        "local function f(x) return relu(sub(add(mul(x, 2), div(x, x)), 1)) end",
    };
    char *dump[3];
    for (int i = 0; i < 3; i++) {
        char text[512];
        rg_spec *spec = NULL;
        rg_text out = {0};
        snprintf(text, sizeof text,
                 "%s function network(x) return f(x):flatten():linear('fc', {out = 4}) end",
                 ways[i]);
        if (load_text(text, &spec) != RG_OK) print_diagnostics();
        assert_non_null(spec);
        rg_graph_dump(&out, spec->graph);
        dump[i] = rg_arena_strdup(ctx.arena, out.data);
        rg_text_free(&out);
        assert_non_null(dump[i]);
    }
    assert_string_equal(dump[0], dump[1]);
    assert_string_equal(dump[0], dump[2]);
}

/* The value of the element-wise op named `name` for the given operands. */
static double apply(const rg_graph *graph, const char *name, const double *arg);

typedef struct operands {
    const double *arg;
} operands;

static double operand(void *user, rg_expr_op op, int32_t leaf) {
    assert_int_equal(op, RG_EXPR_ARG);
    return ((const operands *)user)->arg[leaf];
}

static double apply(const rg_graph *graph, const char *name, const double *arg) {
    const rg_node *node = find_node(graph, RG_OP_POINTWISE, name);
    double value[64];
    operands user = {arg};
    assert_true(node->attr.expr.count <= 64);
    rg_expr_eval(&node->attr.expr, operand, &user, value);
    return value[node->attr.root];
}

static void test_element_wise_ops_mean_what_they_say(void **state) {
    (void)state;
    static const double x = -0.75, two[2] = {-0.75, 0.5};
    rg_spec *spec = NULL;
    const char *text =
        "function network(x)\n"
        "local y = x:relu() + x:silu() + x:sigmoid() + x:tanh() + x:exp() + x:abs() + -x\n"
        "y = y + x:leaky_relu('leaky', {slope = 0.2}) + x:leaky_relu()\n"
        "y = y + maximum(x, y, 'max') + minimum(x, y, 'min') + sub(x, y, 'sub') + div(x, y, "
        "'div')\n"
        "y = y + sub(1, x, 'from_one') + abs(y):sqrt() + exp(x):log() + exp(x):rsqrt()\n"
        "return y:flatten():linear('fc', {out = 4}) end";
    if (load_text(text, &spec) != RG_OK) print_diagnostics();
    assert_non_null(spec);
    const struct {
        const char *name;
        double value;
    } wanted[] = {{"relu", 0},
                  {"silu", x / (1 + exp(-x))},
                  {"sigmoid", 1 / (1 + exp(-x))},
                  {"tanh", tanh(x)},
                  {"exp", exp(x)},
                  {"abs", 0.75},
                  {"neg", 0.75},
                  {"leaky", -0.15},
                  {"leaky_relu", 0.01 * x},
                  {"max", 0.5},
                  {"min", -0.75},
                  {"sub", -1.25},
                  {"div", -1.5},
                  {"from_one", 1.75}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        double found = apply(spec->graph, wanted[i].name, two);
        if (fabs(found - wanted[i].value) > 1e-15) fail_msg("%s: %.17g", wanted[i].name, found);
    }
}

static void test_channel_vectors_are_repeated_over_the_image(void **state) {
    (void)state;
    static const char *const orders[] = {"mul(x, v, 'gated')", "mul(v, x, 'gated')"};
    for (int i = 0; i < 2; i++) {
        char text[256];
        rg_spec *spec = NULL;
        snprintf(text, sizeof text,
                 "function network(x) local v = x:global_avgpool()\n"
                 "return %s:flatten():linear('fc', {out = 4}) end",
                 orders[i]);
        assert_int_equal(load_text(text, &spec), RG_OK);
        const rg_node *node = find_node(spec->graph, RG_OP_POINTWISE, "gated");
        assert_type(spec->graph->value[node->out[0]].type, RG_BATCH, 8, 8, 3);
        assert_type(spec->graph->value[node->in[1 - i]].type, RG_BATCH, 1, 1, 3);
    }
}

static void test_an_operand_used_twice_is_one_input(void **state) {
    (void)state;
    rg_spec *spec = NULL;
    assert_int_equal(load_text("function network(x) local y = add(x, x, 'twice')\n"
                               "return y:flatten():linear('fc', {out = 4}) end",
                               &spec),
                     RG_OK);
    assert_int_equal(find_node(spec->graph, RG_OP_POINTWISE, "twice")->in_count, 1);
}

static void test_sgd_and_smoothing_are_read(void **state) {
    (void)state;
    const rg_spec *spec = load("specs/tiny/branches.lua");
    assert_int_equal(spec->optim.kind, RG_OPTIM_SGD);
    assert_true(spec->optim.lr == 0.05 && spec->optim.momentum == 0.9 && spec->optim.nesterov);
    assert_true(spec->mean[0] == 0.4 && spec->mean[2] == 0.6 && spec->std[1] == 0.25);
    assert_int_equal(spec->batch, 5);
    const rg_graph *plain = load("specs/tiny/plain.lua")->graph;
    assert_true(find_node(plain, RG_OP_LOSS, "loss")->attr.smoothing == 0.1);
}

static void test_values_carry_the_specs_line(void **state) {
    (void)state;
    const rg_graph *graph = load("specs/tiny/tiny_residual.lua")->graph;
    const rg_node *stem = find_node(graph, RG_OP_CONV2D_FPROP, "block1");
    const rg_node *inner = find_node(graph, RG_OP_CONV2D_FPROP, "block2.1.conv1");
    assert_string_equal(stem->loc.file, "specs/tiny/tiny_residual.lua");
    assert_int_equal(stem->loc.line, 8);
    assert_string_equal(inner->loc.file, "specs/tiny/tiny_residual.lua");
    assert_int_equal(inner->loc.line, 9);
}

/* ---- documents ---- */

/* Copies a file, or its first ```lua block. */
static void copy_text(const char *from, const char *to, bool block) {
    char *text, *start, *end;
    size_t length;
    assert_int_equal(rg_file_read(&ctx, ctx.arena, from, 1 << 20, &text, &length), RG_OK);
    start = block ? strstr(text, "```lua\n") : text;
    assert_non_null(start);
    if (block) start += strlen("```lua\n");
    end = block ? strstr(start, "```") : text + length;
    assert_non_null(end);
    assert_int_equal(rg_file_write(&ctx, to, start, (size_t)(end - start)), RG_OK);
}

static void test_the_readmes_spec_loads(void **state) {
    (void)state;
    static const char folder[] = RG_BINARY_DIR "/test_spec_readme";
    assert_int_equal(rg_file_mkdirs(&ctx, RG_BINARY_DIR "/test_spec_readme/lib"), RG_OK);
    copy_text("specs/README.md", RG_BINARY_DIR "/test_spec_readme/readme.lua", true);
    copy_text("specs/lib/resnet.lua", RG_BINARY_DIR "/test_spec_readme/lib/resnet.lua", false);
    const rg_spec *spec = load(RG_BINARY_DIR "/test_spec_readme/readme.lua");
    assert_memory_equal(spec->path, folder, strlen(folder));
    find_param(spec->graph, "stage.1.conv3.weight");
}

/* ---- the hash ---- */

static void test_the_hash_is_of_all_that_was_read(void **state) {
    (void)state;
    const rg_hash first = load("specs/tiny/tiny_residual.lua")->hash;
    const rg_hash again = load("specs/tiny/tiny_residual.lua")->hash;
    const rg_hash other = load("specs/tiny/mlp.lua")->hash;
    assert_memory_equal(&first, &again, sizeof first);
    assert_memory_not_equal(&first, &other, sizeof first);
    rg_spec *spec = NULL;
    const char *network = "function network(x) return x:flatten():linear('fc', {out = 4}) end";
    char text[256];
    assert_int_equal(load_text(network, &spec), RG_OK);
    const rg_hash alone = spec->hash;
    snprintf(text, sizeof text, "%s", network);
    *strchr(text, ' ') = '\n'; /* no other length */
    assert_int_equal(load_text(text, &spec), RG_OK);
    assert_memory_not_equal(&alone, &spec->hash, sizeof alone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_reference_parameters_are_the_notebooks),
        TEST(test_reference_shapes_are_the_notebooks),
        TEST(test_reference_training_is_the_notebooks),
        TEST(test_initialisation_is_pytorchs_default),
        TEST(test_every_running_statistic_has_its_new_value),
        TEST(test_linear_reads_the_image_as_its_filter),
        TEST(test_a_bias_is_a_sum_after_the_convolution),
        TEST(test_every_example_loads),
        TEST(test_operators_methods_and_functions_are_one),
        TEST(test_element_wise_ops_mean_what_they_say),
        TEST(test_channel_vectors_are_repeated_over_the_image),
        TEST(test_an_operand_used_twice_is_one_input),
        TEST(test_sgd_and_smoothing_are_read),
        TEST(test_values_carry_the_specs_line),
        TEST(test_the_readmes_spec_loads),
        TEST(test_the_hash_is_of_all_that_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
