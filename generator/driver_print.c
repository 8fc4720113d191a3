/* What `resgen SPEC` and `resgen explain` print, and the folder of sources. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

static void shape_text(char *text, size_t size, rg_type type) {
    const int32_t *d = type.dim;
    if (d[1] == 1 && d[2] == 1)
        snprintf(text, size, "[%d]", d[3]);
    else
        snprintf(text, size, "[%d, %d, %d]", d[3], d[1], d[2]);
}

static int64_t count_params(const rg_graph *graph, const char *prefix, bool trained) {
    int64_t total = 0;
    size_t length = strlen(prefix);
    for (int32_t i = 0; i < graph->param_count; i++) {
        const rg_param *param = &graph->param[i];
        if (param->trained != trained || strncmp(param->name, prefix, length) != 0) continue;
        if (length && param->name[length] != '.') continue;
        int64_t count = 1;
        for (int32_t k = 0; k < param->rank; k++) count *= param->shape[k];
        total += count;
    }
    return total;
}

static void print_layers(const rg_job *job) {
    const rg_spec *spec = job->spec;
    printf("%-28s %-26s %-16s %12s\n", "layer", "kind", "output C,H,W", "parameters");
    for (int32_t i = 0; i < spec->layer_count; i++) {
        const rg_spec_layer *layer = &spec->layer[i];
        char shape[64];
        shape_text(shape, sizeof shape, spec->graph->value[layer->value].type);
        int64_t params = count_params(spec->graph, layer->name, true);
        printf("%*s%-*s %-26s %-16s", 2 * layer->depth, "", 28 - 2 * layer->depth, layer->name,
               layer->kind, shape);
        if (params) printf(" %12lld", (long long)params);
        printf("\n");
    }
}

static int32_t round_up(int32_t n, int32_t to) {
    return (n + to - 1) / to * to;
}

/* As kernels keep it, and as rg_kdesc_bytes counts it: whole blocks of images, whole vectors of
 * channels (of a weight's output channels) but in an input. */
static double value_bytes(const rg_job *job, const rg_value *value) {
    rg_type type = value->type;
    bool weight = type.cls == RG_T_WEIGHT;
    int32_t images = weight || type.dim[0] != RG_BATCH ? 1 : round_up(job->spec->batch, RG_BLOCK);
    int32_t *c = &type.dim[weight ? 0 : 3];
    if (*c > 1 && value->kind != RG_V_INPUT) *c = round_up(*c, job->target.vector);
    return 4.0 * (double)rg_type_elements(type) * images;
}

static double node_bytes(const rg_job *job, const rg_node *node) {
    const rg_value *value = job->train_graph->value;
    double bytes = 0;
    for (int32_t i = 0; i < node->in_count; i++) bytes += value_bytes(job, &value[node->in[i]]);
    for (int32_t i = 0; i < node->out_count; i++) bytes += value_bytes(job, &value[node->out[i]]);
    return bytes;
}

typedef struct summary {
    double forward_flop, step_flop; /* an image */
    int before, after, distinct;    /* kernels of a training step, without the optimiser */
    double bytes_before, bytes_after;
    int stand_alone; /* map kernels: element-wise passes that nothing carries */
} summary;

static summary summarise(const rg_job *job) {
    summary s = {0};
    const rg_graph *graph = job->train_graph;
    for (rg_nid n = 0; n < graph->node_count; n++) {
        s.before++;
        s.bytes_before += node_bytes(job, &graph->node[n]);
        s.step_flop += rg_op_flop(graph, &graph->node[n]);
    }
    for (rg_nid n = 0; n < job->spec->graph->node_count; n++)
        s.forward_flop += rg_op_flop(job->spec->graph, &job->spec->graph->node[n]);
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        if (launch->program != RG_PP_GRAD) continue;
        s.after++;
        s.stand_alone += launch->desc.kind == RG_K_MAP;
        s.bytes_after += rg_kdesc_bytes(&launch->desc, launch->blocks);
    }
    s.distinct = (int)job->planned.plan.kernel_count;
    return s;
}

static uint64_t all_arenas(const rg_plan *plan) {
    uint64_t total = 0;
    for (int a = 0; a < RG_ARENA_COUNT; a++) total += plan->arena_bytes[a];
    return total;
}

static void print_summary(const rg_job *job, const char *folder) {
    const rg_plan *plan = &job->planned.plan;
    summary s = summarise(job);
    printf("\nparameters         %lld trained, %lld running statistics\n",
           (long long)count_params(job->spec->graph, "", true),
           (long long)count_params(job->spec->graph, "", false));
    printf(
        "work               %.3f GFLOP an image forward, %.3f a training step (batch %d: %.1f)\n",
        s.forward_flop / 1e9, s.step_flop / 1e9, job->spec->batch,
        s.step_flop * job->spec->batch / 1e9);
    printf("kernels            %d a step without the optimiser before fusion, %d after (%d of them "
           "stand-alone element-wise), %d distinct in all programs\n",
           s.before, s.after, s.stand_alone, s.distinct);
    printf("memory traffic     %.1f MB a step without the optimiser before fusion, %.1f MB after\n",
           s.bytes_before / 1e6, s.bytes_after / 1e6);
    printf("activations        %.1f MB, lower bound %.1f MB\n",
           (double)plan->arena_bytes[RG_ARENA_WORK] / 1e6, (double)plan->work_lower_bound / 1e6);
    printf("all arenas         %.1f MB\n", (double)all_arenas(plan) / 1e6);
    if (job->cuda)
        printf("architecture       sm_%d\nNVRTC              %s\n", job->target.arch,
               rg_job_cuda_nvrtc(job));
    else
        printf("instruction set    %s\n", job->target.isa);
    printf("built              %d compiled, %d from the cache, %.1f s\n", job->stats.compiled,
           job->stats.cached, job->stats.seconds);
    if (job->stats.note) printf("note               %s\n", job->stats.note);
    printf("sources            %s\n", folder);
}

/* ---- the folder of sources ---- */

enum { MANIFEST_MOST = 16 << 20 }; /* bytes of one that is read */

static const char *ending(const rg_job *job) {
    return job->cuda ? ".cu" : ".c";
}

/* Rows of three words and a layer, behind a blank line; the third word is a file. */
static void list_files(const rg_job *job, rg_text *text) {
    static const char *const program[] = {
#define X(id, name) name,
        RG_PLAN_PROGRAM_LIST(X)
#undef X
    };
    rg_text_add(text, "spec %s\ntarget %s ", job->cli->spec, job->target.name);
    if (job->cuda)
        rg_text_add(text, "sm_%d\n\n", job->target.arch);
    else
        rg_text_add(text, "%s\n\n", job->target.isa);
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        rg_text_add(text, "%-7s %-4d %s%s  %s\n", program[launch->program], launch->phase,
                    launch->name.symbol, ending(job), launch->label);
    }
    bool objects = job->cuda && rg_job_cuda_has_cubins(job);
    for (uint32_t i = 0; objects && i < job->planned.plan.kernel_count; i++)
        rg_text_add(text, "%-7s %-4s %s.cubin\n", "object", "-", job->source[i].symbol);
}

/* The file of a manifest's next row, *row moving on; 0: there is none, or the row has none. */
static size_t next_file(const char **row, const char **file) {
    static const char *const endings[] = {".c", ".cu", ".cubin"};
    const char *at = *row;
    *row += strcspn(*row, "\n");
    *row += **row == '\n';
    for (int word = 0; word < 2; word++) {
        at += strcspn(at, " \n");
        at += strspn(at, " ");
    }
    *file = at;
    size_t length = strcspn(at, " \n"), stem = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (strncmp(at, "rg_", 3) != 0) return 0; /* a name without a folder, and a kernel's */
    for (int i = 0; i < 3; i++)
        if (length == stem + strlen(endings[i]) &&
            strncmp(at + stem, endings[i], length - stem) == 0)
            return length;
    return 0;
}

static bool names_file(const char *manifest, const char *file, size_t length) {
    for (const char *row = manifest, *other; *row;)
        if (next_file(&row, &other) == length && strncmp(file, other, length) == 0) return true;
    return false;
}

/* Files that an earlier command left in the folder, by its manifest, and that this one has not. */
static rg_status remove_stale(rg_job *job, const char *folder, const char *path,
                              const char *manifest) {
    char *old;
    size_t size;
    const char *file;
    if (access(path, F_OK) != 0) return RG_OK;
    RG_TRY(rg_file_read(job->ctx, job->ctx->arena, path, MANIFEST_MOST, &old, &size));
    const char *row = strstr(old, "\n\n");
    while (row && *row) {
        size_t length = next_file(&row, &file);
        if (length == 0 || names_file(manifest, file, length)) continue;
        char *stale = rg_arena_printf(job->ctx->arena, "%s/%.*s", folder, (int)length, file);
        if (!stale) return rg_nomem(job->ctx);
        if (unlink(stale) != 0 && errno != ENOENT)
            return rg_fail(job->ctx, RG_E_IO, "cannot remove '%s', a file of an earlier run: %s",
                           stale, strerror(errno));
    }
    return RG_OK;
}

/* The new list comes last: until then the old one names what may have to be removed. */
static rg_status write_manifest(rg_job *job, const char *folder) {
    rg_text text = {0};
    list_files(job, &text);
    char *path = rg_arena_printf(job->ctx->arena, "%s/MANIFEST", folder);
    rg_status status =
        text.failed || !path ? rg_nomem(job->ctx) : remove_stale(job, folder, path, text.data);
    if (status == RG_OK) status = rg_file_write(job->ctx, path, text.data, text.length);
    rg_text_free(&text);
    return status;
}

static rg_status write_sources(rg_job *job, const char **folder) {
    *folder = job->cli->out ? job->cli->out
                            : rg_arena_printf(job->ctx->arena, "generated/%s-%s", job->spec->name,
                                              job->target.name);
    if (!*folder) return rg_nomem(job->ctx);
    RG_TRY(rg_file_mkdirs(job->ctx, *folder));
    for (uint32_t i = 0; i < job->planned.plan.kernel_count; i++) {
        const rg_cpu_source *source = &job->source[i];
        char *path =
            rg_arena_printf(job->ctx->arena, "%s/%s%s", *folder, source->symbol, ending(job));
        if (!path) return rg_nomem(job->ctx);
        RG_TRY(rg_file_write(job->ctx, path, source->source, strlen(source->source)));
    }
    if (job->cuda && rg_job_cuda_has_cubins(job)) RG_TRY(rg_job_cuda_write(job, *folder));
    return write_manifest(job, *folder);
}

rg_status rg_command_build(rg_job *job) {
    const char *folder;
    RG_TRY(rg_job_build(job));
    RG_TRY(write_sources(job, &folder));
    if (job->cli->quiet) return RG_OK;
    print_layers(job);
    if (job->cuda) rg_job_cuda_print(job);
    print_summary(job, folder);
    return RG_OK;
}

rg_status rg_command_explain(rg_job *job) {
    rg_text text = {0};
    rg_fuse_explain(&text, job->planned.program[RG_PP_GRAD].fusion, job->spec->batch);
    if (text.data) fputs(text.data, stdout);
    bool failed = text.failed;
    rg_text_free(&text);
    return failed ? rg_nomem(job->ctx) : RG_OK;
}
