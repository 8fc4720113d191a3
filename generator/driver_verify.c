/* `resgen verify`: every kernel of the plan against the double-precision interpreter of its
 * description, and the gradients of each convolution against the convolution. */
#include <string.h>

#include "driver_parts.h"
#include "rg_harness.h"

typedef struct verify_state {
    int checked, failed;
    double worst;
} verify_state;

static bool seen_before(const rg_job *job, int32_t index) {
    for (int32_t i = 0; i < index; i++)
        if (strcmp(job->planned.launch[i].name.key, job->planned.launch[index].name.key) == 0)
            return true;
    return false;
}

static void print_result(const rg_job *job, const rg_launch *launch, int32_t live,
                         const rg_harness_result *r) {
    if (job->cli->json) {
        printf("{\"kernel\": \"%s\", \"images\": %d, \"passed\": %s, \"error\": %.3e, "
               "\"of_bound\": %.3e}\n",
               launch->name.symbol, live, r->passed ? "true" : "false",
               rg_number_for_json(r->error), rg_number_for_json(r->worst));
    } else {
        printf("%s  %-72s %3d images  error %.1e  %5.1f %% of its bound%s%s\n",
               r->passed ? "ok  " : "FAIL", launch->name.symbol, live, r->error, 100 * r->worst,
               r->passed ? "" : ": ", r->passed || !r->trouble ? "" : r->trouble);
    }
    fflush(stdout);
}

/* One kernel at a full block and at a partial one; one of the two seeds is odd, so that means are
 * large. */
static rg_status verify_launch(rg_job *job, const rg_launch *launch, verify_state *state) {
    static const int32_t lives[] = {RG_BLOCK, RG_BLOCK + 5};
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++) {
        bool batch = launch->desc.kind != RG_K_PACK && launch->program != RG_PP_UPDATE;
        if (i > 0 && !batch) break;
        rg_harness_result result;
        RG_TRY(rg_job_check(job, launch, lives[i], job->spec->seed + i, &result));
        print_result(job, launch, lives[i], &result);
        state->checked++;
        state->failed += !result.passed;
        if (result.worst > state->worst) state->worst = result.worst;
    }
    return RG_OK;
}

rg_status rg_command_verify(rg_job *job) {
    verify_state state = {0};
    RG_TRY(rg_job_build(job));
    for (int32_t i = 0; i < job->planned.launch_count; i++)
        if (!seen_before(job, i)) RG_TRY(verify_launch(job, &job->planned.launch[i], &state));
    RG_TRY(rg_verify_adjoints(job, &state.checked, &state.failed));
    if (!job->cli->json)
        printf("%d checks, %d failed; the worst at %.1f %% of its bound\n", state.checked,
               state.failed, 100 * state.worst);
    if (state.failed)
        return rg_fail(job->ctx, RG_E_NUMERIC, "verify: %d of %d checks failed", state.failed,
                       state.checked);
    return RG_OK;
}
