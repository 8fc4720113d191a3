#include "draw.h"

#include "../golden/formula.h"

#define COUNT(list) ((int32_t)(sizeof(list) / sizeof *(list)))

/* 0 to n-1 */
static int32_t pick(draw *d, int32_t n) {
    return (int32_t)(golden_bits(d->seed, d->next++) % (uint64_t)n);
}

static bool chance(draw *d, int32_t percent) {
    return pick(d, 100) < percent;
}

static int32_t pick_channels(draw *d) {
    static const int32_t list[] = {1, 2, 3, 5, 6, 7, 8, 11, 13, 16, 18, 20, 24, 33};
    return list[pick(d, COUNT(list))];
}

static const char *pick_activation(draw *d) {
    static const char *const smooth[] = {"silu", "sigmoid", "tanh", "silu"};
    static const char *const kinked[] = {"relu", "leaky_relu", "relu", "relu"};
    return d->smooth || chance(d, 40) ? smooth[pick(d, COUNT(smooth))]
                                      : kinked[pick(d, COUNT(kinked))];
}

static const char *truth(bool value) {
    return value ? "true" : "false";
}

/* Statistics of a handful of values amplify every rounding: BN wants at least eight. */
static bool bn_is_sound(const draw *d, int32_t h, int32_t w) {
    return h * w * d->live >= 8;
}

static const char *const variants[] = {"direct", "wino2", "wino3", "wino4", NULL};

/* ---- pieces: each extends a chain of calls ---- */

/* `conv` that keeps the extent; "h" and "w" of it go through unchanged. */
static void add_same_conv(draw *d, int32_t out, bool bias) {
    static const int32_t sizes[] = {1, 3, 3, 5};
    int32_t kernel = sizes[pick(d, COUNT(sizes))], dilation = kernel == 3 && chance(d, 25) ? 2 : 1;
    rg_text_add(&d->text,
                ":conv(\"c%d\", {out = %d, kernel = %d, pad = %d, dilation = %d, bias = %s})",
                d->names++, out, kernel, dilation * (kernel - 1) / 2, dilation, truth(bias));
}

static void add_bn(draw *d, int32_t h, int32_t w) {
    if (bn_is_sound(d, h, w)) rg_text_add(&d->text, ":bn(\"b%d\")", d->names++);
}

static void add_activation(draw *d) {
    rg_text_add(&d->text, ":%s()", pick_activation(d));
}

/* A chain from the value `from` to `out` channels of the same extent. */
static void add_branch(draw *d, const char *from, int32_t out) {
    rg_text_add(&d->text, "%s", from);
    int32_t depth = 1 + pick(d, 2);
    for (int32_t i = 0; i < depth; i++) {
        if (chance(d, 30)) add_activation(d);
        bool normal = chance(d, 50);
        add_same_conv(d, i + 1 < depth ? pick_channels(d) : out, !normal || chance(d, 20));
        if (normal) add_bn(d, d->h, d->w);
        if (chance(d, 40)) add_activation(d);
    }
}

/* ---- steps: x to x ---- */

static int32_t extent(int32_t in, int32_t kernel, int32_t stride, int32_t pad, int32_t dilation) {
    int32_t span = in + 2 * pad - dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

static void step_conv(draw *d) {
    static const int32_t sizes[] = {1, 2, 3, 3, 5, 7};
    int32_t kernel = sizes[pick(d, COUNT(sizes))], stride = 1 + pick(d, 3),
            pad = pick(d, kernel / 2 + 1);
    int32_t dilation = kernel > 1 && chance(d, 20) ? 2 : 1, out = pick_channels(d);
    int32_t h = extent(d->h, kernel, stride, pad, dilation),
            w = extent(d->w, kernel, stride, pad, dilation);
    if (h < 1 || w < 1) return;
    bool normal = chance(d, 50);
    rg_text_add(&d->text,
                "    x = x:conv(\"c%d\", {out = %d, kernel = %d, stride = %d, pad = %d, dilation = "
                "%d, bias = %s})",
                d->names++, out, kernel, stride, pad, dilation, truth(!normal || chance(d, 20)));
    if (normal) add_bn(d, h, w);
    if (chance(d, 70)) add_activation(d);
    rg_text_add(&d->text, "\n");
    d->h = h;
    d->w = w;
    d->c = out;
}

/* Two or three branches, joined by sums and products. */
static void step_branches(draw *d) {
    int32_t out = pick_channels(d), count = 2 + pick(d, 2);
    for (int32_t i = 0; i < count; i++) {
        rg_text_add(&d->text, "    local p%d = ", i);
        add_branch(d, "x", out);
        if (chance(d, 30)) rg_text_add(&d->text, ":tanh()");
        rg_text_add(&d->text, "\n");
    }
    static const char *const joins[] = {"p0 + p1", "p0 * p1", "p0 - p1", "p0 * 0.5 + p1"};
    rg_text_add(&d->text, "    x = %s%s\n", joins[pick(d, COUNT(joins))],
                count == 2      ? ""
                : chance(d, 70) ? " + p2"
                                : " * p2:sigmoid()");
    d->c = out;
}

/* A convolution used raw and normalised, the normalised value read several times. */
static void step_shared_bn(draw *d) {
    int32_t mid = pick_channels(d), out = pick_channels(d);
    rg_text_add(&d->text, "    local raw = x");
    add_same_conv(d, mid, chance(d, 30));
    rg_text_add(&d->text, "\n    local normal = raw");
    add_bn(d, d->h, d->w);
    rg_text_add(&d->text, "\n    local left = ");
    add_branch(d, "normal", out);
    rg_text_add(&d->text, "\n    local right = ");
    add_branch(d, chance(d, 50) ? "normal" : "raw", out);
    rg_text_add(&d->text, "\n    x = left + right");
    if (mid == out)
        rg_text_add(&d->text, chance(d, 50) ? " + raw" : " + normal:tanh()");
    else
        rg_text_add(&d->text, " + raw:conv(\"c%d\", {out = %d, kernel = 1})", d->names++, out);
    rg_text_add(&d->text, "\n");
    d->c = out;
}

/* 1x1, 3x3 with stride 2, 1x1, and a shortcut of its own. */
static void step_bottleneck(draw *d) {
    int32_t mid = pick_channels(d), out = pick_channels(d);
    int32_t h = extent(d->h, 3, 2, 1, 1), w = extent(d->w, 3, 2, 1, 1);
    rg_text_add(&d->text, "    local y = x:conv(\"c%d\", {out = %d, kernel = 1, bias = false})",
                d->names++, mid);
    add_bn(d, d->h, d->w);
    add_activation(d);
    rg_text_add(&d->text,
                ":conv(\"c%d\", {out = %d, kernel = 3, stride = 2, pad = 1, bias = false})",
                d->names++, mid);
    add_bn(d, h, w);
    add_activation(d);
    rg_text_add(&d->text, ":conv(\"c%d\", {out = %d, kernel = 1, bias = false})", d->names++, out);
    add_bn(d, h, w);
    rg_text_add(&d->text, "\n    local short = x:conv(\"c%d\", {out = %d, kernel = 1, stride = 2})",
                d->names++, out);
    if (chance(d, 50)) add_bn(d, h, w);
    rg_text_add(&d->text, "\n    x = (y + short)");
    if (chance(d, 80)) add_activation(d);
    rg_text_add(&d->text, "\n");
    d->h = h;
    d->w = w;
    d->c = out;
}

static void step_pool(draw *d) {
    bool maximum = !d->smooth && chance(d, 60);
    int32_t kernel = 2 + pick(d, 2), stride = 1 + pick(d, kernel),
            pad = kernel == 3 ? pick(d, 2) : 0;
    int32_t h = extent(d->h, kernel, stride, pad, 1), w = extent(d->w, kernel, stride, pad, 1);
    if (h < 1 || w < 1) return;
    rg_text_add(&d->text, "    x = x:%s {kernel = %d, stride = %d, pad = %d}\n",
                maximum ? "maxpool" : "avgpool", kernel, stride, pad);
    d->h = h;
    d->w = w;
}

/* One factor per image and channel. */
static void step_gate(draw *d) {
    int32_t mid = 1 + pick(d, 6);
    rg_text_add(&d->text,
                "    local gate = x:global_avgpool():conv(\"c%d\", {out = %d, kernel = 1})",
                d->names++, mid);
    add_activation(d);
    rg_text_add(&d->text, ":conv(\"c%d\", {out = %d, kernel = 1}):sigmoid()\n    x = x * gate%s\n",
                d->names++, d->c, chance(d, 30) ? " + x:global_avgpool()" : "");
}

/* An identity residual. */
static void step_residual(draw *d) {
    rg_text_add(&d->text, "    local y = ");
    add_branch(d, "x", d->c);
    rg_text_add(&d->text, "\n    x = (x + y)");
    if (chance(d, 70)) add_activation(d);
    rg_text_add(&d->text, "\n");
}

/* Windows that are not square. */
static void step_oblong(draw *d) {
    static const int32_t sizes[][2] = {{1, 3}, {3, 1}, {2, 3}, {5, 1}, {1, 2}};
    const int32_t *size = sizes[pick(d, COUNT(sizes))];
    int32_t stride = 1 + pick(d, 2), out = pick_channels(d);
    int32_t h = extent(d->h, size[0], stride, 0, 1), w = extent(d->w, size[1], stride, 0, 1);
    if (h < 1 || w < 1) return;
    if (chance(d, 60)) {
        rg_text_add(&d->text, "    x = x:conv(\"c%d\", {out = %d, kernel = {%d, %d}, stride = %d})",
                    d->names++, out, size[0], size[1], stride);
        add_activation(d);
        d->c = out;
    } else {
        rg_text_add(&d->text, "    x = x:%s {kernel = {%d, %d}, stride = %d}",
                    d->smooth ? "avgpool" : "maxpool", size[0], size[1], stride);
    }
    rg_text_add(&d->text, "\n");
    d->h = h;
    d->w = w;
}

/* Normalisation of what no convolution has made, read by two. */
static void step_preactivation(draw *d) {
    if (!bn_is_sound(d, d->h, d->w)) return;
    int32_t out = pick_channels(d);
    rg_text_add(&d->text, "    local z = x");
    add_bn(d, d->h, d->w);
    add_activation(d);
    rg_text_add(&d->text, "\n    x = ");
    add_branch(d, "z", out);
    rg_text_add(&d->text, " + z:conv(\"c%d\", {out = %d, kernel = 1, bias = false})\n", d->names++,
                out);
    d->c = out;
}

/* Element-wise ops, kept where they are tame. */
static void step_pointwise(draw *d) {
    static const char *const smooth[] = {"x * 0.75 + 0.1",
                                         "-x",
                                         "1 - x",
                                         "x / 2",
                                         "x * x * 0.5",
                                         "x + x",
                                         "x:tanh():exp()",
                                         "(x * x + 1):log()",
                                         "(x * x + 0.5):sqrt()",
                                         "(x * x + 1):rsqrt() * x",
                                         "x / (x * x + 1)",
                                         "x * x:global_avgpool()"};
    static const char *const kinked[] = {"abs(x)", "maximum(x, 0.1)", "minimum(x, x * x)",
                                         "maximum(x:tanh(), -x)"};
    const char *text = d->smooth || chance(d, 50) ? smooth[pick(d, COUNT(smooth))]
                                                  : kinked[pick(d, COUNT(kinked))];
    rg_text_add(&d->text, "    x = %s\n", text);
}

typedef struct step_row {
    void (*draw)(draw *);
    int32_t weight;
} step_row;

static const step_row steps[] = {{step_conv, 4},         {step_branches, 3},  {step_shared_bn, 2},
                                 {step_bottleneck, 2},   {step_pool, 3},      {step_gate, 1},
                                 {step_residual, 2},     {step_pointwise, 2}, {step_oblong, 1},
                                 {step_preactivation, 1}};

static void add_step(draw *d) {
    int32_t total = 0, i = 0;
    for (int32_t k = 0; k < COUNT(steps); k++) total += steps[k].weight;
    for (int32_t at = pick(d, total); at >= steps[i].weight; i++) at -= steps[i].weight;
    rg_text_add(&d->text, "    do\n");
    steps[i].draw(d);
    rg_text_add(&d->text, "    end\n");
}

/* ---- the frame ---- */

static void add_head(draw *d, int32_t classes) {
    if (chance(d, 40)) {
        rg_text_add(&d->text, "    x = x:global_avgpool()\n");
        d->h = d->w = 1;
    }
    rg_text_add(&d->text, "    x = x:flatten()\n");
    if (chance(d, 40)) {
        rg_text_add(&d->text, "    x = x:linear(\"l%d\", {out = %d})", d->names++, 2 + pick(d, 30));
        if (chance(d, 40)) add_bn(d, 1, 1);
        add_activation(d);
        rg_text_add(&d->text, "\n");
    }
    rg_text_add(&d->text, "    return x:linear(\"last\", {out = %d, bias = %s})\nend\n", classes,
                truth(chance(d, 80)));
}

static void add_setup(draw *d, int32_t classes) {
    static const int32_t sizes[][2] = {{17, 23}, {9, 8},  {12, 12}, {5, 7}, {16, 16},
                                       {1, 9},   {13, 6}, {3, 3},   {8, 1}};
    static const int32_t batches[] = {1, 3, 5, 17};
    static const int32_t lives[] = {1, 2, 4, 16};
    static const char *const optimisers[] = {"\"adam\"", "\"sgd\"", "\"sgd\", momentum = 0.9",
                                             "\"adam\", weight_decay = 0.01",
                                             "\"sgd\", momentum = 0.9, nesterov = true"};
    int32_t size = pick(d, COUNT(sizes)), batch = pick(d, COUNT(batches));
    d->h = d->height = sizes[size][0];
    d->w = d->width = sizes[size][1];
    d->c = d->channels = 1 + pick(d, 4);
    d->batch = batches[batch];
    d->live = batch == 3 ? 1 + pick(d, 16) : lives[batch];
    d->eval_batch = batches[pick(d, COUNT(batches))];
    d->smooth = chance(d, 60);
    rg_text_add(
        &d->text,
        "data {dataset = \"synthetic\", height = %d, width = %d, channels = %d, classes = %d}\n",
        d->height, d->width, d->channels, classes);
    rg_text_add(&d->text, "train {batch = %d, eval_batch = %d, lr = 0.01, optimizer = %s%s}\n\n",
                d->batch, d->eval_batch, optimisers[pick(d, COUNT(optimisers))],
                chance(d, 20) ? ", label_smoothing = 0.1" : "");
}

void draw_network(draw *d, uint64_t seed) {
    char name[64];
    snprintf(name, sizeof name, "network %llu", (unsigned long long)seed);
    *d = (draw){.seed = golden_seed(name)};
    int32_t classes = 2 + pick(d, 9);
    d->narrow = chance(d, 25);
    d->variant = chance(d, 35) ? variants[pick(d, COUNT(variants) - 1)] : NULL;
    add_setup(d, classes);
    rg_text_add(&d->text, "function network(x)\n");
    step_conv(d);
    int32_t count = 1 + pick(d, 4);
    for (int32_t i = 0; i < count; i++) add_step(d);
    add_head(d, classes);
}
