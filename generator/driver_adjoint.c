/* verify: the adjoint identities of every convolution of the plan, with the variants picked for it.
 */
#include <string.h>

#include "driver_parts.h"
#include "rg_harness_adjoint.h"

enum { LIVE = RG_BLOCK + 5, MOST = 8 };

/* One variant of one of a convolution's three kernels. */
typedef struct adjoint_kernel {
    const char *variant;
    rg_kdesc desc;
    int32_t source;
} adjoint_kernel;

typedef struct adjoint_conv {
    rg_hgeom geom;
    int32_t count[RG_HROLES];
    adjoint_kernel kernel[RG_HROLES][MOST];
} adjoint_conv;

typedef struct adjoint_state {
    rg_job *job;
    adjoint_conv *conv;
    int32_t conv_count, source_count;
    rg_cpu_source *source;
    rg_harness_run *run; /* of each source */
} adjoint_state;

/* ---- what there is ---- */

static rg_hrole role_of(const rg_launch *launch) {
    return launch->desc.kind == RG_K_WGRAD ? RG_HWGRAD : launch->dgrad ? RG_HDGRAD : RG_HFPROP;
}

static bool is_contraction(const rg_launch *launch) {
    return launch->desc.kind == RG_K_CONV || launch->desc.kind == RG_K_WGRAD;
}

static adjoint_conv *find_conv(adjoint_state *state, const rg_hgeom *geom) {
    for (int32_t i = 0; i < state->conv_count; i++)
        if (memcmp(&state->conv[i].geom, geom, sizeof *geom) == 0) return &state->conv[i];
    state->conv[state->conv_count].geom = *geom;
    return &state->conv[state->conv_count++];
}

/* The row that the plan's launch uses, for the bare description. */
static const rg_candidate *same_row(const rg_candidate *list, int32_t count, const char *name) {
    for (int32_t i = 0; i < count; i++)
        if (strcmp(list[i].variant.name, name) == 0) return &list[i];
    return &list[0];
}

static rg_status add_kernel(adjoint_state *state, const rg_launch *launch, int32_t contr) {
    rg_job *job = state->job;
    rg_hrole role = role_of(launch);
    rg_hgeom geom = rg_harness_geometry(&launch->desc, contr, role);
    adjoint_conv *conv = find_conv(state, &geom);
    const char *name = launch->desc.variant.name;
    for (int32_t i = 0; i < conv->count[role]; i++)
        if (strcmp(conv->kernel[role][i].variant, name) == 0) return RG_OK;
    if (conv->count[role] == MOST) return RG_OK;
    adjoint_kernel *to = &conv->kernel[role][conv->count[role]++];
    rg_kdesc bare;
    rg_candidate *list;
    int32_t count;
    rg_emitted made;
    RG_TRY(rg_harness_bare(job->ctx, &launch->desc, contr, role, &bare));
    RG_TRY(rg_tpl_candidates(job->ctx, job->tpl, &bare, role == RG_HDGRAD, &list, &count));
    RG_TRY(rg_harness_settle(job->ctx, &bare, same_row(list, count, name), &to->desc));
    RG_TRY(rg_emit_kernel(job->ctx, job->tpl, &to->desc, &made));
    to->variant = name;
    to->source = state->source_count++;
    rg_cpu_source *source = &state->source[to->source];
    *source = (rg_cpu_source){rg_arena_strdup(job->ctx->arena, made.symbol),
                              rg_arena_strdup(job->ctx->arena, made.key), made.source};
    return source->symbol && source->key ? RG_OK : rg_nomem(job->ctx);
}

static rg_status collect(adjoint_state *state) {
    const rg_planned *planned = &state->job->planned;
    rg_arena *arena = state->job->ctx->arena;
    int32_t most = 0;
    for (int32_t i = 0; i < planned->launch_count; i++)
        if (is_contraction(&planned->launch[i])) most += planned->launch[i].desc.contr_count;
    state->conv = RG_NEW_ARRAY(arena, adjoint_conv, most + 1);
    state->source = RG_NEW_ARRAY(arena, rg_cpu_source, most + 1);
    state->run = RG_NEW_ARRAY(arena, rg_harness_run, most + 1);
    if (!state->conv || !state->source || !state->run) return rg_nomem(state->job->ctx);
    for (int32_t i = 0; i < planned->launch_count; i++) {
        const rg_launch *launch = &planned->launch[i];
        if (!is_contraction(launch)) continue;
        for (int32_t c = 0; c < launch->desc.contr_count; c++) RG_TRY(add_kernel(state, launch, c));
    }
    return RG_OK;
}

/* ---- checks ---- */

static void print_geometry(char *text, size_t size, const rg_hgeom *g) {
    int length = snprintf(text, size, "h%dw%dc%d_k%dr%ds%d", g->h, g->w, g->c, g->k, g->r, g->s);
    if (g->gh.mul != 1 && length > 0 && (size_t)length < size)
        snprintf(text + length, size - (size_t)length, "_stride%d", g->gh.mul);
}

static void print_adjoint(const rg_job *job, const adjoint_conv *conv,
                          const char *const name[RG_HROLES], const rg_hadjoint *r) {
    char geometry[96];
    print_geometry(geometry, sizeof geometry, &conv->geom);
    if (job->cli->json) {
        printf("{\"adjoint\": \"%s\", \"fprop\": \"%s\", \"dgrad\": \"%s\", \"wgrad\": \"%s\", "
               "\"images\": %d, \"passed\": %s, \"error\": %.3e, \"of_bound\": %.3e}\n",
               geometry, name[0], name[1], name[2], LIVE, r->passed ? "true" : "false",
               rg_number_for_json(r->error), rg_number_for_json(r->worst));
    } else {
        printf("%s  adjoint  %-30s %-8s / %-8s / %-8s %14d images  error %.1e  %5.1f %% of its "
               "bound",
               r->passed ? "ok  " : "FAIL", geometry, name[0], name[1], name[2], LIVE, r->error,
               100 * r->worst);
        if (!r->passed)
            printf(": <conv(x),y> %.9g, <x,dgrad(y)> %.9g, <w,wgrad(x,y)> %.9g", r->product[0],
                   r->product[1], r->product[2]);
        printf("\n");
    }
    fflush(stdout);
}

/* Every variant stands in some triple; the longest list sets their number. */
static rg_status check_conv(adjoint_state *state, const adjoint_conv *conv, int *checked,
                            int *failed) {
    const int32_t *count = conv->count;
    if (count[RG_HFPROP] == 0 || count[RG_HDGRAD] + count[RG_HWGRAD] == 0) return RG_OK;
    for (int32_t i = 0; i < count[0] || i < count[1] || i < count[2]; i++) {
        rg_hbare bare[RG_HROLES] = {{.desc = NULL}};
        const char *name[RG_HROLES] = {"-", "-", "-"};
        for (int role = 0; role < RG_HROLES; role++) {
            if (count[role] == 0) continue;
            const adjoint_kernel *kernel = &conv->kernel[role][i % count[role]];
            bare[role] = (rg_hbare){&kernel->desc, state->run[kernel->source]};
            name[role] = kernel->desc.variant.name;
        }
        rg_hadjoint result;
        RG_TRY(rg_harness_adjoint(state->job->ctx, bare, LIVE, state->job->spec->seed, &result));
        print_adjoint(state->job, conv, name, &result);
        ++*checked;
        *failed += !result.passed;
    }
    return RG_OK;
}

static rg_status check_all(adjoint_state *state, int *checked, int *failed) {
    rg_status status = RG_OK;
    for (int32_t i = 0; status == RG_OK && i < state->conv_count; i++)
        status = check_conv(state, &state->conv[i], checked, failed);
    return status;
}

static rg_status check_on_cpu(adjoint_state *state, int *checked, int *failed) {
    rg_job *job = state->job;
    rg_cpu_stats stats;
    rg_cpu_library *library = NULL;
    rg_cpu_kernel *kernel = RG_NEW_ARRAY(job->ctx->arena, rg_cpu_kernel, state->source_count);
    if (!kernel) return rg_nomem(job->ctx);
    RG_TRY(rg_job_objects(job, state->source, state->source_count, kernel, &stats, &library));
    for (int32_t i = 0; i < state->source_count; i++)
        state->run[i] = rg_harness_run_cpu(&kernel[i]);
    rg_status status = check_all(state, checked, failed);
    rg_cpu_close(library);
    return status;
}

static rg_status check_on_cuda(adjoint_state *state, int *checked, int *failed) {
    rg_job *job = state->job;
    rg_arena *arena = job->ctx->arena;
    rg_harness_cuda on;
    rg_cuda_stats stats;
    int32_t count = state->source_count;
    rg_cuda_source *source = RG_NEW_ARRAY(arena, rg_cuda_source, count);
    rg_cuda_object *object = RG_NEW_ARRAY(arena, rg_cuda_object, count);
    rg_harness_cuda_kernel *kernel = RG_NEW_ARRAY(arena, rg_harness_cuda_kernel, count);
    if (!source || !object || !kernel) return rg_nomem(job->ctx);
    for (int32_t i = 0; i < count; i++) {
        source[i] = (rg_cuda_source){state->source[i].symbol, state->source[i].source};
        kernel[i] = (rg_harness_cuda_kernel){&on, &object[i]};
        state->run[i] = rg_harness_run_cuda(&kernel[i]);
    }
    RG_TRY(rg_job_cuda_objects(job, source, count, object, &stats));
    RG_TRY(rg_job_cuda_harness(job, &on));
    rg_status status = check_all(state, checked, failed);
    rg_harness_cuda_close(&on);
    return status;
}

rg_status rg_verify_adjoints(rg_job *job, int *checked, int *failed) {
    adjoint_state state = {.job = job};
    RG_TRY(collect(&state));
    if (state.source_count == 0) return RG_OK;
    return job->cuda ? check_on_cuda(&state, checked, failed)
                     : check_on_cpu(&state, checked, failed);
}
